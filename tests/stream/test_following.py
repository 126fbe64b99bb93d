"""What becomes of a session is heard, and looked at, whoever else waits for the database."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing

from opendesk.postgres import pool as pools
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental.lifecycle import Caller
from opendesk.stream import looks
from opendesk.stream.looks import Looks
from opendesk.stream.tokens import Role
from tests.rental.builders import Stage, end, rent
from tests.stream.conftest import Limited
from tests.stream.relaying import PATIENCE_S

HOST, CLIENT = Role.HOST, Role.CLIENT
CLOSED = (1008, "session_closed")


@pytest.fixture
async def upkeep(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    """With one connection, for which a look waits longer than the test does."""
    monkeypatch.setattr(looks, "LOOK_S", 2 * PATIENCE_S)
    async with aclosing(Pool(conninfo, size=1, acquire_timeout_s=2 * PATIENCE_S)) as made:
        yield made


async def take_all(pool: Pool, size: int, taken: AsyncExitStack) -> None:
    for _ in range(size):
        await taken.enter_async_context(pool.connection())


async def wait_until_one_waits(pool: Pool) -> None:
    while pool.stats.waiting < 1:  # noqa: ASYNC110  # it tells nobody
        await trio.sleep(0.01)


async def listener(conn: TrioConnection, *, other_than: int = 0) -> int:
    """Its process, once it listens."""
    query = """SELECT pid FROM pg_stat_activity
                WHERE datname = current_database() AND state = 'idle' AND query LIKE 'LISTEN %%' AND pid <> %(other_than)s"""
    while (row := await conn.fetch_one(query, {"other_than": other_than})) is None:  # noqa: ASYNC110  # it tells nobody
        await trio.sleep(0.01)
    return int(row[0])


async def listen_anew(conn: TrioConnection) -> None:
    first = await listener(conn)
    await conn.run("SELECT pg_terminate_backend(%(pid)s)", {"pid": first})
    await listener(conn, other_than=first)


# ---- hearing


async def test_an_end_is_heard_though_callers_have_taken_every_connection(
    limited: Limited, pool: Pool, conn: TrioConnection, upkeep: Pool
) -> None:
    async with limited(upkeep=upkeep) as on, AsyncExitStack() as taken:
        host, client = await on.enter(HOST), await on.enter(CLIENT)
        await take_all(pool, pools.SIZE, taken)
        await end(conn, on.session.id, Caller.CLIENT)
        assert await host.closed() == await client.closed() == CLOSED


async def test_an_end_is_heard_while_a_look_waits_for_a_connection(
    limited: Limited, conn: TrioConnection, upkeep: Pool
) -> None:
    async with limited(upkeep=upkeep) as on:
        host, client = await on.enter(HOST), await on.enter(CLIENT)
        async with upkeep.connection():
            await listen_anew(conn)  # and have a look at once
            await wait_until_one_waits(upkeep)
            await end(conn, on.session.id, Caller.CLIENT)
            assert await host.closed() == await client.closed() == CLOSED


# ---- looking


async def test_a_newcomer_is_served_while_its_look_waits_for_a_connection(
    limited: Limited, conn: TrioConnection, upkeep: Pool
) -> None:
    async with limited(upkeep=upkeep) as on, upkeep.connection():
        host, client = await on.enter(HOST), await on.enter(CLIENT)
        await wait_until_one_waits(upkeep)
        await host.picture(b"already")
        assert await client.next() == b"already"
        await end(conn, on.session.id, Caller.CLIENT)
        assert await host.closed() == await client.closed() == CLOSED


async def test_an_end_that_nobody_told_is_found_though_callers_have_taken_every_connection(
    limited: Limited, pool: Pool, conn: TrioConnection, upkeep: Pool
) -> None:
    async with limited(upkeep=upkeep) as on, AsyncExitStack() as taken:
        host, client = await on.enter(HOST), await on.enter(CLIENT)
        await take_all(pool, pools.SIZE, taken)
        await conn.run("ALTER TABLE sessions DISABLE TRIGGER sessions_told")
        await end(conn, on.session.id, Caller.CLIENT)
        await on.relay.look_again([on.session.id])
        assert await host.closed() == await client.closed() == CLOSED


async def test_a_late_look_does_not_set_a_session_back(limited: Limited) -> None:
    async with limited() as on:
        host = await on.enter(HOST)
        (room,) = on.relay.rooms.values()
        on.relay.session_is(on.session.id, "PENDING")
        assert room.is_active
        on.relay.session_is(on.session.id, "ENDED")
        assert await host.closed() == CLOSED


async def test_however_many_ask_one_waits_for_a_connection(upkeep: Pool, conn: TrioConnection, stage: Stage) -> None:
    session = await rent(conn, stage)
    told: list[tuple[UUID, str]] = []
    asked = Looks(upkeep, lambda *what: told.append(what))
    async with trio.open_nursery() as nursery, upkeep.connection():
        for _ in range(20):
            nursery.start_soon(asked.look_at, [session.id, uuid4()])
        await trio.testing.wait_all_tasks_blocked()
        assert upkeep.stats.waiting == 1
    assert told == [(session.id, "ACTIVE")]


async def test_who_gives_up_a_look_leaves_it_to_the_next(upkeep: Pool, conn: TrioConnection, stage: Stage) -> None:
    session = await rent(conn, stage)
    told: list[tuple[UUID, str]] = []
    asked = Looks(upkeep, lambda *what: told.append(what))
    async with trio.open_nursery() as others, upkeep.connection(), trio.open_nursery() as first:
        first.start_soon(asked.look_at, [uuid4()])
        await trio.testing.wait_all_tasks_blocked()
        others.start_soon(asked.look_at, [session.id])
        others.start_soon(asked.look_at, [session.id])
        await trio.testing.wait_all_tasks_blocked()
        # Whoever has the turn now looks for all of them; then it is gone.
        first.cancel_scope.cancel()
    assert told == [(session.id, "ACTIVE")]


async def test_nothing_is_asked_about_nothing(upkeep: Pool) -> None:
    async with upkeep.connection():
        await Looks(upkeep, lambda *_: None).look_at([])
        assert upkeep.stats.waiting == 0
