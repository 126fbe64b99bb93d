"""Hosts that fall silent: whose PCs go OFFLINE, who pays, and who is given the benefit of the doubt."""

from datetime import timedelta

from attrs import evolve
import pytest
from structlog.testing import capture_logs
import trio
import trio.testing

from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool, with_options
from opendesk.rental.errors import InvalidStatus
from opendesk.rental.heartbeats import Beat, Heartbeats
from opendesk.rental.lifecycle import Caller, EndReason, Status
from opendesk.rental.liveness import Verdict, Watch
from opendesk.rental.settlement import FailureReason
from opendesk.rental.timers import host_timeout
from opendesk.rental.timers.host_timeout import time_out
from opendesk.web.auth import Claims
from tests.rental.builders import (
    HOUR,
    MINUTE,
    SECOND,
    TIMEOUT,
    TIMEOUT_ACTIVE,
    Host,
    Stage,
    add_pc,
    balance,
    beat,
    database_now,
    end,
    last_seen,
    listening,
    make_host_timeout,
    make_offline,
    pc_status,
    refuse_writing,
    rent,
    reserve,
    score,
    see,
    set_stage,
    start,
    status_of,
)
from tests.rental.racing import DEADLINE_S, silent

pytestmark = pytest.mark.books

NONE, HOST, CLIENT, PLATFORM = FailureReason


async def check(conn: TrioConnection, pool: Pool, watch: Watch | None = None) -> Verdict:
    """One check of a daemon that has been listening for long."""
    return await make_host_timeout(pool, watch=watch or await listening(conn)).check()


async def hosts_last_beat(conn: TrioConnection, host: Host, ago: timedelta) -> None:
    await conn.run("UPDATE host_beats SET last_seen_at = now() - %s WHERE host_id = %s", (ago, host.id))


async def test_a_silent_pc_goes_offline(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    await last_seen(conn, stage.pc, TIMEOUT + SECOND)
    await check(conn, pool)
    assert await pc_status(conn, stage.pc) == "OFFLINE"
    assert await score(conn, stage.host) == (90, 0, 0)


async def test_a_pc_that_beat_within_the_time_out_stays(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    await last_seen(conn, stage.pc, TIMEOUT - 5 * SECOND)
    await check(conn, pool)
    assert await pc_status(conn, stage.pc) == "ONLINE"
    assert await score(conn, stage.host) == (100, 0, 0)


async def test_an_active_session_has_the_longer_time_out(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    session = await rent(conn, stage, used=10 * MINUTE, silent=TIMEOUT_ACTIVE - 5 * SECOND)
    await check(conn, pool)
    assert await status_of(conn, session.id) == Status.ACTIVE


async def test_the_active_session_of_a_silent_host_ends_with_its_penalty(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    session = await rent(conn, stage, 60, used=20 * MINUTE, silent=4.5 * MINUTE)
    await check(conn, pool)
    ended = await see(conn, session)
    assert (ended.status, ended.end_reason, ended.failure_reason) == (Status.FAILED, EndReason.HOST_TIMEOUT, HOST)
    assert ended.minutes_used == 16
    assert ended.settlement is not None
    # 640 of 2400 were used: 64 to the platform; of the host's 576, 173 are its penalty.
    assert (ended.settlement.platform_fee, ended.settlement.penalty, ended.settlement.host_payout) == (64, 173, 403)
    assert await balance(conn, stage.client) == 10_000 - 64 - 403
    assert await pc_status(conn, stage.pc) == "OFFLINE"
    assert await score(conn, stage.host) == (90, 0, 1)


async def test_the_reservation_at_a_silent_host_is_paid_back(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    session = await reserve(conn, stage)
    await last_seen(conn, stage.pc, TIMEOUT + SECOND)
    await check(conn, pool)
    failed = await see(conn, session)
    assert (failed.status, failed.end_reason) == (Status.FAILED, EndReason.HOST_TIMEOUT)
    assert await balance(conn, stage.client) == 10_000


async def test_a_session_past_its_end_only_expires_when_its_host_is_gone(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    session = await rent(conn, stage, 60, used=HOUR + MINUTE, silent=4 * MINUTE)
    await check(conn, pool)
    ended = await see(conn, session)
    assert (ended.status, ended.end_reason, ended.minutes_used) == (Status.ENDED, EndReason.COMPLETED, 60)
    assert await pc_status(conn, stage.pc) == "OFFLINE"


async def test_reliability_is_lowered_once_for_all_of_a_hosts_pcs(
    conn: TrioConnection, pool: Pool, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_timeout, "BATCH", 1)
    for pc in (stage.pc, *[await add_pc(conn, stage.host) for _ in range(3)]):
        await last_seen(conn, pc, TIMEOUT + SECOND)
    await check(conn, pool)
    assert await score(conn, stage.host) == (90, 0, 0)


async def test_reliability_is_not_lowered_again_for_what_is_offline(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    await last_seen(conn, stage.pc, TIMEOUT + SECOND)
    await check(conn, pool)
    await check(conn, pool)
    assert await score(conn, stage.host) == (90, 0, 0)


async def test_reliability_is_lowered_once_a_silence_however_many_checks_it_takes(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    second = await add_pc(conn, stage.host)
    for pc in (stage.pc, second):
        await hosts_last_beat(conn, stage.host, 2 * TIMEOUT)
        await last_seen(conn, pc, TIMEOUT + SECOND)
        await check(conn, pool)
        assert await pc_status(conn, pc) == "OFFLINE"
    assert await score(conn, stage.host) == (90, 0, 0)


async def test_a_host_does_not_escape_by_its_sessions_end(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    """The end takes the PC of a host that seems gone off; whether it is gone is judged all the same."""
    session = await rent(conn, stage, 60, used=20 * MINUTE, silent=TIMEOUT + SECOND)
    await end(conn, session.id, Caller.CLIENT, HOST)
    assert (await pc_status(conn, stage.pc), await score(conn, stage.host)) == ("OFFLINE", (98, 0, 1))
    for _ in range(2):
        await check(conn, pool)
        assert await score(conn, stage.host) == (88, 0, 1)


async def test_a_host_that_is_back_before_it_was_judged_is_spared(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    session = await rent(conn, stage, 60, used=20 * MINUTE, silent=TIMEOUT + SECOND)
    await end(conn, session.id, Caller.CLIENT)
    await beat(conn, stage.host)
    await check(conn, pool)
    assert (await pc_status(conn, stage.pc), await score(conn, stage.host)) == ("ONLINE", (100, 1, 0))


async def test_a_pc_that_its_host_took_off_may_be_silent(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    await make_offline(conn, stage)
    await last_seen(conn, stage.pc, HOUR)
    assert (await check(conn, pool)).timed_out == ()
    assert await score(conn, stage.host) == (100, 0, 0)


async def test_a_reservation_at_a_pc_that_was_taken_off_is_paid_back_when_its_host_is_gone(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    session = await reserve(conn, stage)
    await make_offline(conn, stage)
    await last_seen(conn, stage.pc, TIMEOUT + SECOND)
    await check(conn, pool)
    failed = await see(conn, session)
    assert (failed.status, failed.end_reason) == (Status.FAILED, EndReason.HOST_TIMEOUT)
    assert await balance(conn, stage.client) == 10_000


async def test_reliability_is_lowered_again_for_the_next_silence(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    for _ in range(2):
        await beat(conn, stage.host)
        await last_seen(conn, stage.pc, TIMEOUT + SECOND)
        await check(conn, pool)
    assert await score(conn, stage.host) == (80, 0, 0)


async def test_reliability_stops_at_zero(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    await conn.run("UPDATE hosts SET reliability_score = 4")
    await last_seen(conn, stage.pc, TIMEOUT + SECOND)
    await check(conn, pool)
    assert await score(conn, stage.host) == (0, 0, 0)


async def test_only_the_silent_pc_of_a_host_is_judged(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    beating = await add_pc(conn, stage.host)
    await last_seen(conn, stage.pc, TIMEOUT + SECOND)
    await check(conn, pool)
    assert [await pc_status(conn, pc) for pc in (stage.pc, beating)] == ["OFFLINE", "ONLINE"]


async def test_a_deleted_pc_is_not_judged(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    await last_seen(conn, stage.pc, HOUR)
    await conn.run("UPDATE pcs SET deleted_at = now()")
    assert (await check(conn, pool)).timed_out == ()


async def test_a_beat_between_the_look_and_the_write_spares_the_pc(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    session = await rent(conn, stage, used=10 * MINUTE, silent=4 * MINUTE)
    judged = await silent(conn, stage)
    await beat(conn, stage.host)
    async with pool.connection() as own, own.transaction():
        assert await time_out(own, [judged], set()) == ([], set())
    assert await status_of(conn, session.id) == Status.ACTIVE
    assert await score(conn, stage.host) == (100, 0, 0)


async def test_a_beat_that_waits_for_its_batch_spares_the_pc(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    await last_seen(conn, stage.pc, TIMEOUT + SECOND)
    hearing = Heartbeats(pool, Metrics())
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + DEADLINE_S
        nursery.start_soon(hearing.beat, Beat(Claims(stage.host.user, 1), stage.host.id, None, None))
        await trio.testing.wait_all_tasks_blocked()
        await make_host_timeout(pool, watch=await listening(conn), hearing=hearing).check()
    assert await pc_status(conn, stage.pc) == "ONLINE"


async def test_a_pc_that_somebody_holds_comes_with_the_next_check(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    other = await set_stage(conn)
    for pc in (stage.pc, other.pc):
        await last_seen(conn, pc, TIMEOUT + SECOND)
    async with pool.connection() as holder, holder.transaction():
        await holder.run("SELECT FROM pcs WHERE id = %s FOR UPDATE", (stage.pc,))
        with trio.fail_after(DEADLINE_S):
            await check(conn, pool)
    assert [await pc_status(conn, pc) for pc in (stage.pc, other.pc)] == ["ONLINE", "OFFLINE"]
    await check(conn, pool)
    assert await pc_status(conn, stage.pc) == "OFFLINE"


async def test_hosts_that_were_timed_out_are_named_and_their_sessions(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    session = await rent(conn, stage, used=10 * MINUTE, silent=4 * MINUTE)
    with capture_logs() as logs:
        await check(conn, pool)
    ended, named, counted = logs
    assert (ended["event"], ended["session"], ended["by"]) == ("session.ended", str(session.id), "host_timeout")
    assert (ended["reason"], ended["fault"], ended["host"]) == ("HOST_TIMEOUT", "HOST", str(stage.host.id))
    assert (named["event"], named["host"]) == ("host.timed_out", str(stage.host.id))
    assert (counted["event"], counted["hosts"], counted["sessions"]) == ("hosts.timed_out", 1, 1)


async def test_a_wallet_that_somebody_holds_does_not_keep_others_from_being_judged(
    conninfo: str, conn: TrioConnection, stage: Stage
) -> None:
    other = await set_stage(conn)
    held, free = [await rent(conn, s, used=10 * MINUTE, silent=4 * MINUTE) for s in (stage, other)]
    hasty = Pool(with_options(conninfo, statement_timeout_ms=300))
    async with hasty.connection() as holder, holder.transaction():
        await holder.run("SELECT FROM accounts WHERE user_id = %s FOR UPDATE", (stage.client,))
        with capture_logs() as logs:
            await check(conn, hasty)
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "host_timeout.batch_stuck",
        "host_timeout.pc_locked",
    ]
    assert [await status_of(conn, session.id) for session in (held, free)] == [Status.ACTIVE, Status.FAILED]
    assert [await score(conn, s.host) for s in (stage, other)] == [(100, 0, 0), (90, 0, 1)]
    await hasty.aclose()


async def test_a_bad_row_does_not_keep_others_from_being_judged(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    other = await set_stage(conn)
    bad, good = [await rent(conn, s, used=10 * MINUTE, silent=4 * MINUTE) for s in (stage, other)]
    await refuse_writing(conn, bad)
    with capture_logs() as logs:
        await check(conn, pool)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "host_timeout.batch_failed",
        "host_timeout.pc_failed",
    ]
    assert [await status_of(conn, session.id) for session in (bad, good)] == [Status.ACTIVE, Status.FAILED]
    # What could not be ended was not half done either.
    assert await pc_status(conn, stage.pc) == "BUSY"
    assert await score(conn, stage.host) == (100, 0, 0)


# ---- grace


async def test_a_daemon_that_just_came_judges_nobody(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    await last_seen(conn, stage.pc, HOUR)
    daemon = make_host_timeout(pool)
    await daemon.check()
    assert await pc_status(conn, stage.pc) == "ONLINE"
    assert daemon._watch is not None
    assert await database_now(conn) - daemon._watch.grace_from < MINUTE
    daemon._watch = evolve(daemon._watch, grace_from=daemon._watch.grace_from - TIMEOUT - SECOND)
    await daemon.check()
    assert await pc_status(conn, stage.pc) == "OFFLINE"


async def test_a_daemon_that_could_not_write_beats_judges_nobody(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    await last_seen(conn, stage.pc, HOUR)
    hearing = Heartbeats(pool, Metrics(), lost=True)
    daemon = make_host_timeout(pool, watch=await listening(conn), hearing=hearing)
    with capture_logs() as logs:
        await daemon.check()
    assert [line["event"] for line in logs] == ["hosts.grace"]
    assert await pc_status(conn, stage.pc) == "ONLINE"
    assert not hearing.lost
    now = await database_now(conn)
    assert timedelta(0) < now - daemon.listening_since(now) < MINUTE


async def test_silence_proves_nothing_while_beats_are_lost_or_before_the_first_look(
    conn: TrioConnection, pool: Pool
) -> None:
    now = await database_now(conn)
    assert make_host_timeout(pool).listening_since(now) == now
    hearing = Heartbeats(pool, Metrics(), lost=True)
    assert make_host_timeout(pool, watch=await listening(conn), hearing=hearing).listening_since(now) == now


async def test_a_daemon_that_stood_still_judges_nobody(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    daemon = make_host_timeout(pool, watch=await listening(conn))
    await daemon.check()
    assert daemon._clock.looked_at is not None
    daemon._clock = evolve(daemon._clock, looked_at=daemon._clock.looked_at - 5 * MINUTE)
    await last_seen(conn, stage.pc, 4 * MINUTE)
    with capture_logs() as logs:
        await daemon.check()
    assert [line["event"] for line in logs] == ["hosts.grace"]
    assert await pc_status(conn, stage.pc) == "ONLINE"


@pytest.mark.parametrize(("late_s", "left"), [(14.9, "OFFLINE"), (15.1, "ONLINE")])
async def test_a_daemon_whose_loop_stood_still_judges_nobody(
    conn: TrioConnection, pool: Pool, stage: Stage, late_s: float, left: str
) -> None:
    """A quarter of the shortest time-out: hosts that beat several times within one never look silent for less."""
    daemon = make_host_timeout(pool, watch=await listening(conn))
    await last_seen(conn, stage.pc, TIMEOUT + SECOND)
    daemon.lagged(late_s)
    with capture_logs():
        await daemon.check()
    assert await pc_status(conn, stage.pc) == left


async def test_a_session_that_started_after_the_look_has_the_longer_time_out(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    session = await reserve(conn, stage)
    await last_seen(conn, stage.pc, TIMEOUT + SECOND)
    judged = evolve(await silent(conn, stage), has_active_session=False)
    await start(conn, session)
    async with pool.connection() as own, own.transaction():
        assert await time_out(own, [judged], set()) == ([], set())
    assert await pc_status(conn, stage.pc) == "BUSY"


async def test_when_most_fall_silent_at_once_none_is_judged(conn: TrioConnection, pool: Pool) -> None:
    stages = [await set_stage(conn) for _ in range(6)]
    for stage in stages[:5]:
        await last_seen(conn, stage.pc, TIMEOUT + SECOND)
    daemon = make_host_timeout(pool, watch=await listening(conn))
    with capture_logs() as logs:
        verdict = await daemon.check()
    assert (verdict.alarm, verdict.fallen, verdict.were_beating) == (True, 5, 6)
    assert [(line["event"], line["log_level"]) for line in logs] == [("hosts.mass_silence", "error")]
    assert {await pc_status(conn, stage.pc) for stage in stages} == {"ONLINE"}
    await daemon.check()
    assert {await pc_status(conn, stage.pc) for stage in stages} == {"ONLINE"}


async def test_fewer_than_half_are_judged(conn: TrioConnection, pool: Pool) -> None:
    stages = [await set_stage(conn) for _ in range(10)]
    for stage in stages[:5]:
        await last_seen(conn, stage.pc, TIMEOUT + SECOND)
    await check(conn, pool)
    assert [await pc_status(conn, stage.pc) for stage in stages] == ["OFFLINE"] * 5 + ["ONLINE"] * 5


async def test_a_client_is_not_kept_from_renting_by_a_dead_host(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    await rent(conn, stage, 60, used=20 * MINUTE, silent=4 * MINUTE)
    await check(conn, pool)
    other = evolve(await set_stage(conn), client=stage.client)
    assert (await start(conn, await reserve(conn, other))).status == Status.ACTIVE


async def test_an_end_by_the_client_after_the_time_out_finds_it_over(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    session = await rent(conn, stage, 60, used=20 * MINUTE, silent=4 * MINUTE)
    await check(conn, pool)
    with pytest.raises(InvalidStatus):
        await end(conn, session.id, Caller.CLIENT)
