"""The end of a grant is written down with it, waits as long as the grant has time, and is never lost."""

from typing import Any, Final
from uuid import uuid4

import trio

from opendesk.network.hotspots import grants, orders
from opendesk.network.hotspots.ends import end_of
from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.jobs import Again, Done, table
from opendesk.network.jobs.shapes import Job, Retries, ended
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from tests.network.behind import HERE, aged_router, behind
from tests.network.hotspots.test_executor import Bench, Worker, bench
from tests.network.hotspots.test_grants import PHONE, began, later
from tests.rental.racing import until_one_waits

__all__ = ["bench"]

HALF_AN_HOUR_S: Final = 1800
RETRIES: Final = Retries(5, 1.0)
LANES: Final = {"r1": 8}


async def give(
    conn: TrioConnection, duration_s: int | None = HALF_AN_HOUR_S, *, trial: bool = False, adds_end: bool = True
) -> GrantRow:
    """As whoever makes a grant does."""
    async with conn.transaction():
        granted = await orders.authorize(
            conn, "r1", "1", PHONE, device=None, duration_s=duration_s, dry_run=False, trial=trial
        )
        end = end_of(granted, dry_run=False)
        if end is not None and adds_end:
            await table.add_many(conn, [end])
    return granted


async def due(conn: TrioConnection) -> Job:
    """The end that there is, though it is too early."""
    await conn.run("UPDATE jobs SET run_at = now() WHERE state = 'due'")
    (job,) = await table.claim(conn, uuid4(), LANES, limit=8, ttl_s=30)
    return job


async def unfinished(conn: TrioConnection) -> list[tuple[Any, ...]]:
    """In how many minutes they run."""
    return await conn.fetch(
        """SELECT type, round(extract(epoch FROM run_at - now()) / 60)::int FROM jobs
            WHERE state IN ('due', 'running') ORDER BY seq"""
    )


# ---- written down


async def test_of_a_grant_there_is_one_end_however_often_it_is_asked_for(conn: TrioConnection) -> None:
    for _ in range(2):
        granted = await give(conn)
    await began(conn, granted.id)
    await give(conn)
    await give(conn, 2 * HALF_AN_HOUR_S)
    assert await unfinished(conn) == [("END_GRANT", 30)]


async def test_what_is_paid_after_a_trial_has_an_end_of_its_own_that_may_come_earlier(conn: TrioConnection) -> None:
    await give(conn, 300, trial=True)
    await give(conn, 60)
    assert await unfinished(conn) == [("END_GRANT", 5), ("END_GRANT", 1)]


async def test_what_has_no_end_has_no_job_for_it(conn: TrioConnection) -> None:
    assert end_of(await give(conn, None), dry_run=False) is None


async def test_an_authorization_writes_its_end_down_before_its_router_is_there(conninfo: str) -> None:
    router = aged_router()
    router.faults.refuses_connections = True
    async with behind(conninfo, router, RELAY_ACTION_TIMEOUT_MS="300") as net:
        await net.authorize("1", **HERE, minutes=30)
        assert await net.sql("SELECT count(*) FROM jobs WHERE type = 'END_GRANT' AND run_at > now()") == [(1,)]


# ---- run


async def perform(bench: Bench, job: Job) -> Any:
    bench.fleet.workers = {"r1": Worker()}
    return await bench.executor.perform(job)


async def test_an_end_that_comes_too_early_waits_and_asks_no_router(bench: Bench, conn: TrioConnection) -> None:
    granted = await give(conn)
    await began(conn, granted.id)
    await later(conn, 600)
    job = await due(conn)
    outcome = await perform(bench, job)
    assert isinstance(outcome, Again)
    assert (outcome.counts, round(outcome.after_s or 0)) == (False, HALF_AN_HOUR_S - 600)
    assert bench.fleet.workers["r1"].held == []
    assert bench.outcomes == []
    await table.finish(conn, [ended(job, outcome, RETRIES, jitter=0.5)])
    assert await unfinished(conn) == [("END_GRANT", 20)]


async def test_the_end_of_what_was_never_opened_waits_for_all_of_its_time(bench: Bench, conn: TrioConnection) -> None:
    granted = await give(conn)
    await grants.begin(conn, [granted.id])
    await later(conn, HALF_AN_HOUR_S + 1)
    outcome = await perform(bench, await due(conn))
    assert isinstance(outcome, Again)
    assert round(outcome.after_s or 0) == HALF_AN_HOUR_S


async def test_an_end_in_time_ends_it(bench: Bench, conn: TrioConnection) -> None:
    granted = await give(conn)
    await began(conn, granted.id)
    await later(conn, HALF_AN_HOUR_S)
    job = await due(conn)
    for _ in range(2):  # the second as after a failure
        assert isinstance(await perform(bench, job), Done)
        assert bench.fleet.workers["r1"].held == [frozenset({PHONE.ip, PHONE.mac})]
    assert await conn.fetch("SELECT end_reason FROM hotspot_grants") == [("expired",)]


async def test_what_has_no_end_any_more_is_left_alone(bench: Bench, conn: TrioConnection) -> None:
    await began(conn, (await give(conn)).id)
    await grants.observed(conn, [(await give(conn, None)).id])
    assert isinstance(await perform(bench, await due(conn)), Done)
    assert await conn.fetch("SELECT ended_at FROM hotspot_grants") == [(None,)]


# ---- at the same instant


async def test_more_time_that_is_given_while_the_end_runs_is_heard_of(
    bench: Bench, conn: TrioConnection, pool: Pool
) -> None:
    granted = await give(conn)
    await began(conn, granted.id)
    await later(conn, HALF_AN_HOUR_S)
    job = await due(conn)
    outcomes: list[Any] = []

    async def run() -> None:
        outcomes.append(await perform(bench, job))

    async with trio.open_nursery() as nursery, pool.connection() as another, another.transaction():
        more = await give(another, 2 * HALF_AN_HOUR_S)
        assert more.id == granted.id
        nursery.start_soon(run)
        await until_one_waits(conn)
    (outcome,) = outcomes
    assert isinstance(outcome, Again)
    await table.finish(conn, [ended(job, outcome, RETRIES, jitter=0.5)])
    assert await unfinished(conn) == [("END_GRANT", 1)]  # that it may fail is looked at until it is opened


async def test_more_time_that_comes_just_after_the_end_is_another_grant_with_an_end(
    conn: TrioConnection, pool: Pool
) -> None:
    granted = await give(conn)
    await began(conn, granted.id)
    await later(conn, HALF_AN_HOUR_S)
    job = await due(conn)
    given: list[GrantRow] = []

    async def more() -> None:
        async with pool.connection() as another:
            given.append(await give(another, 2 * HALF_AN_HOUR_S))

    async with trio.open_nursery() as nursery, conn.transaction():
        assert await grants.end(conn, granted.id) is None
        nursery.start_soon(more)
        async with pool.connection() as looking:
            await until_one_waits(looking)
    await table.finish(conn, [ended(job, Done(), RETRIES, jitter=0.5)])
    assert given[0].id != granted.id
    assert await unfinished(conn) == [("END_GRANT", 60)]
