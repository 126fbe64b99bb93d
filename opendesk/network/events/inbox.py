"""Takes events in: what is known is left out, what is new is decided or becomes a job, and all of that stands before anybody is told."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, Literal

from attrs import define, field, frozen
import psycopg
import structlog
import trio

from opendesk.network.events import figures
from opendesk.network.events.figures import EventFigures
from opendesk.network.events.machine import Known, Refuse, Wait
from opendesk.network.events.taking import Arrival, Draft, Overtaken, Taking, Terms
from opendesk.network.events.types import Event, id_of
from opendesk.network.routers import registry
from opendesk.network.routers.fleet import Fleet
from opendesk.ops.audit import Audit
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying
from opendesk.supervise import alive

log = structlog.get_logger()

Source = Literal["backend", "file"]

# Taken by one transaction: tens of milliseconds of the server's time, and the first are on their way while later ones are read.
CHUNK: Final = 200
# And so much of them: what is long is read in some milliseconds at a time, between which others have their turn.
CHUNK_BYTES: Final = 256 * 2**10

# How often what can't be stored, since the database is away, is tried again.
STORE_AGAIN_S: Final = 2.0

# What an audit line is of; the others of an event are its job's, and its ACK's.
_EVENT: Final = "EVENT"
# What the database says of a value that it doesn't take, whatever else it is asked.
_UNFIT: Final = (psycopg.DataError, psycopg.errors.CheckViolation)


@frozen
class Taken:
    """`again`: known before, or twice in one batch."""

    new: int = 0
    again: int = 0
    refused: int = 0
    nameless: int = 0

    def __add__(self, other: "Taken") -> "Taken":
        return Taken(
            self.new + other.new,
            self.again + other.again,
            self.refused + other.refused,
            self.nameless + other.nameless,
        )


Take = Callable[[Sequence[bytes], Source], Awaitable[Taken]]


async def stored(take: Take, members: Sequence[bytes], source: Source) -> Taken:
    """`take`, however long the database is away: nobody else may have them any more."""
    while True:
        alive()
        try:
            return await take(members, source)
        except AWAY as error:
            log.warning("events.not_stored", events=len(members), error=repr(error))
            await trio.sleep(STORE_AGAIN_S)


@define(eq=False)
class Inbox:
    """`acks`: somebody wants to be told what became of them. `pool` is that of jobs. `peer_silent_for` a public key, None while it is heard of."""

    _pool: Pool
    _fleet: Fleet
    _audit: Audit
    _figures: EventFigures
    _acks: bool
    _peer_silent_for: Callable[[str], float | None] = field(default=lambda _key: None)

    async def take(self, members: Sequence[bytes], source: Source) -> Taken:
        """Members of a batch, in the order of arrival. Once it returns, all of them are stored; where it raises, perhaps the first ones."""
        taken = Taken()
        for some in _chunks(members):
            alive()
            await trio.lowlevel.checkpoint()
            taken += await self._take_some(some, source)
        return taken

    async def _take_some(self, members: Sequence[bytes], source: Source) -> Taken:
        named = [Arrival.of(member, name) for member in members if (name := id_of(member)) is not None]
        nameless = len(members) - len(named)
        self._figures.took(None, figures.NAMELESS, nameless)
        arrivals = list({arrival.id_hash: arrival for arrival in reversed(named)}.values())[::-1]
        if not arrivals:
            return Taken(nameless=nameless)
        async with self._pool.connection() as conn:
            taken = await self._store(conn, arrivals, source)
        return taken + Taken(again=len(named) - len(arrivals), nameless=nameless)

    async def _store(self, conn: TrioConnection, arrivals: Sequence[Arrival], source: Source) -> Taken:
        """All at once; one by one where one of them spoils that, so that it keeps no other from being taken."""
        terms = Terms(source, self._acks, self._fleet.dry_run, self._look)
        try:
            return await self._commit(conn, terms, arrivals)
        except _UNFIT as error:
            if len(arrivals) == 1:
                return await self._refuse(conn, terms, arrivals[0], error)
        taken = Taken()
        for arrival in arrivals:
            taken += await self._store(conn, [arrival], source)
        return taken

    async def _commit(self, conn: TrioConnection, terms: Terms, arrivals: Sequence[Arrival]) -> Taken:
        while True:  # who was overtaken knows at least one more of them the next time
            try:
                return self._told(await retrying(_once(conn, terms, lambda taking: taking.take(arrivals))), terms)
            except Overtaken:
                log.debug("events.overtaken", events=len(arrivals))

    async def _refuse(self, conn: TrioConnection, terms: Terms, arrival: Arrival, error: psycopg.Error) -> Taken:
        """Not with what the database says: it repeats values."""
        log.warning("events.unfit", traceId=arrival.trace_id, sqlstate=error.sqlstate, error=type(error).__name__)
        why = f"the database refuses it ({error.sqlstate})"

        refused = await retrying(_once(conn, terms, lambda taking: taking.refuse(arrival, why)))
        return self._told(refused, terms)

    async def _look(self, conn: TrioConnection, events: Sequence[Event]) -> Callable[[Event], Known]:
        """At what is known where these are to be done."""
        routers = {event.router for event in events}
        specs = self._fleet.specs
        known = {name for name in routers if name in specs and specs[name].source != registry.DATABASE}
        if not routers <= known:
            known |= await registry.hold(conn, routers - known, dry_run=self._fleet.dry_run)

        def world(event: Event) -> Known:
            silent_s = None if event.peer is None else self._peer_silent_for(event.peer)
            is_shut = self._fleet.circuit_open_here(event.router) is True
            return Known(event.router in known, circuit_open=is_shut, peer_silent_s=silent_s)

        return world

    # ---- what is told of it, once it stands

    def _told(self, taking: Taking, terms: Terms) -> Taken:
        for draft in taking.drafts:
            self._tell(draft, terms.source)
        self._figures.took(None, figures.AGAIN, taking.again)
        refused = sum(isinstance(draft.action, Refuse) for draft in taking.drafts)
        return Taken(new=len(taking.drafts), again=taking.again, refused=refused)

    def _tell(self, draft: Draft, source: str) -> None:
        arrival, event = draft.arrival, draft.arrival.event
        self._figures.took(event.type, figures.RECEIVED)
        self._audit.attempt(_EVENT, arrival.trace_id, stage="received", eventId=event.event_id, source=source)
        if isinstance(event, Event):
            self._audit.success(_EVENT, arrival.trace_id, stage="validated", type=event.type.value)
            if draft.world.router_known:
                self._audit.success(_EVENT, arrival.trace_id, stage="router_checked", **_where(event, draft))
        if isinstance(draft.action, Refuse):
            self._figures.took(event.type, figures.REFUSED)
            facts = {"reason": draft.action.reason.value, "eventId": event.event_id, "type": event.type}
            self._audit.failure(
                _EVENT, arrival.trace_id, error=draft.action.error, stage=draft.refused_at, source=source, **facts
            )


def _chunks(members: Sequence[bytes]) -> Iterator[list[bytes]]:
    chunk, size = list[bytes](), 0
    for member in members:
        chunk.append(member)
        size += len(member)
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _where(event: Event, draft: Draft) -> dict[str, str | None]:
    waits = {"waits": draft.action.reason.value} if isinstance(draft.action, Wait) else {}
    place = event.place
    return {"router": event.router, "pedidoId": event.pedido, "ip": place.ip, "mac": place.mac, **waits}


def _once(
    conn: TrioConnection, terms: Terms, do: Callable[[Taking], Awaitable[None]]
) -> Callable[[], Awaitable[Taking]]:
    """A transaction, from its beginning each time."""

    async def once() -> Taking:
        taking = Taking(conn, terms)
        async with conn.transaction():
            await do(taking)
        return taking

    return once
