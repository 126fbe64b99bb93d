"""A router, for whoever asks why: how it is, and what was last of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from attrs import frozen

from opendesk.network.events import looking
from opendesk.network.events.chain import Chain, RouterView
from opendesk.network.events.looking import EventView
from opendesk.network.jobs import JobView
from opendesk.network.jobs import looking as jobs
from opendesk.network.routers.lanes import lane_of
from opendesk.postgres.driver import TrioConnection

# What was last of each kind, and routers at one address.
LAST: Final = 20
GRANTS_AT_MOST: Final = 20_000

# Statements that read all there is of a kind are ended: it is an operator who waits, and the daemon that shares the server.
_STATEMENT_LIMIT_S: Final = 10

# Of routers in MIKROTIK_NODES there is only how they are.
_ROUTERS: Final = """
    SELECT coalesce(r.id, s.router_id) AS id, r.host, r.port, s.target, coalesce(s.leased_until > clock_timestamp(), false) AS is_driven,
           coalesce(s.failures, 0) AS failures, s.open_until, coalesce(s.refused, false) AS refused, s.identity, s.version,
           s.last_contact_at, s.last_error, s.last_error_at, clock_timestamp() AS now,
           (SELECT count(*) FROM (SELECT FROM hotspot_grants g WHERE g.router_id = coalesce(r.id, s.router_id) AND g.ended_at IS NULL
                                   LIMIT %(most)s) AS live) AS grants
      FROM (SELECT * FROM routers WHERE id = %(word)s OR host = %(word)s) AS r
           FULL JOIN (SELECT * FROM router_states WHERE router_id = %(word)s OR router_id IN (SELECT id FROM routers WHERE host = %(word)s))
                  AS s ON s.router_id = r.id
     ORDER BY 1 LIMIT %(limit)s
"""


@frozen(kw_only=True)
class RouterNow:
    """`host` is None of one that is in MIKROTIK_NODES; `target` is where it was last found. `grants` are live."""

    id: str
    host: str | None
    port: int | None
    target: str | None
    is_driven: bool
    failures: int
    open_until: datetime | None
    refused: bool
    identity: str | None
    version: str | None
    last_contact_at: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    now: datetime
    grants: int


@frozen(kw_only=True)
class RouterStory:
    """The newest first."""

    router: RouterNow
    jobs: Sequence[JobView]
    events: Sequence[EventView]

    @property
    def chain(self) -> Chain:
        """By which jobs are told."""
        one = self.router
        view = RouterView(
            router_id=one.id,
            is_driven=one.is_driven,
            open_until=one.open_until,
            last_error=one.last_error,
            last_error_at=one.last_error_at,
        )
        return Chain(now=one.now, jobs=tuple(sorted(self.jobs, key=lambda job: job.id)), routers=(view,))


async def find(conn: TrioConnection, word: str) -> list[RouterStory]:
    """By its id, or its address."""
    async with conn.transaction():
        await conn.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await conn.run(f"SET LOCAL statement_timeout = '{_STATEMENT_LIMIT_S}s'")
        values = {"word": word, "limit": LAST, "most": GRANTS_AT_MOST}
        found = await conn.fetch(_ROUTERS, values, row=RouterNow)
        return [await _story(conn, router) for router in found]


async def _story(conn: TrioConnection, router: RouterNow) -> RouterStory:
    made: list[JobView] = []
    for dry_run in (False, True):
        made += await jobs.list_jobs(conn, lane=lane_of(router.id, dry_run=dry_run), limit=LAST)
    last = sorted(made, key=lambda job: job.id, reverse=True)[:LAST]
    events = await looking.list_events(conn, router=router.id, limit=LAST)
    return RouterStory(router=router, jobs=last, events=events)
