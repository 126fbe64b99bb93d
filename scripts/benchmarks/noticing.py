"""`noticing`: how long a stalled loop, or a database that has fallen mute, goes unnoticed."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
import re
import signal
from typing import Final

from attrs import frozen
import psutil
import trio

from scripts.benchmarks import noticing_daemon
from scripts.benchmarks.measure import middle
from scripts.benchmarks.notified import Notified, notified
from scripts.benchmarks.report import Report, less_is_better, only_told
from scripts.benchmarks.servers import Database, Served, database, folder, ready_status, serving
from scripts.benchmarks.sizes import Size

STALLED_BAR_S: Final = 20.0
MUTE_BAR_S: Final = 5.0
UNIT: Final = Path(__file__).parents[2] / "systemd" / "opendesk.service"

_SETTLE_S: Final = 2.0
# Each round's stall comes so much later than the last one's after the settling: anywhere between two signs of life.
_APART_S: Final = 1.3
_LOOK_S: Final = 0.02
_NOTICED_WITHIN_S: Final = 60.0
_DAEMON: Final = ("-m", "scripts.benchmarks.noticing_daemon")
_SIGN: Final = "WATCHDOG=1"
_STATUS: Final = "STATUS=the database"


@frozen
class Mute:
    """From when the database fell mute, seconds until each said so; and from when it spoke again until all is well."""

    ready_s: float
    status_s: float
    back_s: float


async def measure(size: Size) -> Report:
    stalled, mute = list[float](), list[Mute]()
    async with database() as base:
        for number in range(size.rounds):
            async with _noted(base) as (served, manager):
                mute.append(await _mute(base, served, manager))
                stalled.append(await _stalled(served, manager, size.seconds(_APART_S * number)))
    return Report(
        "noticing",
        [
            less_is_better("a stalled loop: until no sign of life has come for WatchdogSec, and systemd ends it", "s", max(stalled), STALLED_BAR_S, "bar", bar=1.0),
            less_is_better("a mute database: until /health/ready is 503", "s", max(each.ready_s for each in mute), MUTE_BAR_S, "bar", bar=1.0),
            less_is_better("the same: until STATUS= says so", "s", max(each.status_s for each in mute), MUTE_BAR_S, "bar", bar=1.0),
            only_told("it speaks again: until /health/ready is 200", "s", middle([each.back_s for each in mute])),
        ],
        [f"the longest of {size.rounds}; systemd waits {watchdog_s(UNIT.read_text()):g} s (WatchdogSec of {UNIT.name}) from the last sign of life"],
    )  # fmt: skip


def watchdog_s(unit: str) -> float:
    """Raise RuntimeError for a unit without one."""
    found = re.search(r"^WatchdogSec=(\d+)(?:s|sec)?$", unit, re.MULTILINE)
    if found is None:
        raise RuntimeError("the unit has no WatchdogSec in whole seconds")
    return float(found[1])


@asynccontextmanager
async def _noted(base: Database) -> AsyncIterator[tuple[Served, Notified]]:
    allowed_us = str(round(watchdog_s(UNIT.read_text()) * 1_000_000))
    with folder() as made:
        async with notified(made) as manager:
            environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": allowed_us}
            async with serving(base, command=_DAEMON, environ=environ) as served:
                await trio.sleep(_SETTLE_S)
                yield served, manager


async def _stalled(served: Served, manager: Notified, after_s: float) -> float:
    """Its loop stands still, and nothing else of it. Systemd counts from the last sign of life that it heard."""
    allowed_s = watchdog_s(UNIT.read_text())
    await manager.until(_SIGN, after_s=trio.current_time(), within_s=allowed_s)
    await trio.sleep(after_s)
    begun_s = trio.current_time()
    served.process.send_signal(signal.SIGUSR1)
    return await manager.silence(_SIGN, for_s=allowed_s, within_s=noticing_daemon.STALL_S) - begun_s


async def _mute(base: Database, served: Served, manager: Notified) -> Mute:
    begun_s = trio.current_time()
    with _silenced(base.postmaster):
        ready_s = await _until_ready(served, HTTPStatus.SERVICE_UNAVAILABLE)
        status_s = await manager.until(_STATUS, after_s=begun_s, within_s=_NOTICED_WITHIN_S)
    again_s = trio.current_time()
    await _until_ready(served, HTTPStatus.OK)
    return Mute(ready_s - begun_s, status_s - begun_s, trio.current_time() - again_s)


@contextmanager
def _silenced(postmaster: psutil.Process) -> Iterator[None]:
    """All of PostgreSQL stands still: connections stay, and nobody answers."""
    stopped = [postmaster, *postmaster.children(recursive=True)]
    for process in stopped:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


async def _until_ready(served: Served, wanted: HTTPStatus) -> float:
    with trio.fail_after(_NOTICED_WITHIN_S):
        while await ready_status(served.port, within_s=_NOTICED_WITHIN_S) != wanted:  # noqa: ASYNC110  # another process knows
            await trio.sleep(_LOOK_S)
        return trio.current_time()
