"""What tests of the driver and the pool share: the kinds of their fixtures, and a pool to lend from."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool

Look = Callable[[str], list[Any]]
Eventually = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
Running = Callable[[], Awaitable[list[Any]]]
SessionsBecome = Callable[[int], Awaitable[None]]
Usable = Callable[[TrioConnection], Awaitable[bool]]
CancelWhenRunning = Callable[[trio.CancelScope], Awaitable[None]]
Gate = Any

SLOW = "SELECT pg_sleep(60)"


@asynccontextmanager
async def a_pool(conninfo: str, **settings: Any) -> AsyncIterator[Pool]:
    pool = Pool(conninfo, **settings)
    try:
        yield pool
    finally:
        await pool.aclose()


async def answers(pool: Pool) -> bool:
    async with pool.connection() as conn:
        return await conn.fetch("SELECT 1") == [(1,)]


async def pid(pool: Pool) -> int:
    async with pool.connection() as conn:
        return conn.info.backend_pid


async def lend_all(pool: Pool, n: int, nursery: trio.Nursery) -> list[trio.Event]:
    """Take `n` connections, each given back when its event is set."""

    async def hold(task_status: trio.TaskStatus[trio.Event]) -> None:
        async with pool.connection():
            done = trio.Event()
            task_status.started(done)
            await done.wait()

    return [await nursery.start(hold) for _ in range(n)]
