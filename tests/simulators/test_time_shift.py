"""Time passes in a database by making what happened there older."""

from contextlib import aclosing
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
import trio

from opendesk.database import connect
from opendesk.network.jobs import looking, table
from opendesk.network.jobs.shapes import Done, NewJob, Retries, ended
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import sessions
from opendesk.rental.lifecycle import EndReason
from opendesk.simulators import time_shift
from opendesk.simulators.time_shift import DaemonBehind, TimeShift
from opendesk.stream import evidence
from opendesk.stream.presence import Presence
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
NODE = uuid4()


@pytest.fixture
async def stage(conn: TrioConnection) -> Stage:
    return await set_stage(conn)


@pytest.fixture
async def shift(pool: Pool) -> TimeShift:
    shift = TimeShift(pool, PENDING_TIMEOUT_MS)
    await shift.prepare()
    return shift


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


async def presence_of(conn: TrioConnection, session: UUID) -> tuple[datetime, datetime, datetime, datetime]:
    row = await conn.fetch_one(
        "SELECT host_down_since, client_up_since, last_byte_at, client_left_at FROM stream_presence WHERE session_id = %s",
        (session,),
    )
    assert row is not None
    return row[0], row[1], row[2], row[3]


async def test_what_a_relay_saw_before_a_turn_was_before_it_also_when_it_is_told_later(
    conn: TrioConnection, pool: Pool, stage: Stage, shift: TimeShift
) -> None:
    session = await rent(conn, stage, 60)
    began_s = trio.current_time()
    seen = Presence(
        host_down_since_s=began_s, client_up_since_s=began_s - 3, last_byte_s=began_s - 1, client_left_s=began_s
    )
    await evidence.write(pool, NODE, [(session.id, seen)])
    first = await presence_of(conn, session.id)
    await shift.forward(20)
    shifted = await presence_of(conn, session.id)
    assert [before - after for before, after in zip(first, shifted, strict=True)] == [20 * MINUTE] * 4
    await evidence.write(pool, NODE, [(session.id, seen)])
    told_again = await presence_of(conn, session.id)
    # By ages, of a clock of its own, so a few milliseconds off.
    assert all(abs(again - once) < timedelta(seconds=10) for again, once in zip(told_again, shifted, strict=True))


async def test_what_a_relay_saw_after_a_turn_is_now(
    conn: TrioConnection, pool: Pool, stage: Stage, shift: TimeShift
) -> None:
    session = await rent(conn, stage, 60)
    await shift.forward(20)
    now_s = trio.current_time()
    await evidence.write(pool, NODE, [(session.id, Presence(now_s, now_s, now_s, now_s))])
    now = await database_now(conn)
    assert all(now - at < timedelta(minutes=1) for at in await presence_of(conn, session.id))


async def test_stream_tokens_cease_to_admit_as_time_passes(
    conn: TrioConnection, stage: Stage, shift: TimeShift
) -> None:
    session = await rent(conn, stage, 60)
    await conn.run(
        "UPDATE sessions SET stream_expires_at = now() + interval '1 minute', stream_node = %(id)s, stream_url = 'ws://x'"
        " WHERE id = %(id)s",
        {"id": session.id},
    )
    await shift.forward(2)
    row = await conn.fetch_one("SELECT stream_expires_at < now() FROM sessions WHERE id = %s", (session.id,))
    assert row == (True,)


GRANT = """
    INSERT INTO hotspot_grants (router_id, pedido_id, ip, mac, duration_s, begun_at, until, dry_run)
    VALUES ('r1', 'P1', '10.5.50.7', 'AA:BB:CC:DD:EE:01', 1800, now(), now() + interval '30 minutes', false) RETURNING until
"""


async def granted(conn: TrioConnection) -> datetime:
    """For half an hour, and what ends it; when that is."""
    row = await conn.fetch_one(GRANT)
    assert row is not None
    until: datetime = row[0]
    await table.add(conn, NewJob("END_GRANT", "r1", "AA:BB:CC:DD:EE:01", {}, run_at=until))
    return until


async def test_access_ends_as_much_sooner_as_the_clock_was_turned(conn: TrioConnection, shift: TimeShift) -> None:
    until = await granted(conn)
    await shift.forward(25)
    row = await conn.fetch_one("SELECT until, until - begun_at FROM hotspot_grants")
    assert row == (until - timedelta(minutes=25), timedelta(minutes=30))
    (end,) = await looking.list_jobs(conn)
    assert end.run_at == row[0]


async def test_who_waits_for_jobs_to_fall_due_is_told_of_a_turn(
    conninfo: str, conn: TrioConnection, shift: TimeShift
) -> None:
    await granted(conn)
    async with await connect(conninfo) as listening:
        await listening.run(f"LISTEN {table.CHANNEL}")
        await shift.forward(5)
        with trio.fail_after(10):
            async with aclosing(listening.notifies()) as heard:
                assert (await anext(heard)).payload == ""


async def test_it_waits_until_access_whose_time_is_over_has_been_ended(conn: TrioConnection, shift: TimeShift) -> None:
    await granted(conn)
    returned = False

    async def turn() -> None:
        nonlocal returned
        await shift.forward(30)
        returned = True

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn)
            while not (jobs := await table.claim(conn, NODE, {"r1": 1}, limit=1, ttl_s=60)):  # noqa: ASYNC110 - of a database
                await trio.sleep(0.01)
            assert [job.type for job in jobs] == ["END_GRANT"]
            await conn.run("UPDATE hotspot_grants SET ended_at = now(), end_reason = 'expired'")
            assert not returned  # the job isn't done
            await table.finish(conn, [ended(jobs[0], Done(), Retries(5, 1.0), jitter=0.5)])
    assert returned
