"""Asks the backend for events, one of all daemons at a time, and puts them into the inbox."""

from collections.abc import Awaitable, Callable
import math
import random
from typing import Final
from uuid import UUID

from attrs import define, field
import structlog
import trio

from opendesk.network.backoff import pause_s
from opendesk.network.events.acks import ACK_LANE
from opendesk.network.events.batches import NotABatch, split_apart
from opendesk.network.events.figures import EVENTS, NOTHING, EventFigures
from opendesk.network.events.inbox import Inbox, Take, Taken, stored
from opendesk.network.events.leases import Lease
from opendesk.network.events.refusals import NotFetched
from opendesk.network.routers.lanes import lane_of
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.settings import Settings
from opendesk.supervise import alive

log = structlog.get_logger()

LEASE: Final = "events-poller"
# A backend that was down for an hour is found to be back within a minute; a poll a minute costs it nothing.
LONGEST_PAUSE_S: Final = 60.0
# Events that wait to be decided, or ACKs that wait to be taken: two hundred seconds of work. The backend keeps the rest as well as we would.
MOST_WAITING: Final = 100_000
# A backend can't be told of an event without an id, and may give it for ever: that is no reason to keep others waiting. More of them, and nothing
# else, is no batch.
MOST_NAMELESS: Final = 1_000
# How often that, or a database that is away, is looked at again.
LOOK_S: Final = 2.0

# By an index each, as far as it takes.
_CROWDED: Final = """
    SELECT EXISTS (SELECT FROM events WHERE ok IS NULL AND dry_run = %(dry_run)s OFFSET %(most)s)
        OR EXISTS (SELECT FROM jobs WHERE state = 'due' AND lane = %(acks)s OFFSET %(most)s)
"""


async def is_crowded(conn: TrioConnection, *, dry_run: bool, most: int = MOST_WAITING) -> bool:
    """Whether more than `most` events, or ACKs, wait."""
    row = await conn.fetch_one(_CROWDED, {"dry_run": dry_run, "most": most, "acks": lane_of(ACK_LANE, dry_run=dry_run)})
    return row is not None and bool(row[0])


@define(eq=False)
class Polling:
    """`run` is a service. `fetch` is the backend's, `take` the inbox's; `jitter` draws from 0…1."""

    _fetch: Callable[[], Awaitable[bytes]]
    _take: Take
    _pool: Pool
    _lease: Lease
    _figures: EventFigures
    _poll_s: float
    _dry_run: bool
    _most_waiting: int = MOST_WAITING
    _jitter: Callable[[], float] = random.random
    _failures: int = field(default=0, init=False)
    _crowded: bool = field(default=False, init=False)

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        pool: Pool,
        node: UUID,
        fetch: Callable[[], Awaitable[bytes]],
        inbox: Inbox,
        figures: EventFigures,
    ) -> "Polling":
        """`pool` is that of jobs."""
        # What a dry run pretends to do, the daemons that do it must not be kept from.
        lease = Lease(pool, lane_of(LEASE, dry_run=settings.relay_dry_run), node)
        figures.polled_every(settings.backend_events_poll_ms / 1000)
        return cls(
            fetch,
            inbox.take,
            pool,
            lease,
            figures,
            settings.backend_events_poll_ms / 1000,
            settings.relay_dry_run,
        )

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._lease.keep)
            while True:
                alive(wait_s=math.inf)
                await self._lease.held()
                alive()
                began_s = trio.current_time()
                pause_s = await self._round() if await self._has_room() else LOOK_S
                alive(wait_s=pause_s)
                await trio.sleep_until(began_s + pause_s)

    async def _has_room(self) -> bool:
        """Whether events could be stored now, and done in reasonable time."""
        try:
            async with self._pool.connection() as conn:
                crowded = await is_crowded(conn, dry_run=self._dry_run, most=self._most_waiting)
        except AWAY as error:
            log.warning("events.database_away", error=repr(error))
            return False
        if crowded != self._crowded:
            self._crowded = crowded
            log.warning("events.crowded" if crowded else "events.crowd_gone", most=self._most_waiting)
        return not crowded

    async def _round(self) -> float:
        """Fetch, and store what came; how many seconds from its begin to the next one's."""
        try:
            members = await split_apart(await self._fetch())
        except NotFetched as error:
            return self._failed(error.outcome, str(error))
        except NotABatch as error:
            return self._failed("refused", f"it is no batch: {error}")
        taken = await self._store(members) if members else Taken()
        if taken.nameless == len(members) > MOST_NAMELESS:
            return self._failed("refused", "nothing in it has an eventId that is a string")
        self._failures = 0
        self._figures.fetched(EVENTS if members else NOTHING)
        # Where something was new, there may be more.
        return 0.0 if taken.new else self._poll_s

    def _failed(self, outcome: str, why: str) -> float:
        self._failures += 1
        self._figures.fetched(outcome)
        # Asking oftener than when all is well would be no backing off.
        longest_s = max(LONGEST_PAUSE_S, self._poll_s)
        wait_s = pause_s(self._failures, first_s=self._poll_s, longest_s=longest_s, jitter=self._jitter())
        wait_s = min(wait_s, longest_s)
        log.warning(
            "events.not_fetched", outcome=outcome, error=why, failures=self._failures, again_in_s=round(wait_s, 3)
        )
        return wait_s

    async def _store(self, members: list[bytes]) -> Taken:
        """These are the only ones that are held, and a backend need not send twice what it gave."""
        taken = await stored(self._take, members, "backend")
        log.debug("events.taken", new=taken.new, again=taken.again, refused=taken.refused)
        return taken
