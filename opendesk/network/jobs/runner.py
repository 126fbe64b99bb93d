"""Does what is due: finds it for the lanes that have room, runs each job in a task of its own, and has the outcomes written."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
import math
import random
from typing import Final, Protocol
from uuid import UUID

from attrs import define, field, frozen
import structlog
import trio

from opendesk.network.jobs import table
from opendesk.network.jobs.hearing import hear
from opendesk.network.jobs.holding import Held, Holding
from opendesk.network.jobs.lookout import Lookout
from opendesk.network.jobs.shapes import Again, Job, Outcome, Retries, ended, told_of, unwritable
from opendesk.network.jobs.waiting import Waiters
from opendesk.network.jobs.writing import Writing
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.supervise import alive, every

log = structlog.get_logger()

# At all open lanes, and at the leases of others: should a notification get lost, a job is late by this.
LOOK_S: Final = 5.0
# After the database was away.
RETRY_S: Final = 1.0
# Claimed by one statement: 10 ms of the server's time.
CLAIM_AT_ONCE: Final = 500
# Of one attempt: whatever it works on has shorter limits of its own, and a bug in one must not keep its lane for ever.
ATTEMPT_S: Final = 120.0
# At a stop: for jobs that are nearly done; and to write that, and give back the rest.
FINISH_S: Final = 2.0
GIVE_BACK_S: Final = 1.0

Perform = Callable[[Job], Awaitable[Outcome]]


class Lanes(Protocol):
    """Lanes that come and go, as routers do."""

    def open_lanes(self) -> Mapping[str, int]:
        """How many more jobs each takes at this moment. One that isn't in here, or takes none, holds up only itself."""

    async def perform(self, job: Job) -> Outcome:
        """Raises what it didn't expect: the job is tried again then."""


@frozen
class Handler:
    """A lane of a fixed name, that is always open."""

    at_once: int
    perform: Perform


@frozen
class Terms:
    """RELAY_LOCK_TTL_MS, and when a job is tried again."""

    lease_s: float
    retries: Retries
    finish_s: float = FINISH_S


@define(eq=False)
class Runner:
    """`run` is a service of the daemon. `node` is new with each start, and no other runner's."""

    _pool: Pool
    _connect: Callable[[], Awaitable[TrioConnection]]
    _node: UUID
    _terms: Terms
    _lanes: Lanes
    _waiters: Waiters
    _handlers: Mapping[str, Handler] = field(factory=dict)
    _lookout: Lookout = field(factory=Lookout)
    _holding: Holding = field(factory=Holding)
    _writing: Writing = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._writing = Writing(self._pool, self._holding, self._written)

    def wake(self, lane: str) -> None:
        """It has opened, or has room again."""
        self._lookout.tell([lane])

    async def run(self) -> None:
        """Until cancelled: then jobs get a moment to finish, and the others are given back."""
        finding = trio.CancelScope()
        try:
            async with trio.open_nursery() as outside:
                outside.start_soon(_cancel_with_us, finding)
                with trio.CancelScope(shield=True):
                    await self._run(finding)
                outside.cancel_scope.cancel()
        finally:
            await self._give_back()
            self._begin_anew()

    async def _run(self, finding: trio.CancelScope) -> None:
        async with trio.open_nursery() as working:
            working.start_soon(self._writing.run)
            working.start_soon(every, self._terms.lease_s / 3, self._renew)
            with finding:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(hear, self._connect, self._lookout, self._waiters)
                    nursery.start_soon(self._waiters.run)
                    nursery.start_soon(every, LOOK_S, self._look)
                    nursery.start_soon(self._find_for, working)
            with trio.move_on_after(self._terms.finish_s):
                while self._holding:
                    await self._holding.one_less()
            working.cancel_scope.cancel()

    # Finding

    async def _find_for(self, working: trio.Nursery) -> None:
        while True:
            alive("finding", wait_s=math.inf)
            await self._lookout.wait()
            alive("finding")
            try:
                await self._find(working)
            except AWAY as error:
                log.warning("jobs.database_away", error=repr(error))
                self._lookout.tell_all()
                await trio.sleep(RETRY_S)

    async def _find(self, working: trio.Nursery) -> None:
        while (limit := min(self._holding.space, CLAIM_AT_ONCE)) <= 0:
            alive("finding", wait_s=math.inf)  # while the database is away no outcome is written, and none leaves
            await self._holding.one_less()
            alive("finding")
        at_once = {lane: handler.at_once for lane, handler in self._handlers.items()}
        rooms = self._holding.rooms(self._lanes.open_lanes(), at_once, self._lookout.wanted)
        lanes = self._lookout.take(rooms)
        if not lanes:
            return
        async with self._pool.connection() as conn:
            asked_s = trio.current_time()
            found = await table.look(conn, self._node, _shuffled(lanes), limit=limit, ttl_s=self._terms.lease_s)
        for job in found.jobs:
            self._begin(job, asked_s, working)
        self._lookout.falls_due(found.next_due_in_s)
        if len(found.jobs) >= limit:
            self._lookout.tell(lanes)

    async def _look(self) -> None:
        """For what nobody told of."""
        try:
            async with self._pool.connection() as conn:
                if back := await table.take_back(conn, self._terms.retries):
                    log.warning("jobs.taken_back", jobs=back, reason="their leases ended")
        except AWAY as error:
            log.warning("jobs.database_away", error=repr(error))
        self._lookout.tell_all()

    # Working

    def _begin(self, job: Job, asked_s: float, working: trio.Nursery) -> None:
        held = Held.since(asked_s, job, lease_s=self._terms.lease_s, attempt_s=ATTEMPT_S)
        self._holding.add(held)
        working.start_soon(self._work, held)

    async def _work(self, held: Held) -> None:
        outcome: Outcome | None = None
        try:
            with held.scope:
                outcome = await self._performer(held.job)(held.job)
            if held.took_too_long:
                outcome = Again(f"it took longer than {ATTEMPT_S:g} s")
        except Exception as error:
            log.exception("jobs.failed", **told_of(held.job), attempt=held.job.attempts)
            outcome = Again(repr(error))
        if outcome is None:  # stopped: the lease was lost, or the runner ends and gives it back
            log.warning("jobs.stopped", **told_of(held.job))
            self._holding.remove(held)
            self._lookout.tell([held.job.lane])
            return
        try:
            held.ended = ended(held.job, outcome, self._terms.retries, jitter=random.random())  # noqa: S311 - no secret
        except (ValueError, TypeError) as error:
            log.exception("jobs.outcome_refused", **told_of(held.job))
            held.ended = unwritable(held.job, repr(error))
        self._writing.ended(held)

    def _performer(self, job: Job) -> Perform:
        handler = self._handlers.get(job.lane)
        return self._lanes.perform if handler is None else handler.perform

    def _written(self, batch: Sequence[Held]) -> None:
        self._lookout.tell({held.job.lane for held in batch})
        self._waiters.tell([held.job.id for held in batch])

    # Leases

    async def _renew(self) -> None:
        ours = list(self._holding)
        if not ours:
            return
        asked_s, still = trio.current_time(), set[UUID]()
        try:
            with trio.fail_after(self._terms.lease_s / 3):
                async with self._pool.connection() as conn:
                    still = await table.renew(conn, [held.job for held in ours], ttl_s=self._terms.lease_s)
        except (*AWAY, trio.TooSlowError) as error:
            log.warning("jobs.not_renewed", jobs=len(ours), error=repr(error))
            return  # those that last too long are stopped by their deadlines
        for held in ours:
            if held.job.id in still:
                held.renewed(asked_s, self._terms.lease_s)
            else:
                held.scope.cancel()  # does nothing to one that has ended

    async def _give_back(self) -> None:
        try:
            with trio.CancelScope(shield=True), trio.fail_after(GIVE_BACK_S):
                while await self._writing.write():
                    pass
                async with self._pool.connection() as conn:
                    await table.give_back(conn, self._node)
        except (*AWAY, trio.TooSlowError) as error:
            log.warning("jobs.left_to_their_leases", jobs=len(self._holding), error=repr(error))

    def _begin_anew(self) -> None:
        self._holding, self._lookout = Holding(), Lookout()
        self._writing = Writing(self._pool, self._holding, self._written)


async def _cancel_with_us(scope: trio.CancelScope) -> None:
    try:
        await trio.sleep_forever()
    finally:
        scope.cancel()


def _shuffled(lanes: Mapping[str, int]) -> dict[str, int]:
    """So that lanes that come first don't take all that one claim gives, each time."""
    order = list(lanes.items())
    random.shuffle(order)
    return dict(order)
