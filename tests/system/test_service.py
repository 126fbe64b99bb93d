"""The daemon as systemd has it: what it tells, what becomes of callers while it is restarted, and when its watchdog goes hungry."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
import re
import signal
import sys
from typing import Final

import httpx
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from tests.postgres.conftest import Gate
from tests.system.daemon import PATIENCE_S, database_of, until, url_of
from tests.system.people import good, settle_in
from tests.system.service_manager import ServiceManager, service_manager
from tests.system.test_outage import gate

__all__ = ["gate"]

# httpx's: what it was sending when the connection broke.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

WATCHDOG_S: Final = 0.6
# Longer than any feeding may stay away.
FASTING_S: Final = 3 * WATCHDOG_S

# A daemon with something wrong in it. `serve` runs in the main thread, as its signal handlers do.
_SERVE: Final = "from opendesk.cli import main; import sys; sys.argv = ['opendesk', 'serve']; main()"
STALLS: Final = f"import signal, time; signal.signal(signal.SIGUSR1, lambda *_: time.sleep(600)); {_SERVE}"
HANGS: Final = f"""
from opendesk import daemon, supervise
import trio
supervise.ALLOWANCE_S = 1.0
async def hang(_pool):
    await trio.sleep_forever()
daemon.retention = hang
{_SERVE}
"""


def wrong(code: str) -> tuple[str, ...]:
    return (sys.executable, "-W", "error", "-c", code)


@pytest.fixture
async def manager(folder: Path) -> AsyncIterator[ServiceManager]:
    async with service_manager(folder, watchdog_s=WATCHDOG_S) as made:
        yield made


async def fed_no_more(manager: ServiceManager) -> None:
    """Wait until it hasn't been fed for longer than it may be hungry."""
    with trio.fail_after(PATIENCE_S):
        while trio.current_time() < manager.fed_at_s[-1] + FASTING_S:  # noqa: ASYNC110 - nothing tells of what is not told
            await trio.sleep(WATCHDOG_S / 10)


async def test_systemd_is_told_when_it_starts_serves_lives_and_ends(manager: ServiceManager, data_dir: Path) -> None:
    daemon = await manager.start(data_dir, SHUTDOWN_GRACE_MS="1000")
    assert daemon.port == manager.port
    await manager.hears("WATCHDOG", after=2)
    await manager.hears("STATUS", lambda line: "0 sessions live, 0 rooms" in line)
    async with database_of(data_dir) as conn:
        people = await settle_in(daemon.http, conn)
        good(await people.client.post("/sessions", {"pcId": people.pc_id, "minutesPurchased": 60}))
    await manager.hears("STATUS", lambda line: "1 session live" in line)
    assert await manager.stop() == 0
    assert {told.pid for told in manager.told} == {daemon.process.pid}, "NotifyAccess=main hears nobody else"
    statuses = manager.statuses
    assert statuses[:2] == ["starting: the database", "starting: migrating"]
    assert f"ready at {daemon.url}" in statuses
    assert statuses[-1] == "stopping"
    assert manager.values("STOPPING") == ["1"]
    assert manager.values("EXTEND_TIMEOUT_USEC") == ["60000000", "21000000"], "for its start, and beyond its grace"


async def test_a_restart_loses_no_connection_attempt(manager: ServiceManager, data_dir: Path) -> None:
    """Each client connects anew for each call; whoever comes between two daemons waits for the second."""
    answered: list[int] = []
    over = trio.Event()

    async def keep_asking() -> None:
        async with httpx.AsyncClient(base_url=manager.url, timeout=PATIENCE_S) as http:
            while not over.is_set():
                answered.append((await http.get("/health/live", headers={"Connection": "close"})).status_code)

    async def more_than(count: int) -> bool:
        await trio.lowlevel.checkpoint()
        return len(answered) > count

    first = await manager.start(data_dir)
    async with trio.open_nursery() as clients:
        for _ in range(4):
            clients.start_soon(keep_asking)
        await until(partial(more_than, 8))
        await manager.restart()
        await until(partial(more_than, len(answered) + 8))
        over.set()
    assert set(answered) == {200}
    assert first.process.returncode == 0
    assert await manager.stop() == 0


async def test_a_loop_that_stalls_feeds_the_watchdog_no_more_and_the_end_tells_where(
    manager: ServiceManager, folder: Path, conninfo: str
) -> None:
    daemon = await manager.start(folder, command=wrong(STALLS), DATABASE_URL=url_of(conninfo))
    await manager.hears("WATCHDOG", after=2)
    daemon.send(signal.SIGUSR1)
    await fed_no_more(manager)
    daemon.send(signal.SIGABRT)  # as systemd does then
    assert await daemon.ended() == -signal.SIGABRT
    told = "\n".join(daemon.noise)
    assert "Fatal Python error: Aborted" in told
    assert re.search(r'File "<string>", line \d+ in <lambda>', told)
    daemon.noise.clear()


async def test_a_service_that_hangs_alone_is_named_and_the_watchdog_is_fed_no_more(
    manager: ServiceManager, folder: Path, conninfo: str
) -> None:
    daemon = await manager.start(
        folder, command=wrong(HANGS), expected=("service.silent",), DATABASE_URL=url_of(conninfo)
    )
    line = await daemon.says("service.silent")
    assert "retention (start)" in line["services"]
    await fed_no_more(manager)
    good(await daemon.http.get("/health/live"))  # the loop turns all the while
    await manager.hears("STATUS", lambda line: line.startswith("hangs: ") and "retention (start)" in line)
    assert await manager.stop() == 0


async def test_a_database_that_is_away_shows_everywhere_and_is_no_reason_to_restart(
    manager: ServiceManager, folder: Path, gate: Gate, conn: TrioConnection
) -> None:
    daemon = await manager.start(folder, DATABASE_URL=url_of(gate.conninfo))
    await gate.shut()
    away = await manager.hears("STATUS", lambda line: line.startswith("the database is away since "))
    assert re.match(r"the database is away since \d\d:\d\d:\d\d UTC; ready at http://", away)
    ready = await daemon.http.get("/health/ready")
    assert (ready.status_code, "database" in ready.json()["detail"]) == (503, True)
    assert "opendesk_database_up 0.0" in (await daemon.http.get("/metrics")).text
    fed = len(manager.fed_at_s)
    await manager.hears("WATCHDOG", after=fed + 3)
    told = len(manager.statuses)
    await gate.open()
    await until(lambda: _is_told_more(manager, told))
    assert "away" not in manager.statuses[-1]
    assert daemon.process.returncode is None
    assert await manager.stop() == 0


async def _is_told_more(manager: ServiceManager, than: int) -> bool:
    await trio.lowlevel.checkpoint()
    return len(manager.statuses) > than
