"""What events change of what is granted, written down for many at once, and the jobs that make routers follow."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from uuid import UUID

from attrs import define, evolve, field

from opendesk.network.events.types import Event, Type
from opendesk.network.hotspots import grants, orders
from opendesk.network.hotspots.ends import end_of
from opendesk.network.hotspots.errors import GrantEnded
from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.hotspots.orders import Order, Settled
from opendesk.network.hotspots.place import Place
from opendesk.network.hotspots.work import PLACES_AT_ONCE, Kind, Work, end_key, portions
from opendesk.network.jobs import table
from opendesk.network.jobs.shapes import NewJob
from opendesk.network.routers.lanes import lane_of
from opendesk.postgres.driver import TrioConnection

Events = Mapping[int, Event]


@define
class Intents:
    """Of events that are known by their numbers, in the caller's transaction."""

    _conn: TrioConnection
    _source: str
    _dry_run: bool
    _works: dict[int, list[tuple[Work, str]]] = field(init=False, factory=dict)
    _ends: dict[UUID, GrantRow] = field(init=False, factory=dict)

    async def write(self, events: Events) -> list[int]:
        """No two of them have to do with each other. The numbers of those whose order had its time."""
        closing = {n: event for n, event in events.items() if event.type is Type.REVOKE_REQUESTED}
        opening = {n: event for n, event in events.items() if n not in closing}
        over = await self._open(opening) if opening else []
        if closing:
            await self._close(closing)
        return over

    def jobs(self, traces: Mapping[int, str]) -> list[tuple[int | None, NewJob]]:
        """All of them, in the order of arrival; by the event's number the one that does it."""
        theirs = chain.from_iterable(self._jobs_of(n, traces[n]) for n in sorted(self._works))
        ends = (end_of(grant, dry_run=self._dry_run) for grant in self._ends.values())
        return [*theirs, *((None, end) for end in ends if end is not None)]

    async def _open(self, events: Events) -> list[int]:
        settled: dict[int, Settled] = {}
        asked = {n: _order(event) for n, event in events.items()}
        rows = await orders.authorize_all(self._conn, list(asked.values()), dry_run=self._dry_run)
        for (n, order), row in zip(asked.items(), rows, strict=True):
            found = await self._revisited(order) if row is None else Settled(row)
            if found is not None:
                settled[n] = found
        # Only who was granted the paid time gives up the trial.
        left = await self._release_trials([(events[n], one.grant) for n, one in settled.items()])
        for n, one in settled.items():
            trials = left.get(_device(events[n]), ()) if events[n].type is Type.RELEASE_REQUESTED else ()
            self._opened(n, events[n], one, trials)
        return [n for n in events if n not in settled]

    async def _release_trials(
        self, granted: Sequence[tuple[Event, GrantRow]]
    ) -> Mapping[tuple[str, str], Sequence[Place]]:
        """Also of a trial of the same order, which has become this grant, the old end is no longer waited for."""
        paid = [(event, grant) for event, grant in granted if event.type is Type.RELEASE_REQUESTED]
        if not paid:
            return {}
        released = {_device(event) for event, _ in paid}
        self._ends = {
            grant_id: grant
            for grant_id, grant in self._ends.items()
            if not grant.trial or (grant.router_id, grant.mac) not in released
        }
        ends = [(lane_of(grant.router_id, dry_run=self._dry_run), end_key(grant.id)) for _, grant in paid]
        await table.cancel(self._conn, ends, why="released")
        return await grants.release_trials(self._conn, sorted(released), dry_run=self._dry_run)

    async def _revisited(self, order: Order) -> Settled | None:
        """None for one that had its time. Nothing of it is left then."""
        try:
            async with self._conn.transaction():
                return await orders.revisit(self._conn, order, dry_run=self._dry_run)
        except GrantEnded:
            return None

    def _opened(self, n: int, event: Event, settled: Settled, trials: Sequence[Place]) -> None:
        grant = settled.grant
        self._ends[grant.id] = grant
        places = dict.fromkeys((grant.place, *settled.left, *trials))
        self._works[n] = [(work, grant.same) for work in self._works_of(Kind.AUTHORIZE, event, list(places))]

    async def _close(self, events: Events) -> None:
        asked = [(event.router, event.place) for event in events.values()]
        touched = await grants.revoke_all(self._conn, asked, dry_run=self._dry_run)
        for (n, event), places in zip(events.items(), touched, strict=True):
            of_them = list(dict.fromkeys((event.place, *places)))
            same = f"{event.place.ip} {event.place.mac}"
            self._works[n] = [(work, same) for work in self._works_of(Kind.REVOKE, event, of_them)]

    def _works_of(self, kind: Kind, event: Event, places: Sequence[Place]) -> Iterator[Work]:
        for portion in portions(places, PLACES_AT_ONCE):
            yield Work(kind, event.router, portion, event.pedido, self._source, event.peer, dry_run=self._dry_run)

    def _jobs_of(self, n: int, trace_id: str) -> Iterator[tuple[int | None, NewJob]]:
        """The first is about the event's own place. None is ever refused for a crowd, nor joins what may have looked already."""
        for number, (work, same) in enumerate(self._works[n]):
            job = work.job(trace_id, same=same if number == 0 else None, joins=False)
            yield (n if number == 0 else None), evolve(job, bounded=False)


def _device(event: Event) -> tuple[str, str]:
    assert event.place.mac is not None
    return event.router, event.place.mac


def _order(event: Event) -> Order:
    assert event.pedido is not None
    is_trial = event.type is Type.TRIAL_REQUESTED
    return Order(event.router, event.pedido, event.place, None, event.duration_s, trial=is_trial, by_mac=True)
