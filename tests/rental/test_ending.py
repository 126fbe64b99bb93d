"""Ends and cancellations on PostgreSQL: who gets what, whose fault counts, what it says of the host."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from attrs import evolve
import pytest

from opendesk.postgres.driver import TrioConnection
from opendesk.rental import closing, hosts, pcs, sessions
from opendesk.rental.errors import (
    InvalidStatus,
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
    SECOND,
    Stage,
    add_client,
    add_pc,
    balance,
    beat,
    cancel,
    count_of,
    credit,
    database_now,
    end,
    held_by,
    pc_status,
    rent,
    reserve,
    score,
    set_stage,
    start,
    status_of,
)

pytestmark = pytest.mark.books

NONE, HOST, CLIENT, PLATFORM = FailureReason


async def on_relay(conn: TrioConnection, pc: UUID) -> None:
    await pcs.set_network(conn, pc, PcNetwork(NetworkProvider.RELAY))


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


@pytest.mark.parametrize("taken_off", [True, False])
async def test_cancel_leaves_the_pc_as_it_is(conn: TrioConnection, stage: Stage, taken_off: bool) -> None:  # noqa: FBT001  # a parameter of pytest's
    session = await reserve(conn, stage)
    await conn.run("UPDATE pcs SET status = 'OFFLINE', taken_off = %s", (taken_off,))
    await cancel(conn, session.id)
    assert await pc_status(conn, stage.pc) == "OFFLINE"


async def test_a_cancelled_pc_may_be_reserved_again(conn: TrioConnection, stage: Stage) -> None:
    await cancel(conn, (await reserve(conn, stage)).id)
    assert (await reserve(conn, stage)).status == Status.PENDING


async def test_a_started_session_is_not_cancelled(conn: TrioConnection, stage: Stage) -> None:
    session = await rent(conn, stage)
    with pytest.raises(InvalidStatus):
        await cancel(conn, session.id)
