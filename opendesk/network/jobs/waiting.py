"""Callers that wait for what becomes of a job, on whichever daemon it runs."""

from collections import defaultdict
from collections.abc import Iterable
import math
from typing import Final
from uuid import UUID

from attrs import define, field
import structlog
import trio

from opendesk.errors import Overloaded
from opendesk.network.jobs import looking
from opendesk.network.jobs.shapes import JobView
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.supervise import alive, every

log = structlog.get_logger()

# Each has a connection of its own, so that more than these never come through the door (web/http/limits.py).
MAX_WAITING: Final = 5_000
# At all that is waited for, should a notification get lost; in one statement.
LOOK_S: Final = 2.0
# For one look, waiting for a connection included.
LOOK_LIMIT_S: Final = 8.0
# After the database was away.
RETRY_S: Final = 0.5


@define(eq=False)
class _Waiting:
    since: int | None  # attempts that had ended before; None: as the first look finds it
    answered: trio.Event = field(factory=trio.Event)
    view: JobView | None = None

    def see(self, view: JobView | None) -> None:
        if view is not None and self.since is None:
            self.since = view.outcomes
        if view is None or view.state in ("done", "dead") or view.outcomes > (self.since or 0):
            self.view = view
            self.answered.set()


@define(eq=False)
class Waiters:
    """`run` is the runner's. However many wait, they share its one connection, and that only while it looks."""

    _pool: Pool
    _waiting: defaultdict[UUID, set[_Waiting]] = field(factory=lambda: defaultdict(set))
    _count: int = 0
    _told: set[UUID] = field(factory=set)
    _news: trio.Event = field(factory=trio.Event)

    async def outcome(self, job_id: UUID, *, timeout_s: float, since: int | None = None) -> JobView | None:
        """The job after the first attempt that ended since then; None if none did in time, or there is no such job.

        `since` is what `Added.outcomes` says: an attempt that ended before anybody waited counts, too. Without it those count that end from
        now on. Raises Overloaded.
        """
        if self._count >= MAX_WAITING:
            raise Overloaded(retry_after_s=5)
        waiting = _Waiting(since)
        self._waiting[job_id].add(waiting)
        self._count += 1
        self.tell([job_id])
        try:
            with trio.move_on_after(timeout_s):
                await waiting.answered.wait()
        finally:
            self._count -= 1
            self._waiting[job_id].discard(waiting)
            if not self._waiting[job_id]:
                del self._waiting[job_id]
        return waiting.view

    def tell(self, jobs: Iterable[UUID]) -> None:
        """That something became of them."""
        if known := self._waiting.keys() & set(jobs):
            self._told |= known
            self._news.set()

    def hear(self, payload: str) -> None:
        """The same, as the database tells it."""
        if not self._waiting:
            return
        try:
            self.tell([UUID(job_id) for job_id in payload.split()])
        except ValueError:  # somebody else's words
            self.look_at_all()

    def look_at_all(self) -> None:
        self.tell(list(self._waiting))

    async def run(self) -> None:
        async def look_at_all() -> None:
            self.look_at_all()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(every, LOOK_S, look_at_all)
            nursery.start_soon(self._look_at_what_is_told)

    async def _look_at_what_is_told(self) -> None:
        while True:
            alive("waiters", wait_s=math.inf)
            await self._news.wait()
            alive("waiters")
            self._news = trio.Event()
            jobs, self._told = self._told, set()
            try:
                await self._look(jobs)
            except (*AWAY, trio.TooSlowError) as error:
                log.warning("jobs.waiters_look_failed", jobs=len(jobs), error=repr(error))
                await trio.sleep(RETRY_S)
                self.tell(jobs)

    async def _look(self, jobs: set[UUID]) -> None:
        if not jobs:
            return
        with trio.fail_after(LOOK_LIMIT_S):
            async with self._pool.connection() as conn:
                views = {view.id: view for view in await looking.get_many(conn, list(jobs))}
        for job_id in jobs & self._waiting.keys():
            for waiting in self._waiting[job_id]:
                waiting.see(views.get(job_id))
