"""Jobs of one key run one after the other in the order in which they came; keys and lanes have nothing to do with each other."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import psycopg
import pytest

from opendesk.network.jobs import Again, Dead, Done, Job, NewJob, Outcome, add, add_many, discard, replay, table
from opendesk.network.jobs.shapes import ended
from opendesk.postgres.driver import TrioConnection
from tests.network.jobs.explaining import PLANS, rows_claim_reads
from tests.network.jobs.working import RETRIES, claimed, make_due, new

FAILED = Again("the router is away")
IN_AN_HOUR = timedelta(hours=1)


async def finish(conn: TrioConnection, job: Job, outcome: Outcome) -> bool:
    return job.id in await table.finish(conn, [ended(job, outcome, RETRIES, jitter=0.5)])


async def keys(conn: TrioConnection) -> list[str]:
    return [job.key for job in await claimed(conn)]


async def test_of_one_key_only_the_first_is_claimed(conn: TrioConnection) -> None:
    first, *_ = await add_many(conn, [new("a"), new("a"), new("a")])
    (job,) = await claimed(conn)
    assert (job.id, job.attempts, job.fence) == (first.id, 1, 1)
    assert await claimed(conn) == []


async def test_the_next_comes_when_the_first_is_done(conn: TrioConnection) -> None:
    added = await add_many(conn, [new("a"), new("a"), new("a")])
    order = []
    while found := await claimed(conn):
        order += [job.id for job in found]
        assert await finish(conn, found[0], Done())
    assert order == [one.id for one in added]


async def test_one_that_waits_to_be_tried_again_holds_up_its_own_key_only(conn: TrioConnection) -> None:
    await add_many(conn, [new("a"), new("a"), new("b")])
    first, other = await claimed(conn)
    assert (first.key, other.key) == ("a", "b")
    assert await finish(conn, first, FAILED)
    assert await finish(conn, other, Done())
    await add(conn, new("b"))
    assert await keys(conn) == ["b"]


async def test_too_early_holds_its_key_as_a_failure_does(conn: TrioConnection) -> None:
    await add_many(conn, [new("a"), new("a")])
    (first,) = await claimed(conn)
    assert await finish(conn, first, Again("the circuit is open", counts=False))
    assert await claimed(conn) == []
    await make_due(conn)
    (again,) = await claimed(conn)
    assert (again.id, again.attempts) == (first.id, 1)


async def test_one_for_later_holds_up_nobody_until_it_is_due(conn: TrioConnection) -> None:
    later = await add(conn, new("a", run_at=datetime.now(UTC) + IN_AN_HOUR))
    now = await add(conn, new("a"))
    await add(conn, new("a"))
    (job,) = await claimed(conn)
    assert job.id == now
    await make_due(conn)
    assert await claimed(conn) == [], "one runs"
    assert await finish(conn, job, Done())
    (job,) = await claimed(conn)
    assert job.id == later, "it came first"


async def test_the_same_key_in_another_lane_is_another(conn: TrioConnection) -> None:
    await add_many(conn, [new("a", lane="one"), new("a", lane="two")])
    found = await claimed(conn, {"one": 1, "two": 1})
    assert {job.lane for job in found} == {"one", "two"}


async def test_a_dead_one_holds_up_nobody_and_comes_back_to_its_old_place(conn: TrioConnection) -> None:
    first, second = await add_many(conn, [new("a"), new("a")])
    (job,) = await claimed(conn)
    assert await finish(conn, job, Dead("no such router"))
    assert await replay(conn, first.id)
    (job,) = await claimed(conn)
    assert (job.id, job.attempts) == (first.id, 1)
    assert await finish(conn, job, Dead("no such router"))
    (job,) = await claimed(conn)
    assert job.id == second.id


async def test_one_that_is_discarded_lets_the_next_pass(conn: TrioConnection) -> None:
    first, second = await add_many(conn, [new("a"), new("a")])
    assert await discard(conn, first.id)
    assert [job.id for job in await claimed(conn)] == [second.id]
    assert not await discard(conn, second.id), "it runs"


async def test_rooms_are_kept(conn: TrioConnection) -> None:
    await add_many(conn, [new(f"{n}", lane=lane) for lane in ("full", "half", "shut") for n in range(10)])
    found = await claimed(conn, {"full": 10, "half": 5})
    assert sorted(job.lane for job in found) == ["full"] * 10 + ["half"] * 5
    assert len(await table.claim(conn, uuid4(), {"half": 9, "shut": 9}, limit=3, ttl_s=30)) == 3


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abc")),
        st.tuples(st.just("claim"), st.integers(1, 3)),
        st.tuples(st.just("end"), st.sampled_from(["done", "again", "early", "dead"])),
        st.tuples(st.just("due"), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_whatever_happens_a_key_is_worked_off_in_order(conninfo: str, steps: list[tuple[str, object]]) -> None:
    async with await TrioConnection.connect(conninfo, autocommit=True) as conn:
        await conn.run("DELETE FROM jobs")
        await walk(conn, steps)


async def walk(conn: TrioConnection, steps: list[tuple[str, object]]) -> None:
    outcomes: dict[object, Outcome] = {
        "done": Done(), "again": FAILED, "early": Again("not yet", counts=False), "dead": Dead("never"),
    }  # fmt: skip
    unfinished: dict[str, list[object]] = {key: [] for key in "abc"}
    held: list[Job] = []
    for step, what in steps:
        if step == "add":
            unfinished[str(what)].append(await add(conn, new(str(what))))
        elif step == "claim":
            assert isinstance(what, int)
            for job in await claimed(conn, {"router": what}):
                assert unfinished[job.key][0] == job.id, "the oldest of its key"
                held.append(job)
            assert len({job.key for job in held}) == len(held), "one of a key"
        elif step == "end" and held:
            job = held.pop(0)
            assert await finish(conn, job, outcomes[what])
            if what in {"done", "dead"} or (what == "again" and job.attempts == RETRIES.max_attempts):
                unfinished[job.key].pop(0)
        elif step == "due":
            await make_due(conn)


# ---- what it costs


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("analyzed", [False, True])
async def test_what_waits_in_a_closed_lane_is_not_even_read(conninfo: str, plan: str, *, analyzed: bool) -> None:
    fill = "INSERT INTO jobs (type, lane, key, payload) SELECT 'T', %s, (n %% 5000)::text, '{}' FROM generate_series(1, %s) n"
    with psycopg.connect(conninfo, autocommit=True) as sync:
        sync.execute(fill, ("closed", 100_000))
        sync.execute(fill, ("open", 20))
        if analyzed:
            sync.execute("ANALYZE jobs")
        assert rows_claim_reads(sync, {"open": 8, "other": 8}, plan) < 500


async def test_names_and_payloads_are_bounded(conn: TrioConnection) -> None:
    with pytest.raises(ValueError, match="lane has 1 to 500 characters"):
        NewJob("T", "", "k", {})
    with pytest.raises(ValueError, match="key has 1 to 500 characters"):
        new("k" * 501)
    with pytest.raises(ValueError, match="more than a job may carry"):
        await add(conn, new(payload={"x": "y" * 70_000}))
    with pytest.raises(ValueError, match="more than one statement takes"):
        await add_many(conn, [new()] * 1001)


async def test_what_failed_is_tried_anew_when_its_key_is_asked_for_again(conn: TrioConnection) -> None:
    first = await add(conn, new(dedupe="order 1"))
    (job,) = await claimed(conn)
    await finish(conn, job, Again("the router is away", after_s=3600))
    assert await claimed(conn) == []
    await add(conn, new("another phone"))
    (other,) = await claimed(conn)
    assert other.id != first
    second = await add(conn, new(dedupe="order 2"))
    (again,) = await claimed(conn)
    assert (again.id, again.attempts) == (first, 1), "others use up none of its attempts"
    await finish(conn, again, Done())
    (job,) = await claimed(conn)
    assert job.id == second


async def test_what_is_for_later_hurries_nobody(conn: TrioConnection) -> None:
    await add(conn, new())
    (job,) = await claimed(conn)
    await finish(conn, job, Again("the router is away", after_s=3600))
    await add(conn, new(run_at=datetime.now(UTC) + timedelta(hours=1)))
    assert await claimed(conn) == []
