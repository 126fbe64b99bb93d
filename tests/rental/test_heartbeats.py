"""Heartbeats: what a beat does to PCs, who may beat, and how beats are gathered."""

from uuid import UUID, uuid4

from attrs import evolve
import pytest
from structlog.testing import capture_logs
import trio
import trio.testing

from opendesk.errors import DatabaseUnavailable, Forbidden, Overloaded, Unauthenticated
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import pcs, sessions, users
from opendesk.rental.errors import HostNotFound, PcNotFound
from opendesk.rental.heartbeats import Beat, BeatAnswer, Heartbeats, write
from opendesk.rental.lifecycle import Caller, Status
from opendesk.web.auth import Claims
from tests.rental.builders import (
    HOUR,
    MINUTE,
    SECOND,
    Host,
    Stage,
    add_host,
    add_pc,
    add_user,
    beat,
    end,
    last_seen,
    listening,
    make_host_timeout,
    pc_status,
    rent,
    reserve,
    set_stage,
)
from tests.rental.racing import DEADLINE_S, at_once, until_one_waits

pytestmark = pytest.mark.books


def of(host: Host, pc: UUID | None = None, said: str | None = None, *, version: int = 1) -> Beat:
    return Beat(Claims(host.user, version), host.id, pc, said)


async def time_out(conn: TrioConnection, pool: Pool, *pcs: UUID) -> None:
    for pc in pcs:
        await last_seen(conn, pc, HOUR)
    await make_host_timeout(pool, watch=await listening(conn)).check()
    assert {await pc_status(conn, pc) for pc in pcs} == {"OFFLINE"}


async def silence(conn: TrioConnection, table: str, key: UUID) -> float:
    """Seconds since the last beat; infinite if there was none."""
    column = {"pc_beats": "pc_id", "host_beats": "host_id"}[table]
    query = f"SELECT extract(epoch FROM now() - last_seen_at)::float8 FROM {table} WHERE {column} = %s"
    row = await conn.fetch_one(query, (key,))
    return float("inf") if row is None else row[0]


# ---- what a beat does to PCs


async def test_a_new_pc_comes_online_with_its_hosts_first_beat(conn: TrioConnection) -> None:
    host = await add_host(conn)
    pc = await add_pc(conn, host, online=False)
    assert await pc_status(conn, pc) == "OFFLINE"
    await beat(conn, host)
    assert await pc_status(conn, pc) == "ONLINE"


async def test_a_timed_out_pc_comes_back_with_any_beat(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    for said in (None, "ONLINE", "BUSY"):
        await time_out(conn, pool, stage.pc)
        await beat(conn, stage.host, said=said)
        assert await pc_status(conn, stage.pc) == "ONLINE"


async def test_a_pc_that_its_host_took_off_comes_back_only_with_online(conn: TrioConnection, stage: Stage) -> None:
    await beat(conn, stage.host, said="OFFLINE")
    for said in (None, "BUSY", "OFFLINE"):
        await beat(conn, stage.host, said=said)
        assert await pc_status(conn, stage.pc) == "OFFLINE"
    await beat(conn, stage.host, said="ONLINE")
    assert await pc_status(conn, stage.pc) == "ONLINE"


async def test_a_pc_taken_off_and_then_timed_out_is_still_taken_off(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    await beat(conn, stage.host, said="OFFLINE")
    await time_out(conn, pool, stage.pc)
    await beat(conn, stage.host)
    assert await pc_status(conn, stage.pc) == "OFFLINE"


@pytest.mark.parametrize("said", [None, "ONLINE", "BUSY", "OFFLINE"])
async def test_a_beat_never_frees_a_pc_that_a_session_holds(
    conn: TrioConnection, stage: Stage, said: str | None
) -> None:
    session = await rent(conn, stage)
    await beat(conn, stage.host, said=said)
    assert await pc_status(conn, stage.pc) == "BUSY"
    await end(conn, session.id, Caller.CLIENT)
    assert await pc_status(conn, stage.pc) == ("OFFLINE" if said == "OFFLINE" else "ONLINE")


async def test_a_pc_taken_off_in_a_session_and_put_on_again_is_online_after_it(
    conn: TrioConnection, stage: Stage
) -> None:
    session = await rent(conn, stage)
    await beat(conn, stage.host, said="OFFLINE")
    await beat(conn, stage.host, said="ONLINE")
    await end(conn, session.id, Caller.CLIENT)
    assert await pc_status(conn, stage.pc) == "ONLINE"


async def test_a_beat_never_makes_a_pc_busy(conn: TrioConnection, stage: Stage) -> None:
    await beat(conn, stage.host, said="BUSY")
    assert await pc_status(conn, stage.pc) == "ONLINE"


async def test_a_beat_with_a_pc_speaks_for_that_pc_alone(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    other = await add_pc(conn, stage.host)
    await time_out(conn, pool, stage.pc, other)
    await beat(conn, stage.host, stage.pc)
    assert [await pc_status(conn, pc) for pc in (stage.pc, other)] == ["ONLINE", "OFFLINE"]
    assert await silence(conn, "pc_beats", stage.pc) < 60 < await silence(conn, "pc_beats", other)
    assert await silence(conn, "host_beats", stage.host.id) < 60
    await beat(conn, stage.host, other, "OFFLINE")
    assert [await pc_status(conn, pc) for pc in (stage.pc, other)] == ["ONLINE", "OFFLINE"]


async def test_a_beat_without_a_pc_speaks_for_all_of_the_hosts(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    others = await set_stage(conn)
    mine = [stage.pc, await add_pc(conn, stage.host)]
    await time_out(conn, pool, *mine, others.pc)
    await beat(conn, stage.host)
    assert [await pc_status(conn, pc) for pc in (*mine, others.pc)] == ["ONLINE", "ONLINE", "OFFLINE"]


async def test_a_beat_of_a_host_without_pcs_is_kept(conn: TrioConnection) -> None:
    host = await add_host(conn)
    assert isinstance(await beat(conn, host), BeatAnswer)
    assert await silence(conn, "host_beats", host.id) < 60


async def test_a_beat_does_not_bring_back_a_deleted_pc(conn: TrioConnection, stage: Stage) -> None:
    await pcs.delete(conn, stage.pc)
    await beat(conn, stage.host, said="ONLINE")
    assert isinstance(await beat(conn, stage.host, stage.pc), PcNotFound)
    assert await conn.fetch_one("SELECT status FROM pcs WHERE id = %s", (stage.pc,)) == ("OFFLINE",)


async def test_a_beat_during_the_deletion_does_not_wait_and_does_not_bring_the_pc_back(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    await time_out(conn, pool, stage.pc)
    async with pool.connection() as a, a.transaction():
        await pcs.delete(a, stage.pc)
        assert isinstance(await one_beat(pool, of(stage.host)), BeatAnswer)
    assert await conn.fetch_one("SELECT status FROM pcs WHERE id = %s", (stage.pc,)) == ("OFFLINE",)


async def one_beat(pool: Pool, beat: Beat) -> BeatAnswer | Exception:
    """It never waits for a row that somebody holds."""
    with trio.fail_after(DEADLINE_S):
        async with pool.connection() as own:
            return (await write(own, [beat]))[0]


async def test_a_plain_beat_does_not_undo_what_another_daemon_was_just_told(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    """The PC had timed out; its host beats at one daemon while it takes the PC off at another."""
    await time_out(conn, pool, stage.pc)
    async with pool.connection() as a, a.transaction():
        # Only the PC's row: as the other daemon's statement has it when it is nearly done.
        await a.run("UPDATE pcs SET taken_off = true WHERE id = %s", (stage.pc,))
        await one_beat(pool, of(stage.host))
    assert await pc_status(conn, stage.pc) == "OFFLINE"


async def test_a_status_said_while_somebody_holds_the_pc_is_refused_and_counts_when_said_again(
    conn: TrioConnection, pool: Pool, stage: Stage
) -> None:
    session = await reserve(conn, stage)
    async with pool.connection() as a, a.transaction():
        await sessions.start(a, session.id, stage.client, admin=False)
        assert isinstance(await one_beat(pool, of(stage.host, said="OFFLINE")), Overloaded)
        assert isinstance(await one_beat(pool, of(stage.host)), BeatAnswer)
    assert isinstance(await one_beat(pool, of(stage.host, said="OFFLINE")), BeatAnswer)
    assert await pc_status(conn, stage.pc) == "BUSY"
    await end(conn, session.id, Caller.CLIENT)
    assert await pc_status(conn, stage.pc) == "OFFLINE"


# ---- several beats of one host in one batch


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (["OFFLINE", None], "OFFLINE"),
        (["OFFLINE", "BUSY"], "OFFLINE"),
        ([None, "OFFLINE"], "OFFLINE"),
        (["OFFLINE", "ONLINE"], "ONLINE"),
        (["ONLINE", "OFFLINE"], "OFFLINE"),
        (["ONLINE", "OFFLINE", None, None], "OFFLINE"),
        (["OFFLINE", "ONLINE", None], "ONLINE"),
        ([None, None], "ONLINE"),
    ],
)
async def test_a_batch_does_what_its_beats_would_have_done_one_by_one(
    conn: TrioConnection, said: list[str | None], status: str
) -> None:
    one, all_at_once = await set_stage(conn), await set_stage(conn)
    for word in said:
        await beat(conn, one.host, said=word)
    assert await pc_status(conn, one.pc) == status
    await write(conn, [of(all_at_once.host, said=word) for word in said])
    assert await pc_status(conn, all_at_once.pc) == status


async def test_a_word_on_one_pc_and_a_word_on_all_count_in_their_order(conn: TrioConnection, stage: Stage) -> None:
    other = await add_pc(conn, stage.host)
    await write(conn, [of(stage.host, None, "OFFLINE"), of(stage.host, other, "ONLINE"), of(stage.host)])
    assert [await pc_status(conn, pc) for pc in (stage.pc, other)] == ["OFFLINE", "ONLINE"]


async def test_each_beat_gets_its_own_answer(conn: TrioConnection, stage: Stage) -> None:
    other = await set_stage(conn)
    answers = await write(conn, [of(stage.host), of(other.host, stage.pc), of(other.host, other.pc), of(stage.host)])
    assert [type(answer) for answer in answers] == [BeatAnswer, PcNotFound, BeatAnswer, BeatAnswer]


# ---- the answer


async def test_the_answer_has_the_live_sessions_of_the_host(conn: TrioConnection, stage: Stage) -> None:
    reserved = Stage(stage.host, await add_pc(conn, stage.host), (await add_user(conn, money=10_000)).id)
    active, pending = await rent(conn, stage), await reserve(conn, reserved)
    done = Stage(stage.host, await add_pc(conn, stage.host), (await add_user(conn, money=10_000)).id)
    await end(conn, (await rent(conn, done)).id, Caller.CLIENT)
    await rent(conn, await set_stage(conn))
    answer = await beat(conn, stage.host, stage.pc)
    assert isinstance(answer, BeatAnswer)
    told = {(live.id, live.pc_id, live.status, live.end_at) for live in answer.sessions}
    assert told == {
        (active.id, stage.pc, Status.ACTIVE, active.end_at),
        (pending.id, reserved.pc, Status.PENDING, None),
    }


async def test_the_answer_says_when_the_database_saw_it(conn: TrioConnection, stage: Stage) -> None:
    answer = await beat(conn, stage.host)
    assert isinstance(answer, BeatAnswer)
    row = await conn.fetch_one("SELECT last_seen_at FROM pc_beats WHERE pc_id = %s", (stage.pc,))
    assert row == (answer.last_seen_at,)


# ---- who may beat


async def refused(conn: TrioConnection, beat: Beat, pc: UUID) -> type[Exception]:
    """A good beat goes with it, which counts; and nothing was seen of the other."""
    good = await set_stage(conn)
    await last_seen(conn, pc, HOUR)
    first, second = await write(conn, [beat, of(good.host)])
    assert isinstance(second, BeatAnswer)
    assert isinstance(first, Exception)
    assert await silence(conn, "pc_beats", pc) > 60
    return type(first)


async def test_nobody_beats_for_another_host(conn: TrioConnection, stage: Stage) -> None:
    for stranger in (await add_host(conn), Host((await add_user(conn)).id, stage.host.id)):
        claims = Claims(stranger.user, 1)
        assert await refused(conn, Beat(claims, stage.host.id, None, None), stage.pc) is Forbidden
        assert await refused(conn, Beat(claims, stage.host.id, stage.pc, "OFFLINE"), stage.pc) is Forbidden


async def test_an_admin_may_beat_for_a_host(conn: TrioConnection, stage: Stage) -> None:
    admin = await add_user(conn, role="ADMIN")
    (answer,) = await write(conn, [Beat(Claims(admin.id, 1), stage.host.id, None, "OFFLINE")])
    assert isinstance(answer, BeatAnswer)
    assert await pc_status(conn, stage.pc) == "OFFLINE"


async def test_nobody_beats_for_another_hosts_pc(conn: TrioConnection, stage: Stage) -> None:
    other = await add_host(conn)
    assert await refused(conn, of(other, stage.pc, "OFFLINE"), stage.pc) is PcNotFound
    assert await silence(conn, "host_beats", other.id) == float("inf")


async def test_another_hosts_pc_is_not_beaten_for_although_its_own_host_beats_beside(
    conn: TrioConnection, stage: Stage
) -> None:
    other = await add_host(conn)
    first, second = await write(conn, [of(other, stage.pc, "OFFLINE"), of(stage.host)])
    assert isinstance(first, PcNotFound)
    assert isinstance(second, BeatAnswer)
    assert await pc_status(conn, stage.pc) == "ONLINE"


async def test_a_pc_that_is_not_there_is_not_found(conn: TrioConnection, stage: Stage) -> None:
    assert await refused(conn, of(stage.host, uuid4()), stage.pc) is PcNotFound


async def test_a_host_that_is_not_there_is_not_found(conn: TrioConnection, stage: Stage) -> None:
    assert await refused(conn, of(Host(stage.host.user, uuid4())), stage.pc) is HostNotFound


async def test_a_token_from_before_the_log_out_is_refused(conn: TrioConnection, stage: Stage) -> None:
    await users.end_tokens(conn, stage.host.user)
    assert await refused(conn, of(stage.host), stage.pc) is Unauthenticated
    assert isinstance(await beat(conn, stage.host, version=2), BeatAnswer)


async def test_a_banned_hosts_token_is_refused(conn: TrioConnection, stage: Stage) -> None:
    account = await users.by_id(conn, stage.host.user)
    assert account is not None
    await users.set_banned(conn, account.email, banned=True)
    for version in (1, 2):
        assert await refused(conn, of(stage.host, version=version), stage.pc) is Unauthenticated


async def test_a_user_who_is_not_there_is_refused(conn: TrioConnection, stage: Stage) -> None:
    assert await refused(conn, of(Host(uuid4(), stage.host.id)), stage.pc) is Unauthenticated


async def test_a_stranger_is_not_told_which_hosts_and_pcs_there_are(conn: TrioConnection, stage: Stage) -> None:
    """Whoever isn't known hears nothing else."""
    nobody = Claims(uuid4(), 1)
    for host, pc in ((stage.host.id, stage.pc), (uuid4(), None)):
        (answer,) = await write(conn, [Beat(nobody, host, pc, None)])
        assert isinstance(answer, Unauthenticated)


# ---- daemons side by side


async def test_batches_of_several_daemons_do_not_meet_in_a_deadlock(conn: TrioConnection, pool: Pool) -> None:
    stages = [await set_stage(conn) for _ in range(12)]
    batches = [[of(s.host, said="ONLINE" if turn % 3 else "OFFLINE") for s in stages] for turn in range(6)]
    for turn, batch in enumerate(batches):
        batch.sort(key=lambda b: hash((turn, b.host_id)))
    for _ in range(5):
        assert await at_once(pool, [lambda c, b=batch: write(c, b) for batch in batches]) == ["OK"] * 6  # type: ignore[misc]


# ---- the service, on a real database


async def test_the_service_writes_what_hosts_beat(conn: TrioConnection, pool: Pool, nursery: trio.Nursery) -> None:
    stages = [await set_stage(conn) for _ in range(5)]
    hearing = Heartbeats(pool, Metrics())
    nursery.start_soon(hearing.run)
    for stage in stages:
        await last_seen(conn, stage.pc, MINUTE + SECOND)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as hosts:
            for stage in stages:
                hosts.start_soon(hearing.beat, of(stage.host))
    assert max([await silence(conn, "pc_beats", stage.pc) for stage in stages]) < 60


async def test_a_connection_that_dies_is_told_and_remembered(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    hearing = Heartbeats(pool, Metrics())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hearing.run)
        await hearing.beat(of(stage.host))
        async with pool.connection() as holder, holder.transaction():
            # The one row that a batch waits for: another daemon's batch has it, for milliseconds.
            await holder.run("SELECT FROM pc_beats WHERE pc_id = %s FOR UPDATE", (stage.pc,))
            nursery.start_soon(kill_who_waits, conn)
            with capture_logs(), pytest.raises(DatabaseUnavailable):
                await hearing.beat(of(stage.host))
        assert hearing.lost
        assert isinstance(await hearing.beat(of(stage.host)), BeatAnswer)
        nursery.cancel_scope.cancel()


async def kill_who_waits(conn: TrioConnection) -> None:
    await until_one_waits(conn)
    await conn.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )


async def test_beats_of_another_stage_do_not_touch_this_one(conn: TrioConnection, pool: Pool, stage: Stage) -> None:
    other = evolve(await set_stage(conn))
    await time_out(conn, pool, stage.pc, other.pc)
    await beat(conn, other.host)
    assert await pc_status(conn, stage.pc) == "OFFLINE"
