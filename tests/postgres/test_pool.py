"""The pool: its size holds, its queue is fair and bounded, and whatever happens to a borrower, nothing leaks."""

import re
from typing import Any

import psycopg
from psycopg import errors as e
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
import pytest
import trio
import trio.testing

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool, PoolClosed, PoolFull, PoolStats, PoolTimeout, with_options
from tests.postgres.lending import SLOW, Eventually, Gate, Look, Running, SessionsBecome, a_pool, answers, lend_all, pid

# Some rows, more than a server keeps back, and then none for long.
THEN_SLOW = "SELECT i, CASE WHEN i = 10000 THEN pg_sleep(60) END FROM generate_series(1, 10000) i"


# Lending


async def test_connections_are_opened_when_needed_and_the_last_used_is_lent_first(
    conninfo: str, sessions_become: SessionsBecome
) -> None:
    async with a_pool(conninfo, size=3) as pool:
        assert pool.stats == PoolStats(size=0, idle=0, waiting=0)
        async with pool.connection() as first:
            assert pool.stats == PoolStats(size=1, idle=0, waiting=0)
            async with pool.connection() as second:
                assert pool.stats == PoolStats(size=2, idle=0, waiting=0)
                assert first is not second
                assert first.autocommit
        assert pool.stats == PoolStats(size=2, idle=2, waiting=0)
        for _ in range(3):
            async with pool.connection() as third:
                assert third is first
    await sessions_become(0)


async def test_fifty_workers_share_four_connections(conninfo: str, sessions_become: SessionsBecome) -> None:
    done = 0
    most = 0

    async def work(pool: Pool) -> None:
        nonlocal done, most
        for i in range(10):
            async with pool.connection() as conn:
                most = max(most, pool.stats.size - pool.stats.idle)
                if i % 3:
                    await conn.fetch("SELECT %s::int", (i,))
                else:
                    async with conn.transaction():
                        await conn.execute("SELECT %s::int", (i,))
                done += 1

    async with a_pool(conninfo, size=4) as pool:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(work, pool)
        await sessions_become(4)
        assert pool.stats == PoolStats(size=4, idle=4, waiting=0)
    assert done == 500
    assert most == 4


async def test_who_waits_longest_is_served_first(conninfo: str, nursery: trio.Nursery) -> None:
    served: list[int] = []

    async def borrow(pool: Pool, i: int) -> None:
        async with pool.connection():
            served.append(i)
            await trio.lowlevel.checkpoint()

    async with a_pool(conninfo, size=2) as pool:
        held = await lend_all(pool, 2, nursery)
        async with trio.open_nursery() as tasks:
            for i in range(6):
                tasks.start_soon(borrow, pool, i)
                await trio.testing.wait_all_tasks_blocked()
            assert pool.stats.waiting == 6
            for event in held:
                event.set()
            while pool.stats.waiting == 6:
                await trio.lowlevel.checkpoint()
            # One who comes now finds the pool's places given away, though their owners haven't run yet.
            tasks.start_soon(borrow, pool, 6)
    assert sorted(served[:2]) == [0, 1]
    assert sorted(served[2:4]) == [2, 3]
    assert served[6] == 6


async def test_waiting_ends_in_time_and_the_queue_is_bounded(conninfo: str, nursery: trio.Nursery) -> None:
    async with a_pool(conninfo, size=1, max_waiting=1, acquire_timeout_s=0.05) as pool:
        held = await lend_all(pool, 1, nursery)

        async def wait_in_vain() -> None:
            with pytest.raises(PoolTimeout, match=r"became free within 0\.05 s"):
                await answers(pool)

        async with trio.open_nursery() as tasks:
            tasks.start_soon(wait_in_vain)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(PoolFull):
                await answers(pool)
        assert pool.stats.waiting == 0
        held[0].set()
        assert await answers(pool)
    assert issubclass(PoolTimeout, psycopg.OperationalError)
    assert issubclass(PoolFull, psycopg.OperationalError)


async def test_a_cancelled_waiter_gives_up_its_turn(conninfo: str, nursery: trio.Nursery) -> None:
    async with a_pool(conninfo, size=1) as pool:
        held = await lend_all(pool, 1, nursery)
        with trio.move_on_after(0.01) as scope:
            await answers(pool)
        assert scope.cancelled_caught
        assert pool.stats.waiting == 0
        # Given the place and cancelled in one moment: the place must not be lost.
        with trio.CancelScope() as scope:

            async def end_both() -> None:
                await trio.testing.wait_all_tasks_blocked()
                held[0].set()
                while pool.stats.waiting:
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            nursery.start_soon(end_both)
            await answers(pool)
        assert await answers(pool)
        assert pool.stats == PoolStats(size=1, idle=1, waiting=0)


async def test_a_failed_or_cancelled_opening_gives_its_place_back(gate: Gate) -> None:
    async with a_pool(gate.conninfo, size=1, acquire_timeout_s=0.05) as pool:
        gate.hold()
        for _ in range(3):
            with trio.move_on_after(0.01) as scope:
                await answers(pool)
            assert scope.cancelled_caught
        with pytest.raises(PoolTimeout, match="could not be reached"):
            await answers(pool)
        gate.release()
        await gate.shut()
        for _ in range(3):
            with pytest.raises(psycopg.OperationalError):
                await answers(pool)
        await gate.open()
        pool._acquire_timeout_s = 10
        assert await answers(pool)
        assert pool.stats == PoolStats(size=1, idle=1, waiting=0)


# Giving back


async def test_a_connection_given_back_in_a_transaction_is_rolled_back(conninfo: str, look: Look) -> None:
    async with a_pool(conninfo, size=1) as pool:
        async with pool.connection() as conn:
            await conn.execute("BEGIN")
            await conn.execute("CREATE TABLE made ()")
        async with pool.connection() as again:
            assert again is conn
            assert again.pgconn.transaction_status == TransactionStatus.IDLE
        async with pool.connection() as conn:
            await conn.execute("BEGIN")
            with pytest.raises(e.DivisionByZero):
                await conn.execute("SELECT 1 / 0")
        with trio.CancelScope() as scope:
            async with pool.connection() as conn:
                await conn.execute("BEGIN")
                await conn.execute("CREATE TABLE made ()")
                scope.cancel()
                await trio.sleep_forever()
        async with pool.connection() as again:
            assert again is conn
            assert again.pgconn.transaction_status == TransactionStatus.IDLE
    assert look("SELECT count(*) FROM pg_class WHERE relname = 'made'") == [0]


async def test_a_connection_that_cannot_be_rolled_back_is_dropped(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opendesk.postgres.pool.ROLLBACK_LIMIT_S", 0.02)
    monkeypatch.setattr("opendesk.postgres.driver.SETTLE_LIMIT_S", 0.02)
    async with a_pool(gate.conninfo, size=1) as pool:
        async with pool.connection() as conn:
            await conn.execute("BEGIN")
            gate.hold()
        assert conn.closed
        assert pool.stats == PoolStats(size=0, idle=0, waiting=0)
        gate.release()
        assert await answers(pool)


async def test_a_connection_given_back_in_use_is_dropped_and_its_statement_stopped(
    conninfo: str, running: Running, eventually: Eventually
) -> None:
    async with a_pool(conninfo, size=1) as pool:
        async with pool.connection() as conn:
            rows: Any = conn.cursor().stream(THEN_SLOW)
            await anext(rows)
        assert conn.closed

        async def stopped() -> bool:
            return await running() == []

        await eventually(stopped)
        await rows.aclose()
        async with pool.connection() as conn:
            conn.pgconn.enter_pipeline_mode()
        assert conn.closed
        async with pool.connection() as conn:
            await conn.set_autocommit(False)
        assert conn.closed
        async with pool.connection() as conn:
            listening: Any = conn.notifies()
            await conn.execute("LISTEN x; NOTIFY x")
            await anext(listening)
        assert conn.closed  # the generator holds its lock
        await listening.aclose()
        assert await answers(pool)


async def test_connections_idle_for_long_are_closed_but_for_a_few(
    conninfo: str, nursery: trio.Nursery, sessions_become: SessionsBecome
) -> None:
    async with a_pool(conninfo, size=4, min_idle=2, idle_s=0.05) as pool:
        for event in await lend_all(pool, 4, nursery):
            event.set()
        await trio.testing.wait_all_tasks_blocked()
        assert pool.stats.idle == 4
        await trio.sleep(0.06)
        assert await answers(pool)
        assert pool.stats == PoolStats(size=2, idle=2, waiting=0)
        await trio.sleep(0.06)
        assert await answers(pool)
        assert pool.stats == PoolStats(size=2, idle=2, waiting=0)
    await sessions_become(0)


async def test_idle_connections_are_closed_also_while_nobody_comes(
    conninfo: str, nursery: trio.Nursery, sessions_become: SessionsBecome
) -> None:
    async with a_pool(conninfo, size=4, idle_s=0.05) as pool:
        for event in await lend_all(pool, 4, nursery):
            event.set()
        await trio.testing.wait_all_tasks_blocked()
        pool.close_idle()
        assert pool.stats.idle == 4
        await trio.sleep(0.06)
        pool.close_idle()
        assert pool.stats == PoolStats(size=1, idle=1, waiting=0)


async def test_a_closed_pool_lends_nothing_and_closes_what_comes_back(conninfo: str, nursery: trio.Nursery) -> None:
    pool = Pool(conninfo, size=2)
    held = await lend_all(pool, 2, nursery)

    async def wait() -> None:
        with pytest.raises(PoolClosed):
            await answers(pool)

    async with trio.open_nursery() as tasks:
        tasks.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await pool.aclose()
    held[0].set()
    held[1].set()
    with pytest.raises(PoolClosed):
        await answers(pool)
    await trio.testing.wait_all_tasks_blocked()
    assert pool.stats == PoolStats(size=0, idle=0, waiting=0)
    await pool.aclose()


# Options


async def test_options_hold_from_the_first_statement(conninfo: str) -> None:
    plain = psycopg.conninfo.make_conninfo(conninfo, options="-c application_name=before")
    made = with_options(plain, search_path="opendesk, public", statement_timeout_ms=20)
    async with a_pool(made) as pool, pool.connection() as conn:
        names = ("search_path", "statement_timeout", "application_name")
        assert [await conn.fetch_one("SELECT current_setting(%s)", (name,)) for name in names] == [
            ("opendesk, public",),
            ("20ms",),
            ("before",),
        ]
        with pytest.raises(e.QueryCanceled):
            await conn.fetch(SLOW)
        assert await conn.fetch("SELECT 1") == [(1,)]


def test_options_are_added_to_any_kind_of_conninfo() -> None:
    assert conninfo_to_dict(with_options("postgresql://u@h/d", search_path="opendesk")) == {
        "user": "u",
        "host": "h",
        "dbname": "d",
        "options": "-c search_path=opendesk",
    }
    assert with_options("host=h") == "host=h options=''" or "options" not in conninfo_to_dict(with_options("host=h"))
    assert re.search(r"a\\\\ \\\\b|a", with_options("", search_path="a \\b"))
    with pytest.raises(psycopg.ProgrammingError):
        with_options("nonsense", search_path="x")


async def test_a_strange_search_path_arrives_as_it_is(conninfo: str) -> None:
    path = '"a b", "c\\\\d", \'e\''
    async with a_pool(with_options(conninfo, search_path=path)) as pool, pool.connection() as conn:
        assert await conn.fetch_one("SELECT current_setting('search_path')") == (path,)


async def test_tasks_share_the_test_pool(pool: Pool, conn: TrioConnection) -> None:
    assert await answers(pool)
    assert await pid(pool) != conn.info.backend_pid
