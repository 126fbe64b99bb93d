"""Time passes in a database by making what happened there older."""

from datetime import timedelta

import pytest

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import sessions
from opendesk.rental.lifecycle import EndReason
from opendesk.simulators import time_shift
from opendesk.simulators.time_shift import DaemonBehind, TimeShift
from tests.rental.builders import (
    MINUTE,
    TIMEOUT,
    Stage,
    assert_books_are_right,
    database_now,
    listening,
    make_expiry,
    make_host_timeout,
    pc_status,
    rent,
    reserve,
    set_stage,
)

PENDING_TIMEOUT_MS = 900_000


@pytest.fixture
async def stage(conn: TrioConnection) -> Stage:
    return await set_stage(conn)


@pytest.fixture
def shift(pool: Pool) -> TimeShift:
    return TimeShift(pool, PENDING_TIMEOUT_MS)


async def silent_for(conn: TrioConnection, stage: Stage) -> timedelta:
    row = await conn.fetch_one("SELECT now() - last_seen_at FROM pc_beats WHERE pc_id = %s", (stage.pc,))
    assert row is not None
    silence: timedelta = row[0]
    return silence


async def test_a_session_is_as_much_further_as_the_clock_was_turned(
    conn: TrioConnection, stage: Stage, shift: TimeShift
) -> None:
    session = await rent(conn, stage, 60)
    await shift.forward(25)
    await shift.forward(4)
    found = await sessions.get(conn, session.id, caller=stage.client, admin=False)
    assert session.start_at is not None
    assert found.start_at == session.start_at - 29 * MINUTE
    assert found.end_at == found.start_at + 60 * MINUTE
    assert found.minutes_used == 30  # 29 and the one begun


async def test_a_host_that_beats_does_not_fall_silent_by_it(
    conn: TrioConnection, stage: Stage, shift: TimeShift
) -> None:
    await rent(conn, stage, 60)
    await shift.forward(30)
    assert await silent_for(conn, stage) < TIMEOUT


async def test_a_host_that_fell_silent_has_been_so_for_longer(
    conn: TrioConnection, pool: Pool, stage: Stage, shift: TimeShift
) -> None:
    session = await rent(conn, stage, 60, used=20 * MINUTE)
    await conn.run("UPDATE pcs SET status = 'OFFLINE'")  # as the daemon would have, so that nothing is waited for
    await shift.forward(10, silent=[str(stage.pc)])
    await conn.run("UPDATE pcs SET status = 'BUSY'")
    assert await silent_for(conn, stage) >= 10 * MINUTE
    await make_host_timeout(pool, watch=await listening(conn)).check()
    ended = await sessions.get(conn, session.id, caller=stage.client, admin=False)
    assert ended.end_reason == EndReason.HOST_TIMEOUT
    assert ended.minutes_used in (20, 21)  # up to the last beat, not to the time-out
    assert await pc_status(conn, stage.pc) == "OFFLINE"
    await assert_books_are_right(conn)


async def test_it_waits_until_a_session_that_ran_out_has_been_ended(
    conn: TrioConnection, pool: Pool, stage: Stage, shift: TimeShift, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await rent(conn, stage, 30)
    expiry, looks = make_expiry(pool), 0
    unnoticed = time_shift.TimeShift._unnoticed

    async def counted(self: TimeShift, values: dict[str, object]) -> bool:
        nonlocal looks
        looks += 1
        due = await unnoticed(self, values)
        if due:
            await expiry.expire_due()
        return due

    monkeypatch.setattr(time_shift.TimeShift, "_unnoticed", counted)
    await shift.forward(30)
    ended = await sessions.get(conn, session.id, caller=stage.client, admin=False)
    assert (ended.end_reason, ended.minutes_used, looks) == (EndReason.COMPLETED, 30, 2)
    assert ended.ended_at is not None
    assert await database_now(conn) - ended.ended_at < TIMEOUT
    await assert_books_are_right(conn)


@pytest.mark.parametrize("kind", ["expired", "given up", "silent"])
async def test_a_daemon_that_sees_nothing_is_a_fault(
    conn: TrioConnection, stage: Stage, shift: TimeShift, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_shift, "NOTICED_WITHIN_S", 0.05)
    if kind == "expired":
        await rent(conn, stage, 15)
    elif kind == "given up":
        await reserve(conn, stage)
    with pytest.raises(DaemonBehind):
        await shift.forward(15, silent=[str(stage.pc)] if kind == "silent" else [])


async def test_reservations_and_ends_grow_older_too(conn: TrioConnection, stage: Stage, shift: TimeShift) -> None:
    session = await reserve(conn, stage)
    await shift.forward(14)
    found = await sessions.get(conn, session.id, caller=stage.client, admin=False)
    assert found.created_at == session.created_at - 14 * MINUTE
