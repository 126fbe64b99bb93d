"""The daemon and its unit: does it run, does it answer, and is it the one that is installed."""

from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen

from opendesk.doctor.finding import Finding, bad, ok, skipped, warn

# systemd counts since the unit was loaded; one or two are an upgrade or a reboot's.
_MANY_RESTARTS: Final = 3
_STARTED: Final = frozenset({"active", "activating", "reloading"})


@frozen(kw_only=True)
class Daemon:
    """`fault` is why nobody answered. Moments are Unix seconds: since when it runs, and since when its files are as they are."""

    address: str
    fault: str | None = None
    is_ready: bool = False
    detail: str = ""
    running_since: float | None = None
    installed_at: float | None = None


def judge(found: Daemon) -> Iterator[Finding]:
    if found.fault is not None:
        yield bad(
            "daemon.answers",
            f"nobody answers at {found.address}: {found.fault}",
            "systemctl start opendesk, then journalctl -u opendesk -n 50; or BIND and PORT here aren't the daemon's",
        )
        return
    yield ok("daemon.answers", f"it answers at {found.address}")
    if found.is_ready:
        yield ok("daemon.ready", "it can serve")
    else:
        yield bad("daemon.ready", f"it can't serve: {found.detail}", "journalctl -u opendesk -p warning -n 50")
    yield from _version(found)


def _version(found: Daemon) -> Iterator[Finding]:
    if found.running_since is None or found.installed_at is None:
        yield skipped(
            "daemon.version",
            "whether it runs the installed version isn't known",
            "ask as root, on the daemon's machine",
        )
    elif found.running_since < found.installed_at:
        yield warn(
            "daemon.version",
            "its program was installed anew since it was started",
            "systemctl restart opendesk (no connection attempt is lost)",
        )
    else:
        yield ok("daemon.version", "it runs what is installed")


def judge_unit(properties: Mapping[str, str]) -> Iterator[Finding]:
    """Of `systemctl show`; empty where there is no systemd."""
    load = properties.get("LoadState", "")
    if load in {"", "not-found"}:
        yield skipped(
            "unit.state",
            "there is no unit opendesk.service here",
            "install the package, if systemd is to keep it running",
        )
        return
    state, sub = properties.get("ActiveState", "unknown"), properties.get("SubState", "")
    if state in _STARTED:
        yield ok("unit.state", f"{state} ({sub})")
    else:
        result = properties.get("Result", "")
        yield bad(
            "unit.state",
            f"opendesk.service is {state} ({result})",
            "systemctl status opendesk, then systemctl start opendesk",
        )
    if properties.get("UnitFileState") in {"disabled", "masked"}:
        yield warn(
            "unit.enabled",
            f"opendesk.service is {properties['UnitFileState']}: after a reboot it isn't there",
            "systemctl enable opendesk.socket opendesk.service",
        )
    restarts = properties.get("NRestarts", "0")
    if restarts.isdecimal() and int(restarts) >= _MANY_RESTARTS:
        yield warn(
            "unit.restarts", f"systemd has restarted it {restarts} times", "journalctl -u opendesk -p err tells why"
        )
