"""How routers, tunnels, jobs and events are, at a glance: from memory what this daemon knows, the rest by bounded statements."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from attrs import frozen

from opendesk.network.events.acks import ACK_LANE
from opendesk.network.routers.fleet import Fleet
from opendesk.network.routers.lanes import PRETENDED, router_of
from opendesk.network.routers.states import StoredState
from opendesk.network.routers.states import read as read_states
from opendesk.postgres.driver import TrioConnection

# Jobs that wait are counted by lane up to so many in all: some 5 ms.
WAITING_AT_MOST: Final = 20_000
# Events of one day, some 30 ms.
DAY_AT_MOST: Final = 50_000

_LANES: Final = """
    SELECT lane, count(*) AS jobs, count(*) FILTER (WHERE outcomes > 0) AS failing
      FROM (SELECT lane, outcomes FROM jobs WHERE state IN ('due', 'running') LIMIT %(most)s) AS waiting GROUP BY lane
"""
_TODAY: Final = """
    SELECT count(*) FILTER (WHERE ok) AS done, count(*) FILTER (WHERE NOT ok AND reason <> 'failed') AS refused,
           count(*) FILTER (WHERE NOT ok AND reason = 'failed') AS failed, max(received_at) AS last_at
      FROM (SELECT ok, reason, received_at FROM events WHERE type IS NOT NULL AND received_at >= date_trunc('day', now(), 'UTC')
             LIMIT %(most)s) AS today
"""


@frozen(kw_only=True)
class Lane:
    """`failing`: those that were tried already."""

    lane: str
    jobs: int
    failing: int


@frozen(kw_only=True)
class Lanes:
    """What waits, by router; and ACKs."""

    routers: Mapping[str, int]
    acks: int
    acks_failing: int


@frozen(kw_only=True)
class EventsToday:
    done: int
    refused: int
    failed: int
    last_at: datetime | None


async def lanes(conn: TrioConnection) -> Lanes:
    found = await conn.fetch(_LANES, {"most": WAITING_AT_MOST}, row=Lane)
    acks = [lane for lane in found if lane.lane.removeprefix(PRETENDED) == ACK_LANE]
    routers = {router_of(lane.lane): lane.jobs for lane in found if lane not in acks}
    return Lanes(routers=routers, acks=sum(a.jobs for a in acks), acks_failing=sum(a.failing for a in acks))


async def events_today(conn: TrioConnection) -> EventsToday:
    found = await conn.fetch_one(_TODAY, {"most": DAY_AT_MOST}, row=EventsToday)
    assert found is not None
    return found


def driven_elsewhere(fleet: Fleet) -> Collection[str]:
    """Routers of which only the database knows how they are."""
    return [name for name in fleet.specs if fleet.get(name) is None]


async def stored_states(conn: TrioConnection, ids: Collection[str]) -> Mapping[str, StoredState]:
    return await read_states(conn, ids)


def open_circuits(fleet: Fleet) -> int:
    """Of the routers that this daemon drives."""
    workers = (fleet.get(name) for name in fleet.specs)
    return sum(1 for worker in workers if worker is not None and not worker.health.breaker.is_closed)
