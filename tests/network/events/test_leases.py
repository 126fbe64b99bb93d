"""One holder at a time; a holder that is gone is followed; a database that is away holds nobody's lease for them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Self
from uuid import UUID, uuid4

from psycopg import OperationalError
import pytest
import trio
from trio.testing import MockClock

from opendesk.network.events import leases
from opendesk.network.events.leases import LEASE_S, Lease, give_up, take
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool

PATIENCE_S = 30.0
NAME = "poller"
A, B = uuid4(), uuid4()


async def holder(conn: TrioConnection) -> UUID | None:
    row = await conn.fetch_one("SELECT held_by FROM leases WHERE name = %(name)s", {"name": NAME})
    return None if row is None else UUID(str(row[0]))


async def move_end(conn: TrioConnection, seconds: float) -> None:
    await conn.run("UPDATE leases SET until = clock_timestamp() + %(s)s * interval '1 second'", {"s": seconds})


@asynccontextmanager
async def kept(pool: Pool, node: UUID) -> AsyncIterator[Lease]:
    lease = Lease(pool, NAME, node)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lease.keep)
        yield lease
        nursery.cancel_scope.cancel()


async def test_who_comes_second_waits(conn: TrioConnection) -> None:
    assert await take(conn, NAME, A)
    assert not await take(conn, NAME, B)
    assert await take(conn, NAME, A)
    assert await holder(conn) == A


async def test_of_many_at_once_one_has_it(pool: Pool) -> None:
    won: list[UUID] = []

    async def one(node: UUID) -> None:
        async with pool.connection() as conn:
            if await take(conn, NAME, node):
                won.append(node)

    async with trio.open_nursery() as nursery:
        for node in (uuid4() for _ in range(8)):
            nursery.start_soon(one, node)
    assert len(won) == 1


async def test_one_that_is_over_is_anybodys(conn: TrioConnection) -> None:
    await take(conn, NAME, A)
    await move_end(conn, -0.001)
    assert await take(conn, NAME, B)
    assert not await take(conn, NAME, A)


async def test_one_from_before_the_clock_was_set_back_is_anybodys(conn: TrioConnection) -> None:
    await take(conn, NAME, A)
    await move_end(conn, 3600)
    assert await take(conn, NAME, B)


async def test_only_the_holder_can_give_it_up(conn: TrioConnection) -> None:
    await take(conn, NAME, A)
    await give_up(conn, NAME, B)
    assert await holder(conn) == A
    await give_up(conn, NAME, A)
    assert await take(conn, NAME, B)


async def test_it_is_had_while_it_is_kept_and_free_after_a_stop(pool: Pool, conn: TrioConnection) -> None:
    with trio.fail_after(PATIENCE_S):
        async with kept(pool, A) as lease:
            await lease.held()
            assert await holder(conn) == A
        assert not lease.is_held()
        assert await holder(conn) is None
        async with kept(pool, B) as other:
            await other.held()


async def test_a_holder_whose_lease_another_took_finds_out(
    pool: Pool, conn: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.02)
    with trio.fail_after(PATIENCE_S):
        async with kept(pool, A) as lease:
            await lease.held()
            await conn.run("UPDATE leases SET held_by = %(b)s", {"b": B})
            while lease.is_held():  # noqa: ASYNC110  # nothing tells of it
                await trio.sleep(0.01)
        assert await holder(conn) == B


class AwayPool:
    """A pool of a database that is away, or mute, from when it is told so."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.asked = 0

    def connection(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.how == "refuses":
            raise OperationalError("away")
        if self.how == "mute":
            await trio.sleep_forever()
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.lowlevel.checkpoint()

    async def run(self, *_: object) -> int:
        await trio.lowlevel.checkpoint()
        return 1


@pytest.mark.parametrize("how", ["refuses", "mute"])
async def test_it_is_over_for_its_holder_before_it_is_for_the_database(how: str, autojump_clock: MockClock) -> None:
    pool = AwayPool("well")
    lease = Lease(pool, NAME, A)  # type: ignore[arg-type]  # a fake of what a lease uses of it
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lease.keep)
        await lease.held()
        taken_s = trio.current_time()
        pool.how = how
        while lease.is_held():  # noqa: ASYNC110  # nothing tells of it
            await trio.sleep(0.1)
        assert trio.current_time() - taken_s < LEASE_S
        pool.how = "well"
        await lease.held()
        nursery.cancel_scope.cancel()


async def test_a_mute_database_keeps_nobody_from_stopping(autojump_clock: MockClock) -> None:
    pool = AwayPool("well")
    lease = Lease(pool, NAME, A)  # type: ignore[arg-type]  # a fake of what a lease uses of it
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lease.keep)
        await lease.held()
        pool.how = "mute"
        began_s = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began_s <= 2 * leases.GIVE_UP_S


async def test_all_who_wait_for_it_are_woken(pool: Pool) -> None:
    lease = Lease(pool, NAME, A)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as waiting:
                for _ in range(3):
                    waiting.start_soon(lease.held)
                nursery.start_soon(partial(lease.keep))
            nursery.cancel_scope.cancel()
