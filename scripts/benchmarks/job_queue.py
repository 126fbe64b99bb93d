"""`jobs`: durable jobs that do nothing, claimed and finished by the runner, against one by one as a simple worker does it."""

from collections.abc import Mapping
from functools import partial
import time
from typing import Final
from uuid import uuid4

from attrs import define, field
import trio

from opendesk.network.jobs import Done, Job, NewJob, Outcome, Retries, add_many, table
from opendesk.network.jobs.runner import Runner, Terms
from opendesk.network.jobs.shapes import ended
from opendesk.network.jobs.waiting import Waiters
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from scripts.benchmarks.measure import middle
from scripts.benchmarks.people import settle_down
from scripts.benchmarks.report import Report, more_is_better
from scripts.benchmarks.servers import Database, database
from scripts.benchmarks.sizes import Size

JOBS: Final = 50_000
BAR: Final = 10_000.0
# Routers, and devices behind each; every fifth job waits for another of its device.
LANES: Final = 200
_KEYS: Final = JOBS // LANES * 4 // 5

# The peer gets fewer: it is asked how many a second, and takes longer for each.
PEERS_PART: Final = 10
PEERS_AT_ONCE: Final = 4

_LEASE_S: Final = 30.0
_RETRIES: Final = Retries(max_attempts=5, base_s=30.0)
_PATIENCE_S: Final = 120.0


@define(eq=False)
class _Nothing:
    """Lanes with room for everything, where there is nothing to do."""

    rooms: Mapping[str, int] = field(factory=lambda: dict.fromkeys(_lanes(), 8))

    def open_lanes(self) -> Mapping[str, int]:
        return self.rooms

    async def perform(self, _job: Job) -> Outcome:
        await trio.lowlevel.checkpoint()
        return Done()


async def measure(size: Size) -> Report:
    count = size.count(JOBS)
    async with database() as base, base.connection() as conn:
        pool = Pool(base.as_served, size=PEERS_AT_ONCE)
        try:
            rounds = [
                (await _ours(base, conn, pool, count), await _peers(conn, pool, count)) for _ in range(size.rounds)
            ]
        finally:
            await pool.aclose()
    mine, theirs = [middle(found) for found in zip(*rounds, strict=True)]
    work = f"{count} no-ops in {LANES} lanes, claimed, run and finished"
    return Report(
        "jobs",
        [
            more_is_better(work, "jobs/s", mine, BAR, "bar", bar=1.0),
            more_is_better(work, "jobs/s", mine, theirs, f"one by one, {PEERS_AT_ONCE} at once"),
        ],
        [
            "the runner keeps leases, order and the notifications of what ended; the peer claims and finishes by the same statements, one job each"
        ],
    )


def _lanes() -> list[str]:
    return [f"router-{number}" for number in range(LANES)]


async def _fill(conn: TrioConnection, count: int) -> None:
    await conn.run("TRUNCATE jobs")
    lanes = _lanes()
    wanted = [NewJob("NOTHING", lanes[n % LANES], f"device {n // LANES % _KEYS}", {"n": n}) for n in range(count)]
    for start in range(0, count, table.BATCH):
        await add_many(conn, wanted[start : start + table.BATCH])
    await settle_down(conn)


async def _ours(base: Database, conn: TrioConnection, pool: Pool, count: int) -> float:
    """From the start of a runner until the last outcome is written."""
    await _fill(conn, count)
    waiters = Waiters(pool)
    connect = partial(TrioConnection.connect, base.as_served, autocommit=True)
    runner = Runner(pool, connect, uuid4(), Terms(_LEASE_S, _RETRIES), _Nothing(), waiters)
    begun_s = time.perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run)
        await _until_done(conn)
        took_s = time.perf_counter() - begun_s
        nursery.cancel_scope.cancel()
    return count / took_s


async def _peers(conn: TrioConnection, pool: Pool, count: int) -> float:
    part = max(1, count // PEERS_PART)
    await _fill(conn, part)

    async def work(lanes: list[str]) -> None:
        async with pool.connection() as own:
            while jobs := await table.claim(own, uuid4(), dict.fromkeys(lanes, 1), limit=1, ttl_s=_LEASE_S):
                await table.finish(own, [ended(job, Done(), _RETRIES, jitter=0.5) for job in jobs])

    begun_s = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for number in range(PEERS_AT_ONCE):
            nursery.start_soon(work, _lanes()[number::PEERS_AT_ONCE])
    return part / (time.perf_counter() - begun_s)


async def _until_done(conn: TrioConnection) -> None:
    with trio.fail_after(_PATIENCE_S):
        while await conn.fetch_one("SELECT EXISTS (SELECT FROM jobs WHERE state IN ('due', 'running'))") == (True,):  # noqa: ASYNC110  # nobody tells
            await trio.sleep(0.01)
