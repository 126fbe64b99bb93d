"""Tasks that share a connection, and a loop."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
import socket
from typing import Any, cast

from psycopg.waiting import Ready, Wait
import pytest
import trio
import trio.testing

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.waits import ConnectionLock, wait_ready
from tests.postgres.lending import Usable


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


async def stops_seen(work: Callable[[Callable[[], None]], Awaitable[None]]) -> int:
    """At how many different points of the work another task ran. The work calls what it is given at each point."""
    point = 0
    seen = set()

    def step() -> None:
        nonlocal point
        point += 1

    async def watch() -> None:
        while True:
            seen.add(point)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await work(step)
        nursery.cancel_scope.cancel()
    return len(seen)


@pytest.fixture
def always_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each wait had kept the loop too long, so that a fast machine proves as much as a slow one."""
    monkeypatch.setattr("opendesk.postgres.driver.BUSY_LIMIT_S", -1.0)


@pytest.mark.usefixtures("always_busy")
async def test_other_tasks_run_during_a_long_copy(conn: TrioConnection, table: str) -> None:
    async def copy_in(step: Callable[[], None]) -> None:
        async with conn.cursor().copy("COPY things FROM STDIN") as copy:
            for i in range(2000):
                await copy.write(f"{i}\tx\n")
                step()

    async def copy_out(step: Callable[[], None]) -> None:
        async with conn.cursor().copy("COPY things TO STDOUT") as copy:
            async for _row in copy.rows():
                step()

    assert await stops_seen(copy_in) > 1000
    assert await stops_seen(copy_out) > 1000


@pytest.mark.usefixtures("always_busy")
async def test_other_tasks_run_while_rows_are_read(conn: TrioConnection) -> None:
    async def iterate(step: Callable[[], None]) -> None:
        async for _row in await conn.execute("SELECT generate_series(1, 2000)"):
            step()

    async def stream(step: Callable[[], None]) -> None:
        async for _row in conn.cursor().stream("SELECT generate_series(1, 2000)"):
            step()

    async def many(step: Callable[[], None]) -> None:
        def params() -> Iterator[tuple[int]]:
            for i in range(2000):
                step()
                yield (i,)

        await conn.cursor().executemany("SELECT %s::int", cast("Any", params()))

    assert await stops_seen(iterate) > 1000
    assert await stops_seen(stream) > 1000
    assert await stops_seen(many) > 1000


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
