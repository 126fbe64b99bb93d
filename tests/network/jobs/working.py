"""Lanes that do as they are told, and runners on them."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from attrs import define, field
import trio

from opendesk.network.jobs import Done, Job, JobView, NewJob, Outcome, Retries, get, table
from opendesk.network.jobs.runner import Handler, Runner, Terms
from opendesk.network.jobs.waiting import Waiters
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool

# Far over what any of this takes; reached, it is a deadlock or a wake-up lost.
PATIENCE_S = 30.0
LEASE_S = 30.0
RETRIES = Retries(max_attempts=3, base_s=30.0)


def new(key: str = "phone", *, lane: str = "router", kind: str = "WORK", **more: Any) -> NewJob:
    return NewJob(kind, lane, key, more.pop("payload", {}), **more)


@define(eq=False)
class Workshop:
    """Does each job by `act`, and remembers who was here."""

    rooms: dict[str, int] = field(factory=lambda: {"router": 8})
    act: Callable[[Job], Awaitable[Outcome]] | None = None
    begun: list[Job] = field(factory=list)
    overlaps: int = 0
    _inside: Counter[tuple[str, str]] = field(factory=Counter)
    _changed: trio.Event = field(factory=trio.Event)

    def open_lanes(self) -> Mapping[str, int]:
        return self.rooms

    async def perform(self, job: Job) -> Outcome:
        self.begun.append(job)
        self._change()
        place = (job.lane, job.key)
        self.overlaps += self._inside[place]
        self._inside[place] += 1
        try:
            return Done() if self.act is None else await self.act(job)
        finally:
            self._inside[place] -= 1
            self._change()

    async def until(self, happened: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not happened():
                await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@asynccontextmanager
async def running(
    pool: Pool,
    conninfo: str,
    shop: Workshop,
    *,
    retries: Retries = RETRIES,
    lease_s: float = LEASE_S,
    finish_s: float = 0.5,
    handlers: Mapping[str, Handler] | None = None,
    node: UUID | None = None,
    connect: Callable[[], Awaitable[TrioConnection]] | None = None,
) -> AsyncIterator[tuple[Runner, Waiters]]:
    """A runner, stopped at the end as a daemon stops it."""
    waiters = Waiters(pool)
    listen = connect or partial(TrioConnection.connect, conninfo, autocommit=True)
    terms = Terms(lease_s, retries, finish_s=finish_s)
    runner = Runner(pool, listen, node or uuid4(), terms, shop, waiters, handlers or {})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run)
        yield runner, waiters
        nursery.cancel_scope.cancel()


async def until_job(conn: TrioConnection, job_id: UUID, is_so: Callable[[JobView], bool]) -> JobView:
    with trio.fail_after(PATIENCE_S):
        while True:
            view = await get(conn, job_id)
            assert view is not None
            if is_so(view):
                return view
            await trio.sleep(0.01)


async def until_state(conn: TrioConnection, job_id: UUID, state: str) -> JobView:
    return await until_job(conn, job_id, lambda view: view.state == state)


async def claimed(
    conn: TrioConnection, lanes: Mapping[str, int] | None = None, *, node: UUID | None = None, ttl_s: float = LEASE_S
) -> list[Job]:
    return await table.claim(conn, node or uuid4(), lanes or {"router": 100}, limit=1000, ttl_s=ttl_s)


async def make_due(conn: TrioConnection) -> None:
    """As if the waits of all that wait were over."""
    await conn.run("UPDATE jobs SET run_at = now() WHERE state = 'due'")
