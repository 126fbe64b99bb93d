"""Keeping services running: ticks that never pile up, bounded restarts, signs of life, a canary for a loop that lags."""

from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
import math
from typing import Final

from attrs import define, field
import structlog
import trio

log = structlog.get_logger()

# For bugs that pass. What is expected to fail, such as a database that restarts, a service catches by itself. A service that fails
# at once each time has been tried for 6.2 s in the end: so a daemon that gives up at each start never comes near the five starts
# in ten seconds after which systemd would leave it down.
MAX_RESTARTS: Final = 5
WITHIN_S: Final = 300.0
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
# One line says that the loop lags; more would be part of the trouble.
LAG_LOG_EVERY_S: Final = 10.0


# How long a service may do something without a sign of life. Everything that it waits for has a limit of its own below that: a mute
# database is hung up on after a minute (database.LONGEST_LOAN_S), a router after seconds. So who is silent for longer hangs.
ALLOWANCE_S: Final = 300.0
# What counts of the time between two looks. When the whole process stood still nobody could give a sign, and nobody is blamed for it.
LOOK_COUNTS_S: Final = 10.0
# The part of a service that has given no sign since its start.
_START: Final = "start"


class GaveUp(Exception):
    """A service failed too often in too short a time."""


@define(eq=False)
class LifeSigns:
    """When each part of each service is to give its next sign, by a clock that only goes while the loop turns."""

    _clock_s: float = 0.0
    _looked_s: float = math.inf
    _due_s: dict[tuple[str, str], float] = field(factory=dict)

    def begin(self, service: str) -> None:
        self._due_s[service, _START] = self._clock_s + ALLOWANCE_S

    def given(self, service: str, part: str, wait_s: float) -> None:
        self._due_s.pop((service, _START), None)
        self._due_s[service, part] = self._clock_s + wait_s + ALLOWANCE_S

    def over(self, service: str, part: str | None = None) -> None:
        """The service, or this part of it, has ended: nothing more is expected of it."""
        for key in [key for key in self._due_s if key[0] == service and part in {None, key[1]}]:
            del self._due_s[key]

    def silent(self, now_s: float) -> list[str]:
        """Who should have given a sign by now. To be asked every few seconds."""
        self._clock_s += min(max(0.0, now_s - self._looked_s), LOOK_COUNTS_S)
        self._looked_s = now_s
        return sorted(f"{service} ({part})" for (service, part), due_s in self._due_s.items() if due_s < self._clock_s)

    @property
    def known(self) -> set[tuple[str, str]]:
        """Services and their parts of which signs are expected."""
        return set(self._due_s)


_here: ContextVar[tuple[LifeSigns, str] | None] = ContextVar("opendesk.life", default=None)


def alive(part: str = "loop", *, wait_s: float = 0.0) -> None:
    """A sign that this part of a service still turns, and that the next comes after `wait_s` (inf: after whatever it waits for).

    Each loop of a service has a part of its own, so that none speaks for another. Elsewhere than in a service it does nothing.
    """
    if (here := _here.get()) is not None:
        signs, service = here
        signs.given(service, part, wait_s)


async def every(period_s: float, tick: Callable[[], Awaitable[None]]) -> None:
    """Call `tick` now and every `period_s`. A slow one delays the next; those that were missed are left out."""
    part = getattr(tick, "__name__", "every")
    due_s = trio.current_time()
    try:
        while True:
            alive(part)
            await tick()
            due_s = max(due_s + period_s, trio.current_time())
            alive(part, wait_s=period_s)
            await trio.sleep_until(due_s)
    finally:
        _over(part)


def _over(part: str) -> None:
    if (here := _here.get()) is not None:
        signs, service = here
        signs.over(service, part)


async def keep_running(
    name: str,
    service: Callable[[], Awaitable[None]],
    *,
    max_restarts: int = MAX_RESTARTS,
    within_s: float = WITHIN_S,
    first_pause_s: float = FIRST_PAUSE_S,
    longest_pause_s: float = LONGEST_PAUSE_S,
    gives_up: bool = True,
    on_restart: Callable[[str], None] = lambda _name: None,
    signs: LifeSigns | None = None,
) -> None:
    """Run `service` until it returns, again after each unexpected exception.

    Pauses double up to `longest_pause_s`. When it fails more than `max_restarts` times within `within_s`, that is logged
    as critical, and GaveUp, caused by the last exception, ends the daemon: it exits with code 1, and systemd starts it
    again (Restart=on-failure). Half a daemon, which serves but closes no session, would be worse. Cancellation goes through.
    Without `gives_up` it is tried for good: for what the daemon can do without.
    While it runs, `signs` expects its signs of life.
    """
    failures_s: deque[float] = deque()
    while True:
        try:
            await _living(name, service, signs)
        except Exception as exc:
            now_s = trio.current_time()
            while failures_s and failures_s[0] <= now_s - within_s:
                failures_s.popleft()
            if gives_up and len(failures_s) >= max_restarts:
                log.critical("service.gave_up", service=name, restarts=len(failures_s), within_s=within_s, exc_info=exc)
                raise GaveUp(
                    f"{name} failed {len(failures_s) + 1} times within {within_s:g} s, at last with {exc!r}: the log has each of them"
                ) from exc
            pause_s = min(first_pause_s * 2 ** len(failures_s), longest_pause_s)
            failures_s.append(now_s)
            log.exception("service.failed", service=name, restart_in_s=pause_s, failures=len(failures_s))
        else:
            return
        on_restart(name)
        await trio.sleep(pause_s)


async def _living(name: str, service: Callable[[], Awaitable[None]], signs: LifeSigns | None) -> None:
    if signs is None:
        await service()
        return
    token = _here.set((signs, name))
    signs.begin(name)
    try:
        await service()
    finally:
        signs.over(name)
        _here.reset(token)


async def lag_canary(
    period_s: float,
    threshold_s: float,
    *,
    observe: Callable[[float], None] = lambda _late_s: None,
    log_every_s: float = LAG_LOG_EVERY_S,
) -> None:
    """Sleep `period_s` again and again and give `observe` how many seconds late the loop woke.

    Later than `threshold_s` is logged as `loop.lagging`, at most every `log_every_s`, with the worst and the number
    of wake-ups since the last line.
    """
    quiet_until_s = -math.inf
    unsaid, worst_s = 0, 0.0
    while True:
        alive()
        due_s = trio.current_time() + period_s
        await trio.sleep_until(due_s)
        now_s = trio.current_time()
        observe(late_s := now_s - due_s)
        if late_s > threshold_s:
            unsaid, worst_s = unsaid + 1, max(worst_s, late_s)
        if unsaid and now_s >= quiet_until_s:
            log.warning(
                "loop.lagging", late_ms=round(worst_s * 1000), times=unsaid, threshold_ms=round(threshold_s * 1000)
            )
            quiet_until_s = now_s + log_every_s
            unsaid, worst_s = 0, 0.0
