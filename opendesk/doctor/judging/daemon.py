"""The daemon and its unit: does it run, does it answer, and is it the one that is installed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import frozen

from opendesk.doctor.finding import Finding, bad, ok, skipped, warn

# systemd counts since the unit was loaded; one or two are an upgrade or a reboot's.
_MANY_RESTARTS: Final = 3
_STARTED: Final = frozenset({"active", "activating", "reloading"})
# The kernel tells in whole seconds when it was booted, from which a process's start is counted.
_BOOT_S: Final = 1.0
_SERVICE: Final = "opendesk.service"


@frozen(kw_only=True)
class Daemon:
    """`fault` is why nobody answered. Moments are Unix seconds: since when it runs, and since when its files are as they are."""

    address: str
    unit: str = "opendesk"
    fault: str | None = None
    is_ours: bool = True
    # What is amiss with its TLS, as far as settings tell.
    tls_fault: str | None = None
    is_ready: bool = False
    detail: str = ""
    running_since: float | None = None
    installed_at: float | None = None


def judge(found: Daemon) -> Iterator[Finding]:
    if found.fault is not None:
        yield bad(
            "daemon.answers",
            f"nobody answers at {found.address}: {found.fault}",
            f"systemctl start {found.unit}, then journalctl -u {found.unit} -n 50; or BIND and PORT here aren't the daemon's",
        )
        return
    if not found.is_ours:
        yield bad(
            "daemon.answers",
            f"what answers at {found.address} isn't OpenDesk",
            "`ss -ltnp` tells whose it is: stop that, or give OpenDesk another port (`systemctl edit opendesk.socket`; PORT without systemd)",
        )
        return
    yield ok("daemon.answers", f"it answers at {found.address}")
    if found.tls_fault is not None:
        yield bad(
            "daemon.tls",
            f"{found.address}: {found.tls_fault}",
            f"systemctl restart {found.unit}, if it was set since it was started; or look with the daemon's own settings (OPENDESK_ENV_FILE)",
        )
    if found.is_ready:
        yield ok("daemon.ready", f"{found.address} can serve")
    else:
        yield bad(
            "daemon.ready",
            f"{found.address} can't serve: {found.detail}",
            f"journalctl -u {found.unit} -p warning -n 50",
        )
    yield from _version(found)


def _version(found: Daemon) -> Iterator[Finding]:
    if found.running_since is None or found.installed_at is None:
        yield skipped(
            "daemon.version",
            "whether it runs the installed version isn't known",
            "ask as root, on the daemon's machine",
        )
    elif found.running_since < found.installed_at - _BOOT_S:
        yield warn(
            "daemon.version",
            f"the program of {found.address} was installed anew since it was started",
            f"systemctl restart {found.unit} (no connection attempt is lost)",
        )
    else:
        yield ok("daemon.version", "it runs what is installed")


@frozen(kw_only=True)
class Unit:
    """A service of systemd's, as `systemctl show` tells of it; `listens` is where its socket does."""

    name: str
    properties: Mapping[str, str]
    listens: Sequence[str] = ()

    @property
    def is_there(self) -> bool:
        return self.properties.get("LoadState", "") not in {"", "not-found"}

    @property
    def is_started(self) -> bool:
        return self.properties.get("ActiveState") in _STARTED

    @property
    def is_off(self) -> bool:
        """Neither started nor to be."""
        return not self.is_started and self.properties.get("UnitFileState") in {"disabled", "masked"}

    @property
    def pid(self) -> int | None:
        told = self.properties.get("MainPID", "0")
        return int(told) if told.isdecimal() and int(told) else None


def judge_units(units: Sequence[Unit]) -> Iterator[Finding]:
    """Several are daemons on one database (opendesk@PORT), and then the single one is to be off."""
    there = [unit for unit in units if unit.is_there]
    of_several = [unit for unit in there if unit.name != _SERVICE and not unit.is_off]
    if not there:
        yield skipped(
            "unit.state",
            "there is no unit opendesk.service here",
            "install the package, if systemd is to keep it running",
        )
    for unit in there:
        if unit in of_several or (unit.name == _SERVICE and not (of_several and unit.is_off)):
            yield from _judge_unit(unit)


def _judge_unit(unit: Unit) -> Iterator[Finding]:
    short = unit.name.removesuffix(".service")
    state = unit.properties.get("ActiveState", "unknown")
    if unit.is_started:
        yield ok("unit.state", f"{unit.name} is {state} ({unit.properties.get('SubState', '')})")
    else:
        result = unit.properties.get("Result", "")
        yield bad(
            "unit.state",
            f"{unit.name} is {state} ({result})",
            f"systemctl status {short}, then systemctl start {short}",
        )
    if unit.properties.get("UnitFileState") in {"disabled", "masked"}:
        yield warn(
            "unit.enabled",
            f"{unit.name} is {unit.properties['UnitFileState']}: after a reboot it isn't there",
            f"systemctl enable {short}.socket {short}.service",
        )
    restarts = unit.properties.get("NRestarts", "0")
    if restarts.isdecimal() and int(restarts) >= _MANY_RESTARTS:
        yield warn(
            "unit.restarts",
            f"systemd has restarted {unit.name} {restarts} times",
            f"journalctl -u {short} -p err tells why",
        )
