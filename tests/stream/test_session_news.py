"""Relays on all daemons hear of what becomes of sessions that streamed, whoever did it; of others nobody is told."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta

import pytest

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental.lifecycle import Caller
from opendesk.rental.sessions import Session
from tests.rental.builders import (
    HOUR,
    MINUTE,
    PENDING_TIMEOUT,
    SECOND,
    TIMEOUT,
    Stage,
    age,
    cancel,
    end,
    last_seen,
    listening,
    make_expiry,
    make_host_timeout,
    rent,
    reserve,
    set_stage,
    start,
)

Way = Callable[[TrioConnection, Pool, Stage, Session], Awaitable[object]]

# A notification comes with the commit; a test that hears none is told so after this.
PATIENCE_S = 30
LAST = "that was all"


@pytest.fixture
async def stage(conn: TrioConnection) -> Stage:
    return await set_stage(conn)


@pytest.fixture
async def listener(conn: TrioConnection) -> TrioConnection:
    await conn.execute("LISTEN opendesk_sessions")
    return conn


async def heard(listener: TrioConnection, pool: Pool) -> list[str]:
    """All until now: those of earlier commits come first."""
    async with pool.connection() as conn:
        await conn.run("SELECT pg_notify('opendesk_sessions', %s)", (LAST,))
    news: list[str] = []
    async with aclosing(listener.notifies(timeout=PATIENCE_S)) as told:
        async for notify in told:
            if notify.payload == LAST:
                return news
            news.append(notify.payload)
    raise AssertionError("nothing was heard at all")


async def stream(pool: Pool, session: Session) -> None:
    """As `stream/start` writes it."""
    query = "UPDATE sessions SET stream_expires_at = now(), stream_node = gen_random_uuid(), stream_url = 'ws://desk.example' WHERE id = %s"
    async with pool.connection() as conn:
        assert await conn.run(query, (session.id,)) == 1


async def by_client(conn: TrioConnection, _pool: Pool, _stage: Stage, session: Session) -> None:
    await end(conn, session.id, Caller.CLIENT)


async def by_host(conn: TrioConnection, _pool: Pool, _stage: Stage, session: Session) -> None:
    await end(conn, session.id, Caller.HOST)


async def by_admin(conn: TrioConnection, _pool: Pool, _stage: Stage, session: Session) -> None:
    await end(conn, session.id, Caller.ADMIN)


async def by_time(conn: TrioConnection, pool: Pool, _stage: Stage, session: Session) -> None:
    await age(conn, session.id, HOUR)
    assert await make_expiry(pool).expire_due() == 1


async def by_silence(conn: TrioConnection, pool: Pool, stage: Stage, session: Session) -> None:
    await age(conn, session.id, 10 * MINUTE)
    await last_seen(conn, stage.pc, 9 * MINUTE)
    await make_host_timeout(pool, watch=await listening(conn)).check()


async def by_cancelling(conn: TrioConnection, _pool: Pool, _stage: Stage, session: Session) -> None:
    await cancel(conn, session.id)


async def by_waiting(conn: TrioConnection, pool: Pool, _stage: Stage, session: Session) -> None:
    await age(conn, session.id, PENDING_TIMEOUT + SECOND)
    assert await make_expiry(pool).expire_due() == 1


async def by_silence_before_the_start(conn: TrioConnection, pool: Pool, stage: Stage, _session: Session) -> None:
    await last_seen(conn, stage.pc, TIMEOUT + timedelta(seconds=30))
    await make_host_timeout(pool, watch=await listening(conn)).check()


ENDS: dict[Way, str] = {
    by_client: "ENDED",
    by_host: "FAILED",
    by_admin: "ENDED",
    by_time: "ENDED",
    by_silence: "FAILED",
}
GIVEN_UP: tuple[Way, ...] = (by_cancelling, by_waiting, by_silence_before_the_start)


@pytest.mark.parametrize("way", ENDS, ids=lambda way: way.__name__)
async def test_an_end_is_told(listener: TrioConnection, pool: Pool, stage: Stage, way: Way) -> None:
    async with pool.connection() as conn:
        session = await rent(conn, stage)
        await stream(pool, session)
        await way(conn, pool, stage, session)
    assert await heard(listener, pool) == [f"{session.id} {ENDS[way]}"]


@pytest.mark.parametrize("way", GIVEN_UP, ids=lambda way: way.__name__)
async def test_a_reservation_given_up_is_told(listener: TrioConnection, pool: Pool, stage: Stage, way: Way) -> None:
    async with pool.connection() as conn:
        session = await reserve(conn, stage)
        await stream(pool, session)
        await way(conn, pool, stage, session)
    assert await heard(listener, pool) == [f"{session.id} FAILED"]


async def test_a_start_is_told_to_relays_where_the_host_waits(
    listener: TrioConnection, pool: Pool, stage: Stage
) -> None:
    async with pool.connection() as conn:
        session = await reserve(conn, stage)
        await stream(pool, session)
        await start(conn, session)
    assert await heard(listener, pool) == [f"{session.id} ACTIVE"]


async def test_a_grant_itself_is_not_told(listener: TrioConnection, pool: Pool, stage: Stage) -> None:
    async with pool.connection() as conn:
        session = await rent(conn, stage)
    for _ in range(2):
        await stream(pool, session)
    assert await heard(listener, pool) == []


@pytest.mark.parametrize("way", ENDS, ids=lambda way: way.__name__)
async def test_of_a_session_that_never_streamed_nothing_is_told(
    listener: TrioConnection, pool: Pool, stage: Stage, way: Way
) -> None:
    async with pool.connection() as conn:
        await way(conn, pool, stage, await rent(conn, stage))
    assert await heard(listener, pool) == []


async def test_what_was_rolled_back_is_not_told(listener: TrioConnection, pool: Pool, stage: Stage) -> None:
    async with pool.connection() as conn:
        session = await reserve(conn, stage)
        await stream(pool, session)
        async with conn.transaction(force_rollback=True):
            await start(conn, session)
    assert await heard(listener, pool) == []
