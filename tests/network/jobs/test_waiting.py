"""Whoever waits for a job hears of the first attempt that ended, on whichever daemon it ran."""

from functools import partial
from uuid import uuid4

import pytest
import trio

from opendesk.errors import Overloaded
from opendesk.network.jobs import Again, Done, Job, JobView, Outcome, add, add_many, table, waiting
from opendesk.network.jobs.hearing import hear
from opendesk.network.jobs.lookout import Lookout
from opendesk.network.jobs.shapes import Added, ended
from opendesk.network.jobs.waiting import Waiters
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from tests.network.jobs.test_runner import never, until_listening
from tests.network.jobs.working import PATIENCE_S, RETRIES, Workshop, claimed, new, running


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the first."""
    monkeypatch.setattr(waiting, "LOOK_S", 10 * PATIENCE_S)


async def finish(conn: TrioConnection, job: Job, outcome: Outcome) -> None:
    await table.finish(conn, [ended(job, outcome, RETRIES, jitter=0)])


async def test_an_outcome_here_wakes_at_once(no_looks: None, pool: Pool, conn: TrioConnection, conninfo: str) -> None:
    async with running(pool, conninfo, Workshop(), connect=never) as (runner, waiters):
        (added,) = await add_many(conn, [new()])
        runner.wake("router")
        view = await waiters.outcome(added.id, timeout_s=PATIENCE_S, since=added.outcomes)
    assert view is not None
    assert view.state == "done"


async def test_an_outcome_elsewhere_wakes_by_its_notification(
    no_looks: None, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    async with running(pool, conninfo, Workshop(rooms={})) as (_, here), running(pool, conninfo, Workshop()):
        await until_listening(conn)
        (added,) = await add_many(conn, [new()])
        view = await here.outcome(added.id, timeout_s=PATIENCE_S, since=0)
    assert view is not None
    assert view.state == "done"


async def test_a_lost_notification_is_made_up_for_by_looking(
    monkeypatch: pytest.MonkeyPatch, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    monkeypatch.setattr(waiting, "LOOK_S", 0.05)
    waiters = Waiters(pool)
    job_id = await add(conn, new())
    (job,) = await claimed(conn)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiters.run)
        found = list[JobView | None]()

        async def wait() -> None:
            found.append(await waiters.outcome(job_id, timeout_s=PATIENCE_S))
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait)
        await finish(conn, job, Done())
    assert [view and view.state for view in found] == ["done"]


async def test_the_first_attempt_that_ended_is_told_though_the_job_goes_on(
    no_looks: None, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    async def act(_job: Job) -> Outcome:
        return Again("the router is away")

    async with running(pool, conninfo, Workshop(act=act)) as (_, waiters):
        (added,) = await add_many(conn, [new(dedupe="order 1")])
        view = await waiters.outcome(added.id, timeout_s=PATIENCE_S, since=added.outcomes)
        assert view is not None
        assert (view.state, view.last_error, view.outcomes) == ("due", "the router is away", 1)
        assert await waiters.outcome(added.id, timeout_s=0.05) is None, "from now on none has ended"
        (joined,) = await add_many(conn, [new(dedupe="order 1")])
        assert joined == Added(added.id, joined=True, outcomes=1), "and it is tried at once, since somebody asks"
        view = await waiters.outcome(joined.id, timeout_s=PATIENCE_S, since=joined.outcomes)
        assert view is not None
        assert view.outcomes == 2


async def test_what_ended_before_anybody_waited_is_told(no_looks: None, pool: Pool, conn: TrioConnection) -> None:
    waiters = Waiters(pool)
    job_id = await add(conn, new())
    (job,) = await claimed(conn)
    await finish(conn, job, Again("the router is away"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiters.run)
        view = await waiters.outcome(job_id, timeout_s=PATIENCE_S, since=0)
        assert view is not None
        assert view.last_error == "the router is away"
        assert await waiters.outcome(uuid4(), timeout_s=PATIENCE_S) is None, "there is no such job"
        nursery.cancel_scope.cancel()


async def test_one_that_is_merely_given_back_has_not_ended(no_looks: None, pool: Pool, conn: TrioConnection) -> None:
    waiters, node = Waiters(pool), uuid4()
    job_id = await add(conn, new())
    await claimed(conn, node=node)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiters.run)
        nursery.start_soon(hear_once, waiters, conn)
        await table.give_back(conn, node)
        waiters.tell([job_id])
        assert await waiters.outcome(job_id, timeout_s=0.1, since=0) is None
        nursery.cancel_scope.cancel()


async def hear_once(waiters: Waiters, _conn: TrioConnection) -> None:
    waiters.hear("these are no ids")
    await trio.lowlevel.checkpoint()


async def test_nobody_who_waits_holds_a_connection(
    no_looks: None, pool: Pool, conn: TrioConnection, conninfo: str
) -> None:
    ids = [one.id for one in await add_many(conn, [new(f"{n}") for n in range(200)])]
    waiters = Waiters(pool)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiters.run)
        nursery.start_soon(hear, partial(TrioConnection.connect, conninfo, autocommit=True), Lookout(), waiters)
        found = list[JobView | None]()

        async def wait(job_id: object) -> None:
            found.append(await waiters.outcome(job_id, timeout_s=PATIENCE_S, since=0))  # type: ignore[arg-type]  # a UUID
            if len(found) == len(ids):
                nursery.cancel_scope.cancel()

        for job_id in ids:
            nursery.start_soon(wait, job_id)
        await until_listening(conn)
        assert pool.stats.size <= 2
        for job in await claimed(conn, {"router": 200}):
            await finish(conn, job, Done())
    assert {view.state for view in found if view is not None} == {"done"}
    assert (len(found), pool.stats.waiting) == (200, 0)


async def test_who_gives_up_leaves_nothing_behind(pool: Pool) -> None:
    waiters = Waiters(pool)
    with trio.move_on_after(0.01):
        await waiters.outcome(uuid4(), timeout_s=PATIENCE_S)
    assert await waiters.outcome(uuid4(), timeout_s=0) is None
    assert (waiters._count, len(waiters._waiting)) == (0, 0)


async def test_too_many_are_told_so(monkeypatch: pytest.MonkeyPatch, pool: Pool) -> None:
    monkeypatch.setattr(waiting, "MAX_WAITING", 1)
    waiters = Waiters(pool)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(waiters.outcome, uuid4(), timeout_s=PATIENCE_S))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded):
            await waiters.outcome(uuid4(), timeout_s=1)
        nursery.cancel_scope.cancel()
