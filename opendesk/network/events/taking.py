"""Some events taken in by one transaction: those that are known left out, the intents of the others in the order of arrival, their jobs,
their rows, and the ACKs of what is decided already.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import cached_property
import re
from typing import Any, Final
from uuid import UUID

from attrs import define, evolve, field, frozen

from opendesk.network.events import stored
from opendesk.network.events.acks import ACK_LANE, ack_job
from opendesk.network.events.intents import Intents
from opendesk.network.events.machine import Action, Refuse, decide
from opendesk.network.events.machine import Known as World
from opendesk.network.events.ordering import in_order
from opendesk.network.events.stored import EventRow
from opendesk.network.events.types import Event, Invalid, Nameless, Reason, hash_of, is_usable, read
from opendesk.network.jobs import table
from opendesk.network.jobs.shapes import Added, NewJob
from opendesk.network.routers.lanes import lane_of
from opendesk.postgres.driver import TrioConnection

# As the API takes them (requests.TraceId); by any other id an event can't be traced.
_TRACE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_HASH_SHOWN: Final = 16
# All that is looked for here is in some index. A statement that was prepared while a table was empty would read the whole of it each time,
# however large it has become, until statistics are made anew.
_BY_INDEXES: Final = "SET LOCAL enable_seqscan = off"


@frozen
class Arrival:
    """A member of a batch that has an id. It is looked at only if nobody knows it: most of what is delivered again is known."""

    member: bytes
    event_id: str
    id_hash: bytes
    trace_id: str
    unfit: Invalid | None = None

    @classmethod
    def of(cls, member: bytes, event_id: str) -> "Arrival":
        id_hash = hash_of(event_id)
        is_fit = _TRACE.fullmatch(event_id) is not None
        return cls(member, event_id, id_hash, event_id if is_fit else f"event:{id_hash.hex()[:_HASH_SHOWN]}")

    @cached_property
    def event(self) -> Event | Invalid:
        event = self.unfit or read(self.member)
        assert not isinstance(event, Nameless)
        return event


@frozen
class Terms:
    """`look` finds out what is known where events are to be done."""

    source: str
    acks: bool
    dry_run: bool
    look: Callable[[TrioConnection, Sequence[Event]], Awaitable[Callable[[Event], World]]]

    @property
    def ack_lane(self) -> str | None:
        return lane_of(ACK_LANE, dry_run=self.dry_run) if self.acks else None


@define
class Draft:
    """What becomes of one that is new."""

    arrival: Arrival
    world: World
    action: Action

    @property
    def event(self) -> Event:
        assert isinstance(self.arrival.event, Event)
        return self.arrival.event

    @property
    def refused_at(self) -> str:
        """The stage that it got no further than."""
        if isinstance(self.arrival.event, Invalid):
            return "validated"
        return "executed" if self.world.router_known else "router_checked"


class Overtaken(Exception):
    """Somebody else has taken in some of these meanwhile: look again."""


@define
class Taking:
    """`take` once, in the caller's transaction. Raise Overtaken, which ends it."""

    _conn: TrioConnection
    _terms: Terms
    drafts: list[Draft] = field(init=False, factory=list)
    again: int = field(init=False, default=0)

    async def take(self, arrivals: Sequence[Arrival]) -> None:
        """No two of one id."""
        await self._conn.run(_BY_INDEXES)
        hashes = [arrival.id_hash for arrival in arrivals]
        terms = self._terms
        known = await stored.known(self._conn, hashes, dry_run=terms.dry_run, ack_lane=terms.ack_lane)
        self.again = len(known)
        self.drafts = await self._drafts([arrival for arrival in arrivals if arrival.id_hash not in known])
        jobs = await self._intend()
        acks = [*self._acks_again(arrivals, known), *self._acks_of_refusals()]
        added = await self._add([*(job for _, job in jobs), *acks])
        theirs = {n: (job, one) for (n, job), one in zip(jobs, added, strict=False) if n is not None}
        done_by = await self._with_room(theirs)
        rows = [self._row(draft, done_by.get(number)) for number, draft in enumerate(self.drafts)]
        if rows and await stored.insert(self._conn, rows, dry_run=terms.dry_run) < len(rows):
            raise Overtaken

    async def refuse(self, arrival: Arrival, error: str) -> None:
        """One that the database doesn't take: its id is remembered, and what came is not."""
        unfit = Invalid(arrival.event_id, Reason.VALIDATION, error, arrival.event.type)
        await self.take([evolve(arrival, member=b"", unfit=unfit)])

    async def _drafts(self, arrivals: Sequence[Arrival]) -> list[Draft]:
        events = [arrival.event for arrival in arrivals if isinstance(arrival.event, Event)]
        world_of = await self._terms.look(self._conn, events)
        nowhere = World(router_known=False)
        worlds = [world_of(one.event) if isinstance(one.event, Event) else nowhere for one in arrivals]
        return [Draft(one, world, decide(one.event, world)) for one, world in zip(arrivals, worlds, strict=True)]

    async def _intend(self) -> list[tuple[int | None, NewJob]]:
        """What is done by each draft's job, by its number, and what else is to be done."""
        admitted = [n for n, draft in enumerate(self.drafts) if not isinstance(draft.action, Refuse)]
        intents = Intents(self._conn, self._terms.source, self._terms.dry_run)
        for group in in_order([self.drafts[n].event for n in admitted]):
            numbers = [admitted[n] for n in group]
            events = {n: self.drafts[n].event for n in numbers}
            for n in await intents.write(events):
                self._over(self.drafts[n])
        traces = {n: self.drafts[n].arrival.trace_id for n in admitted}
        return intents.jobs(traces)

    @staticmethod
    def _over(draft: Draft) -> None:
        draft.world = evolve(draft.world, is_over=True)
        draft.action = decide(draft.event, draft.world)

    def _acks_again(self, arrivals: Sequence[Arrival], known: Mapping[bytes, stored.Known]) -> Iterator[NewJob]:
        lane = self._terms.ack_lane
        for arrival in arrivals:
            found = known.get(arrival.id_hash)
            if lane is not None and found is not None and found.ok is not None and not found.is_being_told:
                yield _ack(arrival, lane, ok=found.ok, payload=found.told)

    def _acks_of_refusals(self) -> Iterator[NewJob]:
        lane = self._terms.ack_lane
        for draft in self.drafts:
            if lane is not None and isinstance(draft.action, Refuse):
                yield _ack(draft.arrival, lane, ok=False, payload=self._told(draft.action))

    async def _with_room(self, jobs: Mapping[int, tuple[NewJob, Added]]) -> dict[int, UUID]:
        """By their numbers, the jobs that do them: where one does enough already, another is made."""
        joined = {added.id for _, added in jobs.values() if added.joined}
        full = await stored.full(self._conn, joined) if joined else set()
        crowded = {n: evolve(job, within=None) for n, (job, added) in jobs.items() if added.id in full}
        others = dict(zip(crowded, await self._add(list(crowded.values())), strict=True))
        return {n: others.get(n, added).id for n, (_, added) in jobs.items()}

    async def _add(self, jobs: Sequence[NewJob]) -> list[Added]:
        added: list[Added] = []
        for start in range(0, len(jobs), table.BATCH):
            added += await table.add_many(self._conn, jobs[start : start + table.BATCH])
        return added

    def _told(self, action: Refuse) -> dict[str, Any]:
        dry_run = {"dryRun": True} if self._terms.dry_run else {}
        return {"reason": action.reason.value, "error": action.error, **dry_run}

    def _row(self, draft: Draft, job_id: Any) -> EventRow:
        arrival, event = draft.arrival, draft.arrival.event
        refused = draft.action if isinstance(draft.action, Refuse) else None
        told = event if isinstance(event, Event) else None
        return EventRow(
            id_hash=arrival.id_hash.hex(),
            is_valid=told is not None,
            is_routed=draft.world.router_known,
            ok=None if refused is None else False,
            reason=None if refused is None else refused.reason.value,
            job_id=job_id,
            event_id=arrival.event_id if is_usable(arrival.event_id) else None,
            type=stored.type_of(event.type),
            source=self._terms.source,
            trace_id=arrival.trace_id,
            router_id=None if told is None else told.router,
            pedido_id=None if told is None else told.pedido,
            ip=None if told is None else told.place.ip,
            mac=None if told is None else told.place.mac,
            body=stored.body_of(arrival.member) if arrival.member else None,
            result=None if refused is None else self._told(refused),
            ack_lane=self._terms.ack_lane,
        )


def _ack(arrival: Arrival, lane: str, *, ok: bool, payload: dict[str, Any]) -> NewJob:
    return ack_job(arrival.id_hash, arrival.event_id, ok, payload, lane=lane, trace_id=arrival.trace_id)
