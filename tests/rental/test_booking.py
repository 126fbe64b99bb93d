"""Reserving and starting on PostgreSQL: the contract's rules 1 and 2, one fact a test."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from attrs import evolve
import pytest

from opendesk.errors import Forbidden, OpenDeskError, RateLimited
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import closing, pcs, sessions
from opendesk.rental.errors import (
    InvalidStatus,
    OwnPc,
    PcBusy,
    PcOffline,
    SessionExists,
    SessionNotFound,
)
from opendesk.rental.lifecycle import Caller, Status
from opendesk.rental.settlement import FailureReason
from opendesk.rental.wallets import ESCROW
from tests.rental.builders import (
    HOUR,
    MINUTE,
    PENALTY,
    Stage,
    add_client,
    add_host,
    add_pc,
    add_user,
    age,
    balance,
    beat,
    behind_triggers,
    cancel,
    count_of,
    credit,
    debit,
    end,
    held_by,
    make_busy,
    make_offline,
    offer,
    pc_status,
    rent,
    reserve,
    set_stage,
    start,
    status_of,
)

pytestmark = pytest.mark.books

NONE, HOST, CLIENT, PLATFORM = FailureReason


# ---- create


async def test_create_reserves_the_pc_and_holds_the_whole_price(conn: TrioConnection, stage: Stage) -> None:
    session = await reserve(conn, stage, 60)
    assert (session.status, session.price_total, session.minutes_used) == (Status.PENDING, 2400, 0)
    assert (session.pc_id, session.host_id, session.client_user_id) == (stage.pc, stage.host.id, stage.client)
    assert (session.start_at, session.end_at, session.ended_at, session.settlement) == (None, None, None, None)
    assert await balance(conn, stage.client) == 7600
    assert await held_by(conn, ESCROW) == 2400


async def test_reservation_leaves_the_pc_online(conn: TrioConnection, stage: Stage) -> None:
    await reserve(conn, stage)
    assert await pc_status(conn, stage.pc) == "ONLINE"


@pytest.mark.parametrize(
    ("price", "minutes", "total"),
    [(1, 30, 1), (90, 1, 2), (150, 1, 2), (210, 1, 4), (1, 1, 1), (2400, 240, 9600), (59, 1, 1)],
)
async def test_price_is_half_even_and_at_least_one(conn: TrioConnection, price: int, minutes: int, total: int) -> None:
    session = await reserve(conn, await set_stage(conn, price=price), minutes)
    assert session.price_total == total


async def test_free_pc_is_rented_with_nothing_and_moves_nothing(conn: TrioConnection) -> None:
    stage = await set_stage(conn, price=0, money=0)
    ended = await end(conn, (await rent(conn, stage)).id, Caller.CLIENT)
    assert ended.settlement is not None
    assert ended.settlement.total == 0
    assert await count_of(conn, "transfers") == 0


async def test_wallet_may_be_emptied_to_zero(conn: TrioConnection) -> None:
    stage = await set_stage(conn, price=2400, money=2400)
    await reserve(conn, stage, 60)
    assert await balance(conn, stage.client) == 0


async def test_terms_stay_those_of_the_reservation(conn: TrioConnection, stage: Stage) -> None:
    session = await reserve(conn, stage, 60, fee=Decimal("0.2"), penalty=Decimal("0.5"))
    await pcs.change(conn, stage.pc, offer(price=9_000))
    await start(conn, session)
    await age(conn, session.id, 29.5 * MINUTE)
    ended = await end(conn, session.id, Caller.CLIENT)
    assert (ended.price_total, ended.platform_fee_rate, ended.penalty_rate) == (2400, Decimal("0.2"), Decimal("0.5"))
    assert ended.settlement is not None
    assert ended.settlement.platform_fee == 240


async def bar(conn: TrioConnection, client: UUID, *, times: int = 3) -> None:
    """Three reservations that were never started."""
    await credit(conn, client, 2400)
    stage = evolve(await set_stage(conn), client=client)
    for _ in range(times):
        await cancel(conn, (await reserve(conn, stage)).id)
    await debit(conn, client, 2400)


async def rents_and_is_barred(conn: TrioConnection, client: UUID) -> None:
    await bar(conn, client)
    await age_never_started(conn, 2 * HOUR)
    await credit(conn, client, 2400)
    await reserve(conn, evolve(await set_stage(conn), client=client))
    await age_never_started(conn, -2 * HOUR)


async def age_never_started(conn: TrioConnection, by: timedelta) -> None:
    query = "UPDATE sessions SET created_at = created_at - %(by)s WHERE end_reason = 'CANCELLED'"
    await behind_triggers(conn, query, {"by": by})


async def broke_owner(conn: TrioConnection) -> Stage:
    """One of whom everything is to be refused: it is their own PC, and they have nothing."""
    host = await add_host(conn)
    return Stage(host, await add_pc(conn, host), host.user)


async def refused(conn: TrioConnection, stage: Stage) -> str:
    before = await count_of(conn, "sessions"), await count_of(conn, "transfers"), await count_of(conn, "entries")
    with pytest.raises(OpenDeskError) as caught:
        await reserve(conn, stage)
    assert before == (
        await count_of(conn, "sessions"),
        await count_of(conn, "transfers"),
        await count_of(conn, "entries"),
    )
    return caught.value.code


async def test_a_busy_pc_is_refused_before_all_else(conn: TrioConnection) -> None:
    stage = await broke_owner(conn)
    await rents_and_is_barred(conn, stage.client)
    await make_busy(conn, stage.pc)
    assert await refused(conn, stage) == "PC_BUSY"


async def test_an_offline_pc_is_refused_before_what_speaks_against_the_client(conn: TrioConnection) -> None:
    stage = await broke_owner(conn)
    await rents_and_is_barred(conn, stage.client)
    await make_offline(conn, stage)
    assert await refused(conn, stage) == "PC_OFFLINE"


async def test_a_reserved_pc_that_went_offline_is_offline(conn: TrioConnection, stage: Stage) -> None:
    await reserve(conn, stage)
    await make_offline(conn, stage)
    assert await refused(conn, evolve(stage, client=await add_client(conn))) == "PC_OFFLINE"


async def test_a_reserved_pc_is_busy_before_what_speaks_against_the_client(conn: TrioConnection) -> None:
    stage = await broke_owner(conn)
    await reserve(conn, evolve(stage, client=await add_client(conn)))
    await rents_and_is_barred(conn, stage.client)
    assert await refused(conn, stage) == "PC_BUSY"


async def test_a_client_who_rents_is_told_so_before_it_is_told_of_its_own_pc(conn: TrioConnection) -> None:
    stage = await broke_owner(conn)
    await rents_and_is_barred(conn, stage.client)
    assert await refused(conn, stage) == "SESSION_EXISTS"


async def test_the_own_pc_is_refused_before_the_limit(conn: TrioConnection) -> None:
    stage = await broke_owner(conn)
    await bar(conn, stage.client)
    assert await refused(conn, stage) == "OWN_PC"


async def test_the_limit_comes_before_the_money(conn: TrioConnection) -> None:
    stage = await set_stage(conn, money=0)
    await bar(conn, stage.client)
    assert await refused(conn, stage) == "RATE_LIMITED"


async def test_one_centavo_short_is_refused(conn: TrioConnection) -> None:
    assert await refused(conn, await set_stage(conn, money=2399)) == "INSUFFICIENT_FUNDS"


async def test_a_host_may_rent_from_another(conn: TrioConnection, stage: Stage) -> None:
    other = await add_host(conn, money=2400)
    assert (await reserve(conn, evolve(stage, client=other.user))).client_user_id == other.user


async def test_a_pc_that_is_not_there_is_not_found(conn: TrioConnection, stage: Stage) -> None:
    assert await refused(conn, evolve(stage, pc=uuid4())) == "PC_NOT_FOUND"


async def test_a_deleted_pc_is_not_found(conn: TrioConnection, stage: Stage) -> None:
    await pcs.delete(conn, stage.pc)
    assert await refused(conn, stage) == "PC_NOT_FOUND"


async def test_a_new_pc_is_offline_until_it_beats(conn: TrioConnection, stage: Stage) -> None:
    pc = await add_pc(conn, stage.host, online=False)
    assert await refused(conn, evolve(stage, pc=pc)) == "PC_OFFLINE"
    await beat(conn, stage.host, pc)
    assert (await reserve(conn, evolve(stage, pc=pc))).status == Status.PENDING


async def test_session_exists_for_a_client_on_two_pcs(conn: TrioConnection, stage: Stage) -> None:
    await reserve(conn, stage)
    with pytest.raises(SessionExists):
        await reserve(conn, evolve(await set_stage(conn), client=stage.client))


async def test_own_pc_is_refused_to_a_host_with_money(conn: TrioConnection, stage: Stage) -> None:
    await credit(conn, stage.host.user, 10_000)
    with pytest.raises(OwnPc):
        await reserve(conn, evolve(stage, client=stage.host.user), penalty=PENALTY)


# ---- the limit on reservations that were never started


async def test_the_fourth_reservation_is_told_when_to_come_back(conn: TrioConnection, stage: Stage) -> None:
    for ago in (50, 40, 30):
        session = await reserve(conn, stage)
        await age(conn, session.id, ago * MINUTE)
        await cancel(conn, session.id)
    with pytest.raises(RateLimited) as caught:
        await reserve(conn, stage)
    # The first of the three is an hour old in ten minutes.
    assert caught.value.retry_after_s is not None
    assert 540 < caught.value.retry_after_s <= 601


async def test_reservations_of_an_hour_ago_do_not_count(conn: TrioConnection, stage: Stage) -> None:
    for ago in (61, 40, 30):
        session = await reserve(conn, stage)
        await age(conn, session.id, ago * MINUTE)
        await cancel(conn, session.id)
    assert (await reserve(conn, stage)).status == Status.PENDING


async def test_reservations_given_up_count(conn: TrioConnection, stage: Stage) -> None:
    for _ in range(3):
        found = await sessions.snapshot(conn, (await reserve(conn, stage)).id)
        await sessions.close(conn, [closing.give_up(found)])
    with pytest.raises(RateLimited):
        await reserve(conn, stage)


async def test_reservations_that_the_host_let_down_do_not_count(conn: TrioConnection, stage: Stage) -> None:
    for _ in range(3):
        found = await sessions.snapshot(conn, (await reserve(conn, stage)).id)
        await sessions.close(conn, [closing.time_out(found)])
        await beat(conn, stage.host)
    assert (await reserve(conn, stage)).status == Status.PENDING


async def test_sessions_that_were_started_do_not_count(conn: TrioConnection, stage: Stage) -> None:
    for _ in range(3):
        await end(conn, (await rent(conn, stage, 1)).id, Caller.CLIENT)
    assert (await reserve(conn, stage)).status == Status.PENDING


async def test_the_limit_is_each_clients_own(conn: TrioConnection, stage: Stage) -> None:
    await bar(conn, await add_client(conn))
    assert (await reserve(conn, stage)).status == Status.PENDING


# ---- start


async def test_start_takes_the_pc_and_sets_the_end(conn: TrioConnection, stage: Stage) -> None:
    session = await start(conn, await reserve(conn, stage, 45))
    assert session.status == Status.ACTIVE
    assert session.start_at is not None
    assert session.end_at == session.start_at + 45 * MINUTE
    assert await pc_status(conn, stage.pc) == "BUSY"


async def test_start_moves_no_money(conn: TrioConnection, stage: Stage) -> None:
    await start(conn, await reserve(conn, stage))
    assert await held_by(conn, ESCROW) == 2400
    assert await balance(conn, stage.client) == 7600


async def test_only_the_client_starts(conn: TrioConnection, stage: Stage) -> None:
    session = await reserve(conn, stage)
    for stranger in (stage.host.user, await add_client(conn)):
        with pytest.raises(Forbidden):
            await sessions.start(conn, session.id, stranger, admin=False)
    assert await status_of(conn, session.id) == Status.PENDING


async def test_an_admin_may_start_for_the_client(conn: TrioConnection, stage: Stage) -> None:
    session = await reserve(conn, stage)
    admin = await add_user(conn, role="ADMIN")
    assert (await sessions.start(conn, session.id, admin.id, admin=True)).status == Status.ACTIVE


async def test_a_session_starts_once(conn: TrioConnection, stage: Stage) -> None:
    session = await rent(conn, stage)
    with pytest.raises(InvalidStatus):
        await start(conn, session)


async def test_a_session_that_is_over_does_not_start(conn: TrioConnection, stage: Stage) -> None:
    session = await reserve(conn, stage)
    await cancel(conn, session.id)
    with pytest.raises(InvalidStatus):
        await start(conn, session)


async def test_a_session_that_is_not_there_does_not_start(conn: TrioConnection, stage: Stage) -> None:
    with pytest.raises(SessionNotFound):
        await sessions.start(conn, uuid4(), stage.client, admin=False)


async def test_an_offline_pc_can_not_be_taken(conn: TrioConnection, stage: Stage) -> None:
    session = await reserve(conn, stage)
    await make_offline(conn, stage)
    with pytest.raises(PcOffline):
        await start(conn, session)
    assert await status_of(conn, session.id) == Status.PENDING


async def test_a_busy_pc_can_not_be_taken(conn: TrioConnection, stage: Stage) -> None:
    session = await reserve(conn, stage)
    await make_busy(conn, stage.pc)
    with pytest.raises(PcBusy):
        await start(conn, session)
    assert await status_of(conn, session.id) == Status.PENDING
