"""Sessions that ran their time and reservations that nobody started: ended when they are due, whatever else is wrong."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs
import trio
import trio.testing

from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool, with_options
from opendesk.rental import closing, sessions, telling
from opendesk.rental.closing import Closing, Snapshot
from opendesk.rental.lifecycle import EndReason, Status
from opendesk.rental.sessions import Session
from opendesk.rental.settlement import FailureReason
from opendesk.rental.timers import Expiry, expiry
from opendesk.rental.timers.expiry import close_all
from tests.rental.builders import (
    HOUR,
    MINUTE,
    PENDING_TIMEOUT,
    SECOND,
    TIMEOUT,
    Stage,
    age,
    balance,
    expired,
    make_expiry,
    pc_status,
    refuse_writing,
    rent,
    reserve,
    score,
    see,
    set_stage,
    status_of,
)
from tests.rental.racing import DEADLINE_S

pytestmark = pytest.mark.books

NONE, HOST, CLIENT, PLATFORM = FailureReason


async def due(conn: TrioConnection, *, late: timedelta = 10 * SECOND) -> Session:
    return await rent(conn, await set_stage(conn), 60, used=HOUR + late)


# ---- expiry


async def test_a_session_past_its_end_is_complete(conn: TrioConnection, pool: Pool) -> None:
    stage = await set_stage(conn)
    session = await rent(conn, stage, 60, used=HOUR + 5 * MINUTE)
    assert await make_expiry(pool).expire_due() == 1
    ended = await see(conn, session)
    assert (ended.status, ended.end_reason, ended.failure_reason) == (Status.ENDED, EndReason.COMPLETED, NONE)
    assert (ended.minutes_used, ended.ended_at) == (60, ended.end_at)
    assert await balance(conn, stage.host.user) == 2160
    assert await pc_status(conn, stage.pc) == "ONLINE"
    assert await score(conn, stage.host) == (100, 1, 0)


async def test_the_pc_of_a_host_that_is_gone_is_not_offered_again(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    session = await rent(conn, stage, 60, used=HOUR + SECOND, silent=TIMEOUT + SECOND)
    await make_expiry(pool).expire_due()
    ended = await see(conn, session)
    assert (ended.status, ended.end_reason, ended.failure_reason) == (Status.ENDED, EndReason.COMPLETED, NONE)
    assert await pc_status(conn, stage.pc) == "OFFLINE"
    assert await score(conn, stage.host) == (100, 1, 0)


async def test_silence_that_may_be_ours_takes_no_pc_off(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    await rent(conn, stage, 60, used=HOUR + SECOND, silent=TIMEOUT + SECOND)
    await make_expiry(pool, listening_since=lambda now: now - TIMEOUT / 2).expire_due()
    assert await pc_status(conn, stage.pc) == "ONLINE"


async def test_a_session_that_still_runs_goes_on(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    session = await rent(conn, stage, 60, used=HOUR - 5 * SECOND)
    assert await make_expiry(pool).expire_due() == 0
    assert await status_of(conn, session.id) == Status.ACTIVE


async def test_a_reservation_that_nobody_started_is_paid_back(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    session = await reserve(conn, stage)
    await age(conn, session.id, PENDING_TIMEOUT + SECOND)
    assert await make_expiry(pool).expire_due() == 1
    given_up = await see(conn, session)
    assert (given_up.status, given_up.end_reason, given_up.failure_reason) == (
        Status.FAILED,
        EndReason.NEVER_STARTED,
        NONE,
    )
    assert await balance(conn, stage.client) == 10_000
    assert await score(conn, stage.host) == (100, 0, 0)


async def test_a_reservation_not_yet_too_old_is_left(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    session = await reserve(conn, stage)
    await age(conn, session.id, PENDING_TIMEOUT - 5 * SECOND)
    assert await make_expiry(pool).expire_due() == 0
    assert await status_of(conn, session.id) == Status.PENDING


async def test_a_session_of_which_time_ran_out_long_ago_is_billed_to_its_end(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    """The daemon was away for a day, and the host with it."""
    session = await rent(conn, stage, 60, used=24 * HOUR, silent=24 * HOUR)
    await make_expiry(pool).expire_due()
    ended = await see(conn, session)
    assert (ended.end_reason, ended.failure_reason, ended.minutes_used) == (EndReason.COMPLETED, NONE, 60)


async def test_a_backlog_is_worked_off_in_batches(
    conn: TrioConnection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "BATCH", 4)
    backlog = [await due(conn) for _ in range(8)] + [await due(conn)]
    sizes = list[int]()
    real = sessions.close

    async def counting(conn: TrioConnection, closings: Sequence[Closing]) -> list[Session]:
        sizes.append(len(closings))
        return await real(conn, closings)

    monkeypatch.setattr(sessions, "close", counting)
    assert await make_expiry(pool).expire_due() == 9
    assert sizes == [4, 4, 1]
    assert {await status_of(conn, session.id) for session in backlog} == {Status.ENDED}


async def test_two_daemons_work_off_one_backlog_once(
    conn: TrioConnection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "BATCH", 3)
    backlog = [await due(conn) for _ in range(12)]
    done = list[int]()

    async def work(daemon: Expiry) -> None:
        done.append(await daemon.expire_due())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(work, make_expiry(pool))
    assert sum(done) == len(backlog)


async def test_each_session_that_time_ended_is_a_line_and_a_crowd_a_count(
    conn: TrioConnection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "NAMED_MAX", 2)
    backlog = [str((await due(conn, late=late * SECOND)).id) for late in (30, 20, 10)]
    with capture_logs() as logs:
        await make_expiry(pool).expire_due()
    *named, rest = logs
    assert {line["event"] for line in named} == {"session.ended"}
    assert len({line["session"] for line in named} & set(backlog)) == 2
    assert {(line["reason"], line["fault"], line["by"]) for line in named} == {("COMPLETED", "NONE", "expiry")}
    assert (rest["event"], rest["sessions"], rest["by"]) == ("sessions.ended_too", 1, "expiry")


# ---- what can't be closed


async def test_one_bad_row_does_not_hold_up_the_rest(conn: TrioConnection, pool: Pool) -> None:
    bad, *good = [await due(conn) for _ in range(4)]
    await refuse_writing(conn, bad)
    with capture_logs() as logs:
        assert await make_expiry(pool).expire_due() == 3
    assert [await status_of(conn, session.id) for session in (bad, *good)] == ["ACTIVE", "ENDED", "ENDED", "ENDED"]
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "sessions.batch_failed",
        "sessions.close_failed",
    ]


async def test_bad_rows_do_not_hold_up_a_backlog_of_several_batches(
    conn: TrioConnection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest come first, so a batch that is all bad rows would be found again and again."""
    monkeypatch.setattr(expiry, "BATCH", 2)
    bad = [await due(conn, late=HOUR) for _ in range(3)]
    good = [await due(conn) for _ in range(4)]
    rows, real = {session.id for session in bad}, closing.expire

    def decide(session: Snapshot, **heard: Any) -> Closing:
        if session.id in rows:
            raise ArithmeticError("a bad row")
        return real(session, **heard)

    monkeypatch.setattr(closing, "expire", decide)
    with capture_logs() as logs:
        assert await make_expiry(pool).expire_due() == 4
    assert {await status_of(conn, session.id) for session in good} == {Status.ENDED}
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["sessions.undecidable"] * 3


async def test_a_bad_reservation_does_not_hold_up_expiry(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    session, pending = await due(conn), await reserve(conn, stage)
    await age(conn, pending.id, HOUR)
    await refuse_writing(conn, pending)
    with capture_logs():
        assert await make_expiry(pool).expire_due() == 1
    assert await status_of(conn, session.id) == Status.ENDED


async def test_a_bad_row_does_not_make_the_next_session_late(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    """What is overdue and can't be closed must not hide when the next one is due."""
    await refuse_writing(conn, await due(conn))
    await rent(conn, stage, 60, used=HOUR - 5 * SECOND)
    daemon = make_expiry(pool)
    with capture_logs():
        await daemon.expire_due()
    assert 1 < await daemon.until_next() <= 5


async def test_a_bad_row_is_tried_again_after_the_interval(conn: TrioConnection, pool: Pool) -> None:
    bad = await due(conn)
    await refuse_writing(conn, bad)
    daemon = make_expiry(pool)
    with capture_logs():
        assert await daemon.expire_due() == 0
    await conn.run("DROP TRIGGER bad ON sessions")
    assert await daemon.expire_due() == 0
    daemon._tried_again_s -= 30
    assert await daemon.expire_due() == 1


async def test_a_row_that_somebody_holds_does_not_hold_up_the_rest(conninfo: str, conn: TrioConnection) -> None:
    """Somebody's forgotten transaction, or a daemon that was stopped in the middle of one."""
    held, *free = [await due(conn) for _ in range(3)]
    hasty = Pool(with_options(conninfo, statement_timeout_ms=300))
    async with hasty.connection() as other, other.transaction():
        await other.run("SELECT FROM pcs WHERE id = %s FOR UPDATE", (held.pc_id,))
        with capture_logs() as logs:
            assert await make_expiry(hasty).expire_due() == 2
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "sessions.batch_stuck",
        "sessions.locked",
    ]
    assert [await status_of(conn, session.id) for session in (held, *free)] == ["ACTIVE", "ENDED", "ENDED"]
    await hasty.aclose()


async def test_the_database_going_away_is_the_callers_to_know(conn: TrioConnection, pool: Pool) -> None:
    found = [await sessions.snapshot(conn, (await due(conn)).id)]
    async with pool.connection() as doomed:
        await conn.run("SELECT pg_terminate_backend(%s)", (doomed.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError):
            await close_all(doomed, found, expired)


# ---- when to look next


async def test_the_next_look_is_when_the_next_session_ends(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    daemon = make_expiry(pool)
    assert await daemon.until_next() == 30
    await rent(conn, stage, 60, used=HOUR - 20 * SECOND)
    assert 10 < await daemon.until_next() <= 20
    await rent(conn, await set_stage(conn), 60, used=HOUR - 10 * SECOND)
    assert 0 < await daemon.until_next() <= 10


async def test_the_next_look_is_when_a_reservation_is_given_up(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    session = await reserve(conn, stage)
    assert await make_expiry(pool).until_next() == 30
    await age(conn, session.id, PENDING_TIMEOUT - 10 * SECOND)
    assert 0 < await make_expiry(pool).until_next() <= 10


async def test_what_came_due_meanwhile_is_looked_for_at_once(conn: TrioConnection, pool: Pool) -> None:
    await due(conn)
    assert await make_expiry(pool).until_next() == expiry.SHORTEST_WAIT_S


async def test_the_service_ends_a_session_when_it_is_due(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    session = await rent(conn, stage, 60, used=HOUR - 0.3 * SECOND)
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + DEADLINE_S / 2
        nursery.start_soon(make_expiry(pool).run)
        while await status_of(conn, session.id) == Status.ACTIVE:  # noqa: ASYNC110  # the timer tells nobody
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert await status_of(conn, session.id) == Status.ENDED


async def test_what_ended_is_counted(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    metrics = Metrics()
    await rent(conn, stage, 60, used=HOUR + SECOND)
    await make_expiry(pool, metrics=metrics).expire_due()
    value = metrics.registry.get_sample_value
    assert value("opendesk_sessions_ended_total", {"reason": "COMPLETED"}) == 1
    assert value("opendesk_settled_money_total", {"kind": "host_payout"}) == 2160
