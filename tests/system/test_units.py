"""The units of systemd/: without faults, with nothing open that needn't be, and with every secret."""

from collections import defaultdict
from pathlib import Path
import re
import shutil
import subprocess
from typing import Final

import pytest

from opendesk import telling
from opendesk.cli.serve import DESCRIPTORS
from opendesk.settings.table import SECRET_NAMES, Settings

UNITS: Final = Path(__file__).parents[2] / "systemd"
DROP_IN: Final = UNITS / "opendesk.service.d" / "tunnels.conf"
SERVICES: Final = ("opendesk.service", "opendesk@.service")
ALL: Final = (
    "opendesk.service",
    "opendesk.socket",
    "opendesk@3334.service",
    "opendesk@3334.socket",
    "opendesk-tunnel.service",
    "opendesk-backup.service",
    "opendesk-backup.timer",
)
# Tenths of the points that `security` gives: 1.5 and 1.9 of ten.
CLOSED: Final = 15
CLOSED_WITH_TUNNELS: Final = 19
PATIENCE_S: Final = 60

ANALYZE: Final = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(
    ANALYZE is None, reason="SYSTEMD-ANALYZE ISN'T INSTALLED: NOBODY HAS LOOKED AT THE UNITS"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine's files, with our units installed and a program where they look for one."""
    installed = tmp_path / "usr/lib/systemd/system"
    installed.mkdir(parents=True)
    for kind in ("target", "slice", "mount"):  # what units of every kind depend on
        for unit in Path("/usr/lib/systemd/system").glob(f"*.{kind}"):
            shutil.copy(unit, installed)
    for unit in UNITS.glob("opendesk*.*"):
        if unit.is_file():
            shutil.copy(unit, installed)
    for program in ("usr/bin/opendesk", "usr/sbin/ip", "bin/kill"):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", tmp_path / program)
    return tmp_path


def with_tunnels(root: Path) -> None:
    for service in SERVICES:
        folder = root / "etc/systemd/system" / f"{service}.d"
        folder.mkdir(parents=True)
        shutil.copy(DROP_IN, folder)


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@needs_systemd
@pytest.mark.parametrize("tunnels", [False, True], ids=["as they are", "with tunnels"])
def test_systemd_finds_nothing_wrong_with_them(root: Path, *, tunnels: bool) -> None:
    if tunnels:
        with_tunnels(root)
    found = analyzed("verify", f"--root={root}", "--man=no", *ALL)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("service", SERVICES)
def test_next_to_nothing_is_open(root: Path, service: str) -> None:
    found = analyzed("security", "--offline=true", f"--root={root}", f"--threshold={CLOSED}", "--no-pager", service)
    assert found.returncode == 0, found.stdout + found.stderr


@needs_systemd
@pytest.mark.parametrize("service", SERVICES)
def test_tunnels_open_little_more(root: Path, service: str) -> None:
    with_tunnels(root)
    threshold = f"--threshold={CLOSED_WITH_TUNNELS}"
    found = analyzed("security", "--offline=true", f"--root={root}", threshold, "--no-pager", service)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "CAP_NET_ADMIN" in DROP_IN.read_text()


def options(service: str) -> dict[str, list[str]]:
    found = defaultdict[str, list[str]](list)
    for line in (UNITS / service).read_text().splitlines():
        if (match := re.fullmatch(r"(\w+)=(.*)", line)) is not None:
            found[match[1]].append(match[2])
    return dict(found)


@pytest.mark.parametrize("service", SERVICES)
def test_every_secret_is_a_credential_that_may_be_missing(service: str) -> None:
    unit = options(service)
    names = sorted(SECRET_NAMES)
    assert unit["LoadCredential"] == [f"{name}:/etc/opendesk/credentials/{name}" for name in names]
    assert unit["SetCredential"] == [rf"{name}:\n" for name in names]


@pytest.mark.parametrize("service", SERVICES)
def test_times_and_limits_fit_the_daemons_own(service: str) -> None:
    unit = options(service)
    (watchdog,), (stop,), (start,) = unit["WatchdogSec"], unit["TimeoutStopSec"], unit["TimeoutStartSec"]
    assert int(watchdog) < 20, "the time within which a loop that stalls is to be noticed"
    assert int(watchdog) >= telling.LOOK_S * telling.FEEDINGS, "fed each five seconds"
    assert int(stop) >= Settings().shutdown_grace_ms / 1000 + telling.STOP_AFTER_GRACE_S
    assert int(start) > telling.EXTEND_BY_S > telling.EXTEND_EVERY_S
    assert unit["LimitNOFILE"] == [str(DESCRIPTORS)]


@pytest.mark.parametrize("service", SERVICES)
def test_a_socket_gives_up_on_a_wrong_setting_and_on_nothing_else(service: str) -> None:
    """What systemd starts again by itself comes as often as that at most; what it leaves down is called again without a pause."""
    socket, (pause,) = options(service.replace(".service", ".socket")), options(service)["RestartSec"]
    (within,), (times,) = socket["TriggerLimitIntervalSec"], socket["TriggerLimitBurst"]
    assert int(within) / int(pause) <= int(times)
    assert options(service)["RestartPreventExitStatus"] == ["2"]


def test_a_backup_sees_the_server_that_the_daemon_runs() -> None:
    """Each has users of its own (PrivateUsers=), between which an invisible /proc shows nothing."""
    assert "ProtectProc" not in options("opendesk-backup.service")


def test_one_of_several_daemons_is_as_closed_as_a_single_one() -> None:
    single, one_of_several = options("opendesk.service"), options("opendesk@.service")
    differing = {name for name in single | one_of_several if single.get(name) != one_of_several.get(name)}
    assert differing == {"Description", "Requires", "Also", "RuntimeDirectory", "EnvironmentFile"}
