"""Loans that take too long are ended from outside."""

import psycopg
import pytest
import trio
import trio.testing

from opendesk.postgres.pool import Pool, PoolStats
from tests.postgres.conftest import Gate


async def test_who_waits_for_a_mute_server_is_freed(gate: Gate) -> None:
    pool = Pool(gate.conninfo, size=1)
    freed = trio.Event()

    async def ask() -> None:
        async with pool.connection() as conn:
            gate.hold()
            with pytest.raises(psycopg.OperationalError):
                await conn.fetch_one("SELECT 1")
        freed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        with trio.fail_after(10):
            while not pool.stats.size:  # noqa: ASYNC110 - the pool has no event for us
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked()
        assert pool.drop_overdue(60) == 0
        assert pool.drop_overdue(0) == 1
        with trio.fail_after(10):
            await freed.wait()
    assert pool.stats == PoolStats(size=0, idle=0, waiting=0)
    gate.release()
    async with pool.connection() as conn:
        assert await conn.fetch_one("SELECT 1") == (1,)
        assert pool.drop_overdue(60) == 0
    await pool.aclose()


async def test_who_is_cancelled_waits_no_longer_for_a_mute_server_once_the_loan_is_ended(gate: Gate) -> None:
    """Neither for a statement to stop nor for a commit to be answered, which may take 5 and 30 s otherwise."""
    pool = Pool(gate.conninfo, size=2)
    asking, commits = trio.Event(), trio.Event()

    async def ask() -> None:
        async with pool.connection() as conn:
            asking.set()
            await conn.fetch_one("SELECT pg_sleep(600)")

    async def commit() -> None:
        async with pool.connection() as conn, conn.transaction():
            await conn.run("CREATE TEMP TABLE t ()")
            await asking.wait()
            await trio.testing.wait_all_tasks_blocked()
            gate.hold()
            commits.set()

    async def learn_nothing_of_it() -> None:
        with pytest.raises(psycopg.OperationalError):
            await commit()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(learn_nothing_of_it)
        await commits.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert pool.stats.size == 2
            assert pool.drop_overdue(0) == 2
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert pool.stats == PoolStats(size=0, idle=0, waiting=0)
