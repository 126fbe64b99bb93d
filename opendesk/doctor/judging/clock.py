"""Clocks: ours against the world's, the database's, the backend's."""

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from opendesk.doctor.finding import Finding, bad, ok, skipped, warn

# Two machines under NTP are within milliseconds; a look over a network is off by half its round trip.
_APART_S: Final = 2.0
# A Date header has whole seconds, and is made a while before it is read.
_DATE_APART_S: Final = 5.0
# Of what a signature's clock may be off: beyond half of it, a slow call is refused.
_WINDOW_PART: Final = 0.5


@frozen
class Clock:
    """Offsets are how far the other is ahead of us. None: not known; `is_synchronized` where the system doesn't say."""

    is_synchronized: bool | None
    hmac_window_s: float
    database_ahead_s: float | None = None
    backend_ahead_s: float | None = None


def judge(found: Clock) -> Iterator[Finding]:
    yield _synchronized(found.is_synchronized)
    if found.database_ahead_s is not None:
        yield _database(found.database_ahead_s)
    if found.backend_ahead_s is not None:
        yield _backend(found.backend_ahead_s, found.hmac_window_s)


def _synchronized(is_synchronized: bool | None) -> Finding:  # noqa: FBT001  # a fact, not an option
    if is_synchronized is None:
        return skipped(
            "clock.synchronized", "this system doesn't say whether its clock is set by NTP", "see to it by hand"
        )
    if is_synchronized:
        return ok("clock.synchronized", "set by NTP")
    return warn(
        "clock.synchronized",
        "nothing sets this machine's clock: sessions, paid time and signatures are by it",
        "timedatectl set-ntp true (or apt install systemd-timesyncd)",
    )


def _database(ahead_s: float) -> Finding:
    if abs(ahead_s) <= _APART_S:
        return ok("clock.database", "the database's clock is ours")
    return warn(
        "clock.database", f"the database's clock is {_off(ahead_s)} ours", "have both machines' clocks set by NTP"
    )


def _backend(ahead_s: float, window_s: float) -> Finding:
    if abs(ahead_s) <= _DATE_APART_S:
        return ok("clock.backend", "the backend's clock is ours, as far as its answers tell")
    do = "have both machines' clocks set by NTP"
    what = f"the backend's clock is {_off(ahead_s)} ours"
    if abs(ahead_s) < window_s * _WINDOW_PART:
        return warn("clock.backend", what, do)
    return bad("clock.backend", f"{what}: signatures are refused from {window_s:.0f} s on (HMAC_WINDOW_MS)", do)


def _off(ahead_s: float) -> str:
    return f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'}"
