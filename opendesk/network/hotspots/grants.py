"""Grants: which order opens which device's way, on which router, until when. The router is made to follow by whoever acts on them.

What ends a grant is told by the database's clock; one whose time has passed is not live, whether or not that has been written down yet.
But time that was written down counts only once something was sent that opens the way: of one that nobody could have used it begins anew.
Pretended grants (`dry_run`) are a world of their own: they neither keep nor end real ones.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from attrs import field, frozen

from opendesk.network.hotspots.place import Grant, Place
from opendesk.network.hotspots.work import end_key
from opendesk.network.jobs import table
from opendesk.network.routers.lanes import lane_of
from opendesk.postgres.driver import TrioConnection

# As long as events are remembered by default: until then an order whose time is over is known for one.
KEPT_DAYS: Final = 180
FORGOTTEN_AT_ONCE: Final = 5_000

IS_OPENED: Final = "(g.opening_at IS NOT NULL OR g.observed_at IS NOT NULL)"
# A trial that began in time to come is over: the clock was set back, and nobody knows how long ago it was. What is paid has its time all the
# same. Clocks of servers that follow one another differ by less than this.
_UNTIL: Final = "CASE WHEN g.trial AND g.begun_at > now() + interval '1 minute' THEN now() ELSE g.until END"
IS_OVER: Final = f"({_UNTIL} <= now() AND {IS_OPENED})"
# What it had before it was given more, and has again if that can't be opened.
_UNTIL_BEFORE: Final = f"CASE WHEN NOT {IS_OPENED} THEN (g.before ->> 'until')::timestamptz END"
# Once that is over, its end looks so often whether it holds again.
_LOOK_S: Final = 60
END: Final = f"coalesce(CASE WHEN {IS_OPENED} THEN {_UNTIL} END, now() + g.duration_s * interval '1 second')"
COLUMNS: Final = f"""
    g.id, g.router_id, g.pedido_id, host(g.ip) AS ip, upper(g.mac::text) AS mac, g.duration_s, g.begun_at, g.until, g.opening_at,
    g.observed_at, extract(epoch FROM {END} - now())::float8 AS remaining_s, floor(extract(epoch FROM {END}))::bigint AS until_unix,
    least({END}, {_UNTIL_BEFORE}) AS ends_at, g.trial, g.had_time, g.before::text AS before
"""
_PLACE: Final = "host(g.ip) AS ip, upper(g.mac::text) AS mac"
LIVE: Final = f"g.ended_at IS NULL AND (g.until IS NULL OR {_UNTIL} > now() OR NOT {IS_OPENED})"
OF_PLACES: Final = """EXISTS (SELECT FROM unnest(%(ips)s::inet[], %(macs)s::macaddr[]) AS place (ip, mac)
                            WHERE (place.ip IS NULL OR place.ip = g.ip) AND (place.mac IS NULL OR place.mac = g.mac))"""

# What failed could be tried again: not after this.
_REVOKE: Final = f"""
    UPDATE hotspot_grants g
       SET ended_at = now(), end_reason = CASE WHEN {IS_OVER} THEN 'expired' ELSE 'revoked' END
     WHERE g.router_id = %(router)s AND g.dry_run = %(dry_run)s AND (g.ended_at IS NULL OR g.end_reason = 'failed') AND {OF_PLACES}
 RETURNING {_PLACE}
"""
# OFFSET 0 keeps it a probe of two indexes for each that is asked for. What two ask for is one's.
_REVOKE_ALL: Final = f"""
    UPDATE hotspot_grants g
       SET ended_at = now(), end_reason = CASE WHEN {IS_OVER} THEN 'expired' ELSE 'revoked' END
      FROM unnest(%(n)s::int[], %(routers)s::text[], %(ips)s::inet[], %(macs)s::macaddr[]) AS asked (n, router, ip, mac)
           CROSS JOIN LATERAL (
               SELECT o.id FROM hotspot_grants o
                WHERE o.router_id = asked.router AND o.dry_run = %(dry_run)s AND (o.ended_at IS NULL OR o.end_reason = 'failed')
                  AND (o.ip = asked.ip OR o.mac = asked.mac)
                  AND (asked.ip IS NULL OR o.ip = asked.ip) AND (asked.mac IS NULL OR o.mac = asked.mac) OFFSET 0
           ) AS theirs
     WHERE g.id = theirs.id AND (g.ended_at IS NULL OR g.end_reason = 'failed')
 RETURNING asked.n, {_PLACE}
"""
_EXPIRE: Final = f"""
    UPDATE hotspot_grants g SET ended_at = now(), end_reason = 'expired'
     WHERE g.router_id = %(router)s AND g.dry_run = %(dry_run)s AND g.ended_at IS NULL AND {IS_OVER}
       AND {OF_PLACES}
 RETURNING {_PLACE}
"""
# What failed as well: else it could be tried again beside what is paid.
_RELEASE: Final = f"""
    UPDATE hotspot_grants g
       SET ended_at = now(), end_reason = CASE WHEN {IS_OVER} THEN 'expired' ELSE 'released' END
      FROM (SELECT DISTINCT * FROM unnest(%(routers)s::text[], %(macs)s::macaddr[]) AS asked (router, mac)) AS asked
     WHERE g.router_id = asked.router AND g.mac = asked.mac AND g.dry_run = %(dry_run)s AND g.trial
       AND (g.ended_at IS NULL OR g.end_reason = 'failed')
 RETURNING g.id, g.router_id, {_PLACE}
"""
# In one statement: what comes of a grant that it ends is final, and what was given more time a moment before is left as it is.
_END_ONE: Final = f"""
    UPDATE hotspot_grants g
       SET ended_at = CASE WHEN {IS_OVER} THEN now() END, end_reason = CASE WHEN {IS_OVER} THEN 'expired' END
     WHERE g.id = %(id)s AND g.ended_at IS NULL
 RETURNING CASE WHEN g.ended_at IS NULL THEN CASE WHEN g.before IS NULL OR {IS_OPENED} THEN extract(epoch FROM {END} - now())
                ELSE greatest(extract(epoch FROM {_UNTIL_BEFORE} - now()), {_LOOK_S}) END::float8 END
"""
# OFFSET 0 keeps it a probe of two indexes for each that is asked for.
_FIND: Final = f"""
    SELECT asked.n, found.*
      FROM unnest(%(n)s::int[], %(routers)s::text[], %(ips)s::inet[], %(macs)s::macaddr[]) AS asked (n, router, ip, mac)
           CROSS JOIN LATERAL (
               SELECT {COLUMNS} FROM hotspot_grants g
                WHERE g.router_id = asked.router AND g.dry_run = %(dry_run)s AND {LIVE}
                  AND (g.ip = asked.ip OR g.mac = asked.mac) OFFSET 0
           ) AS found
     ORDER BY found.id
"""
_REMOVE: Final = f"""
    UPDATE hotspot_grants g
       SET ended_at = now(), end_reason = CASE WHEN {IS_OVER} THEN 'expired' ELSE 'removed' END
     WHERE g.router_id = %(router)s AND (g.ended_at IS NULL OR g.end_reason = 'failed') AND (g.dry_run OR NOT %(dry_run)s)
"""
_ALL_PLACES: Final = f"""
    SELECT DISTINCT {_PLACE} FROM hotspot_grants g
     WHERE g.router_id = %(router)s AND g.dry_run = %(dry_run)s AND {LIVE}
"""
_BEGIN: Final = f"""
    UPDATE hotspot_grants g SET begun_at = now(), until = now() + g.duration_s * interval '1 second', opening_at = NULL
     WHERE g.id = ANY (%(ids)s) AND g.duration_s IS NOT NULL AND g.observed_at IS NULL AND {LIVE}
 RETURNING {COLUMNS}
"""
_OPENING: Final = """
    UPDATE hotspot_grants SET opening_at = coalesce(opening_at, now())
     WHERE id = ANY (%(ids)s) AND ended_at IS NULL AND until IS NOT NULL RETURNING id
"""
_TAKE_BACK: Final = """
    UPDATE hotspot_grants SET begun_at = NULL, until = NULL, opening_at = NULL
     WHERE id = ANY (%(ids)s) AND observed_at IS NULL
"""
# What was seen of one that is given more time meanwhile was what it had before: the new time hasn't begun.
_OBSERVED: Final = """
    UPDATE hotspot_grants SET observed_at = now()
     WHERE id = ANY (%(ids)s) AND observed_at IS NULL AND (duration_s IS NULL OR until IS NOT NULL)
"""
_FORGET: Final = f"""
    DELETE FROM hotspot_grants
     WHERE ctid = ANY (ARRAY(SELECT ctid FROM hotspot_grants
                              WHERE ended_at < now() - interval '{KEPT_DAYS} days' LIMIT {FORGOTTEN_AT_ONCE}))
"""


@frozen
class GrantRow:
    """One that has an end, but whose way was never about to be opened, ends as if it began now."""

    id: UUID
    router_id: str
    pedido_id: str
    ip: str
    mac: str
    duration_s: int | None
    begun_at: datetime | None
    until: datetime | None
    opening_at: datetime | None
    observed_at: datetime | None
    remaining_s: float | None
    until_unix: int | None
    ends_at: datetime | None = field(eq=False)  # when to look; which moves on while its time hasn't begun
    trial: bool
    had_time: bool = False
    before: str | None = None  # JSON

    @property
    def place(self) -> Place:
        return Place(self.ip, self.mac)

    @property
    def wanted(self) -> Grant:
        is_observed = self.observed_at is not None
        return Grant(self.pedido_id, self.ip, self.mac, self.remaining_s, self.until_unix, is_observed)

    @property
    def is_opened(self) -> bool:
        """Somebody may have used it, so that its time is never given again."""
        return self.opening_at is not None or self.observed_at is not None

    @property
    def same(self) -> str:
        """One that was made anew, or given more time, or paid instead of on trial, is another to who repeats what was asked."""
        return f"{self.id} {self.duration_s}{' trial' if self.trial else ''}"

    @property
    def is_over(self) -> bool:
        return self.remaining_s is not None and self.remaining_s <= 0


async def revoke(conn: TrioConnection, router: str, place: Place, *, dry_run: bool) -> list[Place]:
    """End what is granted there; the places whose rows may have to change."""
    assert place != Place(None, None)
    return await conn.fetch(_REVOKE, _at(router, [place], dry_run), row=Place)


async def release_trials(
    conn: TrioConnection, devices: Sequence[tuple[str, str]], *, dry_run: bool
) -> dict[tuple[str, str], tuple[Place, ...]]:
    """End the trials of these devices on these routers, since something is paid for them, and what failed of them; their jobs have
    nothing left to end.

    A device is its MAC here, whatever its IP was then: the places of each whose rows may have to change, where there are any.
    """
    values = {"dry_run": dry_run, "routers": [router for router, _ in devices], "macs": [mac for _, mac in devices]}
    ended: dict[tuple[str, str], list[Place]] = {}
    jobs = []
    for grant, router, ip, mac in await conn.fetch(_RELEASE, values):
        ended.setdefault((router, mac), []).append(Place(ip, mac))
        jobs.append((lane_of(router, dry_run=dry_run), end_key(grant)))
    if jobs:
        await table.cancel(conn, jobs, why="released")
    return {device: tuple(places) for device, places in ended.items()}


async def revoke_all(conn: TrioConnection, asked: Sequence[tuple[str, Place]], *, dry_run: bool) -> list[list[Place]]:
    """The same at several places of several routers, in their order."""
    values = {
        "dry_run": dry_run,
        "n": list(range(len(asked))),
        "routers": [router for router, _ in asked],
        **arrays([place for _, place in asked]),
    }
    touched: list[list[Place]] = [[] for _ in asked]
    for n, ip, mac in await conn.fetch(_REVOKE_ALL, values):
        touched[n].append(Place(ip, mac))
    return touched


async def remove(conn: TrioConnection, router: str, *, dry_run: bool = False) -> int:
    """End all that is granted at a router that there is no more, what is pretended as well (in a dry run only that); how many."""
    return await conn.run(_REMOVE, {"router": router, "dry_run": dry_run})


async def expire(conn: TrioConnection, router: str, places: Sequence[Place], *, dry_run: bool) -> list[Place]:
    """Write down of what is granted there that its time is over, where it is."""
    return await conn.fetch(_EXPIRE, _at(router, places, dry_run), row=Place)


async def end(conn: TrioConnection, grant: UUID) -> float | None:
    """Write down that its time is over, if it is; else how many seconds are left. None: it is over, or has no end."""
    row = await conn.fetch_one(_END_ONE, {"id": grant})
    return None if row is None else row[0]


async def live(conn: TrioConnection, router: str, places: Sequence[Place], *, dry_run: bool) -> list[GrantRow]:
    """All that counts for rows of these places: what is granted to one of their IPs or MACs."""
    (found,) = await live_of_all(conn, [(router, places)], dry_run=dry_run)
    return found


async def live_of_all(
    conn: TrioConnection, asked: Sequence[tuple[str, Sequence[Place]]], *, dry_run: bool
) -> list[list[GrantRow]]:
    """The same for several routers and their places, in their order."""
    flat = [(n, router, place) for n, (router, places) in enumerate(asked) for place in places]
    values = {
        "dry_run": dry_run,
        "n": [n for n, _, _ in flat],
        "routers": [router for _, router, _ in flat],
        "ips": [place.ip for _, _, place in flat],
        "macs": [place.mac for _, _, place in flat],
    }
    found: list[dict[UUID, GrantRow]] = [{} for _ in asked]
    for n, *columns in await conn.fetch(_FIND, values):
        row = GrantRow(*columns)
        found[n][row.id] = row
    return [list(rows.values()) for rows in found]


async def live_places(conn: TrioConnection, router: str, *, dry_run: bool) -> list[Place]:
    return await conn.fetch(_ALL_PLACES, {"router": router, "dry_run": dry_run}, row=Place)


async def begin(conn: TrioConnection, ids: Sequence[UUID]) -> list[GrantRow]:
    """Let their time run from now. Those that have no end, are over, or were once seen on a router stay as they are, and are left out."""
    return await conn.fetch(_BEGIN, {"ids": list(ids)}, row=GrantRow)


async def opening(conn: TrioConnection, ids: Sequence[UUID]) -> set[UUID]:
    """What opens their way is about to be sent: from now on their time is used up. Of those that were ended, moved or given more meanwhile
    nothing may be opened: they are left out.
    """
    return {row[0] for row in await conn.fetch(_OPENING, {"ids": list(ids)})}


async def take_back(conn: TrioConnection, ids: Sequence[UUID]) -> None:
    """The router was seen not to hold them: their time hasn't begun after all. What was once seen on it stays as it is."""
    await conn.run(_TAKE_BACK, {"ids": list(ids)})


async def observed(conn: TrioConnection, ids: Sequence[UUID]) -> None:
    """The router was seen to hold them."""
    await conn.run(_OBSERVED, {"ids": list(ids)})


async def forget_old(conn: TrioConnection) -> int:
    """How many had ended long ago and are gone now."""
    total = 0
    while gone := await conn.run(_FORGET):
        total += gone
    return total


def _at(router: str, places: Sequence[Place], dry_run: bool) -> dict[str, object]:  # noqa: FBT001  # private, and called right above
    return {"router": router, "dry_run": dry_run, **arrays(places)}


def arrays(places: Sequence[Place]) -> dict[str, object]:
    """For `OF_PLACES`."""
    return {"ips": [place.ip for place in places], "macs": [place.mac for place in places]}
