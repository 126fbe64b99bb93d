"""Many do the same at once on real connections: one wins, and the others are told so."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from attrs import evolve
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import pcs, sessions
from opendesk.rental.errors import SessionExists
from opendesk.rental.lifecycle import Caller, Status
from opendesk.rental.wallets import ESCROW, RETAINED
from tests.rental.builders import (
    MINUTE,
    Stage,
    account_of,
    add_client,
    add_host,
    balance,
    cancel,
    credit,
    debit,
    end,
    expired,
    held_by,
    offer,
    post,
    rent,
    reserve,
    set_stage,
    start,
    status_of,
)
from tests.rental.racing import (
    DEADLINE_S,
    at_once,
    expire,
    silent,
    time_out,
    until_one_waits,
)

pytestmark = pytest.mark.books

AT_ONCE = 8


async def test_of_eight_ends_one_wins_and_money_moves_once(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    for _ in range(5):
        session = await rent(conn, stage, 60, used=29.5 * MINUTE)
        before = await balance(conn, stage.host.user)
        got = await at_once(pool, [lambda c, s=session: end(c, s.id, Caller.CLIENT)] * AT_ONCE)  # type: ignore[misc]
        assert sorted(got) == ["INVALID_STATUS"] * (AT_ONCE - 1) + ["OK"]
        assert await balance(conn, stage.host.user) == before + 1080
        await credit(conn, stage.client, 2400)


async def test_of_eight_clients_for_one_pc_one_gets_it(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    for _ in range(5):
        clients = [await add_client(conn) for _ in range(AT_ONCE)]
        got = await at_once(pool, [lambda c, who=who: reserve(c, stage, client=who) for who in clients])  # type: ignore[misc]
        assert sorted(got) == ["OK"] + ["PC_BUSY"] * (AT_ONCE - 1)
        winner = clients[got.index("OK")]
        assert [await balance(conn, who) for who in clients] == [7600 if who == winner else 10_000 for who in clients]
        assert await held_by(conn, ESCROW) == 2400
        (live,) = await sessions.on_pcs(conn, [stage.pc])
        await cancel(conn, live.id)


async def test_of_eight_pcs_one_client_gets_one(conn: TrioConnection, pool: Pool) -> None:
    stages = [await set_stage(conn) for _ in range(AT_ONCE)]
    for _ in range(5):
        client = await add_client(conn, money=100_000)
        got = await at_once(pool, [lambda c, s=s: reserve(c, s, client=client) for s in stages])  # type: ignore[misc]  # noqa: B023
        assert sorted(got) == ["OK"] + ["SESSION_EXISTS"] * (AT_ONCE - 1)
        assert await balance(conn, client) == 100_000 - 2400
        (live,) = await sessions.on_pcs(conn, [stages[got.index("OK")].pc])
        await cancel(conn, live.id)


async def test_of_eight_starts_one_wins(conn: TrioConnection, pool: Pool) -> None:
    for _ in range(5):
        session = await reserve(conn, await set_stage(conn))
        got = await at_once(pool, [lambda c, s=session: start(c, s)] * AT_ONCE)  # type: ignore[misc]
        assert sorted(got) == ["INVALID_STATUS"] * (AT_ONCE - 1) + ["OK"]


async def test_end_expiry_and_time_out_at_once_close_a_session_once(conn: TrioConnection, pool: Pool) -> None:
    for _ in range(5):
        stage = await set_stage(conn, price=6000)
        session = await rent(conn, stage, 60, used=60.5 * MINUTE, silent=4 * MINUTE)
        gone = [await silent(conn, stage)]
        got = await at_once(
            pool,
            [
                lambda c, s=session: end(c, s.id, Caller.CLIENT),  # type: ignore[misc]
                lambda c, s=session: expire(c, s),  # type: ignore[misc]
                lambda c, g=gone: time_out(c, g),  # type: ignore[misc]
            ]
            * 2,
        )
        assert got.count("OK") + got.count("1 closed") == 1
        assert await balance(conn, stage.host.user) == 5400


@pytest.mark.parametrize("debits", [1, 3])
async def test_money_for_one_is_spent_once(conn: TrioConnection, pool: Pool, debits: int) -> None:
    """An admin's debits against the client's own reservations on several PCs."""
    stages = [await set_stage(conn) for _ in range(3)]
    client = await add_client(conn, money=2400)
    for _ in range(5):
        units: list[Callable[[TrioConnection], Awaitable[Any]]] = [lambda c: debit(c, client, 2400)] * debits
        units += [lambda c, s=s: reserve(c, s, client=client) for s in stages]  # type: ignore[misc]
        got = await at_once(pool, units)
        assert got.count("OK") == 1
        assert set(got) <= {"OK", "INSUFFICIENT_FUNDS", "SESSION_EXISTS"}
        assert await balance(conn, client) == 0
        for live in await sessions.on_pcs(conn, [s.pc for s in stages]):
            await end(conn, (await sessions.start(conn, live.id, client, admin=False)).id, Caller.HOST)
        await debit_all(conn, client)
        await credit(conn, client, 2400)


async def debit_all(conn: TrioConnection, user: UUID) -> None:
    if money := await balance(conn, user):
        await debit(conn, user, money)


async def test_refunds_at_once_never_give_more_than_was_retained(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    session = await end(conn, (await rent(conn, stage, 60, used=29.5 * MINUTE)).id, Caller.CLIENT)
    admin = await add_client(conn)
    got = await at_once(pool, [lambda c: sessions.refund(c, session.id, 500, "GOODWILL", made_by=admin)] * AT_ONCE)
    assert sorted(got) == ["OK"] * 2 + ["REFUND_TOO_LARGE"] * (AT_ONCE - 2)
    assert await held_by(conn, RETAINED) == 200


async def test_a_repeat_of_a_local_id_at_once_makes_one_pc(conn: TrioConnection, pool: Pool) -> None:
    host = await add_host(conn)

    async def add(c: TrioConnection) -> str:
        pc, _ = await pcs.add(c, host.id, offer(local_pc_id="one"), currency="BRL")
        return str(pc.id)

    assert len(set(await at_once(pool, [add] * AT_ONCE))) == 1


async def test_a_close_that_waits_for_a_pc_has_written_nothing_yet(conn: TrioConnection, pool: Pool) -> None:
    """Else a client of the batch who reserves meanwhile would wait for it, holding a PC that others want: a deadlock of three."""
    first, second = await set_stage(conn), await set_stage(conn)
    rented = [await rent(conn, stage) for stage in (first, second)]
    decided = [expired(await sessions.snapshot(conn, session.id)) for session in rented]
    async with pool.connection() as a, pool.connection() as b, trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + DEADLINE_S
        await b.run(
            "SET enable_hashjoin = off"
        )  # which would lock all PCs by itself, and which the planner may leave any day
        async with a.transaction():
            await a.run("SELECT FROM pcs WHERE id = %s FOR UPDATE", (second.pc,))
            nursery.start_soon(sessions.close, b, decided)
            await until_one_waits(conn)
            with pytest.raises(SessionExists):
                await reserve(conn, evolve(await set_stage(conn), client=first.client))
    assert [await status_of(conn, session.id) for session in rented] == [Status.ENDED, Status.ENDED]


async def test_wallets_are_locked_in_the_order_of_their_ids(conn: TrioConnection, pool: Pool) -> None:
    """Whatever order their rows lie in: the first was written to again, so that it lies behind the second."""
    first, second = await add_client(conn), await add_client(conn)
    await credit(conn, first, 1)
    legs = [(await account_of(conn, user), amount) for user, amount in ((second, 5), (first, -5))]
    async with pool.connection() as a, pool.connection() as b, trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + DEADLINE_S
        for way in (
            "indexscan",
            "indexonlyscan",
            "bitmapscan",
        ):  # they would come upon the rows in the order of ids anyway
            await b.run(f"SET enable_{way} = off")
        async with a.transaction():
            await a.run("SELECT FROM accounts WHERE user_id = %s FOR NO KEY UPDATE", (first,))
            nursery.start_soon(post, b, *legs)
            await until_one_waits(conn)
            await conn.run("SELECT FROM accounts WHERE user_id = %s FOR NO KEY UPDATE NOWAIT", (second,))
    assert (await balance(conn, first), await balance(conn, second)) == (10_001 - 5, 10_005)
