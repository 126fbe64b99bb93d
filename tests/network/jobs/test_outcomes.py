"""What is written of an attempt, how long the next waits, and what becomes of dead ones."""

from datetime import datetime, timedelta
import json
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.backoff import pause_s
from opendesk.network.jobs import (
    Again,
    Dead,
    Done,
    Job,
    JobView,
    Outcome,
    Retries,
    add,
    add_many,
    forget_old,
    get,
    list_jobs,
    looking,
    numbers,
    replay,
    table,
)  # fmt: skip
from opendesk.network.jobs.shapes import LONGEST_AFTER_S, LONGEST_PAUSE_S, MAX_ERROR, ended, told, unwritable
from opendesk.postgres.driver import TrioConnection
from tests.network.jobs.working import RETRIES, claimed, make_due, new


async def finish(conn: TrioConnection, job: Job, outcome: Outcome) -> JobView:
    assert await table.finish(conn, [ended(job, outcome, RETRIES, jitter=0.5)]) == {job.id}
    view = await get(conn, job.id)
    assert view is not None
    return view


async def begin(conn: TrioConnection) -> Job:
    (job,) = await claimed(conn)
    return job


@given(st.integers(-5, 10_000), st.floats(0, 1), st.floats(0.001, 100))
def test_a_pause_doubles_up_to_the_longest_and_is_spread(failures: int, jitter: float, first_s: float) -> None:
    pause = pause_s(failures, first_s=first_s, longest_s=100.0, jitter=jitter)
    nominal = min(100.0, first_s * 2.0 ** min(max(failures, 1) - 1, 60))
    assert pause == nominal * (0.5 + jitter)


@given(st.text(st.characters(), max_size=3 * MAX_ERROR))
def test_any_error_can_be_told(error: str) -> None:
    assert "\0" not in told(error)
    told(error).encode()


async def test_what_is_done_tells_its_result(conn: TrioConnection) -> None:
    job_id = await add(conn, new(payload={"order": "ü=\n"}, trace_id="trace"))
    job = await begin(conn)
    assert (job.payload, job.trace_id, job.type, job.lane, job.key) == (
        {"order": "ü=\n"},
        "trace",
        "WORK",
        "router",
        "phone",
    )
    view = await finish(conn, job, Done({"changed": True, "rows": [1, 2.5, None]}))
    assert (view.id, view.state, view.result, view.last_error) == (
        job_id,
        "done",
        {"changed": True, "rows": [1, 2.5, None]},
        None,
    )
    assert view.finished_at is not None


async def test_a_failure_waits_twice_as_long_each_time_and_is_dead_after_its_attempts(conn: TrioConnection) -> None:
    await add(conn, new())
    for attempt, wait_s in ((1, 30), (2, 60)):
        before = await now(conn)
        view = await finish(conn, await begin(conn), Again("the router is away"))
        assert (view.state, view.attempts, view.outcomes) == ("due", attempt, attempt)
        assert timedelta(seconds=wait_s) <= view.run_at - before < timedelta(seconds=wait_s + 10)
        await make_due(conn)
    view = await finish(conn, await begin(conn), Again("still away"))
    assert (view.state, view.attempts, view.last_error) == ("dead", 3, "still away")


async def test_too_early_uses_no_attempt_however_often(conn: TrioConnection) -> None:
    await add(conn, new())
    for _ in range(2 * RETRIES.max_attempts):
        view = await finish(conn, await begin(conn), Again("the circuit is open", after_s=0, counts=False))
        assert (view.state, view.attempts) == ("due", 0)


def test_waits_and_errors_are_bounded() -> None:
    job = Job(None, 1, "T", "l", "k", {}, 900, None, None)  # type: ignore[arg-type]  # only what is looked at
    patient = Retries(max_attempts=1000, base_s=30)
    assert ended(job, Again("x"), patient, jitter=1.0).after_s == 1.5 * LONGEST_PAUSE_S
    assert ended(job, Again("x", after_s=1e300), patient, jitter=0).after_s == LONGEST_AFTER_S
    assert ended(job, Again("x", after_s=-5), patient, jitter=0).after_s == 0
    assert len(ended(job, Dead("x" * 9999), patient, jitter=0).error or "") == MAX_ERROR


@pytest.mark.parametrize("result", [{1, 2}, float("nan"), "x" * 70_000, "\ud800", b"bytes"])
def test_a_result_that_is_not_json_is_refused(result: object) -> None:
    job = Job(None, 1, "T", "l", "k", {}, 1, None, None)  # type: ignore[arg-type]  # only what is looked at
    with pytest.raises((ValueError, TypeError)):
        ended(job, Done(result), RETRIES, jitter=0)
    assert unwritable(job, "why").state == "dead"


async def test_a_dead_one_can_be_replayed_with_all_its_attempts(conn: TrioConnection) -> None:
    job_id = await add(conn, new())
    assert not await replay(conn, job_id), "it isn't dead"
    await finish(conn, await begin(conn), Dead("no such router", {"reason": "failed"}))
    assert await replay(conn, job_id)
    job = await begin(conn)
    assert (job.id, job.attempts, job.fence) == (job_id, 1, 2)
    view = await finish(conn, job, Done())
    assert (view.state, view.result) == ("done", None)
    assert not await replay(conn, job_id)


async def test_lists_have_the_newest_first_by_state_and_lane(conn: TrioConnection) -> None:
    ids = [one.id for one in await add_many(conn, [new(f"{n}", lane="a" if n < 4 else "b") for n in range(6)])]
    jobs = await claimed(conn, {"a": 9})
    await finish(conn, jobs[0], Done())
    await finish(conn, jobs[1], Dead("x"))
    await finish(conn, jobs[2], Dead("y"))
    assert [view.id for view in await list_jobs(conn)] == ids[::-1]
    assert [view.id for view in await list_jobs(conn, lane="b", limit=1)] == [ids[5]]
    assert [view.id for view in await list_jobs(conn, state="dead")] == [ids[2], ids[1]]
    assert [view.id for view in await list_jobs(conn, state="done", lane="b")] == []
    assert [view.id for view in await list_jobs(conn, state="running")] == [ids[3]]
    assert [view.id for view in await list_jobs(conn, state="due")] == [ids[5], ids[4]]


async def test_numbers_tell_what_waits_and_for_how_long(conn: TrioConnection) -> None:
    assert (await numbers(conn)).oldest_due_s == 0
    moment = await now(conn)
    later = [new(f"{n}", run_at=moment + timedelta(hours=1)) for n in range(3)]
    await add_many(conn, [*later, new("old", run_at=moment - timedelta(hours=1)), new("new", lane="shut"), new("run")])
    (run,) = [job for job in await claimed(conn) if job.key == "run"]
    await finish(conn, run, Dead("x"))
    found = await numbers(conn)
    assert (found.due, found.scheduled, found.running, found.done, found.dead) == (1, 3, 1, 0, 1)
    assert found.oldest_due_s < 60
    await table.give_back(conn, await node_of_what_runs(conn))
    assert 3600 <= (await numbers(conn)).oldest_due_s < 3700


async def test_what_is_over_is_forgotten_in_time_and_nothing_else(conn: TrioConnection) -> None:
    await add_many(conn, [new(f"{n}") for n in range(6)])
    jobs = await claimed(conn, {"router": 4})
    outcomes: tuple[Outcome, ...] = (Done(), Done(), Dead("x"), Dead("x"))
    for job, outcome in zip(jobs, outcomes, strict=True):
        await finish(conn, job, outcome)
    aged = "UPDATE jobs SET finished_at = finished_at - %s * interval '1 day' WHERE id = ANY (%s)"
    await conn.run(aged, (8, [jobs[0].id, jobs[2].id]))
    assert await forget_old(conn) == 1
    await conn.run(aged, (180, [jobs[2].id]))
    assert await forget_old(conn) == 1
    assert {view.id for view in await list_jobs(conn)}.isdisjoint({jobs[0].id, jobs[2].id})
    assert await conn.fetch_one("SELECT count(*) FROM jobs") == (4,)


async def test_what_is_added_and_what_ended_is_told_once_a_transaction(conn: TrioConnection) -> None:
    await conn.run(f"LISTEN {table.CHANNEL}")
    await conn.run(f"LISTEN {table.DONE_CHANNEL}")
    moment = await now(conn)
    async with conn.transaction():
        await add_many(conn, [new(f"{n}", lane=f"r{n % 2}") for n in range(50)])
        await add_many(conn, [new(f"{n}", lane=f"r{n % 2}") for n in range(50)])
        await add(conn, new(lane="far", run_at=moment + timedelta(hours=1)))
    assert [json.loads(told) for told in await notes(conn, table.CHANNEL)] == [["r0", "r1"]]
    await add_many(conn, [new(lane="r" * 400 + f"{n}") for n in range(50)])
    assert await notes(conn, table.CHANNEL) == [""], "too many to tell"
    jobs = await claimed(conn, {"r0": 99, "r1": 99})
    await table.finish(conn, [ended(job, Done(), RETRIES, jitter=0) for job in jobs])
    (payload,) = await notes(conn, table.DONE_CHANNEL)
    assert set(payload.split()) == {str(job.id) for job in jobs}


async def test_any_number_of_outcomes_can_be_told(conn: TrioConnection) -> None:
    await conn.run(f"LISTEN {table.DONE_CHANNEL}")
    await add_many(conn, [new(f"{n}") for n in range(1000)])
    jobs = await claimed(conn, {"router": 1000})
    assert len(await table.finish(conn, [ended(job, Done(), RETRIES, jitter=0) for job in jobs])) == 1000
    told_ids = [one for payload in await notes(conn, table.DONE_CHANNEL) for one in payload.split()]
    assert sorted(told_ids) == sorted(str(job.id) for job in jobs)


async def notes(conn: TrioConnection, channel: str) -> list[str]:
    return [note.payload async for note in conn.notifies(timeout=0) if note.channel == channel]


async def now(conn: TrioConnection) -> datetime:
    row = await conn.fetch_one("SELECT clock_timestamp()")
    assert row is not None
    moment: datetime = row[0]
    return moment


async def node_of_what_runs(conn: TrioConnection) -> UUID:
    row = await conn.fetch_one("SELECT leased_by FROM jobs WHERE state = 'running'")
    assert row is not None
    node: UUID = row[0]
    return node


async def test_what_nobody_came_back_to_is_forgotten_where_that_is_as_well(conn: TrioConnection) -> None:
    await add(conn, new("left", lane="dry run/r1"))
    await add(conn, new("needed", lane="r1"))
    await conn.run("UPDATE jobs SET run_at = now() - interval '25 hours'")
    await add(conn, new("fresh", lane="dry run/r1"))
    assert await looking.forget_left(conn, "dry run/") == 1
    assert {job.key for job in await list_jobs(conn)} == {"needed", "fresh"}
