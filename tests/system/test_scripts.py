"""The scripts that make the environment: when they do, when they don't, and what they say. On a checkout and a Python of the test's own."""

from collections.abc import Sequence
import os
from pathlib import Path
import shutil
import subprocess
from typing import Any

from attrs import define
import pytest

from tests.system.daemon import PATIENCE_S

ROOT = Path(__file__).parents[2]

# Notes what it was asked; makes an environment as `venv` does; takes everything else for done.
PYTHON = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in
    *"import ensurepip"*) exit "${ENSUREPIP:-0}" ;;
    *"sys.version_info <"*) exit "${TOO_OLD:-0}" ;;
    *"sys.version_info[:2]"*) echo "${VERSION:-3.11}" ;;
    "-m venv --clear "*) [ -n "${VENV_FAILS:-}" ] && exit 1; rm -rf "$4"; mkdir -p "$4/bin" "$4/site"; cp "$0" "$4/bin/python" ;;
    "-m pip "*) sleep "${PIP_S:-0}"; exit "${PIP:-0}" ;;
    *sysconfig*) echo "${0%/bin/*}/site" ;;
    *"-m opendesk"*) exit "${OPENDESK:-0}" ;;
esac
"""


@define
class Checkout:
    """A copy of the scripts, and a Python that only pretends."""

    root: Path
    calls: Path
    path: str

    def command(self, script: str, *arguments: str) -> list[str]:
        return [str(self.root / "scripts" / script), *arguments]

    def environ(self, **more: str) -> dict[str, str]:
        return {"PATH": self.path, "HOME": str(self.root.parent), "CALLS": str(self.calls), **more}

    def run(self, *arguments: str, script: str = "run", **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(script, *arguments),
            check=False,
            capture_output=True,
            text=True,
            env=self.environ(**environ),
            timeout=PATIENCE_S,
        )

    def asked(self, what: str) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if what in line]

    @property
    def made(self) -> int:
        """How many environments were made."""
        return len(self.asked("-m venv"))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "check out"
    for folder in ("scripts", "requirements"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(PYTHON)
    (tmp_path / "bin" / "python3").chmod(0o755)
    return Checkout(root, tmp_path / "calls", f"{tmp_path / 'bin'}:/usr/bin:/bin")


def test_an_environment_is_made_once(checkout: Checkout) -> None:
    first = checkout.run("settings", "--json")
    assert (first.returncode, first.stdout) == (0, "")
    assert "making the environment" in first.stderr
    assert (checkout.root / ".venv" / "site" / "opendesk.pth").read_text() == f"{checkout.root}\n"
    again = checkout.run("settings", "--json")
    assert (again.returncode, again.stderr) == (0, "")
    assert (checkout.made, len(checkout.asked("-m pip"))) == (1, 1)
    assert checkout.asked("-m opendesk") == ["-P -m opendesk settings --json"] * 2
    assert not (checkout.root / ".venv.lock").exists()


def test_serve_is_what_is_run_when_nothing_is_said_and_its_exit_code_is_the_scripts(checkout: Checkout) -> None:
    assert checkout.run(OPENDESK="7").returncode == 7
    assert checkout.asked("-m opendesk") == ["-P -m opendesk serve"]


def test_installed_are_the_locked_versions_and_no_others(checkout: Checkout) -> None:
    checkout.run("settings", PIP_USER="1")
    (pip,) = checkout.asked("-m pip")
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(pip.split())
    assert pip.endswith(f"-r {checkout.root}/requirements/run.txt")


def test_an_environment_is_made_anew_when_what_it_was_made_for_changed(checkout: Checkout) -> None:
    checkout.run("settings")
    with (checkout.root / "requirements" / "run.txt").open("a") as locked:
        locked.write("# newer\n")
    checkout.run("settings")
    assert checkout.made == 2
    checkout.run("settings", VERSION="3.12")  # the system's Python was updated
    assert checkout.made == 3
    moved = Checkout(checkout.root.with_name("moved"), checkout.calls, checkout.path)
    checkout.root.rename(moved.root)
    moved.run("settings", VERSION="3.12")
    assert moved.made == 4
    moved.run("settings", VERSION="3.12")
    assert moved.made == 4


def test_a_developers_environment_stays_one(checkout: Checkout) -> None:
    checkout.run(script="bench")
    for locked in (checkout.root / "requirements").iterdir():
        locked.write_text(locked.read_text() + "# newer\n")
    checkout.run("settings")
    checkout.run(script="bench")
    assert [line.rpartition("/")[2] for line in checkout.asked("-m pip")] == ["dev.txt", "dev.txt"]


def test_the_old_one_stays_until_the_new_one_is_whole(checkout: Checkout) -> None:
    """A daemon may be running on it, and its PostgreSQL from it."""
    checkout.run("settings")
    old = (checkout.root / ".venv" / "bin" / "python").stat().st_ino
    with subprocess.Popen(
        checkout.command("bench"), env=checkout.environ(PIP_S="1"), stderr=subprocess.DEVNULL
    ) as process:
        while len(checkout.asked("-m pip")) < 2:
            assert process.poll() is None
        assert (checkout.root / ".venv" / "bin" / "python").stat().st_ino == old
        assert process.wait(PATIENCE_S) == 0
    assert (checkout.root / ".venv" / "bin" / "python").stat().st_ino != old
    assert [path.name for path in checkout.root.glob(".venv*")] == [".venv"]


def test_another_python_in_the_path_leaves_the_environment_as_it_is(checkout: Checkout, tmp_path: Path) -> None:
    """Else the same command from another shell would pull it from under a daemon that runs."""
    checkout.run("settings")
    (tmp_path / "other").mkdir()
    shutil.move(tmp_path / "bin" / "python3", tmp_path / "other" / "python3")
    checkout.path = f"{tmp_path / 'other'}:/usr/bin:/bin"
    checkout.run("settings")
    assert checkout.made == 1


def test_what_tests_need_is_enough_for_the_daemon_and_not_the_other_way_round(checkout: Checkout) -> None:
    checkout.run("settings")
    checkout.run(script="bench")
    checkout.run(script="bench")
    checkout.run("settings")
    assert [line.rpartition("/")[2] for line in checkout.asked("-m pip")] == ["run.txt", "dev.txt"]


@pytest.mark.parametrize("failure", [{"PIP": "1"}, {"VENV_FAILS": "1"}])
def test_one_that_was_not_finished_is_made_anew(checkout: Checkout, failure: dict[str, Any]) -> None:
    failed = checkout.run("settings", **failure)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("opendesk: ")
    assert checkout.asked("-m opendesk") == []
    assert not (checkout.root / ".venv.lock").exists()
    assert checkout.run("settings").returncode == 0
    assert checkout.made == 2


def test_two_at_once_make_one(checkout: Checkout) -> None:
    both = [
        subprocess.Popen(
            checkout.command("run", "settings"), env=checkout.environ(PIP_S="1"), stderr=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    assert [each.wait(PATIENCE_S) for each in both] == [0, 0]
    assert checkout.made == 1


def test_a_lock_that_its_holder_left_behind_is_taken(checkout: Checkout) -> None:
    with subprocess.Popen(["/bin/true"]) as gone:
        gone.wait()
    lock = checkout.root / ".venv.lock"
    lock.mkdir()
    (lock / "pid").write_text(str(gone.pid))
    assert checkout.run("settings").returncode == 0
    assert checkout.made == 1


def test_a_killed_run_leaves_no_lock_behind(checkout: Checkout) -> None:
    with subprocess.Popen(checkout.command("run", "settings"), env=checkout.environ(PIP_S="1")) as process:
        while not checkout.asked("-m pip"):
            assert process.poll() is None
        process.terminate()
        assert process.wait(PATIENCE_S) == 143
    assert not (checkout.root / ".venv.lock").exists()
    assert checkout.asked("-m opendesk") == []


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TOO_OLD": "1", "PYTHON": "python3"}, "PYTHON is set to python3, which is not Python 3.11 or newer"),
        ({"PYTHON": "python9"}, "PYTHON is set to python9, which is not there"),
    ],
)
def test_a_python_that_will_not_do_is_told(checkout: Checkout, environ: dict[str, Any], said: str) -> None:
    done = checkout.run("settings", **environ)
    assert (done.returncode, done.stderr) == (1, f"opendesk: {said}\n")


def test_a_python_without_environments_is_told_and_root_installs_what_is_missing(
    checkout: Checkout, tmp_path: Path
) -> None:
    (tmp_path / "bin" / "apt-get").write_text('#!/bin/sh\necho "apt-get $*" >> "$CALLS"\n')
    (tmp_path / "bin" / "apt-get").chmod(0o755)
    done = checkout.run("settings", ENSUREPIP="1")
    assert done.returncode == 1
    assert "can't make virtual environments" in done.stderr
    asked = "apt-get install -qq -y --no-install-recommends python3-venv"
    assert checkout.asked("apt-get install") == ([asked] if os.geteuid() == 0 else [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_checkout_that_cannot_be_written_has_its_environment_in_the_users_cache(checkout: Checkout) -> None:
    checkout.root.chmod(0o555)
    try:
        assert checkout.run("settings").returncode == 0
        assert checkout.run("settings").returncode == 0
    finally:
        checkout.root.chmod(0o755)
    assert checkout.made == 1
    assert len(list((checkout.root.parent / ".cache" / "opendesk").glob("venv-*/stamp-run.txt"))) == 1


def test_scripts_work_from_any_folder_and_through_a_link(checkout: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "bin" / "opendesk"
    link.symlink_to(checkout.root / "scripts" / "run")
    subprocess.run(
        [link, "settings"], check=True, env=checkout.environ(CDPATH=str(tmp_path)), cwd="/", capture_output=True
    )
    subprocess.run(["/bin/sh", "run", "settings"], check=True, env=checkout.environ(), cwd=checkout.root / "scripts")
    assert checkout.made == 1


def linted(checkout: Checkout) -> Sequence[str]:
    return [line for line in checkout.asked("-m ") if not line.startswith(("-m venv", "-m pip"))]


def test_tests_come_after_lint_and_types_and_take_pytests_arguments(checkout: Checkout) -> None:
    assert checkout.run("-k", "one thing", script="test").returncode == 0
    ruff, form, mypy, pytest_line = linted(checkout)
    assert (ruff, mypy) == ("-m ruff check .", "-m mypy")
    assert form.startswith("-m ruff format --check")
    assert pytest_line.startswith("-m pytest ")
    assert pytest_line.endswith("-m not long -k one thing")


def test_long_tests_run_when_they_are_asked_for(checkout: Checkout) -> None:
    assert checkout.run("--long", "-x", script="test").returncode == 0
    assert linted(checkout)[-1].endswith(" -x")
    assert "long" not in linted(checkout)[-1]


def test_scripts_are_sound_shell() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    scripts = [
        path for path in (ROOT / "scripts").iterdir() if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh")
    ]
    names = [str(path.relative_to(ROOT)) for path in [*scripts, ROOT / ".ci" / "run"]]
    done = subprocess.run([shellcheck, "-x", *names], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
