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
# What is to be done by now, or is being done: not what was made for later. `telling` counts the same.
WAITING: Final = "state IN ('due', 'running') AND (state = 'running' OR run_at <= now())"
# Events of one day, some 30 ms.
DAY_AT_MOST: Final = 50_000

# An ACK that failed waits, also between its tries.
_LANES: Final = f"""
    SELECT lane, count(*) FILTER (WHERE {WAITING}) AS jobs, count(*) AS with_failing, count(*) FILTER (WHERE outcomes > 0) AS failing
      FROM (SELECT lane, state, run_at, outcomes FROM jobs
             WHERE state IN ('due', 'running') AND (state = 'running' OR run_at <= now() OR outcomes > 0) LIMIT %(most)s) AS waiting
     GROUP BY lane
"""
# What went wrong has an index of its own: a crowd of events hides none of it. The newest are counted.
_TODAY: Final = """
    SELECT today.done, today.found >= %(most)s AS is_more, wrong.refused, wrong.failed, wrong.found >= %(most)s AS is_more_wrong,
           (SELECT max(received_at) FROM events WHERE type IS NOT NULL) AS last_at
      FROM (SELECT count(*) AS found, count(*) FILTER (WHERE ok) AS done
              FROM (SELECT ok FROM events WHERE type IS NOT NULL AND received_at >= date_trunc('day', now(), 'UTC')
                     ORDER BY received_at DESC LIMIT %(most)s) AS t) AS today,
           (SELECT count(*) AS found, count(*) FILTER (WHERE reason <> 'failed') AS refused, count(*) FILTER (WHERE reason = 'failed') AS failed
              FROM (SELECT reason FROM events WHERE NOT ok AND received_at >= date_trunc('day', now(), 'UTC')
                     ORDER BY received_at DESC LIMIT %(most)s) AS w) AS wrong
"""


@frozen(kw_only=True)
class Lane:
    """`failing`: those that were tried already; `with_failing`: those that wait for another try as well."""

    lane: str
    jobs: int
    with_failing: int
    failing: int


@frozen(kw_only=True)
class Lanes:
    """What waits, by router; and ACKs."""

    routers: Mapping[str, int]
    acks: int
    acks_failing: int


@frozen(kw_only=True)
class EventsToday:
    """`is_more`: than were counted, of all and of what went wrong. `last_at`: of any day."""

    done: int
    is_more: bool
    refused: int
    failed: int
    is_more_wrong: bool
    last_at: datetime | None


async def lanes(conn: TrioConnection) -> Lanes:
    found = await conn.fetch(_LANES, {"most": WAITING_AT_MOST}, row=Lane)
    acks = [lane for lane in found if lane.lane.removeprefix(PRETENDED) == ACK_LANE]
    routers = {router_of(lane.lane): lane.jobs for lane in found if lane not in acks}
    return Lanes(routers=routers, acks=sum(a.with_failing for a in acks), acks_failing=sum(a.failing for a in acks))


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
