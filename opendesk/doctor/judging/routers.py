"""Routers: each reached, let in, of the right time; thousands are told in a few lines."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
import re
from typing import Final, Literal

from attrs import frozen

from opendesk.doctor.finding import Finding, State, bad, ok, skipped, warn

Outcome = Literal["well", "refused", "unreachable", "fault", "not looked at"]
# Named one by one; a fleet that is away as a whole has one cause, and a screen has 50 lines.
NAMED_MAX: Final = 10
# A router's scheduler ends paid time by its own clock.
_APART_S: Final = 60.0
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_OLD_DATE: Final = re.compile(r"([a-z]{3})/(\d\d)/(\d{4})")
_OFFSET: Final = re.compile(r"([+-])(\d\d):(\d\d)")

_DO: Final[dict[Outcome, str]] = {
    "refused": "set its user and password right: `opendesk router add ID HOST --user NAME`, then `opendesk router test ID`",
    "unreachable": "see that it has power, that its tunnel is up (`opendesk tunnel list`) and its API is on; then `opendesk router test ID`",
    "fault": "register it again: `opendesk router add ID HOST`",
    "not looked at": "`opendesk router test ID` tries a single one",
}


@frozen(kw_only=True)
class Router:
    id: str
    outcome: Outcome
    error: str = ""
    is_open: bool = False  # its circuit
    ahead_s: float | None = None  # its clock, of ours


def judge(found: Sequence[Router]) -> Iterator[Finding]:
    well = [router for router in found if router.outcome == "well"]
    if well:
        yield ok("routers.reachable", f"{len(well)} of {len(found)} let us in")
    for outcome in ("fault", "refused", "unreachable", "not looked at"):
        state: State = "skipped" if outcome == "not looked at" else "bad"
        those = [router for router in found if router.outcome == outcome]
        yield from _named("routers.reachable", state, those, _DO[outcome])
    still_open = [f"{router.id}: it answers, and its circuit is still open" for router in well if router.is_open]
    yield from _lines(
        "routers.breaker", "warn", still_open, "`opendesk router breaker reset ID`, or wait for the next probe"
    )
    apart = [
        f"{router.id}: its clock is {router.ahead_s:+.0f} s off"
        for router in well
        if router.ahead_s is not None and abs(router.ahead_s) > _APART_S
    ]
    yield from _lines("routers.clock", "warn", apart, "/system/ntp/client/set enabled=yes on it, with servers")


def _named(check: str, state: State, those: Iterable[Router], do: str) -> Iterator[Finding]:
    yield from _lines(check, state, [f"{router.id}: {router.error or router.outcome}" for router in those], do)


def _lines(check: str, state: State, lines: Sequence[str], do: str) -> Iterator[Finding]:
    make = {"bad": bad, "warn": warn, "skipped": skipped}[state]
    for line in lines[:NAMED_MAX]:
        yield make(check, line, do)
    if len(lines) > NAMED_MAX:
        yield make(check, f"and {len(lines) - NAMED_MAX} more likewise", "`opendesk router list` names them")


def moment_of(date: str, time: str, gmt_offset: str) -> datetime | None:
    """What /system/clock tells; None for what can't be read. Before RouterOS 7.10 a date was `nov/22/2026`."""
    if match := _OLD_DATE.fullmatch(date.lower()):
        month, day, year = match.groups()
        date = f"{year}-{_MONTHS.index(month) + 1:02}-{day}" if month in _MONTHS else ""
    offset = _OFFSET.fullmatch(gmt_offset)
    if offset is None:
        return None
    sign, hours, minutes = offset.groups()
    zone = timedelta(hours=int(hours), minutes=int(minutes)) * (1 if sign == "+" else -1)
    try:
        return datetime.fromisoformat(f"{date}T{time}").replace(tzinfo=timezone(zone))
    except ValueError:
        return None
