"""Create, start, end, cancel, refund on PostgreSQL: the contract's rules, one fact a test."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from attrs import evolve
import pytest

from opendesk.errors import Forbidden, OpenDeskError, RateLimited
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import closing, hosts, pcs, sessions, wallets
from opendesk.rental.errors import (
    InsufficientFunds,
    InvalidStatus,
    OwnPc,
    PcBusy,
    PcNotFound,
    PcOffline,
    RefundTooLarge,
    SessionExists,
    SessionNotFound,
)
from opendesk.rental.lifecycle import Caller, EndReason, NetworkProvider, Status
from opendesk.rental.pcs import PcNetwork
from opendesk.rental.sessions import Session
from opendesk.rental.settlement import FailureReason
from opendesk.rental.wallets import ESCROW, EXTERNAL, FEES, RETAINED
from tests.rental.builders import (
    FEE,
    HOUR,
    MINUTE,
    PENALTY,
    SECOND,
    Stage,
    add_client,
    add_host,
    add_pc,
    add_user,
    age,
    balance,
    beat,
    cancel,
    credit,
    database_now,
    debit,
    end,
    held_by,
    last_seen,
    offer,
    pc_status,
    rent,
    reserve,
    score,
    set_stage,
    start,
    status_of,
)

pytestmark = pytest.mark.usefixtures("books")

NONE, HOST, CLIENT, PLATFORM = FailureReason


async def count_of(conn: TrioConnection, table: str) -> int:
    row = await conn.fetch_one(f"SELECT count(*) FROM {table}")
    assert row is not None
    count: int = row[0]
    return count


async def on_relay(conn: TrioConnection, pc: UUID) -> None:
    await pcs.set_network(conn, pc, PcNetwork(NetworkProvider.RELAY))


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


async def make_busy(conn: TrioConnection, pc: UUID) -> None:
    await conn.run("UPDATE pcs SET status = 'BUSY' WHERE id = %s", (pc,))


async def make_offline(conn: TrioConnection, stage: Stage) -> None:
    await beat(conn, stage.host, stage.pc, "OFFLINE")


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
    await conn.run("UPDATE sessions SET created_at = created_at - %s WHERE end_reason = 'CANCELLED'", (by,))


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


# ---- end: the contract's settlement table, played


def amounts(session: Session) -> tuple[int, int, int, int, int]:
    got = session.settlement
    assert got is not None
    return got.total, got.platform_fee, got.host_payout, got.client_credit, got.retained


async def test_the_tables_first_row(conn: TrioConnection) -> None:
    stage = await set_stage(conn, price=2000)
    ended = await end(conn, (await rent(conn, stage, 60, used=29.5 * MINUTE)).id, Caller.CLIENT, NONE)
    assert (ended.status, ended.minutes_used, ended.end_reason) == (Status.ENDED, 30, EndReason.ENDED_BY_CLIENT)
    assert amounts(ended) == (2000, 100, 900, 0, 1000)
    assert (await balance(conn, stage.client), await balance(conn, stage.host.user)) == (8000, 900)
    assert [await held_by(conn, account) for account in (ESCROW, FEES, RETAINED, EXTERNAL)] == [0, 100, 1000, -10_000]


async def test_the_tables_second_row(conn: TrioConnection) -> None:
    stage = await set_stage(conn, price=2400)
    session = await rent(conn, stage, 60, used=20 * MINUTE, silent=5.5 * MINUTE)
    ended = await end(conn, session.id, Caller.CLIENT, HOST)
    assert (ended.status, ended.minutes_used, ended.failure_reason) == (Status.FAILED, 15, HOST)
    assert amounts(ended) == (2400, 60, 378, 1962, 0)
    assert ended.settlement is not None
    assert (ended.settlement.unused, ended.settlement.penalty) == (1800, 162)
    assert await balance(conn, stage.client) == 10_000 - 2400 + 1962


async def test_the_tables_third_row(conn: TrioConnection) -> None:
    stage = await set_stage(conn, price=1000)
    session = await rent(conn, stage, 60, used=90 * MINUTE, fee=Decimal(0), penalty=FEE)
    assert amounts(await end(conn, session.id, Caller.CLIENT, CLIENT)) == (1000, 0, 1000, 0, 0)


async def test_the_tables_fourth_row(conn: TrioConnection) -> None:
    stage = await set_stage(conn, price=1000)
    session = await rent(conn, stage, 60, used=10 * MINUTE, silent=11 * MINUTE)
    ended = await end(conn, session.id, Caller.CLIENT, HOST)
    assert ended.minutes_used == 0
    assert amounts(ended) == (1000, 0, 0, 1000, 0)


@pytest.mark.parametrize("fee", [Decimal(0), Decimal("0.1"), Decimal(1)])
@pytest.mark.parametrize("penalty", [Decimal(0), Decimal("0.3"), Decimal(1)])
@pytest.mark.parametrize("who", [Caller.CLIENT, Caller.HOST])
async def test_rates_at_their_edges_settle(conn: TrioConnection, fee: Decimal, penalty: Decimal, who: Caller) -> None:
    stage = await set_stage(conn, price=77)
    ended = await end(conn, (await rent(conn, stage, 60, used=30 * MINUTE, fee=fee, penalty=penalty)).id, who)
    assert sum(amounts(ended)[1:]) == 77


# ---- end: how it is written


async def test_minutes_used_are_those_begun(conn: TrioConnection, stage: Stage) -> None:
    ended = await end(conn, (await rent(conn, stage, 60, used=2 * MINUTE)).id, Caller.CLIENT)
    assert ended.minutes_used == 3


async def test_an_end_past_the_end_is_complete_and_ends_then(conn: TrioConnection, stage: Stage) -> None:
    ended = await end(conn, (await rent(conn, stage, 60, used=2 * HOUR)).id, Caller.HOST)
    assert (ended.status, ended.end_reason, ended.minutes_used) == (Status.ENDED, EndReason.COMPLETED, 60)
    assert ended.ended_at == ended.end_at


async def test_second_end_moves_no_money(conn: TrioConnection, stage: Stage) -> None:
    session = await rent(conn, stage, used=10 * MINUTE)
    found = await sessions.snapshot(conn, session.id)
    decided = closing.end(found, Caller.CLIENT, None, heartbeat_timeout=MINUTE, listening_since=None)
    assert len(await sessions.close(conn, [decided])) == 1
    entries = await count_of(conn, "entries")
    assert await sessions.close(conn, [decided]) == []
    assert await count_of(conn, "entries") == entries


async def test_a_pending_session_is_not_ended_as_an_active_one(conn: TrioConnection, stage: Stage) -> None:
    session = await reserve(conn, stage)
    with pytest.raises(InvalidStatus):
        await end(conn, session.id, Caller.CLIENT)


async def test_what_was_decided_on_a_pending_session_is_not_written_on_an_active_one(
    conn: TrioConnection, stage: Stage
) -> None:
    session = await reserve(conn, stage)
    decided = closing.cancel(await sessions.snapshot(conn, session.id))
    await start(conn, session)
    assert await sessions.close(conn, [decided]) == []
    assert await status_of(conn, session.id) == Status.ACTIVE


async def test_an_end_frees_the_pc(conn: TrioConnection, stage: Stage) -> None:
    await end(conn, (await rent(conn, stage)).id, Caller.CLIENT)
    assert await pc_status(conn, stage.pc) == "ONLINE"


async def test_an_end_leaves_the_pc_of_a_host_that_is_gone_offline(conn: TrioConnection, stage: Stage) -> None:
    session = await rent(conn, stage, used=10 * MINUTE, silent=61 * SECOND)
    await end(conn, session.id, Caller.CLIENT)
    assert await pc_status(conn, stage.pc) == "OFFLINE"


async def test_an_end_leaves_a_pc_offline_that_its_host_took_off_meanwhile(conn: TrioConnection, stage: Stage) -> None:
    session = await rent(conn, stage)
    await beat(conn, stage.host, stage.pc, "OFFLINE")
    assert await pc_status(conn, stage.pc) == "BUSY"
    await end(conn, session.id, Caller.CLIENT)
    assert await pc_status(conn, stage.pc) == "OFFLINE"


async def test_a_client_may_rent_again_after_the_end(conn: TrioConnection, stage: Stage) -> None:
    await end(conn, (await rent(conn, stage)).id, Caller.CLIENT)
    assert (await reserve(conn, stage)).status == Status.PENDING


async def test_many_are_closed_by_one_statement(conn: TrioConnection) -> None:
    """One host twice, a client who is the host of another, prices of nothing: each gets its own."""
    a, b, free = await set_stage(conn, price=60), await set_stage(conn, price=6000), await set_stage(conn, price=0)
    second = Stage(a.host, await add_pc(conn, a.host, price=600), await add_client(conn))
    await credit(conn, a.host.user, 10_000)
    crossed = evolve(b, client=a.host.user)
    rented = [await rent(conn, stage, 60, used=29.5 * MINUTE) for stage in (a, crossed, second, free)]
    found = [await sessions.snapshot(conn, session.id) for session in rented]
    decided = [
        closing.end(s, who, None, heartbeat_timeout=MINUTE, listening_since=None)
        for s, who in zip(found, (Caller.CLIENT, Caller.HOST, Caller.CLIENT, Caller.CLIENT), strict=True)
    ]
    closed = await sessions.close(conn, decided)
    assert {session.id: amounts(session) for session in closed} == {
        rented[0].id: (60, 3, 27, 0, 30),
        rented[1].id: (6000, 300, 1890, 3810, 0),
        rented[2].id: (600, 30, 270, 0, 300),
        rented[3].id: (0, 0, 0, 0, 0),
    }
    assert await balance(conn, a.host.user) == 10_000 - 6000 + 3810 + 27 + 270
    assert await balance(conn, b.host.user) == 1890
    assert await score(conn, a.host) == (100, 2, 0)
    assert await score(conn, b.host) == (98, 0, 1)


async def test_the_same_closing_twice_in_one_statement_pays_once(conn: TrioConnection, stage: Stage) -> None:
    found = await sessions.snapshot(conn, (await rent(conn, stage, used=30 * MINUTE)).id)
    decided = closing.end(found, Caller.CLIENT, None, heartbeat_timeout=MINUTE, listening_since=None)
    assert len(await sessions.close(conn, [decided, decided])) == 1


# ---- end: whose fault counts


Ended = Callable[[TrioConnection, Stage], Awaitable[Session]]


def by(
    who: Caller, claim: FailureReason | None, *, used: timedelta = 30 * MINUTE, silent: timedelta = 10 * SECOND
) -> Ended:
    async def ended(conn: TrioConnection, stage: Stage) -> Session:
        return await end(conn, (await rent(conn, stage, 60, used=used, silent=silent)).id, who, claim)

    return ended


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (by(Caller.CLIENT, None), (NONE, None, EndReason.ENDED_BY_CLIENT)),
        (by(Caller.CLIENT, NONE), (NONE, None, EndReason.ENDED_BY_CLIENT)),
        (by(Caller.CLIENT, CLIENT), (CLIENT, None, EndReason.ENDED_BY_CLIENT)),
        (by(Caller.CLIENT, PLATFORM), (NONE, PLATFORM, EndReason.ENDED_BY_CLIENT)),
        (by(Caller.CLIENT, HOST), (NONE, HOST, EndReason.ENDED_BY_CLIENT)),
        (by(Caller.CLIENT, HOST, silent=61 * SECOND), (HOST, None, EndReason.ENDED_BY_CLIENT)),
        (by(Caller.CLIENT, None, silent=61 * SECOND), (NONE, None, EndReason.ENDED_BY_CLIENT)),
        (by(Caller.HOST, None), (HOST, None, EndReason.ENDED_BY_HOST)),
        (by(Caller.HOST, NONE), (HOST, NONE, EndReason.ENDED_BY_HOST)),
        (by(Caller.HOST, CLIENT), (HOST, CLIENT, EndReason.ENDED_BY_HOST)),
        (by(Caller.HOST, PLATFORM), (HOST, PLATFORM, EndReason.ENDED_BY_HOST)),
        (by(Caller.HOST, HOST), (HOST, None, EndReason.ENDED_BY_HOST)),
        (by(Caller.HOST, None, used=61 * MINUTE), (NONE, None, EndReason.COMPLETED)),
        (by(Caller.HOST, CLIENT, used=61 * MINUTE), (NONE, CLIENT, EndReason.COMPLETED)),
        (by(Caller.ADMIN, None), (NONE, None, EndReason.ENDED_BY_ADMIN)),
        (by(Caller.ADMIN, HOST), (HOST, None, EndReason.ENDED_BY_ADMIN)),
        (by(Caller.ADMIN, CLIENT), (CLIENT, None, EndReason.ENDED_BY_ADMIN)),
        (by(Caller.ADMIN, PLATFORM), (PLATFORM, None, EndReason.ENDED_BY_ADMIN)),
    ],
)
async def test_whose_fault_counts(
    conn: TrioConnection, stage: Stage, ended: Ended, expected: tuple[FailureReason, FailureReason | None, EndReason]
) -> None:
    session = await ended(conn, stage)
    assert (session.failure_reason, session.claimed_failure_reason, session.end_reason) == expected
    assert session.status == (Status.ENDED if expected[0] is NONE else Status.FAILED)


async def test_time_is_billed_to_the_last_beat_when_the_host_failed(conn: TrioConnection, stage: Stage) -> None:
    session = await by(Caller.CLIENT, HOST, used=30 * MINUTE, silent=10.5 * MINUTE)(conn, stage)
    assert session.minutes_used == 20


async def test_time_is_billed_to_now_when_a_silent_hosts_client_blames_nobody(
    conn: TrioConnection, stage: Stage
) -> None:
    session = await by(Caller.CLIENT, NONE, used=29.5 * MINUTE, silent=10 * MINUTE)(conn, stage)
    assert session.minutes_used == 30


async def test_time_is_never_billed_before_the_start(conn: TrioConnection, stage: Stage) -> None:
    session = await by(Caller.CLIENT, HOST, used=5 * MINUTE, silent=2 * HOUR)(conn, stage)
    assert (session.minutes_used, amounts(session)) == (0, (2400, 0, 0, 2400, 0))


async def test_silence_from_before_the_session_does_not_blame_the_host_at_once(
    conn: TrioConnection, stage: Stage
) -> None:
    session = await by(Caller.CLIENT, HOST, used=5 * SECOND, silent=55 * SECOND)(conn, stage)
    assert (session.failure_reason, session.claimed_failure_reason) == (NONE, HOST)


async def test_silence_that_this_daemon_slept_through_is_no_proof(conn: TrioConnection, stage: Stage) -> None:
    session = await rent(conn, stage, used=30 * MINUTE, silent=10 * MINUTE)
    since = await database_now(conn) - 30 * SECOND
    ended = await end(conn, session.id, Caller.CLIENT, HOST, listening_since=since)
    assert (ended.failure_reason, ended.claimed_failure_reason) == (NONE, HOST)


async def test_another_pcs_beats_prove_nothing_of_this_one(conn: TrioConnection, stage: Stage) -> None:
    session = await rent(conn, stage, used=30 * MINUTE, silent=10 * MINUTE)
    await beat(conn, stage.host, await add_pc(conn, stage.host))
    assert (await end(conn, session.id, Caller.CLIENT, HOST)).failure_reason == HOST


async def test_a_relay_pc_that_beats_is_not_blamed_without_what_the_relay_saw(
    conn: TrioConnection, stage: Stage
) -> None:
    await on_relay(conn, stage.pc)
    session = await by(Caller.CLIENT, HOST)(conn, stage)
    assert (session.failure_reason, session.claimed_failure_reason) == (NONE, HOST)


async def test_a_silent_relay_pc_is_blamed(conn: TrioConnection, stage: Stage) -> None:
    await on_relay(conn, stage.pc)
    assert (await by(Caller.CLIENT, HOST, silent=61 * SECOND)(conn, stage)).failure_reason == HOST


async def test_a_pc_that_never_beat_is_blamed(conn: TrioConnection, stage: Stage) -> None:
    session = await rent(conn, stage, used=30 * MINUTE)
    await conn.run("DELETE FROM pc_beats")
    ended = await end(conn, session.id, Caller.CLIENT, HOST)
    assert (ended.failure_reason, ended.minutes_used) == (HOST, 0)


# ---- reliability


async def test_a_session_done_counts_for_the_host(conn: TrioConnection, stage: Stage) -> None:
    await conn.run("UPDATE hosts SET reliability_score = 50")
    await end(conn, (await rent(conn, stage)).id, Caller.CLIENT)
    assert await score(conn, stage.host) == (51, 1, 0)


async def test_a_session_failed_by_the_host_counts_against_it(conn: TrioConnection, stage: Stage) -> None:
    ended = await end(conn, (await rent(conn, stage)).id, Caller.HOST)
    assert await score(conn, stage.host) == (98, 0, 1)
    host = await hosts.by_id(conn, stage.host.id)
    assert host is not None
    assert (host.last_drop_at, host.sessions_total) == (ended.ended_at, 1)


@pytest.mark.parametrize("claim", [CLIENT, PLATFORM])
async def test_a_session_failed_by_others_says_nothing_of_the_host(
    conn: TrioConnection, stage: Stage, claim: FailureReason
) -> None:
    await end(conn, (await rent(conn, stage)).id, Caller.ADMIN, claim)
    assert await score(conn, stage.host) == (100, 0, 0)


async def test_a_cancelled_reservation_says_nothing_of_the_host(conn: TrioConnection, stage: Stage) -> None:
    await cancel(conn, (await reserve(conn, stage)).id)
    assert await score(conn, stage.host) == (100, 0, 0)


async def test_the_score_stays_within_its_bounds(conn: TrioConnection, stage: Stage) -> None:
    await end(conn, (await rent(conn, stage)).id, Caller.CLIENT)
    assert (await score(conn, stage.host))[0] == 100
    await conn.run("UPDATE hosts SET reliability_score = 1")
    await end(conn, (await rent(conn, stage)).id, Caller.HOST)
    assert (await score(conn, stage.host))[0] == 0


async def test_five_sessions_make_a_badge(conn: TrioConnection, stage: Stage) -> None:
    badges = []
    for _ in range(5):
        await end(conn, (await rent(conn, stage, 1)).id, Caller.CLIENT)
        host = await hosts.by_id(conn, stage.host.id)
        assert host is not None
        badges.append(host.reliability_badge)
    assert badges == ["NOVO"] * 4 + ["CONFIAVEL"]


# ---- cancel


async def test_cancel_gives_all_of_it_back(conn: TrioConnection, stage: Stage) -> None:
    session = await cancel(conn, (await reserve(conn, stage)).id)
    assert (session.status, session.end_reason, session.failure_reason) == (Status.FAILED, EndReason.CANCELLED, NONE)
    assert amounts(session) == (2400, 0, 0, 2400, 0)
    assert await balance(conn, stage.client) == 10_000
    assert await held_by(conn, ESCROW) == 0


async def test_cancel_leaves_the_pc_as_it_is(conn: TrioConnection, stage: Stage) -> None:
    session = await reserve(conn, stage)
    await make_offline(conn, stage)
    await cancel(conn, session.id)
    assert await pc_status(conn, stage.pc) == "OFFLINE"


async def test_a_cancelled_pc_may_be_reserved_again(conn: TrioConnection, stage: Stage) -> None:
    await cancel(conn, (await reserve(conn, stage)).id)
    assert (await reserve(conn, stage)).status == Status.PENDING


async def test_a_started_session_is_not_cancelled(conn: TrioConnection, stage: Stage) -> None:
    session = await rent(conn, stage)
    with pytest.raises(InvalidStatus):
        await cancel(conn, session.id)


# ---- refund


async def over(conn: TrioConnection, stage: Stage) -> Session:
    """Half of 24.00 was used; 12.00 are retained."""
    return await end(conn, (await rent(conn, stage, 60, used=29.5 * MINUTE)).id, Caller.CLIENT)


async def refund(conn: TrioConnection, session: Session, amount: int) -> None:
    admin = await add_user(conn, role="ADMIN")
    tx = await sessions.refund(conn, session.id, amount, "GOODWILL", made_by=admin.id)
    assert (tx.user_id, tx.type, tx.amount, tx.reason) == (session.client_user_id, "CREDIT", amount, "GOODWILL")


async def test_refund_comes_out_of_what_was_retained(conn: TrioConnection, stage: Stage) -> None:
    session = await over(conn, stage)
    before = await balance(conn, stage.client)
    await refund(conn, session, 500)
    assert await balance(conn, stage.client) == before + 500
    assert await held_by(conn, RETAINED) == 700


async def test_refund_leaves_the_settlement_as_it_was(conn: TrioConnection, stage: Stage) -> None:
    session = await over(conn, stage)
    await refund(conn, session, 1200)
    assert (await sessions.get(conn, session.id, caller=stage.client, admin=False)).settlement == session.settlement


async def test_refunds_never_add_up_to_more_than_was_retained(conn: TrioConnection, stage: Stage) -> None:
    session = await over(conn, stage)
    await refund(conn, session, 1199)
    with pytest.raises(RefundTooLarge):
        await refund(conn, session, 2)
    await refund(conn, session, 1)
    with pytest.raises(RefundTooLarge):
        await refund(conn, session, 1)


async def test_nothing_is_refunded_of_a_session_of_which_nothing_was_retained(
    conn: TrioConnection, stage: Stage
) -> None:
    session = await cancel(conn, (await reserve(conn, stage)).id)
    with pytest.raises(RefundTooLarge):
        await refund(conn, session, 1)


async def test_a_live_session_has_nothing_to_refund(conn: TrioConnection, stage: Stage) -> None:
    with pytest.raises(InvalidStatus):
        await refund(conn, await rent(conn, stage), 1)


async def test_a_session_that_is_not_there_has_nothing_to_refund(conn: TrioConnection) -> None:
    with pytest.raises(SessionNotFound):
        await sessions.refund(conn, uuid4(), 1, "GOODWILL", made_by=(await add_user(conn, role="ADMIN")).id)


# ---- who sees what


async def test_client_host_and_admin_see_a_session_and_nobody_else(conn: TrioConnection, stage: Stage) -> None:
    session = await reserve(conn, stage)
    for user in (stage.client, stage.host.user):
        assert (await sessions.get(conn, session.id, caller=user, admin=False)).id == session.id
    stranger = await add_client(conn)
    assert (await sessions.get(conn, session.id, caller=stranger, admin=True)).id == session.id
    with pytest.raises(Forbidden):
        await sessions.get(conn, session.id, caller=stranger, admin=False)
    with pytest.raises(SessionNotFound):
        await sessions.get(conn, uuid4(), caller=stage.client, admin=False)


async def test_minutes_of_an_active_session_run(conn: TrioConnection, stage: Stage) -> None:
    session = await rent(conn, stage, 60, used=29.5 * MINUTE)
    assert (await sessions.get(conn, session.id, caller=stage.client, admin=False)).minutes_used == 30
    await age(conn, session.id, HOUR)
    assert (await sessions.get(conn, session.id, caller=stage.client, admin=False)).minutes_used == 60


async def listed(
    conn: TrioConnection, user: UUID, host: UUID | None, *, status: str | None = None, before: UUID | None = None
) -> list[UUID]:
    found = await sessions.list_some(
        conn,
        user_id=user,
        host_id=host,
        admin=False,
        before=before or UUID(int=2**128 - 1),
        wanted=100,
        status=status,
    )
    return [session.id for session in found]


async def test_lists_have_what_one_rents_and_what_one_lets_newest_first(conn: TrioConnection, stage: Stage) -> None:
    await credit(conn, stage.host.user, 10_000)
    other = await set_stage(conn)
    first = await over(conn, stage)
    second = await reserve(conn, evolve(other, client=stage.host.user))
    third = await reserve(conn, stage)
    assert await listed(conn, stage.host.user, stage.host.id) == [third.id, second.id, first.id]
    assert await listed(conn, stage.host.user, stage.host.id, before=third.id) == [second.id, first.id]
    assert await listed(conn, stage.host.user, stage.host.id, status="ENDED") == [first.id]
    assert await listed(conn, stage.client, None) == [third.id, first.id]
    assert await listed(conn, await add_client(conn), None) == []


# ---- wallets


async def test_a_debit_over_the_balance_is_refused(conn: TrioConnection, stage: Stage) -> None:
    with pytest.raises(InsufficientFunds):
        await debit(conn, stage.client, 10_001)
    await debit(conn, stage.client, 10_000)
    assert await balance(conn, stage.client) == 0


async def test_what_is_held_can_not_be_debited(conn: TrioConnection, stage: Stage) -> None:
    await reserve(conn, stage)
    with pytest.raises(InsufficientFunds):
        await debit(conn, stage.client, 7601)


async def test_a_wallet_tells_of_its_movements_newest_first(conn: TrioConnection, stage: Stage) -> None:
    await over(conn, stage)
    seen = await wallets.transactions(conn, stage.client, before=UUID(int=2**128 - 1), wanted=100)
    assert [(tx.type, tx.amount, tx.reason) for tx in seen] == [
        ("DEBIT", 2400, "SESSION_HOLD"),
        ("CREDIT", 10_000, "TOP_UP"),
    ]
    paid = await wallets.transactions(conn, stage.host.user, before=UUID(int=2**128 - 1), wanted=100)
    assert [(tx.type, tx.amount, tx.reason) for tx in paid] == [("CREDIT", 1080, "SESSION_PAYOUT")]


# ---- PCs


async def test_a_pc_with_a_live_session_is_not_deleted(conn: TrioConnection, stage: Stage) -> None:
    session = await reserve(conn, stage)
    with pytest.raises(PcBusy):
        await pcs.delete(conn, stage.pc)
    await start(conn, session)
    with pytest.raises(PcBusy):
        await pcs.delete(conn, stage.pc)
    await end(conn, session.id, Caller.CLIENT)
    await pcs.delete(conn, stage.pc)
    with pytest.raises(PcNotFound):
        await pcs.by_id(conn, stage.pc)


async def test_a_deleted_pcs_sessions_are_still_seen(conn: TrioConnection, stage: Stage) -> None:
    session = await over(conn, stage)
    await pcs.delete(conn, stage.pc)
    assert (await sessions.get(conn, session.id, caller=stage.client, admin=False)).pc_id == stage.pc


async def test_a_repeat_of_a_local_id_gives_the_existing_pc(conn: TrioConnection, stage: Stage) -> None:
    first, made = await pcs.add(conn, stage.host.id, offer(local_pc_id="one"), currency="BRL")
    again, made_again = await pcs.add(conn, stage.host.id, offer(local_pc_id="one", price=1), currency="BRL")
    assert (made, made_again, again) == (True, False, first)


async def test_a_deleted_pcs_local_id_is_free_again(conn: TrioConnection, stage: Stage) -> None:
    first, _ = await pcs.add(conn, stage.host.id, offer(local_pc_id="one"), currency="BRL")
    await pcs.delete(conn, first.id)
    again, made = await pcs.add(conn, stage.host.id, offer(local_pc_id="one"), currency="BRL")
    assert made
    assert again.id != first.id


async def test_session_exists_for_a_client_on_two_pcs(conn: TrioConnection, stage: Stage) -> None:
    await reserve(conn, stage)
    with pytest.raises(SessionExists):
        await reserve(conn, evolve(await set_stage(conn), client=stage.client))


async def test_own_pc_is_refused_to_a_host_with_money(conn: TrioConnection, stage: Stage) -> None:
    await credit(conn, stage.host.user, 10_000)
    with pytest.raises(OwnPc):
        await reserve(conn, evolve(stage, client=stage.host.user), penalty=PENALTY)


async def test_a_late_beat_is_the_last_that_is_seen(conn: TrioConnection, stage: Stage) -> None:
    await last_seen(conn, stage.pc, HOUR)
    await beat(conn, stage.host)
    row = await conn.fetch_one("SELECT now() - last_seen_at FROM pc_beats WHERE pc_id = %s", (stage.pc,))
    assert row is not None
    assert row[0] < HOUR
