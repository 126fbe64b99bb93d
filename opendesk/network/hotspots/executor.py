"""Does on routers what jobs say: each makes a router follow what is granted at some places, at the time when it runs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, Final

from attrs import define, evolve, field
import trio

from opendesk.network.figures import NetworkFigures
from opendesk.network.gathering import Gathering
from opendesk.network.hotspots import grants
from opendesk.network.hotspots.ends import ended_by
from opendesk.network.hotspots.errors import InTheWay, NotHeld, RouterRefused
from opendesk.network.hotspots.found import Actual, widened
from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.hotspots.place import Grant, Place
from opendesk.network.hotspots.plan import plan
from opendesk.network.hotspots.rows import converge
from opendesk.network.hotspots.steps import Step
from opendesk.network.hotspots.timing import Attempt, Outdated, Timing, begins_now
from opendesk.network.hotspots.work import PLACES_AT_ONCE, Kind, Work, portions
from opendesk.network.jobs import table
from opendesk.network.jobs.shapes import Again, Dead, Done, Job, Outcome
from opendesk.network.routeros.errors import TooMuch, Trap
from opendesk.network.routers.errors import CircuitOpen, RouterUnavailable, TunnelSilent
from opendesk.network.routers.fleet import Fleet
from opendesk.network.routers.link import Api
from opendesk.network.routers.worker import Worker
from opendesk.ops.audit import Audit
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.web.wire import to_wire

# Whose rows turn out to be of further addresses is begun again with these taken, too. Each time there are more; nobody has so many.
MOST_WIDENINGS: Final = 5
# Jobs that look at once. Most are of one place, none of more than PLACES_AT_ONCE.
TOGETHER: Final = 100
# Until somebody drives the router again. It is woken as soon as that is this daemon.
NOT_YET_S: Final = 1.0
# Until it is looked again whether a tunnel is heard of: a sixtieth of its silence, so that what waits for thousands that are away for long
# costs little, and what waits for one that is just back hardly waits. Jobs are not told of tunnels.
PEER_LOOK_S: Final = 5.0
PEER_LOOK_LONGEST_S: Final = 30.0
_SILENCES_LOOKED: Final = 60
# Of what was done, as the job tells it.
STEPS_TOLD: Final = 100


class _TooEarly(Exception):
    """There is nothing to do yet, whatever the router is like."""

    def __init__(self, error: str, after_s: float) -> None:
        super().__init__(error)
        self.outcome = Again(error, after_s=after_s, counts=False)


class _Wider(Exception):
    """Rows were found that are of more places."""

    def __init__(self, places: Sequence[Place]) -> None:
        super().__init__(places)
        self.places = tuple(places)


@define
class _Followed:
    """What came of it, over all the places of a job."""

    steps: list[Step] = field(factory=list)
    grants: dict[tuple[str, Place], GrantRow] = field(factory=dict)

    def add(self, steps: Sequence[Step], held: Sequence[GrantRow]) -> None:
        self.steps += steps
        self.grants.update({(row.pedido_id, row.place): row for row in held})

    def result(self, work: Work) -> dict[str, Any]:
        """`online`: the first place was seen to be let through, for this order if there is one."""
        place = work.places[0] if work.places else None
        mine = [row for row in self.grants.values() if row.place == place and work.pedido_id in (None, row.pedido_id)]
        told = {
            "changed": bool(self.steps) and not work.dry_run,
            "online": bool(mine),
            "until": max((row.until for row in mine if row.until is not None), default=None) if mine else None,
            "steps": [_shown(step) for step in self.steps[:STEPS_TOLD]],
            "dryRun": work.dry_run,
        }
        return dict(to_wire(told))


def _never_silent(_peer: str) -> float | None:
    return None


@define(eq=False)
class Executor:
    """The runner's lanes: routers, as long as they can be driven. `peer_silent_for`: for how many seconds a tunnel has been silent, if for too long."""

    _pool: Pool
    _fleet: Fleet
    _audit: Audit
    _figures: NetworkFigures
    _peer_silent_for: Callable[[str], float | None] = _never_silent
    _looks: Gathering[tuple[str, Sequence[Place]], list[GrantRow]] = field(init=False)
    _timing: Timing = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._looks = Gathering(self._look, TOGETHER)
        self._timing = Timing(self._pool)

    def open_lanes(self) -> Mapping[str, int]:
        return self._fleet.open_lanes()

    async def perform(self, job: Job) -> Outcome:
        work, began_s = Work.of(job), trio.current_time()
        try:
            outcome = await self._outcome(job, work)
        except Exception as error:
            self._tell(job, work, Again(repr(error)), trio.current_time() - began_s)
            raise
        self._tell(job, work, outcome, trio.current_time() - began_s)
        return outcome

    async def _outcome(self, job: Job, work: Work) -> Outcome:
        worker = self._fleet.get(work.router)
        if worker is None:
            return _not_yet("NOT_DRIVEN: another daemon drives this router")
        try:
            await self._check_due(job, work)
            followed = await self._followed(work, worker)
        except _TooEarly as early:
            return early.outcome
        except (CircuitOpen, TunnelSilent) as error:
            return _not_yet(_told(error.code, error))
        except RouterUnavailable as error:
            return Again(_told(error.code, error))
        except NotHeld as error:
            return Again(_told(RouterRefused.code if error.traps else error.code, error))
        except (Trap, TooMuch) as error:
            return Again(_told(RouterRefused.code, error))
        except InTheWay as error:
            return Dead(_told(error.code, error))
        except AWAY as error:
            return _not_yet(_told("DATABASE_UNAVAILABLE", error))
        return Done(followed.result(work))

    async def _followed(self, work: Work, worker: Worker) -> _Followed:
        followed = _Followed()
        if work.kind is Kind.RESTORE and not work.places:
            await self._spread(work)
            return followed
        await self._follow(work, worker, work.places, followed)
        return followed

    async def _check_due(self, job: Job, work: Work) -> None:
        """Raise _TooEarly. A grant that is ended here never has time again: whatever is asked for after that is another, with an end of its own."""
        silent_s = None if work.peer is None else self._peer_silent_for(work.peer)
        if silent_s is not None and await self._waits_for_peer(work):
            raise _peer_offline(silent_s)
        if work.kind is Kind.END:
            async with self._pool.connection() as conn:
                left_s = await grants.end(conn, ended_by(job))
            if left_s is not None:
                raise _TooEarly("NOT_YET: the grant has time left", left_s)

    async def _waits_for_peer(self, work: Work) -> bool:
        """What has nothing left to open goes on: whoever closes that way may be next."""
        if work.kind is not Kind.AUTHORIZE:
            return True
        rows = await self._live(work, work.places[:1])
        return any((row.pedido_id, row.place) == (work.pedido_id, work.places[0]) for row in rows)

    async def _spread(self, work: Work) -> None:
        """All of a router is many jobs: what can't be put back keeps nothing else from it, and what was isn't done again."""
        async with self._pool.connection() as conn:
            places = await grants.live_places(conn, work.router, dry_run=work.dry_run)
            jobs = [
                # With keys of their own: none keeps what is asked for a device waiting.
                evolve(work, places=portion).job(f"reboot:{work.router}", key=f"restore {number}")
                for number, portion in enumerate(portions(places, PLACES_AT_ONCE))
            ]
            for start in range(0, len(jobs), table.BATCH):
                await table.add_many(conn, jobs[start : start + table.BATCH])

    async def _follow(self, work: Work, worker: Worker, places: Sequence[Place], followed: _Followed) -> None:
        for _ in range(MOST_WIDENINGS):
            try:
                async with worker.holding(_keys(places)):
                    if work.dry_run:
                        await self._pretend(work, places, followed)
                    else:
                        await worker.use(partial(self._use, work, places, followed))
            except Outdated:
                continue  # look again
            except _Wider as wider:
                found = [place for place in wider.places if place not in places]
            else:
                return
            if len(places) + len(found) <= PLACES_AT_ONCE:
                places = (*places, *found)
            else:
                for portion in portions(found, PLACES_AT_ONCE):
                    await self._follow(work, worker, portion, followed)
        raise NotHeld((), [Trap(None, "its rows are of ever more places")])

    async def _use(self, work: Work, places: Sequence[Place], followed: _Followed, api: Api) -> None:
        live = {(row.pedido_id, row.place): row for row in await self._live(work, places)}
        attempt = Attempt(self._timing, live)

        async def begin(actual: Actual, theirs: Sequence[Grant]) -> Sequence[Grant]:
            whole = widened(places, actual)
            if not _keys(whole) <= _keys(places):
                raise _Wider(whole)
            return await attempt.begin(actual, theirs)

        wanted = [row.wanted for row in attempt.rows]
        try:
            outcome = await converge(api.run_all, wanted, places, begin=begin, opening=attempt.opening)
        except (NotHeld, InTheWay) as error:
            await attempt.failed(error)
            raise
        held = [row for row in attempt.rows if any(place.covers(row.ip, row.mac) for place in places)]
        await self._timing.seen(held)
        followed.add(outcome.steps, held)

    async def _live(self, work: Work, places: Sequence[Place]) -> list[GrantRow]:
        return await self._looks.ask((work.router, places))

    async def _look(self, asked: Sequence[tuple[str, Sequence[Place]]]) -> list[list[GrantRow]]:
        async with self._pool.connection() as conn:
            return await grants.live_of_all(conn, asked, dry_run=self._fleet.dry_run)

    async def _pretend(self, work: Work, places: Sequence[Place], followed: _Followed) -> None:
        """As on a router that holds nothing yet."""
        rows = await self._live(work, places)
        begun = {row.id: row for row in await self._timing.begin([row for row in rows if begins_now(row, Actual())])}
        rows = [begun.get(row.id, row) for row in rows]
        await self._timing.seen(rows)
        followed.add(plan([row.wanted for row in rows], places, Actual()), rows)

    def _tell(self, job: Job, work: Work, outcome: Outcome, seconds: float) -> None:
        if isinstance(outcome, Again) and not outcome.counts:
            return
        is_ok = isinstance(outcome, Done)
        trace_id = job.trace_id or str(job.id)
        facts = {
            "router": work.router,
            "pedidoId": work.pedido_id,
            "source": work.source,
            "jobId": str(job.id),
            "ms": round(seconds * 1000),
            "stage": "executed",
        }
        self._figures.action_ended(work.kind, ok=is_ok, seconds=seconds)
        self._figures.router_acted(work.router, ok=is_ok, seconds=seconds)
        if work.is_ours:
            self._audit.attempt(work.kind, trace_id, **facts)
        if isinstance(outcome, Done):
            told = {name: outcome.result[name] for name in ("changed", "online", "dryRun")}
            self._audit.success(work.kind, trace_id, **facts, **told)
        else:
            self._audit.failure(work.kind, trace_id, error=outcome.error, attempt=job.attempts, **facts)


def _keys(places: Sequence[Place]) -> frozenset[str]:
    """Two who work on one IP or one MAC take turns."""
    return frozenset(key for place in places for key in (place.ip, place.mac) if key is not None)


def _shown(step: Step) -> dict[str, Any]:
    return {"menu": step.menu, "verb": step.verb, "row": step.row, "attributes": dict(step.attributes), "why": step.why}


def _not_yet(error: str) -> Again:
    return Again(error, after_s=NOT_YET_S, counts=False)


def _peer_offline(silent_s: float) -> _TooEarly:
    since = "it was never heard of" if silent_s == inf else f"nothing was heard of it for {silent_s:.0f} s"
    after_s = min(max(silent_s / _SILENCES_LOOKED, PEER_LOOK_S), PEER_LOOK_LONGEST_S)
    return _TooEarly(f"PEER_OFFLINE: {since}", after_s)


def _told(code: str, error: Exception) -> str:
    """What a waiting caller's error is made of again."""
    return f"{code}: {error}"
