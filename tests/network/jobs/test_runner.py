"""The runner does what is due, for lanes that have room, whatever becomes of notifications, the database, or a job."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import uuid4

import psycopg
import pytest
from structlog.testing import capture_logs
import trio
from trio.testing import MockClock

from opendesk import database
from opendesk.network.jobs import (
    Again,
    Dead,
    Done,
    Job,
    Outcome,
    add,
    add_many,
    get,
    holding,
    looking,
    runner,
    table,
)
from opendesk.network.jobs.claiming import CLAIM
from opendesk.network.jobs.runner import Handler, Runner, Terms
from opendesk.network.jobs.shapes import Found
from opendesk.network.jobs.waiting import Waiters
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.supervise import ALLOWANCE_S, LifeSigns, keep_running
from tests.network.jobs.working import PATIENCE_S, RETRIES, Workshop, claimed, new, running, until_job, until_state

LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %%'"


async def never() -> TrioConnection:
    await trio.sleep_forever()
    raise AssertionError


async def until_listening(conn: TrioConnection) -> None:
    with trio.fail_after(PATIENCE_S):
        while await conn.fetch_one(LISTENERS) == (0,):  # noqa: ASYNC110  # the server tells nobody
            await trio.sleep(0.01)


@pytest.fixture
def deaf_and_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but notifications and due times wake it."""
    monkeypatch.setattr(runner, "LOOK_S", 10 * PATIENCE_S)


async def test_what_is_added_is_done_as_soon_as_it_is_told(
    deaf_and_patient: None, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    async with running(pool, conninfo, Workshop()):
        await until_listening(conn)
        view = await until_state(conn, await add(conn, new()), "done")
    assert (view.attempts, view.outcomes) == (1, 1)


async def test_what_is_due_later_is_done_when_it_is(
    deaf_and_patient: None, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    async with running(pool, conninfo, Workshop()):
        await until_listening(conn)
        at = datetime.now(UTC) + timedelta(seconds=0.3)
        view = await until_state(conn, await add(conn, new(run_at=at)), "done")
    assert view.finished_at is not None
    assert view.finished_at >= at


async def test_a_failure_is_tried_again_when_its_wait_is_over_and_dead_in_the_end(
    deaf_and_patient: None, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    async def fail(job: Job) -> Outcome:
        return Again(f"attempt {job.attempts}", after_s=0.01)

    async with running(pool, conninfo, shop := Workshop(act=fail)):
        view = await until_state(conn, await add(conn, new()), "dead")
    assert ([job.attempts for job in shop.begun], view.last_error) == ([1, 2, 3], "attempt 3")


async def test_a_job_that_raises_is_tried_again_and_ends_nobody(
    pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    async def act(job: Job) -> Outcome:
        if job.key == "bad":
            raise ExceptionGroup("", [ZeroDivisionError("a bug")])
        return Done()

    async with running(pool, conninfo, Workshop(act=act)):
        bad = await add(conn, new("bad"))
        view = await until_job(conn, bad, lambda view: view.outcomes == 1)
        assert (view.state, "a bug" in (view.last_error or "")) == ("due", True)
        await until_state(conn, await add(conn, new("good")), "done")


async def test_one_that_takes_too_long_is_stopped_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    monkeypatch.setattr(runner, "ATTEMPT_S", 0.05)

    async def hang(_job: Job) -> Outcome:
        await trio.sleep_forever()
        raise AssertionError

    async with running(pool, conninfo, Workshop(act=hang)):
        view = await until_job(conn, await add(conn, new()), lambda view: view.outcomes == 1)
    assert (view.state, view.last_error) == ("due", "it took longer than 0.05 s")


async def test_a_lost_notification_costs_a_while_and_no_job(
    monkeypatch: pytest.MonkeyPatch, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    monkeypatch.setattr(runner, "LOOK_S", 0.05)
    async with running(pool, conninfo, Workshop(), connect=never):
        await until_state(conn, await add(conn, new()), "done")


async def test_what_was_told_while_nobody_could_listen_is_done_when_somebody_can(
    deaf_and_patient: None, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    refused = trio.Event()

    async def connect() -> TrioConnection:
        if not refused.is_set():
            await add(conn, new())
            refused.set()
            raise psycopg.OperationalError("the database is away")
        return await TrioConnection.connect(conninfo, autocommit=True)

    async with running(pool, conninfo, shop := Workshop(rooms={}), connect=connect):
        await refused.wait()
        shop.rooms["router"] = 1
        await shop.until(lambda: len(shop.begun) == 1)


async def test_two_runners_never_work_on_one_job_or_one_key_at_once(
    pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    async def act(_job: Job) -> Outcome:
        await trio.sleep(0.001)
        return Done()

    shop = Workshop(rooms={f"r{n}": 8 for n in range(5)}, act=act)
    added = await add_many(conn, [new(f"{n % 20}", lane=f"r{n % 5}") for n in range(300)])
    async with running(pool, conninfo, shop), running(pool, conninfo, shop):
        for one in added:
            await until_state(conn, one.id, "done")
    assert shop.overlaps == 0
    assert sorted(job.id for job in shop.begun) == sorted(one.id for one in added)


async def test_a_closed_lane_holds_up_only_itself_and_goes_on_when_it_opens(
    deaf_and_patient: None, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    shut = await add_many(conn, [new(f"{n}", lane="shut") for n in range(50)])
    async with running(pool, conninfo, shop := Workshop(rooms={"shut": 0, "open": 8})) as (made, _):
        for n in range(20):
            await until_state(conn, await add(conn, new(f"{n}", lane="open")), "done")
        assert {job.lane for job in shop.begun} == {"open"}
        shop.rooms["shut"] = 8
        made.wake("shut")
        for one in shut:
            await until_state(conn, one.id, "done")


async def test_a_lane_that_never_answers_gets_no_more_than_its_room(
    pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    async def act(job: Job) -> Outcome:
        if job.lane == "mute":
            await trio.sleep_forever()
        return Done()

    shop = Workshop(rooms={"mute": 100, "fine": 100}, act=act)  # whatever a lane says that it takes
    await add_many(conn, [new(f"{n}", lane="mute") for n in range(100)])
    async with running(pool, conninfo, shop, finish_s=0):
        for n in range(20):
            await until_state(conn, await add(conn, new(f"{n}", lane="fine")), "done")
        assert len([job for job in shop.begun if job.lane == "mute"]) == holding.MAX_OF_A_LANE


async def test_when_it_is_crowded_each_lane_still_gets_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    monkeypatch.setattr(holding, "CROWDED", 8)

    async def act(job: Job) -> Outcome:
        if job.lane.startswith("mute"):
            await trio.sleep_forever()
        return Done()

    mute = {f"mute {n}": 8 for n in range(5)}
    shop = Workshop(rooms={"mute 0": 8}, act=act)
    await add_many(conn, [new(f"{n}", lane=lane) for lane in [*mute, "fine"] for n in range(10)])
    async with running(pool, conninfo, shop, finish_s=0) as (made, _):
        await shop.until(lambda: len(shop.begun) == 8)
        shop.rooms |= {**mute, "fine": 8}
        made.wake("fine")
        for lane in mute:
            made.wake(lane)
        await shop.until(lambda: len(shop.begun) == 8 + 4 + 10)
        assert {lane: sum(job.lane == lane for job in shop.begun) for lane in mute} == dict.fromkeys(mute, 1) | {
            "mute 0": 8
        }


async def test_there_are_never_more_at_once_than_there_may_be(
    monkeypatch: pytest.MonkeyPatch, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    monkeypatch.setattr(holding, "MAX_AT_ONCE", 5)
    most, inside = 0, 0

    async def act(_job: Job) -> Outcome:
        nonlocal most, inside
        inside += 1
        most = max(most, inside)
        await trio.sleep(0.002)
        inside -= 1
        return Done()

    added = await add_many(conn, [new(f"{n}", lane=f"{n % 10}") for n in range(60)])
    async with running(pool, conninfo, Workshop(rooms={f"{n}": 8 for n in range(10)}, act=act)):
        for one in added:
            await until_state(conn, one.id, "done")
    assert most <= 5


async def test_a_runner_that_is_full_while_the_database_is_away_does_not_hang(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long: no outcome can be written, and none is a reason to end the daemon."""

    class Away:
        def connection(self) -> AbstractAsyncContextManager[TrioConnection]:
            raise psycopg.OperationalError("it is away")

    monkeypatch.setattr(holding, "MAX_AT_ONCE", 0)
    pool, signs = cast("Pool", Away()), LifeSigns()
    full = Runner(pool, never, uuid4(), Terms(30.0, RETRIES), Workshop(), Waiters(pool))
    silent = set[str]()
    with capture_logs():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: keep_running("jobs", full.run, signs=signs))
            for _ in range(int(3 * ALLOWANCE_S / 5)):
                silent |= set(signs.silent(trio.current_time()))
                await trio.sleep(5)
            assert ("jobs", "finding") in signs.known
            nursery.cancel_scope.cancel()
    assert silent == set()


async def test_lanes_of_fixed_names_have_handlers_of_their_own(pool: Pool, conn: TrioConnection, conninfo: str) -> None:
    seen = list[str]()

    async def acknowledge(job: Job) -> Outcome:
        seen.append(job.key)
        return Done("sent")

    async with running(pool, conninfo, shop := Workshop(), handlers={"acks": Handler(2, acknowledge)}):
        for n in range(5):
            assert (await until_state(conn, await add(conn, new(f"{n}", lane="acks")), "done")).result == "sent"
    assert (len(seen), shop.begun) == (5, [])


# ---- leases


async def test_a_long_job_keeps_its_lease(pool: Pool, conn: TrioConnection, conninfo: str) -> None:
    go = trio.Event()

    async def act(_job: Job) -> Outcome:
        await go.wait()
        return Done()

    async with (
        running(pool, conninfo, shop := Workshop(act=act), lease_s=0.6),
        running(pool, conninfo, shop, lease_s=0.6),
    ):
        job_id = await add(conn, new())
        await shop.until(lambda: len(shop.begun) == 1)
        first = await leased_until(conn)
        with trio.fail_after(PATIENCE_S):
            while await leased_until(conn) < first + timedelta(seconds=1.2):  # nobody tells
                await trio.sleep(0.02)
                await table.take_back(conn, RETRIES)
        go.set()
        view = await until_state(conn, job_id, "done")
    assert (len(shop.begun), view.attempts) == (1, 1)


async def leased_until(conn: TrioConnection) -> datetime:
    row = await conn.fetch_one("SELECT leased_until FROM jobs WHERE state = 'running'")
    assert row is not None
    moment: datetime = row[0]
    return moment


async def test_a_job_whose_lease_was_lost_is_stopped_and_its_outcome_is_nobodys(
    pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    stopped = trio.Event()

    async def act(job: Job) -> Outcome:
        if job.fence == 1:
            try:
                await trio.sleep_forever()
            finally:
                stopped.set()
        return Done(job.fence)

    async with running(pool, conninfo, shop := Workshop(act=act), lease_s=0.3):
        job_id = await add(conn, new())
        await shop.until(lambda: len(shop.begun) == 1)
        await conn.run("UPDATE jobs SET leased_until = now() - interval '1 second'")
        await table.take_back(conn, RETRIES)
        with trio.fail_after(PATIENCE_S):
            await stopped.wait()
        assert (await until_state(conn, job_id, "done")).result == 2


async def test_what_a_killed_daemon_left_between_claim_and_finish_is_done_by_another(
    monkeypatch: pytest.MonkeyPatch, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    monkeypatch.setattr(runner, "LOOK_S", 0.05)
    added = await add_many(conn, [new(), new(), new("other")])
    await claimed(conn, ttl_s=0.2)  # and is never heard of again
    async with running(pool, conninfo, shop := Workshop()):
        views = [await until_state(conn, one.id, "done") for one in added]
    assert [view.attempts for view in views] == [2, 1, 2]
    assert [job.id for job in shop.begun if job.key == "phone"] == [added[0].id, added[1].id]


async def test_at_a_stop_what_is_nearly_done_is_finished_and_the_rest_given_back(
    pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    async def act(job: Job) -> Outcome:
        await trio.sleep(0.05 if job.key == "quick" else 10 * PATIENCE_S)
        return Done()

    quick, slow = await add_many(conn, [new("quick"), new("slow")])
    async with running(pool, conninfo, shop := Workshop(act=act)):
        await shop.until(lambda: len(shop.begun) == 2)
    done, back = await get(conn, quick.id), await get(conn, slow.id)
    assert done is not None
    assert back is not None
    assert (done.state, back.state, back.attempts, back.outcomes) == ("done", "due", 0, 0)
    async with running(pool, conninfo, Workshop()):
        assert (await until_state(conn, slow.id, "done")).attempts == 1


async def test_a_stop_does_not_wait_for_a_mute_database(conn: TrioConnection, conninfo: str) -> None:
    pool = Pool(conninfo, size=1)
    hung = trio.Event()

    async def act(_job: Job) -> Outcome:
        await hung.wait()
        return Done()

    await add(conn, new())
    async with pool_taken(pool) as (take, taken):
        async with running(pool, conninfo, shop := Workshop(act=act), finish_s=0):
            await shop.until(lambda: len(shop.begun) == 1)
            take.set()
            await taken.wait()
            hung.set()
        assert await conn.fetch_one("SELECT state FROM jobs") == ("running",), "its lease will end"
    await pool.aclose()


@asynccontextmanager
async def pool_taken(pool: Pool) -> AsyncIterator[tuple[trio.Event, trio.Event]]:
    """Its only connection, when asked for, until the end."""
    take, taken, done = trio.Event(), trio.Event(), trio.Event()

    async def hold() -> None:
        await take.wait()
        async with pool.connection():
            taken.set()
            await done.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        yield take, taken
        done.set()


# ---- trouble with the database


class Trouble:
    """`table.finish`, out of order for a while."""

    def __init__(self, error: Exception, times: int) -> None:
        self.finish, self.error, self.left = table.finish, error, times

    async def __call__(self, conn: TrioConnection, outcomes: list[object]) -> object:
        if self.left > 0:
            self.left -= 1
            raise self.error
        return await self.finish(conn, outcomes)  # type: ignore[arg-type]  # passed on


async def test_an_outcome_that_could_not_be_written_is_written_later_and_the_job_not_done_twice(
    monkeypatch: pytest.MonkeyPatch, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    monkeypatch.setattr(table, "finish", Trouble(psycopg.OperationalError("away"), 3))
    async with running(pool, conninfo, shop := Workshop()):
        view = await until_state(conn, await add(conn, new()), "done")
    assert (len(shop.begun), view.attempts) == (1, 1)


async def test_an_outcome_that_is_refused_holds_up_no_other(pool: Pool, conn: TrioConnection, conninfo: str) -> None:
    go = trio.Event()

    async def act(job: Job) -> Outcome:
        await go.wait()
        return Done({"nul": "\0"} if job.key == "bad" else "fine")

    added = await add_many(conn, [new(key) for key in ("a", "bad", "b")])
    async with running(pool, conninfo, shop := Workshop(act=act)):
        await shop.until(lambda: len(shop.begun) == 3)
        go.set()
        a, bad, b = [await until_job(conn, one.id, lambda view: view.finished_at is not None) for one in added]
    assert (a.state, b.state, bad.state) == ("done", "done", "dead")
    assert (bad.last_error or "").startswith("what became of it could not be written")


async def test_a_result_that_is_not_json_makes_a_dead_letter(pool: Pool, conn: TrioConnection, conninfo: str) -> None:
    async def act(_job: Job) -> Outcome:
        return Done(object())

    async with running(pool, conninfo, Workshop(act=act)):
        view = await until_state(conn, await add(conn, new()), "dead")
    assert "not JSON serializable" in (view.last_error or "")


async def test_a_database_that_was_away_costs_no_job(
    monkeypatch: pytest.MonkeyPatch, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    monkeypatch.setattr(runner, "RETRY_S", 0.05)
    go = trio.Event()

    async def act(_job: Job) -> Outcome:
        await go.wait()
        return Done()

    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    added = await add_many(conn, [new(f"{n}") for n in range(8)])
    async with running(pool, conninfo, shop := Workshop(act=act)):
        await shop.until(lambda: len(shop.begun) == 8)
        await conn.run(kill)
        added += await add_many(conn, [new(f"{n}") for n in range(8, 20)])
        go.set()
        for one in added:
            assert (await until_state(conn, one.id, "done")).attempts == 1
    assert len(shop.begun) == 20


async def test_a_failing_claim_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    look, left = table.look, 2

    async def flaky(*args: object, **more: object) -> Found:
        nonlocal left
        left -= 1
        if left >= 0:
            raise psycopg.OperationalError("away")
        return await look(*args, **more)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(runner, "RETRY_S", 0.01)
    monkeypatch.setattr(table, "look", flaky)
    async with running(pool, conninfo, Workshop()):
        await until_state(conn, await add(conn, new()), "done")


async def test_a_dead_letter_is_replayed_at_once(
    deaf_and_patient: None, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    mended = False

    async def act(_job: Job) -> Outcome:
        return Done() if mended else Dead("no such router")

    async with running(pool, conninfo, Workshop(act=act)):
        job_id = await add(conn, new())
        await until_state(conn, job_id, "dead")
        mended = True
        await until_listening(conn)
        assert await looking.replay(conn, job_id)
        await until_state(conn, job_id, "done")


def test_the_jobs_pool_lets_all_that_are_under_way_wait() -> None:
    assert database.JOBS_WAITING > holding.MAX_AT_ONCE


async def test_what_falls_due_in_a_lane_that_is_busy_with_another_is_done_then(
    deaf_and_patient: None, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    async def act(job: Job) -> Outcome:
        if job.key == "slow":
            await trio.sleep_forever()
        return Done()

    async with running(pool, conninfo, shop := Workshop(act=act)):
        await until_listening(conn)
        at = datetime.now(UTC) + timedelta(seconds=0.5)
        await add(conn, new("timed", run_at=at))
        await add(conn, new("slow"))
        await shop.until(lambda: "timed" in [job.key for job in shop.begun])


async def test_who_met_others_each_time_looks_again(
    deaf_and_patient: None, monkeypatch: pytest.MonkeyPatch, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    """As if other daemons were always first."""
    fetch, left = TrioConnection.fetch, 7

    async def beaten(self: TrioConnection, query: str, *args: object, **more: object) -> object:
        nonlocal left
        if query is CLAIM and left:
            left -= 1
            raise psycopg.errors.UniqueViolation
        return await fetch(self, query, *args, **more)  # type: ignore[call-overload]  # passed on

    monkeypatch.setattr(TrioConnection, "fetch", beaten)
    async with running(pool, conninfo, Workshop()):
        await until_state(conn, await add(conn, new()), "done")
    assert left == 0
