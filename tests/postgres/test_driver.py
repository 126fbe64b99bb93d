"""The driver: cancellation at every stage, a server that goes away, and what psycopg offers besides statements."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
import socket
from typing import Any, NamedTuple, cast
from uuid import UUID, uuid4

from attrs import frozen
import psycopg
from psycopg import errors as e
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
import pytest
import trio
import trio.testing

from opendesk.postgres import driver, settling, transactions
from opendesk.postgres.addresses import connection_attempts
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.statements import MAX_QUERIES
from opendesk.postgres.waits import ConnectionLock, wait_ready

Look = Callable[[str], list[Any]]
Eventually = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
Running = Callable[[], Awaitable[list[Any]]]
Gate = Any

SLOW = "SELECT pg_sleep(60)"


@pytest.fixture
async def table(conn: TrioConnection) -> str:
    await conn.execute("CREATE TABLE things (i int PRIMARY KEY, s text)")
    return "things"


async def is_usable(conn: TrioConnection) -> bool:
    return conn.pgconn.transaction_status == TransactionStatus.IDLE and await conn.fetch("SELECT 1") == [(1,)]


async def cancel_when(running: Callable[[], Awaitable[Any]], scope: trio.CancelScope, eventually: Eventually) -> None:
    await eventually(running)
    scope.cancel()


# Statements


@frozen
class Thing:
    i: int
    s: str


class Pair(NamedTuple):
    i: int
    s: str


async def test_fetch_gives_rows_as_tuples_dicts_and_values(conn: TrioConnection) -> None:
    query, params = "SELECT %(i)s::int AS i, %(s)s AS s", {"i": 3, "s": "três"}
    assert await conn.fetch(query, params) == [(3, "três")]
    assert await conn.fetch(query, params, row=dict) == [{"i": 3, "s": "três"}]
    assert await conn.fetch(query, params, row=Thing) == [Thing(3, "três")]
    assert await conn.fetch_one(query, params, row=Pair) == Pair(3, "três")
    assert await conn.fetch_one(query, params) == (3, "três")
    assert await conn.fetch_one("SELECT 1 WHERE false") is None
    assert await conn.fetch("SELECT i FROM generate_series(1, 3) i") == [(1,), (2,), (3,)]


async def test_run_tells_how_many_rows_it_changed(conn: TrioConnection, table: str) -> None:
    assert await conn.run("INSERT INTO things SELECT i, 'x' FROM generate_series(1, 5) i") == 5
    assert await conn.run("UPDATE things SET s = %s WHERE i > %s", ("y", 3)) == 2
    assert await conn.run("DELETE FROM things WHERE i = 99") == 0
    assert await conn.run("CREATE TABLE more ()") == 0
    assert await conn.fetch("INSERT INTO things VALUES (6, 'z')") == []
    assert await conn.fetch("") == []


async def test_fetch_and_cursors_agree_on_every_type(conn: TrioConnection) -> None:
    values = [None, True, 2**40, 1.5, "é", b"\0\xff", uuid4(), [1, 2], ["a", None]]
    types = ["int", "bool", "bigint", "float8", "text", "bytea", "uuid", "int[]", "text[]"]
    query = "SELECT " + ", ".join(f"%s::{name}" for name in types) + ", now(), '{\"a\": 1}'::jsonb, 0.10::numeric"
    async with conn.transaction():  # now() stands still
        for _ in range(7):  # before and after it is prepared
            cursor = await conn.execute(query.encode(), values)
            assert await conn.fetch(query, values) == await cursor.fetchall()


async def test_a_query_without_parameters_may_hold_percent_signs(conn: TrioConnection) -> None:
    assert await conn.fetch("SELECT 'a%sb' LIKE 'a%'") == [(True,)]
    assert await conn.fetch("SELECT 5 %% %s", (3,)) == [(2,)]
    assert await conn.fetch(b"SELECT 5 % 3") == [(2,)]


async def test_fetch_prepares_what_is_run_often_and_again_after_a_rollback(conn: TrioConnection) -> None:
    query = "SELECT %s::int + 1"
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%+ 1' AND %s"
    for i in range(8):
        assert await conn.fetch(query, (i,)) == [(i + 1,)]
    assert await conn.fetch(prepared, (True,)) == [(1,)]
    with suppress(ZeroDivisionError):
        async with conn.transaction():
            await conn.fetch(query, (1,))
            raise ZeroDivisionError
    assert await conn.fetch(prepared, (True,)) == [(0,)]
    for i in range(8):
        assert await conn.fetch(query, (i,)) == [(i + 1,)]
    assert await conn.fetch(prepared, (True,)) == [(1,)]


async def test_one_query_with_other_parameter_types_is_another_statement(conn: TrioConnection) -> None:
    for value in (1, "1", None, 2**40, UUID(int=1), 1) * 7:
        assert await conn.fetch("SELECT %s::text", (value,)) == [(None if value is None else str(value),)]


async def test_queries_made_at_run_time_do_not_pile_up(conn: TrioConnection) -> None:
    for i in range(MAX_QUERIES * 2 + 10):
        assert await conn.fetch(f"SELECT %s::int + {i}", (1,)) == [(i + 1,)]
    assert conn._statements is not None
    assert len(conn._statements._queries) <= MAX_QUERIES


async def test_a_failed_statement_says_why_and_leaves_the_connection_usable(conn: TrioConnection, table: str) -> None:
    for _ in range(8):  # before and after it is prepared
        with pytest.raises(e.UniqueViolation) as caught:
            await conn.run("INSERT INTO things SELECT %s, 'x' FROM generate_series(1, 2)", (1,))
        assert caught.value.diag.constraint_name == "things_pkey"
    with pytest.raises(e.SyntaxError):
        await conn.fetch("SELEC 1")
    with pytest.raises(e.ProgrammingError, match="placeholders"):
        await conn.fetch("SELECT %s", ())
    with pytest.raises(e.ProgrammingError, match="cannot adapt"):
        await conn.fetch("SELECT %s", (object(),))
    with pytest.raises(TypeError):
        await conn.fetch("SELECT 1 AS nothing_of_the_sort", row=Thing)
    assert await is_usable(conn)


async def test_fetch_begins_a_transaction_when_autocommit_is_off(conninfo: str, look: Look) -> None:
    async with await TrioConnection.connect(conninfo) as conn:
        await conn.fetch("CREATE TABLE made ()")
        assert conn.pgconn.transaction_status == TransactionStatus.INTRANS
        assert look("SELECT count(*) FROM pg_class WHERE relname = 'made'") == [0]
    assert look("SELECT count(*) FROM pg_class WHERE relname = 'made'") == [1]


async def test_large_parameters_go_both_ways(conn: TrioConnection) -> None:
    big = "x" * 5_000_000
    assert await conn.fetch("SELECT %s::text", (big,)) == [(big,)]
    assert await conn.fetch("SELECT %s::bytea", (big.encode(),)) == [(big.encode(),)]


async def test_a_cursor_has_adapters_of_its_own_once_asked(conn: TrioConnection) -> None:
    class Shouting(psycopg.adapt.Loader):
        def load(self, data: Any) -> str:
            return bytes(data).decode().upper()

    cursor = conn.cursor()
    await cursor.execute("SELECT 'a'::text")
    cursor.adapters.register_loader("text", Shouting)
    assert await cursor.fetchall() == [("A",)]  # even what it has read already
    await cursor.execute("SELECT 'b'::text")
    assert await cursor.fetchall() == [("B",)]
    other = await conn.execute("SELECT 'c'::text")
    assert await other.fetchall() == [("c",)]


async def test_a_connection_takes_psycopgs_row_factories(conninfo: str) -> None:
    conn = await TrioConnection.connect(conninfo, row_factory=cast("Any", dict_row), autocommit=True)
    cursor = await conn.execute("SELECT 1 AS one")
    assert await cursor.fetchall() == [{"one": 1}]
    await conn.close()


# Turns


async def test_ten_tasks_share_a_connection(conn: TrioConnection, nursery: trio.Nursery) -> None:
    got: list[int] = []

    async def ask(i: int) -> None:
        for row in await conn.fetch("SELECT %s::int, pg_sleep(0.001)", (i,)):
            got.append(row[0])
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


async def test_a_task_that_would_wait_for_itself_is_told(conn: TrioConnection) -> None:
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
    monkeypatch.setattr(driver, "BUSY_LIMIT_S", -1.0)


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
    ours.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            ours.send(b"x" * 65536)
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await wait_ready(ours.fileno(), driver.Wait.RW)
        except trio.Cancelled:  # not in a group, for which psycopg's code has no eye
            raise
    assert scope.cancelled_caught

    async def close() -> None:
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(ours)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        with pytest.raises(trio.ClosedResourceError):
            await wait_ready(ours.fileno(), driver.Wait.RW)
    theirs.send(b"y")
    assert await wait_ready(ours.fileno(), driver.Wait.RW) == driver.Ready.R
    ours.close()
    theirs.close()


# Cancellation


async def test_a_cancelled_statement_stops_on_the_server(
    conn: TrioConnection, nursery: trio.Nursery, running: Running, eventually: Eventually
) -> None:
    for ask in (conn.fetch, conn.run, conn.execute):
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when, running, scope, eventually)
            await ask(SLOW)
        assert scope.cancelled_caught
        assert await running() == []
        assert await is_usable(conn)


async def test_a_statement_cancelled_while_it_begins_its_transaction_is_not_sent(
    conninfo: str, gate: Gate, nursery: trio.Nursery, look: Look
) -> None:
    conn = await TrioConnection.connect(gate.conninfo)
    await conn.set_autocommit(True)
    await conn.execute("CREATE TABLE made (i int)")
    await conn.set_autocommit(False)
    gate.hold()

    async def cancel() -> None:
        await trio.testing.wait_all_tasks_blocked(0.05)
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.05)
        gate.release()

    with trio.CancelScope() as scope:
        nursery.start_soon(cancel)
        await conn.execute("INSERT INTO made VALUES (1)")  # BEGIN first
    await conn.commit()
    assert look("SELECT i FROM made") == []
    await conn.close()


async def test_a_cancelled_transaction_is_rolled_back(
    conn: TrioConnection, table: str, nursery: trio.Nursery, running: Running, eventually: Eventually
) -> None:
    with trio.CancelScope() as scope:
        async with conn.transaction():
            await conn.run("INSERT INTO things VALUES (1, 'x')")
            nursery.start_soon(cancel_when, running, scope, eventually)
            await conn.fetch(SLOW)
    with trio.CancelScope() as scope:
        async with conn.transaction(), conn.transaction():
            await conn.run("INSERT INTO things VALUES (2, 'x')")
            scope.cancel()
            await trio.sleep_forever()
    assert await is_usable(conn)
    assert await conn.fetch("SELECT * FROM things") == []


async def test_a_transaction_cancelled_as_it_begins_leaves_nothing_open(gate: Gate, nursery: trio.Nursery) -> None:
    conn = await TrioConnection.connect(gate.conninfo, autocommit=True)
    gate.hold()

    async def cancel() -> None:
        await trio.testing.wait_all_tasks_blocked(0.05)
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.05)
        gate.release()

    with trio.CancelScope() as scope:
        nursery.start_soon(cancel)
        async with conn.transaction():
            pytest.fail("never entered")
    assert scope.cancelled_caught
    assert await is_usable(conn)
    await conn.close()


async def test_a_block_that_ends_well_is_committed_although_its_task_is_cancelled(
    conn: TrioConnection, table: str
) -> None:
    with trio.CancelScope() as scope:
        async with conn.transaction():
            await conn.run("INSERT INTO things VALUES (1, 'x')")
            scope.cancel()
    assert await conn.fetch("SELECT i FROM things") == [(1,)]


async def test_a_statement_given_up_inside_a_block_does_not_pass_for_a_commit(conn: TrioConnection, table: str) -> None:
    with pytest.raises(e.InFailedSqlTransaction):
        async with conn.transaction():
            await conn.run("INSERT INTO things VALUES (1, 'x')")
            with trio.move_on_after(0.02):
                await conn.fetch(SLOW)
    assert await conn.fetch("SELECT * FROM things") == []
    async with conn.transaction():
        await conn.run("INSERT INTO things VALUES (2, 'x')")
        with pytest.raises(e.InFailedSqlTransaction):
            async with conn.transaction():
                with suppress(e.UniqueViolation):
                    await conn.run("INSERT INTO things VALUES (2, 'y')")
    assert await conn.fetch("SELECT * FROM things") == [(2, "x")]


async def test_a_block_whose_connection_was_lost_does_not_pass_for_a_commit(conn: TrioConnection) -> None:
    with pytest.raises(e.OperationalError, match="lost during the transaction"):
        async with conn.transaction():
            with suppress(e.OperationalError):
                await conn.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
    assert conn.broken


async def test_savepoints_roll_back_alone(conn: TrioConnection, table: str) -> None:
    async with conn.transaction():
        await conn.run("INSERT INTO things VALUES (1, 'x')")
        with suppress(ZeroDivisionError):
            async with conn.transaction():
                await conn.run("INSERT INTO things VALUES (2, 'x')")
                raise ZeroDivisionError
        async with conn.transaction(force_rollback=True):
            await conn.run("INSERT INTO things VALUES (3, 'x')")
        async with conn.transaction() as inner:
            await conn.run("INSERT INTO things VALUES (4, 'x')")
            raise psycopg.Rollback(inner)
    assert await conn.fetch("SELECT i FROM things") == [(1,)]


async def test_a_statement_that_cannot_be_stopped_costs_the_connection(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "SETTLE_LIMIT_S", 0.05)
    conn = await TrioConnection.connect(gate.conninfo, autocommit=True)
    gate.hold()
    with trio.move_on_after(0.02) as scope:
        await conn.fetch("SELECT 1")
    assert scope.cancelled_caught
    assert conn.broken
    with pytest.raises(e.OperationalError):
        await conn.fetch("SELECT 1")


async def test_a_commit_without_an_answer_is_an_error_and_a_rollback_without_one_is_not_waited_for(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "SETTLE_LIMIT_S", 0.05)
    monkeypatch.setattr(transactions, "COMMIT_LIMIT_S", 0.05)
    monkeypatch.setattr(transactions, "ROLLBACK_LIMIT_S", 0.05)
    conn = await TrioConnection.connect(gate.conninfo, autocommit=True)
    with pytest.raises(e.OperationalError, match="no answer"):
        async with conn.transaction():
            gate.hold()
    assert conn.broken
    gate.release()
    conn = await TrioConnection.connect(gate.conninfo, autocommit=True)
    with pytest.raises(ZeroDivisionError):
        async with conn.transaction():
            gate.hold()
            raise ZeroDivisionError
    assert conn.broken


async def test_leaving_a_connections_block_ends_its_transaction_and_closes_it(conninfo: str, look: Look) -> None:
    async with await TrioConnection.connect(conninfo) as conn:
        await conn.execute("CREATE TABLE kept ()")
    assert conn.closed
    with trio.CancelScope() as scope:
        async with await TrioConnection.connect(conninfo) as conn:
            await conn.execute("CREATE TABLE lost ()")
            scope.cancel()
            await trio.sleep_forever()
    assert conn.closed
    with pytest.raises(e.DivisionByZero):
        async with await TrioConnection.connect(conninfo) as conn:
            await conn.execute("SELECT 1 / 0")
    assert look("SELECT relname FROM pg_class WHERE relname IN ('kept', 'lost')") == ["kept"]


# Pipelines


async def test_pipelines_carry_transactions_and_large_values(conn: TrioConnection, table: str) -> None:
    async with conn.pipeline(), conn.transaction():
        cursors = [await conn.execute("SELECT %s::int", (i,)) for i in range(500)]
        assert [await cursor.fetchone() for cursor in cursors] == [(i,) for i in range(500)]
        with pytest.raises(e.NotSupportedError):
            await conn.fetch("SELECT 1")
    async with conn.pipeline():
        big = "x" * 1_000_000
        cursors = [await conn.execute("SELECT %s::text", (big,)) for _ in range(10)]
        assert [await cursor.fetchone() for cursor in cursors] == [(big,)] * 10
    await conn.cursor().executemany("INSERT INTO things VALUES (%s, 'x')", [(i,) for i in range(1000)])
    assert await conn.fetch("SELECT count(*) FROM things") == [(1000,)]


async def test_a_transaction_in_a_pipeline_is_rolled_back(conn: TrioConnection, table: str) -> None:
    with pytest.raises(e.UniqueViolation):
        async with conn.pipeline(), conn.transaction():
            for _ in range(2):
                await conn.execute("INSERT INTO things VALUES (1, 'x')")
    assert await is_usable(conn)
    assert await conn.fetch("SELECT * FROM things") == []


@pytest.mark.parametrize("where", ["in a statement", "in the body", "in executemany"])
async def test_a_cancelled_pipeline_drops_the_connection_and_stops_the_server(
    conn: TrioConnection, nursery: trio.Nursery, running: Running, eventually: Eventually, where: str
) -> None:
    async def work() -> None:
        if where == "in executemany":
            await conn.cursor().executemany("SELECT pg_sleep(%s)", [(60,)])
        async with conn.pipeline() as pipeline:
            await conn.execute(SLOW)
            if where == "in a statement":
                await pipeline.sync()
            await trio.sleep_forever()

    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when, running, scope, eventually)
        await work()
    assert scope.cancelled_caught
    assert conn.closed

    async def stopped() -> bool:
        return await running() == []

    await eventually(stopped)


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


async def test_a_notification_that_came_with_another_answer_is_not_missed(
    conninfo: str, conn: TrioConnection, gate: Gate
) -> None:
    listener = await TrioConnection.connect(gate.conninfo, autocommit=True)
    await listener.execute("LISTEN things")
    for i in range(20):
        # Both answers are held back and come in one packet: the notification behind the statement's end.
        gate.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.fetch, "SELECT 1")
            await trio.testing.wait_all_tasks_blocked(0.005)
            await conn.execute(f"NOTIFY things, '{i}'".encode())
            gate.release()
        received = [notify.payload async for notify in listener.notifies(stop_after=1, timeout=5)]
        assert received == [str(i)]
    await listener.close()


async def test_a_cancelled_listener_leaves_the_connection_usable(
    conn: TrioConnection, nursery: trio.Nursery
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


async def test_copy_goes_in_and_out(conn: TrioConnection, table: str) -> None:
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
async def test_a_copy_in_left_early_copies_nothing(conn: TrioConnection, table: str, leave: str) -> None:
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
async def test_a_copy_out_left_early_leaves_the_connection_usable(conn: TrioConnection, leave: str) -> None:
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


async def test_a_stream_may_be_left_at_any_point(conn: TrioConnection) -> None:
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


# Connections that end


async def test_a_terminated_session_fails_its_statement(
    conn: TrioConnection, running: Running, eventually: Eventually, look: Look
) -> None:
    async def terminate() -> None:
        await eventually(running)
        look(f"SELECT pg_terminate_backend({conn.info.backend_pid})")

    assert not conn.hung_up()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(terminate)
        with pytest.raises(e.AdminShutdown):
            await conn.fetch(SLOW)
    assert conn.broken
    assert conn.hung_up()
    with pytest.raises(e.OperationalError):
        await conn.execute("SELECT 1")


async def test_a_session_ended_while_idle_shows_without_asking_the_server(
    conn: TrioConnection, look: Look, eventually: Eventually
) -> None:
    look(f"SELECT pg_terminate_backend({conn.info.backend_pid})")

    async def hung_up() -> bool:
        return conn.hung_up()

    await eventually(hung_up)
    assert conn.broken


async def test_closing_a_connection_fails_the_task_that_waits_on_it(
    conn: TrioConnection, running: Running, eventually: Eventually
) -> None:
    async def close() -> None:
        await eventually(running)
        await conn.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        with pytest.raises(e.OperationalError):
            await conn.fetch(SLOW)
    assert conn.closed
    assert not conn.broken
    await conn.close()


async def test_cancel_safe_stops_another_tasks_statement(
    conn: TrioConnection, running: Running, eventually: Eventually
) -> None:
    async def cancel() -> None:
        await eventually(running)
        await conn.cancel_safe()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel)
        with pytest.raises(e.QueryCanceled):
            await conn.fetch(SLOW)
    assert await is_usable(conn)


async def test_a_cancel_request_without_an_answer_times_out(gate: Gate) -> None:
    conn = await TrioConnection.connect(gate.conninfo, autocommit=True)
    gate.hold()
    with pytest.raises(e.CancellationTimeout):
        await conn.cancel_safe(timeout=0.02)
    gate.release()
    assert await is_usable(conn)
    await conn.close()
    await conn.cancel_safe()


# Connecting


class Names(trio.abc.HostnameResolver):
    """A resolver that knows one name."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if host not in {"db.example", b"db.example"}:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        family = trio.socket.AF_INET
        return [(family, trio.socket.SOCK_STREAM, 6, "", (address, int(port))) for address in self.addresses]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.fixture
async def tcp_port(conninfo: str, nursery: trio.Nursery) -> int:
    """A TCP port of the server, which has only a Unix socket."""
    path = f"{conninfo_to_dict(conninfo)['host']}/.s.PGSQL.5432"

    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        async for data in source:
            await sink.send_all(data)
        await sink.send_eof()

    async def serve(client: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async with await trio.open_unix_socket(path) as server, trio.open_nursery() as pumps:
                pumps.start_soon(pump, client, server)
                await pump(server, client)

    listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    port: int = listeners[0].socket.getsockname()[1]
    return port


def over_tcp(conninfo: str, port: int, host: str) -> str:
    return psycopg.conninfo.make_conninfo(conninfo, host=host, port=port)


async def test_host_names_are_resolved_by_trio_and_each_address_is_tried(conninfo: str, tcp_port: int) -> None:
    trio.socket.set_custom_hostname_resolver(Names("127.0.0.1"))
    async with await TrioConnection.connect(over_tcp(conninfo, tcp_port, "db.example")) as conn:
        assert await conn.fetch("SELECT 1") == [(1,)]
        assert conn.info.host == "db.example"
    trio.socket.set_custom_hostname_resolver(Names("255.255.255.255", "127.0.0.1"))
    async with await TrioConnection.connect(over_tcp(conninfo, tcp_port, "db.example")) as conn:
        assert await conn.fetch("SELECT 1") == [(1,)]
    trio.socket.set_custom_hostname_resolver(Names("255.255.255.255", "255.255.255.255"))
    with pytest.raises(e.OperationalError, match=r"(?s)all connection attempts failed:\n.*255.*255"):
        await TrioConnection.connect(over_tcp(conninfo, tcp_port, "db.example"))
    with pytest.raises(e.OperationalError, match="failed to resolve host 'elsewhere.example'"):
        await TrioConnection.connect(over_tcp(conninfo, tcp_port, "elsewhere.example"))
    async with await TrioConnection.connect(over_tcp(conninfo, tcp_port, "elsewhere.example,127.0.0.1")) as conn:
        assert await conn.fetch("SELECT 1") == [(1,)]


async def test_attempts_follow_libpqs_rules() -> None:
    trio.socket.set_custom_hostname_resolver(Names("192.0.2.1", "192.0.2.2"))
    found = await connection_attempts({"host": "db.example,192.0.2.3,/run", "port": "1,2,3"})
    assert [(one.get("hostaddr"), one["port"]) for one in found] == [
        ("192.0.2.1", "1"),
        ("192.0.2.2", "1"),
        ("192.0.2.3", "2"),
        (None, "3"),
    ]
    assert await connection_attempts({"host": "nobody.example", "hostaddr": "192.0.2.9"}) == [
        {"host": "nobody.example", "hostaddr": "192.0.2.9"}
    ]
    both = await connection_attempts({"host": "192.0.2.1,192.0.2.2", "target_session_attrs": "prefer-standby"})
    assert [(one["hostaddr"], one["target_session_attrs"]) for one in both] == [
        ("192.0.2.1", "standby"),
        ("192.0.2.2", "standby"),
        ("192.0.2.1", "any"),
        ("192.0.2.2", "any"),
    ]
    balanced = await connection_attempts({"host": "192.0.2.1,192.0.2.2", "load_balance_hosts": "random"})
    assert {one["hostaddr"] for one in balanced} == {"192.0.2.1", "192.0.2.2"}


async def test_a_refused_connection_says_where(conninfo: str) -> None:
    with pytest.raises(e.OperationalError, match="nowhere"):
        await TrioConnection.connect(conninfo, host="/nowhere")
    with pytest.raises(e.OperationalError, match="does not exist"):
        await TrioConnection.connect(conninfo, dbname="nothing")


async def test_a_silent_server_times_out(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "timeout_from_conninfo", lambda _params: 0.02)
    gate.hold()
    with pytest.raises(e.ConnectionTimeout):
        await TrioConnection.connect(gate.conninfo)


async def test_a_cancelled_connect_leaves_no_socket_behind(conninfo: str, nursery: trio.Nursery) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    with trio.CancelScope() as scope:

        async def cancel() -> None:
            nonlocal stream
            stream = await listener.accept()
            await stream.receive_some()  # its first packet
            scope.cancel()

        stream: trio.SocketStream | None = None
        nursery.start_soon(cancel)
        await TrioConnection.connect(over_tcp(conninfo, port, "127.0.0.1"))
    assert scope.cancelled_caught
    assert stream is not None
    with trio.fail_after(5):
        assert await stream.receive_some() == b""
    await stream.aclose()
    await listener.aclose()


def test_the_limits_are_those_that_the_code_uses() -> None:
    """What the tests above replace is what decides."""
    assert driver.SETTLE_LIMIT_S == settling.SETTLE_LIMIT_S
    assert driver.ROLLBACK_LIMIT_S == transactions.ROLLBACK_LIMIT_S
