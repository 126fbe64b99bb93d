"""The Debian package: what it puts where, and what is kept when it is upgraded, removed and purged. See tests/system/installed.py."""

from collections.abc import Iterator
from contextlib import contextmanager
import json
from pathlib import Path
import re
import subprocess
import sys
from typing import Any, Final

import pytest

from scripts.debian.control import control, package_version
from scripts.debian.tree import ROOT, copy_files
from tests.system.daemon import PATIENCE_S
from tests.system.installed import ENVIRON, Machine, machine, why_not

SECRETS: Final = ("RELAY_TOKEN", "RELAY_INTERNAL_TOKEN", "RELAY_API_SECRET", "RELAY_MASTER_KEY")
CREDENTIALS: Final = "/etc/opendesk/credentials"
UNITS: Final = "/lib/systemd/system"
# A build takes 20 s of a core, and pip's patience with the index beside it.
BUILD_S: Final = 200

# As systemd would start it: its user, its secrets where it alone can read them.
_SERVE: Final = """
set -e
install -d -m 0700 -o opendesk /run/secrets
install -m 0400 -o opendesk /etc/opendesk/credentials/* /run/secrets/
export CREDENTIALS_DIRECTORY=/run/secrets LOG_FORMAT=json HOME=/
exec setpriv --reuid opendesk --regid opendesk --clear-groups /usr/bin/opendesk serve 2>&1
"""
_READY: Final = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:3333/health/ready', timeout=30).read().decode())"
BACKUPS: Final = "/var/backups/opendesk"
WANTED: Final = "/etc/systemd/system/timers.target.wants/opendesk-backup.timer"
# Everything of that name, but in folders that other programs of this machine write meanwhile.
_OURS: Final = "find / -xdev \\( -path /tmp -o -path /work -o -path /proc -o -path /root -o -path /home \\) -prune -o -name '*opendesk*' -print | sort"
_PYTHONS: Final = "find /usr/lib/python3* /usr/local/lib/python3* -path '*-packages/*' -printf '%p %s\\n' 2>/dev/null | sort | sha256sum"
_PROGRAM: Final = "find /usr/lib/opendesk -printf '%p %s %T@ %m %u\\n' | sort | sha256sum"


@pytest.mark.parametrize(
    ("release", "expected"),
    [("0.1.0", "0.1.0-3"), ("0.2.0rc1", "0.2.0~rc1-3"), ("1.0.dev4", "1.0~dev4-3"), ("1.0a2", "1.0~a2-3")],
    ids=["release", "candidate", "development", "alpha"],
)
def test_dpkg_sorts_versions_as_python_does(release: str, expected: str) -> None:
    assert package_version(release, 3) == expected


def test_the_control_file_wants_debian_12s_python_and_no_more() -> None:
    fields = dict(
        line.split(": ", 1) for line in control("1.0-1", "amd64", 4097).splitlines() if not line.startswith(" ")
    )
    assert "python3 (>= 3.11), python3 (<< 3.12)" in fields["Depends"]
    assert fields["Installed-Size"] == "5"


def test_an_upgrade_restarts_all_daemons_that_nobody_has_stopped(tmp_path: Path) -> None:
    """The very function, with a systemctl that knows a daemon in each state and shows those that are asked for."""
    states = ("active", "activating", "failed", "reloading", "inactive")
    fake = tmp_path / "systemctl"
    fake.write_text(f"""#!/bin/sh
for word; do case $word in --state=*) wanted=,${{word#--state=}}, ;; esac; done
for state in {" ".join(states)}; do case $wanted in *,$state,*) echo "opendesk@$state.service loaded $state" ;; esac; done
""")
    fake.chmod(0o755)
    postinst = (ROOT / "scripts/debian/files/postinst").read_text()
    function = re.search(r"^instances\(\) \{.*?\}$", postinst, re.MULTILINE | re.DOTALL)
    assert function is not None
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", f"{function[0]}\ninstances"], env=environ, capture_output=True, check=True)
    assert set(done.stdout.decode().split()) == {f"opendesk@{state}.service" for state in states[:-1]}


def test_what_pip_installs_has_every_file_of_the_package(tmp_path: Path) -> None:
    """For pipx: templates, static files and SQL as well."""
    pytest.importorskip("setuptools", reason="NO SETUPTOOLS HERE: WHAT pipx INSTALLS IS NOT BUILT")
    source = tmp_path / "source"
    copy_files(ROOT / "opendesk", source / "opendesk")
    for name in ("pyproject.toml", "README.md"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    ours = {str(path.relative_to(source)) for path in (source / "opendesk").rglob("*") if path.is_file()}
    # What `pip install .` does first, with no index and nothing else than setuptools.
    build = [
        sys.executable,
        "-c",
        "import setuptools; setuptools.setup()",
        "--quiet",
        "build",
        "--build-lib",
        "../site",
    ]
    subprocess.run(build, check=True, cwd=source, timeout=PATIENCE_S, capture_output=True)
    built = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*") if path.is_file()}
    assert built == ours
    command = [sys.executable, "-m", "opendesk", "settings", "--json"]
    environ = {"PYTHONPATH": str(tmp_path / "site"), "OPENDESK_DATA_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    subprocess.run(command, check=True, cwd=tmp_path, env=environ, timeout=PATIENCE_S, stdout=subprocess.DEVNULL)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the package, and the next one: what a later version is to dpkg."""
    if reason := why_not():
        pytest.skip(f"THE PACKAGE WAS NOT INSTALLED: {reason}")
    made = tmp_path_factory.mktemp("packages")
    command = [sys.executable, "-P", "-m", "scripts.debian", "--output", str(made), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=BUILD_S, cwd=ROOT)
    if "can't be had" in done.stderr:
        pytest.skip(f"THE PACKAGE WAS NOT BUILT: {done.stderr}")
    assert done.returncode == 0, done.stderr
    built: dict[str, Any] = json.loads(done.stdout)
    Path(built["package"]).rename(made / "first.deb")
    _make_next(made)
    return made


def _make_next(folder: Path) -> None:
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "-R", str(folder / "first.deb"), str(tree)], check=True)
    facts = tree / "DEBIAN" / "control"
    facts.write_text(facts.read_text().replace("\nVersion: ", "\nVersion: 9:"))
    (tree / "usr/lib/opendesk/build").write_text("next\n")
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(folder / "next.deb")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def box(folder: Path, tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path, folder) as made:
        yield made


def test_a_package_is_installed_used_upgraded_removed_and_purged(box: Machine, folder: Path) -> None:
    _see_that_it_names_nothing_of_the_builder(folder)
    before, pythons = box.shell(_OURS), box.shell(_PYTHONS)
    box.does("dpkg", "-i", "/tmp/given/first.deb")
    _see_what_was_made(box)
    program = box.shell(_PROGRAM)
    with _serving(box):
        assert "admin@example.org" in box.does(
            "opendesk", "admin", "create", "admin@example.org", "--password-stdin", stdin="correct-horse\n"
        )
        _upgrade(box)
    assert box.shell("cat /usr/lib/opendesk/build") == "next\n"
    # The daemon that ran on the first is gone: the next time, its files go too.
    # The same version again mends what was damaged.
    box.shell("rm -r /usr/lib/opendesk/running/next/lib/python3.11/site-packages/trio")
    box.does("dpkg", "-i", "/tmp/given/next.deb")
    assert box.shell("ls /usr/lib/opendesk/running") == "next.2\n"
    with _serving(box):
        assert "1 wallets" in box.does("opendesk", "ledger", "verify")
    assert box.shell(_PROGRAM) != program
    _remove_and_purge(box)
    _install_where_others_are(box)
    assert box.shell(_OURS) == before
    assert box.shell(_PYTHONS) == pythons


def _see_what_was_made(box: Machine) -> None:
    kept = {
        "/etc/opendesk": "root:root 755",
        "/etc/opendesk/opendesk.env": "root:root 644",
        CREDENTIALS: "root:root 700",
        **{f"{CREDENTIALS}/{name}": "root:root 600" for name in SECRETS},
        "/var/lib/opendesk": "opendesk:opendesk 700",
        "/var/backups/opendesk": "opendesk:opendesk 700",
        **{f"{UNITS}/{path.name}": "root:root 644" for path in (ROOT / "systemd").iterdir() if path.is_file()},
        "/usr/share/opendesk/systemd/opendesk.service.d/tunnels.conf": "root:root 644",
        "/usr/share/bash-completion/completions/opendesk": "root:root 644",
        "/etc/systemd/system/multi-user.target.wants/opendesk.service": "root:root 777",
        "/etc/systemd/system/sockets.target.wants/opendesk.socket": "root:root 777",
    }
    assert {path: box.owner_and_mode(path) for path in kept} == kept
    assert box.shell("getent passwd opendesk | cut -d: -f6,7") == "/var/lib/opendesk:/usr/sbin/nologin\n"
    secrets = [box.shell(f"cat {CREDENTIALS}/{name}") for name in SECRETS]
    assert len(set(secrets)) == len(SECRETS)
    assert [len(secret) for secret in secrets] == [64, 64, 64, 44]
    shown = {row["name"]: row for row in json.loads(box.does("opendesk", "settings", "--json"))["settings"]}
    assert {shown[name]["source"] for name in SECRETS} == {"credentials"}


@contextmanager
def _serving(box: Machine) -> Iterator[None]:
    """The installed daemon, as its user, at 127.0.0.1:3333 of a network that is the machine's alone."""
    with subprocess.Popen(box.command("sh", "-c", _SERVE), stdout=subprocess.PIPE, text=True, env=ENVIRON) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if "daemon.ready" in line:
                break
        else:
            raise AssertionError("".join(said))
        yield
        # Its process id there, which it has written down, not ours for who went in.
        box.shell("kill -TERM $(cut -d ' ' -f 1 /var/lib/opendesk/opendesk.lock)")
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


def _upgrade(box: Machine) -> None:
    """While the daemon serves from the first: its files stay as they are until it has ended."""
    (first,) = box.shell("ls /usr/lib/opendesk/running").split()
    secrets = box.shell(f"sha256sum {CREDENTIALS}/*")
    box.shell(f"rm {CREDENTIALS}/RELAY_TOKEN && echo '#' mine >> /etc/opendesk/opendesk.env")
    box.does("dpkg", "--force-confdef", "-i", "/tmp/given/next.deb")
    assert box.shell("ls /usr/lib/opendesk/running").split() == sorted([first, "next"])
    assert box.shell("readlink /usr/lib/opendesk/current") == "running/next\n"
    assert '"ok":true' in box.does("python3", "-c", _READY)
    # What an operator did stays done.
    assert not box.has(f"{CREDENTIALS}/RELAY_TOKEN")
    assert box.shell(f"sha256sum {CREDENTIALS}/*") == "".join(
        line for line in secrets.splitlines(keepends=True) if not line.endswith("/RELAY_TOKEN\n")
    )
    assert "mine" in box.shell("cat /etc/opendesk/opendesk.env")
    _see_that_the_page_leads_to_psql(box)


def _see_that_the_page_leads_to_psql(box: Machine) -> None:
    """While files of two versions are there."""
    block = re.search(r"^BIN=.*\n.* postgres$", (ROOT / "docs" / "database.md").read_text("utf-8"), re.MULTILINE)
    assert block is not None
    assert box.shell(re.sub(r"-c '.*'", "-Atc 'SELECT 42'", block[0])) == "42\n"


def _remove_and_purge(box: Machine) -> None:
    box.does("dpkg", "--remove", "opendesk")
    assert not box.has("/usr/lib/opendesk")
    assert box.has(f"{CREDENTIALS}/RELAY_MASTER_KEY")
    assert box.has("/var/lib/opendesk/postgres/PG_VERSION")
    drop_in = "/etc/systemd/system/opendesk.service.d"
    box.shell(
        f"mkdir -p {Path(WANTED).parent} {drop_in}; ln -s {UNITS}/opendesk-backup.timer {WANTED}; touch {drop_in}/mine.conf {BACKUPS}/old"
    )
    # As the data folder is where a disk of its own is mounted.
    box.shell("mount --bind /var/lib/opendesk /var/lib/opendesk")
    purged = box.tries("dpkg", "--purge", "opendesk")
    assert purged.returncode == 0, purged.stderr
    assert box.shell("ls -A /var/lib/opendesk") == ""
    assert box.owner_and_mode("/var/lib/opendesk") == "root:root 700"
    assert not box.has(CREDENTIALS)
    assert "link" not in box.tries("stat", "-c", "%F", WANTED).stdout
    assert f"{drop_in} is kept" in purged.stderr
    assert box.tries("getent", "passwd", "opendesk").returncode != 0
    assert box.tries("getent", "group", "opendesk").returncode != 0
    box.shell(f"umount /var/lib/opendesk && rm -r {drop_in}")


def _install_where_others_are(box: Machine) -> None:
    """A person's account, another program's user, backups that a purge has kept, and a data folder that is root's."""
    box.does("useradd", "--no-user-group", "--uid", "12345", "opendesk")
    refused = box.tries("dpkg", "-i", "/tmp/given/first.deb")
    assert refused.returncode != 0
    assert "user opendesk (uid 12345) is not a system user" in refused.stderr
    box.does("userdel", "opendesk")
    box.does("useradd", "--system", "--no-user-group", "--home-dir", "/opt/other", "opendesk")
    box.shell(f"ln -s {UNITS}/opendesk-backup.timer {WANTED}")
    box.pretend_systemd()
    box.does("dpkg", "--configure", "opendesk")
    # What was turned on when the package was here the last time runs again.
    assert box.invoked("start") == {"opendesk.service", "opendesk.socket", "opendesk-backup.timer"}
    kept = {
        "/var/lib/opendesk": "opendesk:opendesk 700",
        BACKUPS: "opendesk:opendesk 700",
        f"{BACKUPS}/old": "root:root 644",
    }
    assert {path: box.owner_and_mode(path) for path in kept} == kept
    box.shell(f"rm {BACKUPS}/old")
    box.does("dpkg", "--purge", "opendesk")
    assert box.invoked("stop") >= {"opendesk.socket", "opendesk-backup.timer", "opendesk-tunnel.service"}
    # It was there before.
    assert box.shell("getent passwd opendesk | cut -d: -f6") == "/opt/other\n"


def _see_that_it_names_nothing_of_the_builder(folder: Path) -> None:
    program = folder / "tree/usr/lib/opendesk"
    assert (program / "bin/python").readlink() == Path("/usr/bin/python3.11")
    places = ("opendesk-package-", str(ROOT), sys.prefix)
    found = subprocess.run(
        ["grep", "-rlF", *(f"-e{place}" for place in places), str(folder / "tree")], check=False, capture_output=True
    )
    assert found.stdout == b""
