"""`start`: from nothing to ready with the embedded database, from a stopped one to ready, and what the idle daemon holds in memory.

Ready is what a load balancer sees, and what systemd is told.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
import subprocess
from typing import Final

import psutil
import trio

from scripts.benchmarks.measure import middle, used_s
from scripts.benchmarks.notified import notified
from scripts.benchmarks.report import Report, less_is_better, only_told
from scripts.benchmarks.servers import OURS, START_S, folder, free_port, start, stop, until_ready
from scripts.benchmarks.sizes import Size

COLD_BAR_S: Final = 4.0
WARM_BAR_S: Final = 1.0
RESIDENT_BAR_MIB: Final = 120.0

# Until whatever is done once after the start is done.
_IDLE_S: Final = 3.0


async def measure(size: Size) -> Report:
    """From the start of the process to the first 200 of GET /health/ready, looked for every 5 ms; and, warm, to READY=1."""
    cold, warm, resident = list[float](), list[float](), list[float]()
    told = list[tuple[float, float]]()
    for _ in range(size.rounds):
        with folder() as made:
            async with _timed(made / "data") as (_, took_s):
                cold.append(took_s)
            async with _timed(made / "data") as (process, took_s):
                warm.append(took_s)
                await trio.sleep(size.seconds(_IDLE_S))
                resident.append(psutil.Process(process.pid).memory_info().rss / 2**20)
            told.append(await _until_told(made))
    return Report(
        "start",
        [
            less_is_better("cold: no database yet", "s", middle(cold), COLD_BAR_S, "bar", bar=1.0),
            less_is_better("warm: stopped before", "s", middle(warm), WARM_BAR_S, "bar", bar=1.0),
            less_is_better(
                "warm: until READY=1", "s", middle([took_s for took_s, _ in told]), WARM_BAR_S, "bar", bar=1.0
            ),
            only_told("the same: CPU of the daemon itself", "s", middle([cpu_s for _, cpu_s in told])),
            less_is_better(
                "the daemon's own memory when idle", "MiB", middle(resident), RESIDENT_BAR_MIB, "bar", bar=1.0
            ),
        ],
    )


@asynccontextmanager
async def _timed(data_dir: Path) -> AsyncIterator[tuple[subprocess.Popen[bytes], float]]:
    port = free_port()
    begun_s = trio.current_time()
    process = start(OURS, {"OPENDESK_DATA_DIR": str(data_dir), "PORT": str(port)})
    try:
        await until_ready(process, port)
        yield process, trio.current_time() - begun_s
    finally:
        with trio.CancelScope(shield=True):
            await stop(process)


async def _until_told(made: Path) -> tuple[float, float]:
    """Seconds from the start of the process to READY=1, and of CPU. Nobody asks it anything meanwhile."""
    async with notified(made) as manager:
        settings = {"OPENDESK_DATA_DIR": str(made / "data"), "PORT": "0", "NOTIFY_SOCKET": manager.path}
        begun_s = trio.current_time()
        process = start(OURS, settings)
        try:
            took_s = await manager.until("READY=1", within_s=START_S) - begun_s
            return took_s, used_s(psutil.Process(process.pid))
        finally:
            with trio.CancelScope(shield=True):
                await stop(process)
