"""Keeping services running: ticks that never pile up, bounded restarts, a canary for a loop that lags."""

from collections import deque
from collections.abc import Awaitable, Callable
import math
from typing import Final

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


class GaveUp(Exception):
    """A service failed too often in too short a time."""


async def every(period_s: float, tick: Callable[[], Awaitable[None]]) -> None:
    """Call `tick` now and every `period_s`. A slow one delays the next; those that were missed are left out."""
    due_s = trio.current_time()
    while True:
        await tick()
        due_s = max(due_s + period_s, trio.current_time())
        await trio.sleep_until(due_s)


async def keep_running(
    name: str,
    service: Callable[[], Awaitable[None]],
    *,
    max_restarts: int = MAX_RESTARTS,
    within_s: float = WITHIN_S,
    first_pause_s: float = FIRST_PAUSE_S,
    longest_pause_s: float = LONGEST_PAUSE_S,
    on_restart: Callable[[str], None] = lambda _name: None,
) -> None:
    """Run `service` until it returns, again after each unexpected exception.

    Pauses double up to `longest_pause_s`. When it fails more than `max_restarts` times within `within_s`, that is logged
    as critical, and GaveUp, caused by the last exception, ends the daemon: it exits with code 1, and systemd starts it
    again (Restart=on-failure). Half a daemon, which serves but closes no session, would be worse. Cancellation goes through.
    """
    failures_s: deque[float] = deque()
    while True:
        try:
            await service()
        except Exception as exc:
            now_s = trio.current_time()
            while failures_s and failures_s[0] <= now_s - within_s:
                failures_s.popleft()
            if len(failures_s) >= max_restarts:
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
