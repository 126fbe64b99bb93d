"""Many jobs for one key: they cost others nothing, what does the same joins what still waits, and there is an end to it."""

from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import psycopg
import pytest
import trio

from opendesk.errors import Overloaded
from opendesk.network.jobs import Again, Done, Job, NewJob, add, add_many, table
from opendesk.network.jobs.claiming import WINDOW
from opendesk.network.jobs.shapes import ended
from opendesk.postgres.driver import TrioConnection
from tests.network.jobs.explaining import PLANS, rows_claim_reads
from tests.network.jobs.working import PATIENCE_S, RETRIES, claimed, make_due, new

FILL = "INSERT INTO jobs (type, lane, key, payload) SELECT 'T', %s, {key}, '{{}}' FROM generate_series(1, %s) n"
# The window, some probes of each in it, and what is told of the other half.
FEW = 3 * WINDOW


def news(what: str = "order", *, kind: str = "WORK", **more: Any) -> NewJob:
    """As what changed something adds it: it joins no job that runs."""
    within = {"about": what}
    return new(kind=kind, payload={**within, "source": "x"}, within=within, joins=False, bounded=True, **more)


async def finish(conn: TrioConnection, job: Job, outcome: Done | Again) -> None:
    assert job.id in await table.finish(conn, [ended(job, outcome, RETRIES, jitter=0.5)])


async def attempts(conn: TrioConnection, job_id: UUID) -> int:
    (row,) = await conn.fetch("SELECT attempts FROM jobs WHERE id = %(id)s", {"id": job_id})
    return int(row[0])


# ---- what it costs


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_crowd_for_one_key_costs_as_much_as_one(conninfo: str, plan: str, *, analyzed: bool) -> None:
    with psycopg.connect(conninfo, autocommit=True) as sync:
        sync.execute(FILL.format(key="'phone'"), ("hot", 100_000))
        sync.execute(FILL.format(key="'other ' || n"), ("hot", 3))
        sync.execute(FILL.format(key="n::text"), ("quiet", 20))
        if analyzed:
            sync.execute("ANALYZE jobs")
        assert rows_claim_reads(sync, {"hot": 8, "quiet": 8}, plan) < FEW
        running = sync.execute("SELECT lane, count(*) FROM jobs WHERE state = 'running' GROUP BY lane").fetchall()
        assert dict(running) == {"hot": 4, "quiet": 8}
        assert rows_claim_reads(sync, {"hot": 8}, plan) < FEW, "while it runs"


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("analyzed", [False, True])
async def test_of_many_keys_only_the_first_are_read(conninfo: str, plan: str, *, analyzed: bool) -> None:
    with psycopg.connect(conninfo, autocommit=True) as sync:
        sync.execute(FILL.format(key="n::text"), ("wide", 100_000))
        if analyzed:
            sync.execute("ANALYZE jobs")
        assert rows_claim_reads(sync, {"wide": 8}, plan) < 50


async def test_behind_a_crowd_others_are_found_and_in_their_order(conn: TrioConnection) -> None:
    await conn.run(FILL.format(key="'crowd ' || n %% 3"), ["router", 3_000])
    others = await add_many(conn, [new(f"z {n % 5}") for n in range(10)])
    seen = []
    for _ in range(2):
        found = await claimed(conn, {"router": 8})
        seen += [job.id for job in found if job.key.startswith("z")]
        for job in found:
            await finish(conn, job, Done())
    assert seen == [one.id for one in others]


# ---- what joins


async def test_news_joins_what_still_waits_and_not_what_runs(conn: TrioConnection) -> None:
    first = await add(conn, news())
    assert await add(conn, news()) == first
    (job,) = await claimed(conn)
    second = await add(conn, news())
    assert second != first
    assert await add(conn, news()) == second
    await finish(conn, job, Done())
    (job,) = await claimed(conn)
    assert job.id == second


async def test_two_kinds_in_turn_are_two_jobs(conn: TrioConnection) -> None:
    added = {await add(conn, news(kind=kind)) for _ in range(20) for kind in ("OPEN", "CLOSE")}
    assert len(added) == 2


async def test_only_one_that_does_all_of_it_is_joined(conn: TrioConnection) -> None:
    def at(*places: str) -> NewJob:
        does = {"places": [[place, None] for place in places], "order": None}
        return new(payload=does, within=does, joins=False)

    both = await add(conn, at("a", "b"))
    assert await add(conn, at("b")) == both
    assert await add(conn, at("a", "c")) != both
    assert await add(conn, news(kind="OTHER")) != both


async def test_what_is_for_later_is_not_joined_by_what_is_for_now(conn: TrioConnection) -> None:
    later = await add(conn, news(run_at=datetime.now(UTC) + timedelta(hours=1)))
    now = await add(conn, news())
    assert now != later
    assert [job.id for job in await claimed(conn)] == [now]


async def test_one_that_is_claimed_just_now_is_not_joined(conninfo: str, conn: TrioConnection) -> None:
    first = await add(conn, news())
    async with await TrioConnection.connect(conninfo, autocommit=True) as other:
        async with other.transaction():
            assert [job.id for job in await claimed(other)] == [first]
            second = await add(conn, news())
        assert second != first


async def test_one_that_is_joined_is_not_claimed_before_that_is_written(conninfo: str, conn: TrioConnection) -> None:
    first = await add(conn, news())
    async with await TrioConnection.connect(conninfo, autocommit=True) as other:
        await other.run(f"LISTEN {table.CHANNEL}")
        async with conn.transaction():
            assert await add(conn, news()) == first
            assert await claimed(other) == []
        with trio.fail_after(PATIENCE_S):
            async with aclosing(other.notifies()) as notifications:
                told = await anext(notifications)
        assert told.payload == '["router"]'
        assert [job.id for job in await claimed(other)] == [first]


async def test_one_that_waits_although_a_later_one_runs_is_not_joined(conn: TrioConnection) -> None:
    await add(conn, news(run_at=datetime.now(UTC) + timedelta(hours=1)))
    second = await add(conn, news("another"))
    assert [job.id for job in await claimed(conn)] == [second]
    await make_due(conn)
    assert (await add_many(conn, [news()]))[0].joined is False


# ---- attempts


async def test_who_only_repeats_uses_up_the_attempts(conn: TrioConnection) -> None:
    repeat = new(dedupe="order 1", payload={"about": 1}, within={"about": 1})
    first = await add(conn, repeat)
    for attempt in range(1, RETRIES.max_attempts + 1):
        (job,) = await claimed(conn)
        assert (job.id, job.attempts) == (first, attempt)
        await finish(conn, job, Again("never"))
        again = await add(conn, repeat)
        assert (again == first) == (attempt < RETRIES.max_attempts), "then it is dead, and another is made"


async def test_others_of_its_key_use_up_none_of_the_attempts(conn: TrioConnection) -> None:
    first = await add(conn, new())
    for _ in range(RETRIES.max_attempts + 1):
        (job,) = await claimed(conn)
        assert job.id == first
        await finish(conn, job, Again("never", after_s=3600))
        await add(conn, new())
    assert await attempts(conn, first) == 0
    (job,) = await claimed(conn)
    assert (job.id, job.attempts) == (first, 1)


async def test_news_that_joins_is_tried_as_often_as_a_new_one(conn: TrioConnection) -> None:
    first = await add(conn, news(dedupe="grant 1"))
    (job,) = await claimed(conn)
    await finish(conn, job, Again("not now", after_s=3600))
    assert await add(conn, news(dedupe="grant 2")) == first
    assert await attempts(conn, first) == 0
    (job,) = await claimed(conn)
    await finish(conn, job, Again("not now", after_s=3600))
    repeat = new(dedupe="grant 2", payload={"about": "order"}, within={"about": "order"})
    assert await add(conn, repeat) == first
    assert await attempts(conn, first) == 1, "the job is for that now"


# ---- the end of it


async def test_more_than_a_crowd_is_refused_and_nothing_is_written(conn: TrioConnection) -> None:
    for number in range(table.MOST_OF_A_KEY):
        await add(conn, news(f"{number}"))
    with pytest.raises(Overloaded) as refused:
        await add_many(conn, [new("another", bounded=True), news("one too many")])
    assert refused.value.retry_after_s
    (row,) = await conn.fetch("SELECT count(*) FROM jobs")
    assert row == (table.MOST_OF_A_KEY,)
    assert (await add_many(conn, [news("7")]))[0].joined, "what may join is not refused"
    await add(conn, new("another", bounded=True))
    await add(conn, new())


async def test_of_one_call_no_more_are_taken_either(conn: TrioConnection) -> None:
    with pytest.raises(Overloaded):
        await add_many(conn, [news(f"{number}") for number in range(table.MOST_OF_A_KEY + 1)])
    assert await conn.fetch("SELECT 1 FROM jobs") == []


# ---- whatever happens


KINDS = ("OPEN", "CLOSE")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.sampled_from(KINDS)),
        st.tuples(st.just("claim"), st.none()),
        st.tuples(st.just("look"), st.none()),
        st.tuples(st.just("end"), st.sampled_from(["done", "again"])),
        st.tuples(st.just("due"), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_what_is_wanted_last_is_looked_at_by_the_job_that_tells_of_it(
    conninfo: str, steps: list[tuple[str, Any]]
) -> None:
    """A job that looked before a change is never the one that its caller waits for; and there are never more than three."""
    async with await TrioConnection.connect(conninfo, autocommit=True) as conn:
        await conn.run("DELETE FROM jobs")
        version, seen, waits = 0, dict[UUID, int](), dict[UUID, int]()
        held: Job | None = None
        for step, what in [*steps, *[("due", None), ("end", "done"), ("claim", None), ("end", "done")] * 4]:
            if step == "want":
                version += 1
                waits[await add(conn, news(kind=what, dedupe=f"{what} {version}"))] = version
                assert len(await conn.fetch("SELECT 1 FROM jobs WHERE state IN ('due', 'running')")) <= 3
            elif step == "claim":
                for job in await claimed(conn):
                    held, seen[job.id] = job, version  # the earliest that it may look
            elif step == "end" and held is not None:
                await finish(conn, held, Done() if what == "done" else Again("no", counts=False))
                held = None
            elif step == "due":
                await make_due(conn)
        assert await conn.fetch("SELECT 1 FROM jobs WHERE state IN ('due', 'running')") == []
        assert all(seen[job] >= wanted for job, wanted in waits.items())


async def test_in_a_race_nobody_joins_a_job_that_may_have_looked(conninfo: str, conn: TrioConnection) -> None:
    """What stands in the database when a job is claimed is what it may see: all that joined it before."""
    await conn.run("CREATE TABLE intents (job uuid)")
    wanting = 4

    async def want() -> None:
        nonlocal wanting
        async with await TrioConnection.connect(conninfo, autocommit=True) as own:
            for _ in range(40):
                async with own.transaction():
                    job_id = await add(own, news())
                    await own.run("INSERT INTO intents VALUES (%(job)s)", {"job": job_id})
        wanting -= 1

    async def work() -> None:
        async with await TrioConnection.connect(conninfo, autocommit=True) as own:
            while wanting or await own.fetch("SELECT 1 FROM jobs WHERE state = 'due'"):
                for job in await table.claim(own, uuid4(), {"router": 8}, limit=8, ttl_s=30):
                    await own.run("DELETE FROM intents WHERE job = %(job)s", {"job": job.id})
                    await finish(own, job, Done())
                await trio.lowlevel.checkpoint()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(want)
            nursery.start_soon(work)
            nursery.start_soon(work)
    assert await conn.fetch("SELECT job FROM intents") == []
