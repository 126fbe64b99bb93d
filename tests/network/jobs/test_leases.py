"""A job is one daemon's at a time; what a daemon that is gone had comes back; whoever comes too late isn't heard."""

from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import trio

from opendesk.network.jobs import Added, Again, Dead, Done, Job, add, add_many, get, table
from opendesk.network.jobs.shapes import ended
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from tests.network.jobs.working import PATIENCE_S, RETRIES, claimed, new

OVER_S = -1.0  # of a lease: it has ended already
RACERS = 8


async def take_back(conn: TrioConnection) -> int:
    return await table.take_back(conn, RETRIES)


async def finish(conn: TrioConnection, job: Job, outcome: Done | Again | Dead) -> bool:
    return job.id in await table.finish(conn, [ended(job, outcome, RETRIES, jitter=0.5)])


async def test_a_lease_that_lasts_is_not_taken_back(conn: TrioConnection) -> None:
    await add(conn, new())
    await claimed(conn)
    assert (await take_back(conn), await claimed(conn)) == (0, [])


async def test_what_a_dead_daemon_had_is_claimed_by_another(conn: TrioConnection) -> None:
    await add(conn, new())
    (first,) = await claimed(conn, ttl_s=OVER_S)
    assert await claimed(conn) == [], "not before it was taken back"
    assert await take_back(conn) == 1
    (second,) = await claimed(conn)
    assert (second.id, second.fence, second.attempts) == (first.id, 2, 2)


async def test_who_comes_too_late_changes_nothing(conn: TrioConnection) -> None:
    job_id = await add(conn, new())
    (late,) = await claimed(conn, ttl_s=OVER_S)
    await take_back(conn)
    assert not await finish(conn, late, Done("late")), "it was taken back"
    (current,) = await claimed(conn)
    assert not await finish(conn, late, Dead("late")), "another has it"
    assert await table.renew(conn, [late], ttl_s=30) == set()
    assert await finish(conn, current, Done("in time"))
    assert not await finish(conn, current, Done("twice"))
    view = await get(conn, job_id)
    assert view is not None
    assert (view.state, view.result, view.outcomes) == ("done", "in time", 2)


async def test_who_is_late_but_missed_by_nobody_is_heard(conn: TrioConnection) -> None:
    await add(conn, new())
    (job,) = await claimed(conn, ttl_s=OVER_S)
    assert await finish(conn, job, Done())


async def test_a_renewed_lease_lasts(conn: TrioConnection) -> None:
    await add(conn, new())
    (job,) = await claimed(conn, ttl_s=OVER_S)
    assert await table.renew(conn, [job], ttl_s=30) == {job.id}
    assert await take_back(conn) == 0


async def test_a_job_that_kills_its_daemon_each_time_is_dead_in_the_end(conn: TrioConnection) -> None:
    job_id = await add(conn, new())
    for _ in range(RETRIES.max_attempts):
        assert len(await claimed(conn, ttl_s=OVER_S)) == 1
        assert await take_back(conn) == 1
    view = await get(conn, job_id)
    assert view is not None
    assert (view.state, view.attempts, view.last_error) == (
        "dead", RETRIES.max_attempts, "the daemon that worked on it was gone: its lease ended",
    )  # fmt: skip


async def test_what_is_given_back_is_due_as_if_nobody_had_begun(conn: TrioConnection) -> None:
    await add_many(conn, [new("a"), new("a"), new("b")])
    leaving, staying = uuid4(), uuid4()
    (kept,) = await table.claim(conn, staying, {"router": 1}, limit=1, ttl_s=30)
    (given,) = await table.claim(conn, leaving, {"router": 5}, limit=5, ttl_s=30)
    assert await table.give_back(conn, leaving) == 1
    (again,) = await claimed(conn)
    assert (again.id, again.attempts) == (given.id, 1)
    assert not await finish(conn, given, Done())
    assert await finish(conn, kept, Done())


async def test_many_racers_claim_each_job_once_and_one_of_a_key(conn: TrioConnection, pool: Pool) -> None:
    keys = [f"{n}" for n in range(40)]
    await add_many(conn, [new(key) for key in keys for _ in range(5)])
    order: dict[str, list[UUID]] = {key: [] for key in keys}
    times, overlaps, inside = Counter[UUID](), 0, Counter[str]()

    async def race() -> None:
        nonlocal overlaps
        async with pool.connection() as own:
            while len(times) < 200:
                found = await table.claim(own, uuid4(), {"router": 7}, limit=7, ttl_s=30)
                for job in found:
                    overlaps += inside[job.key]
                    inside[job.key] += 1
                    times[job.id] += 1
                    order[job.key].append(job.id)
                await trio.lowlevel.checkpoint()
                for job in found:
                    inside[job.key] -= 1
                await table.finish(own, [ended(job, Done(), RETRIES, jitter=0.5) for job in found])

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(RACERS):
                nursery.start_soon(race)
    assert overlaps == 0
    assert set(times.values()) == {1}
    assert all(ids == sorted(ids) for ids in order.values()), "ids are in the order of time"


async def test_an_earlier_one_that_falls_due_during_a_claim_does_not_run_beside_the_later(
    conn: TrioConnection, pool: Pool
) -> None:
    earlier = await add(conn, new(run_at=datetime.now(UTC) + timedelta(hours=1)))
    later = await add(conn, new())
    async with pool.connection() as first, AsyncExitStack() as stack, trio.open_nursery() as nursery:
        await stack.enter_async_context(first.transaction())
        (job,) = await claimed(first)
        assert job.id == later
        await conn.run("UPDATE jobs SET run_at = now() WHERE id = %s", (earlier,))
        found: list[Job] = []

        async def claim() -> None:
            found.extend(await claimed(conn))

        nursery.start_soon(
            claim
        )  # its snapshot doesn't see that one of the key runs, and waits for the first to commit
        async with pool.connection() as watching:
            with trio.fail_after(PATIENCE_S):
                while await watching.fetch_one(  # noqa: ASYNC110  # the server tells nobody
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                ) == (0,):
                    await trio.sleep(0.005)
        await stack.aclose()
    assert found == []
    assert await finish(conn, job, Done())
    assert [one.id for one in await claimed(conn)] == [earlier]


# ---- joining


async def test_the_same_again_joins_what_is_not_finished(conn: TrioConnection) -> None:
    (first,) = await add_many(conn, [new(dedupe="order 1")])
    (same,) = await add_many(conn, [new(dedupe="order 1")])
    assert same == Added(first.id, joined=True, outcomes=0)
    (job,) = await claimed(conn)
    assert await add(conn, new(dedupe="order 1")) == first.id, "it runs"
    assert await finish(conn, job, Again("the router is away"))
    assert (await add_many(conn, [new(dedupe="order 1")])) == [Added(first.id, joined=True, outcomes=1)]


async def test_what_is_finished_or_not_the_last_of_its_key_is_not_joined(conn: TrioConnection) -> None:
    first = await add(conn, new(dedupe="grant"))
    revoked = await add(conn, new(dedupe="revoke"))
    second = await add(conn, new(dedupe="grant"))
    assert len({first, revoked, second}) == 3
    for _ in range(3):
        (job,) = await claimed(conn)
        assert await finish(conn, job, Done())
    assert await add(conn, new(dedupe="grant")) not in {first, second}


async def test_without_a_word_for_it_nothing_is_joined(conn: TrioConnection) -> None:
    assert await add(conn, new()) != await add(conn, new())
    assert await add(conn, new("a", dedupe="x")) != await add(conn, new("b", dedupe="x"))


async def test_many_who_add_the_same_at_once_add_one(conn: TrioConnection, pool: Pool) -> None:
    ids = set[UUID]()

    async def add_one() -> None:
        async with pool.connection() as own, own.transaction():
            ids.add(await add(own, new(dedupe="order 1")))

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(5 * RACERS):
                nursery.start_soon(add_one)
    assert len(ids) == 1
    assert await conn.fetch_one("SELECT count(*) FROM jobs") == (1,)


async def test_what_is_rolled_back_was_never_added(conn: TrioConnection) -> None:
    async with conn.transaction(force_rollback=True):
        await add(conn, new())
    assert await claimed(conn) == []
