"""Cancellation at every stage: nothing half done stays, neither here nor on the server."""

from contextlib import suppress

import psycopg
from psycopg import errors as e
import pytest
import trio
import trio.testing

from opendesk.postgres.driver import TrioConnection
from tests.postgres.lending import SLOW, CancelWhenRunning, Eventually, Gate, Look, Running, Usable

# Cancellation


async def test_a_cancelled_statement_stops_on_the_server(
    conn: TrioConnection,
    nursery: trio.Nursery,
    running: Running,
    is_usable: Usable,
    cancel_when_running: CancelWhenRunning,
) -> None:
    for ask in (conn.fetch, conn.run, conn.execute):
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_running, scope)
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


async def test_a_statement_cancelled_when_half_sent_stops_too(
    gate: Gate, nursery: trio.Nursery, running: Running, is_usable: Usable
) -> None:
    conn = await TrioConnection.connect(gate.conninfo, autocommit=True)
    gate.hold()

    async def cancel() -> None:
        await trio.testing.wait_all_tasks_blocked(0.05)
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.05)
        gate.release()

    with trio.CancelScope() as scope:
        nursery.start_soon(cancel)
        await conn.fetch("SELECT pg_sleep(60), length(%s)", ("x" * 10_000_000,))  # more than sockets hold
    assert scope.cancelled_caught
    assert await running() == []
    assert await is_usable(conn)
    await conn.close()


async def test_a_lost_cancel_request_is_sent_again(
    *, gate: Gate, nursery: trio.Nursery, running: Running, cancel_when_running: CancelWhenRunning, is_usable: Usable
) -> None:
    conn = await TrioConnection.connect(gate.conninfo, autocommit=True)
    gate.lose = 2
    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_running, scope)
        await conn.fetch(SLOW)
    assert gate.lose == 0
    assert await running() == []
    assert await is_usable(conn)
    await conn.close()


async def test_a_rollback_that_finds_the_connection_in_use_for_long_drops_it(
    conn: TrioConnection, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opendesk.postgres.transactions.ROLLBACK_LIMIT_S", 0.02)

    async def sleep() -> None:
        with pytest.raises(e.OperationalError):
            await conn.fetch(SLOW)

    with suppress(ZeroDivisionError):
        async with conn.transaction():
            nursery.start_soon(sleep)
            await trio.testing.wait_all_tasks_blocked()
            raise ZeroDivisionError
    assert conn.closed


async def test_a_cancelled_transaction_is_rolled_back(
    conn: TrioConnection, table: str, nursery: trio.Nursery, is_usable: Usable, cancel_when_running: CancelWhenRunning
) -> None:
    with trio.CancelScope() as scope:
        async with conn.transaction():
            await conn.run("INSERT INTO things VALUES (1, 'x')")
            nursery.start_soon(cancel_when_running, scope)
            await conn.fetch(SLOW)
    with trio.CancelScope() as scope:
        async with conn.transaction(), conn.transaction():
            await conn.run("INSERT INTO things VALUES (2, 'x')")
            scope.cancel()
            await trio.sleep_forever()
    assert await is_usable(conn)
    assert await conn.fetch("SELECT * FROM things") == []


async def test_a_transaction_cancelled_as_it_begins_leaves_nothing_open(
    gate: Gate, nursery: trio.Nursery, is_usable: Usable
) -> None:
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


async def test_a_transaction_cancelled_before_begin_is_sent_leaves_no_trace(
    conn: TrioConnection, nursery: trio.Nursery, is_usable: Usable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opendesk.postgres.driver.BUSY_LIMIT_S", -1.0)  # lets others run before each statement
    assert await is_usable(conn)

    async def cancel() -> None:
        scope.cancel()

    for _ in range(20):  # the loop decides whether the cancellation or the statement comes first
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel)
            async with conn.transaction():
                pytest.fail("never entered")
        assert scope.cancelled_caught
        async with conn.transaction():
            assert await conn.fetch("SELECT 1") == [(1,)]


async def test_a_block_that_ends_well_is_committed_although_its_task_is_cancelled(
    conn: TrioConnection, table: str
) -> None:
    with trio.CancelScope() as scope:
        async with conn.transaction():
            await conn.run("INSERT INTO things VALUES (1, 'x')")
            scope.cancel()
    assert await conn.fetch("SELECT i FROM things") == [(1,)]


async def test_a_statement_given_up_inside_a_block_does_not_pass_for_a_commit(conn: TrioConnection, table: str) -> None:
    async def give_up() -> None:
        async with conn.transaction():
            await conn.run("INSERT INTO things VALUES (1, 'x')")
            with trio.move_on_after(0.02):
                await conn.fetch(SLOW)

    async def overlook() -> None:
        async with conn.transaction():
            with suppress(e.UniqueViolation):
                await conn.run("INSERT INTO things VALUES (2, 'y')")

    with pytest.raises(e.InFailedSqlTransaction):
        await give_up()
    assert await conn.fetch("SELECT * FROM things") == []
    async with conn.transaction():
        await conn.run("INSERT INTO things VALUES (2, 'x')")
        with pytest.raises(e.InFailedSqlTransaction):
            await overlook()
    assert await conn.fetch("SELECT * FROM things") == [(2, "x")]


async def test_a_block_whose_connection_was_lost_does_not_pass_for_a_commit(conn: TrioConnection) -> None:
    async def lose() -> None:
        async with conn.transaction():
            with suppress(e.OperationalError):
                await conn.fetch("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(e.OperationalError, match="lost during the transaction"):
        await lose()
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
            with suppress(e.UniqueViolation):
                await conn.run("INSERT INTO things VALUES (3, 'x')")
        with suppress(psycopg.Rollback):  # for mypy; the block takes it
            async with conn.transaction() as inner:
                await conn.run("INSERT INTO things VALUES (4, 'x')")
                raise psycopg.Rollback(inner)
    assert await conn.fetch("SELECT i FROM things") == [(1,)]


async def test_a_statement_that_cannot_be_stopped_costs_the_connection(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opendesk.postgres.driver.SETTLE_LIMIT_S", 0.05)
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
    monkeypatch.setattr("opendesk.postgres.driver.SETTLE_LIMIT_S", 0.05)
    monkeypatch.setattr("opendesk.postgres.transactions.COMMIT_LIMIT_S", 0.05)
    monkeypatch.setattr("opendesk.postgres.transactions.ROLLBACK_LIMIT_S", 0.05)
    conn = await TrioConnection.connect(gate.conninfo, autocommit=True)
    with pytest.raises(e.OperationalError, match="no answer"):
        async with conn.transaction():
            gate.hold()
    assert conn.broken
    gate.release()
    conn = await TrioConnection.connect(gate.conninfo, autocommit=True)
    with suppress(ZeroDivisionError):
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


async def test_a_transaction_in_a_pipeline_is_rolled_back(conn: TrioConnection, table: str, is_usable: Usable) -> None:
    async def insert_twice() -> None:
        async with conn.pipeline(), conn.transaction():
            for _ in range(2):
                await conn.execute("INSERT INTO things VALUES (1, 'x')")

    with pytest.raises(e.UniqueViolation):
        await insert_twice()
    assert await is_usable(conn)
    assert await conn.fetch("SELECT * FROM things") == []


async def test_a_lost_cancel_request_for_a_pipeline_is_sent_again(
    gate: Gate, running: Running, eventually: Eventually, cancel_when_running: CancelWhenRunning
) -> None:
    conn = await TrioConnection.connect(gate.conninfo, autocommit=True)
    gate.lose = 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_when_running, nursery.cancel_scope)
        async with conn.pipeline() as pipeline:
            await conn.execute("SELECT 1")
            await pipeline.sync()
            await conn.execute(SLOW)
    assert conn.closed

    async def stopped() -> bool:
        return await running() == []

    await eventually(stopped)


@pytest.mark.parametrize("turns", range(10))
async def test_statements_cancelled_while_they_are_sent_do_not_run_after_hanging_up(
    *, conn: TrioConnection, running: Running, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    monkeypatch.setattr("opendesk.postgres.driver.BUSY_LIMIT_S", -1.0)  # lets the cancellation in at each step

    async def cancel() -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel)
        await conn.cursor().executemany("SELECT pg_sleep(%s)", [(60,), (60,)])

    async def stopped() -> bool:
        return await running() == []

    await eventually(stopped)


@pytest.mark.parametrize("where", ["in a statement", "in the body", "at its end", "in executemany"])
async def test_a_cancelled_pipeline_drops_the_connection_and_stops_the_server(
    *,
    conn: TrioConnection,
    nursery: trio.Nursery,
    running: Running,
    eventually: Eventually,
    cancel_when_running: CancelWhenRunning,
    where: str,
) -> None:
    async def work() -> None:
        if where == "in executemany":
            await conn.cursor().executemany("SELECT pg_sleep(%s)", [(60,)])
        async with conn.pipeline() as pipeline:
            await conn.execute(SLOW)
            if where == "in a statement":
                await pipeline.sync()
            if where == "in the body":
                await trio.sleep_forever()

    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_running, scope)
        await work()
    assert scope.cancelled_caught
    assert conn.closed

    async def stopped() -> bool:
        return await running() == []

    await eventually(stopped)
