"""Tasks that share a connection, and a loop."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
import socket
from typing import Any

from psycopg.waiting import Ready, Wait
import pytest
import trio
import trio.testing

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.waits import ConnectionLock, wait_ready

Look = Callable[[str], list[Any]]
Eventually = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
Running = Callable[[], Awaitable[list[Any]]]
Usable = Callable[[TrioConnection], Awaitable[bool]]
CancelWhenRunning = Callable[[trio.CancelScope], Awaitable[None]]
Gate = Any

SLOW = "SELECT pg_sleep(60)"


async def test_ten_tasks_share_a_connection(conn: TrioConnection, nursery: trio.Nursery) -> None:
    got: list[int] = []

    async def ask(i: int) -> None:
        got.extend(row[0] for row in await conn.fetch("SELECT %s::int, pg_sleep(0.001)", (i,)))
        cursor = await conn.execute("SELECT %s::int", (i + 10,))
        got.extend([row[0] async for row in cursor])

    async with trio.open_nursery() as tasks:
        for i in range(10):
            tasks.start_soon(ask, i)
    assert sorted(got) == list(range(20))


async def test_the_lock_is_first_come_first_served_and_forgets_the_cancelled() -> None:
    lock, order = ConnectionLock(), []

    async def take(name: str, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            async with lock:
                order.append(name)
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        async with lock:
            scopes = []
            for name in "abc":
                scopes.append(await nursery.start(take, name))
                await trio.testing.wait_all_tasks_blocked()
            scopes[1].cancel()
            await trio.testing.wait_all_tasks_blocked()
        assert lock.locked()
    assert order == ["a", "c"]
    assert not lock.locked()


async def test_a_task_that_would_wait_for_itself_is_told(conn: TrioConnection, is_usable: Usable) -> None:
    async with conn.cursor().copy("COPY (SELECT 1) TO STDOUT"):
        with pytest.raises(RuntimeError, match="uses the connection already"):
            await conn.fetch("SELECT 1")
    assert await is_usable(conn)


async def test_a_statement_in_a_cancelled_scope_is_never_sent(conn: TrioConnection, table: str) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await conn.run("INSERT INTO things VALUES (1, 'x')")
    assert scope.cancelled_caught
    assert await conn.fetch("SELECT * FROM things") == []


async def ticks_during(work: Callable[[], Awaitable[None]]) -> int:
    """How often another task runs meanwhile."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await trio.lowlevel.checkpoint()
            ticks += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        await work()
        nursery.cancel_scope.cancel()
    return ticks


@pytest.fixture
def always_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each wait had kept the loop too long, so that a fast machine proves as much as a slow one."""
    monkeypatch.setattr("opendesk.postgres.driver.BUSY_LIMIT_S", -1.0)


@pytest.mark.usefixtures("always_busy")
async def test_other_tasks_run_during_a_long_copy(conn: TrioConnection, table: str) -> None:
    async def copy_in() -> None:
        async with conn.cursor().copy("COPY things FROM STDIN") as copy:
            for i in range(2000):
                await copy.write_row((i, "x"))

    async def copy_out() -> None:
        async with conn.cursor().copy("COPY things TO STDOUT") as copy:
            assert len([row async for row in copy.rows()]) == 2000

    assert await ticks_during(copy_in) > 100
    assert await ticks_during(copy_out) > 100


@pytest.mark.usefixtures("always_busy")
async def test_other_tasks_run_while_rows_are_read(conn: TrioConnection) -> None:
    async def iterate() -> None:
        cursor = await conn.execute("SELECT generate_series(1, 2000)")
        assert len([row async for row in cursor]) == 2000

    async def stream() -> None:
        rows = conn.cursor().stream("SELECT generate_series(1, 2000)")
        assert len([row async for row in rows]) == 2000

    async def many() -> None:
        await conn.cursor().executemany("SELECT %s::int", [(i,) for i in range(2000)])

    assert await ticks_during(iterate) > 1000
    assert await ticks_during(stream) > 1000
    assert await ticks_during(many) > 1000


async def test_a_wait_for_either_direction_is_cancelled_bare_and_tells_of_a_closed_socket() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)  # noqa: FBT003 - socket's
    with suppress(BlockingIOError):
        while True:
            ours.send(b"x" * 65536)
    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(trio.Cancelled):  # not in a group, for which the driver has no eye
            await wait_ready(ours.fileno(), Wait.RW)
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught

    async def close() -> None:
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(ours)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        with pytest.raises(trio.ClosedResourceError):
            await wait_ready(ours.fileno(), Wait.RW)
    theirs.send(b"y")
    assert await wait_ready(ours.fileno(), Wait.RW) == Ready.R
    ours.close()
    theirs.close()
