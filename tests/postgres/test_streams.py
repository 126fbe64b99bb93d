"""Notifications, COPY, streams and server-side cursors, left at any point."""

from contextlib import aclosing, suppress
from typing import Any, cast

from psycopg import errors as e
import pytest
import trio
import trio.testing

from opendesk.postgres.driver import TrioConnection
from tests.postgres.lending import Look, Usable

# Notifications


async def test_notifications_arrive_until_enough_or_time_is_up(
    conninfo: str, conn: TrioConnection, nursery: trio.Nursery
) -> None:
    await conn.execute("LISTEN things")
    other = await TrioConnection.connect(conninfo, autocommit=True)
    got: list[str] = []

    async def listen() -> None:
        got.extend([notify.payload async for notify in conn.notifies(stop_after=2, timeout=10)])

    async with trio.open_nursery() as tasks:
        tasks.start_soon(listen)
        await other.execute("NOTIFY things, 'one'")
        await other.execute("NOTIFY things, 'two'")
    assert got == ["one", "two"]
    assert [notify async for notify in conn.notifies(timeout=0.01)] == []
    await other.execute("NOTIFY things, 'three'")
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(conn.fileno())
    assert [notify.payload async for notify in conn.notifies(timeout=0)] == ["three"]
    await other.close()


async def test_a_notification_read_by_someone_else_is_not_missed(conninfo: str, conn: TrioConnection) -> None:
    await conn.execute("LISTEN things")
    async with await TrioConnection.connect(conninfo, autocommit=True) as other:
        for how in ("by a statement", "by looking"):
            await other.execute(f"NOTIFY things, '{how}'".encode())
            with trio.fail_after(5):
                await trio.lowlevel.wait_readable(conn.fileno())
            if how == "by a statement":
                await conn.fetch("SELECT 1")
            else:
                assert not conn.hung_up()  # which leaves the socket with nothing to read
            assert [notify.payload async for notify in conn.notifies(stop_after=1, timeout=5)] == [how]


async def test_a_cancelled_listener_leaves_the_connection_usable(
    conn: TrioConnection, nursery: trio.Nursery, is_usable: Usable
) -> None:
    await conn.execute("LISTEN things")
    for _ in range(3):
        with trio.move_on_after(0.01) as scope:
            async for _notify in conn.notifies():
                pytest.fail("nobody said anything")
        assert scope.cancelled_caught
        assert await is_usable(conn)
    with trio.CancelScope() as scope:
        await conn.execute("NOTIFY things, 'x'")
        async with aclosing(conn.notifies()) as received:
            async for notify in received:
                assert notify.payload == "x"
                break
    assert await is_usable(conn)


async def test_a_listener_hears_when_the_server_ends_its_session(conn: TrioConnection, look: Look) -> None:
    async def terminate() -> None:
        await trio.testing.wait_all_tasks_blocked(0.01)
        look(f"SELECT pg_terminate_backend({conn.info.backend_pid})")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(terminate)
        with pytest.raises(e.OperationalError):
            async for _notify in conn.notifies():
                pass
    assert conn.broken


# COPY, streams, server-side cursors


async def test_copy_goes_in_and_out(conn: TrioConnection, table: str, is_usable: Usable) -> None:
    rows = [(i, "é\t\n" * 10) for i in range(20_000)]
    cursor = conn.cursor()
    async with cursor.copy("COPY things FROM STDIN") as copy:
        for row in rows:
            await copy.write_row(row)
    assert cursor.rowcount == 20_000
    async with cursor.copy("COPY things TO STDOUT (FORMAT binary)") as copy:
        copy.set_types(["int4", "text"])
        assert [row async for row in copy.rows()] == rows
    assert await is_usable(conn)


@pytest.mark.parametrize("leave", ["error", "cancelled", "cancelled in write"])
async def test_a_copy_in_left_early_copies_nothing(
    conn: TrioConnection, table: str, leave: str, is_usable: Usable
) -> None:
    with trio.CancelScope() as scope, suppress(ZeroDivisionError):
        async with conn.cursor().copy("COPY things FROM STDIN") as copy:
            await copy.write("1\tx\n")
            if leave == "error":
                raise ZeroDivisionError
            scope.cancel()
            if leave == "cancelled":
                await trio.sleep_forever()
            while True:
                await copy.write("x" * 100_000)
    assert await is_usable(conn)
    assert await conn.fetch("SELECT * FROM things") == []


@pytest.mark.parametrize("leave", ["error", "cancelled", "cancelled in read"])
async def test_a_copy_out_left_early_leaves_the_connection_usable(
    conn: TrioConnection, leave: str, is_usable: Usable
) -> None:
    with trio.CancelScope() as scope, suppress(ZeroDivisionError):
        async with conn.cursor().copy("COPY (SELECT generate_series(1, 1000000)) TO STDOUT") as copy:
            assert await copy.read()
            if leave == "error":
                raise ZeroDivisionError
            scope.cancel()
            if leave == "cancelled":
                await trio.sleep_forever()
            while await copy.read():
                pass
    assert await is_usable(conn)


async def test_a_stream_may_be_left_at_any_point(conn: TrioConnection, is_usable: Usable) -> None:
    query = "SELECT generate_series(1, 1000000)"
    assert len([row async for row in conn.cursor().stream("SELECT generate_series(1, 1000)", size=100)]) == 1000
    async with aclosing(cast("Any", conn.cursor().stream(query))) as rows:
        assert await anext(rows) == (1,)
    assert await is_usable(conn)
    with trio.CancelScope() as scope:
        async with aclosing(cast("Any", conn.cursor().stream(query))) as rows:
            async for _row in rows:
                scope.cancel()
    assert scope.cancelled_caught
    assert await is_usable(conn)
    with trio.CancelScope() as scope:
        async with aclosing(cast("Any", conn.cursor().stream(query))) as rows:
            await anext(rows)
            scope.cancel()
            await trio.sleep_forever()
    assert await is_usable(conn)


async def test_server_side_cursors_page_through_a_result(conn: TrioConnection) -> None:
    async with conn.transaction(), conn.cursor("pages") as cursor:
        await cursor.execute("SELECT generate_series(1, 1000)")
        assert len([row async for row in cursor]) == 1000
