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
