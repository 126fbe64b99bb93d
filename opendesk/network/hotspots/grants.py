"""Grants: which order opens which device's way, on which router, until when. The router is made to follow by whoever acts on them.

What ends a grant is told by the database's clock; one whose time has passed is not live, whether or not that has been written down yet.
Pretended grants (`dry_run`) are a world of their own: they neither keep nor end real ones.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from attrs import frozen

from opendesk.network.hotspots.errors import GrantEnded
from opendesk.network.hotspots.place import Grant, Place
from opendesk.postgres.driver import TrioConnection

# As long as events are remembered by default: until then an order whose time is over is known for one.
KEPT_DAYS: Final = 180
FORGOTTEN_AT_ONCE: Final = 5_000

COLUMNS: Final = """
    g.id, g.router_id, g.pedido_id, host(g.ip) AS ip, upper(g.mac::text) AS mac, g.duration_s, g.begun_at, g.until, g.observed_at,
    extract(epoch FROM coalesce(g.until, now() + g.duration_s * interval '1 second') - now())::float8 AS remaining_s,
    floor(extract(epoch FROM coalesce(g.until, now() + g.duration_s * interval '1 second')))::bigint AS until_unix
"""
_PLACE: Final = "host(g.ip) AS ip, upper(g.mac::text) AS mac"
_LIVE: Final = "g.ended_at IS NULL AND (g.until IS NULL OR g.until > now())"
_OF_PLACES: Final = """EXISTS (SELECT FROM unnest(%(ips)s::inet[], %(macs)s::macaddr[]) AS place (ip, mac)
                            WHERE (place.ip IS NULL OR place.ip = g.ip) AND (place.mac IS NULL OR place.mac = g.mac))"""

_REVOKE: Final = f"""
    UPDATE hotspot_grants g
       SET ended_at = now(), end_reason = CASE WHEN g.until <= now() THEN 'expired' ELSE 'revoked' END
     WHERE g.router_id = %(router)s AND g.dry_run = %(dry_run)s AND g.ended_at IS NULL AND {_OF_PLACES}
 RETURNING {_PLACE}
"""
_EXPIRE: Final = f"""
    UPDATE hotspot_grants g SET ended_at = now(), end_reason = 'expired'
     WHERE g.router_id = %(router)s AND g.dry_run = %(dry_run)s AND g.ended_at IS NULL AND g.until <= now()
       AND {_OF_PLACES}
 RETURNING {_PLACE}
"""
# OFFSET 0 keeps it a probe of two indexes for each that is asked for.
_FIND: Final = f"""
    SELECT asked.n, found.*
      FROM unnest(%(n)s::int[], %(routers)s::text[], %(ips)s::inet[], %(macs)s::macaddr[]) AS asked (n, router, ip, mac)
           CROSS JOIN LATERAL (
               SELECT {COLUMNS} FROM hotspot_grants g
                WHERE g.router_id = asked.router AND g.dry_run = %(dry_run)s AND {_LIVE}
                  AND (g.ip = asked.ip OR g.mac = asked.mac) OFFSET 0
           ) AS found
     ORDER BY found.id
"""
_ALL_PLACES: Final = f"""
    SELECT DISTINCT {_PLACE} FROM hotspot_grants g
     WHERE g.router_id = %(router)s AND g.dry_run = %(dry_run)s AND {_LIVE}
"""
_BEGIN: Final = f"""
    UPDATE hotspot_grants g SET begun_at = now(), until = now() + g.duration_s * interval '1 second'
     WHERE g.id = ANY (%(ids)s) AND g.duration_s IS NOT NULL AND g.observed_at IS NULL AND {_LIVE}
 RETURNING {COLUMNS}
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


# Moves of one order take turns: each must see where the one before has taken it, and there may be no row yet that could be locked.
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%(router)s || ' ' || %(pedido)s, 0))"
_WITHDRAW: Final = f"""
    UPDATE hotspot_grants g
       SET ended_at = now(), end_reason = CASE WHEN g.until <= now() THEN 'expired' ELSE 'moved' END
     WHERE g.router_id = %(router)s AND g.pedido_id = %(pedido)s AND g.dry_run = %(dry_run)s AND g.ended_at IS NULL
       AND (g.ip, g.mac) <> (%(ip)s::inet, %(mac)s::macaddr) AND (g.device = %(device)s::bytea OR {_OF_PLACES})
 RETURNING {COLUMNS}
"""
_LAST: Final = f"""
    SELECT {COLUMNS} FROM hotspot_grants g
     WHERE g.router_id = %(router)s AND g.pedido_id = %(pedido)s AND g.dry_run = %(dry_run)s
     ORDER BY g.ended_at IS NULL DESC, (g.ip, g.mac) = (%(ip)s::inet, %(mac)s::macaddr) DESC, g.created_at DESC LIMIT 1
"""
# Of two for one device, the one that was there and the one that comes, the time of the one that ends last holds.
_IS_LATER: Final = """g.duration_s IS NOT NULL AND (excluded.duration_s IS NULL
                      OR coalesce(excluded.until, now() + excluded.duration_s * interval '1 second')
                         > coalesce(g.until, now() + g.duration_s * interval '1 second'))"""
_SETTLE: Final = f"""
    INSERT INTO hotspot_grants AS g (router_id, pedido_id, ip, mac, device, duration_s, begun_at, until, observed_at, dry_run)
    VALUES (%(router)s, %(pedido)s, %(ip)s, %(mac)s, %(device)s, %(duration_s)s, %(begun_at)s, %(until)s, %(observed_at)s, %(dry_run)s)
        ON CONFLICT (router_id, pedido_id, mac, ip, dry_run) WHERE ended_at IS NULL DO UPDATE
       SET device = coalesce(excluded.device, g.device),
           duration_s = CASE WHEN {_IS_LATER} THEN excluded.duration_s ELSE g.duration_s END,
           begun_at = CASE WHEN {_IS_LATER} THEN excluded.begun_at ELSE g.begun_at END,
           until = CASE WHEN {_IS_LATER} THEN excluded.until ELSE g.until END,
           observed_at = CASE WHEN {_IS_LATER} THEN excluded.observed_at ELSE g.observed_at END
 RETURNING {COLUMNS}
"""


@frozen
class GrantRow:
    """One that has an end but hasn't begun yet ends as if it began now."""

    id: UUID
    router_id: str
    pedido_id: str
    ip: str
    mac: str
    duration_s: int | None
    begun_at: datetime | None
    until: datetime | None
    observed_at: datetime | None
    remaining_s: float | None
    until_unix: int | None

    @property
    def place(self) -> Place:
        return Place(self.ip, self.mac)

    @property
    def wanted(self) -> Grant:
        is_observed = self.observed_at is not None
        return Grant(self.pedido_id, self.ip, self.mac, self.remaining_s, self.until_unix, is_observed)

    @property
    def is_over(self) -> bool:
        return self.remaining_s is not None and self.remaining_s <= 0


@frozen
class Moved:
    """The grant at its new place, and all places whose rows may have to change: the new one first."""

    grant: GrantRow
    places: tuple[Place, ...]


async def move(
    conn: TrioConnection,
    router: str,
    pedido: str,
    new: Place,
    old: Sequence[Place],
    *,
    device: bytes | None,
    dry_run: bool,
) -> Moved:
    """Take what the order had at the old places, or by this device anywhere, to the new one; time that has begun goes on.

    An order that has nothing any more gets what it had last, and one that never had anything is granted until it is revoked.
    Raise GrantEnded if the order's time is over.
    """
    where = {"ip": new.ip, "mac": new.mac, "device": device, **_places(old)}
    order = _order(router, pedido, dry_run) | where
    async with conn.transaction():
        await conn.fetch(_LOCK, order)
        withdrawn = await conn.fetch(_WITHDRAW, order, row=GrantRow)
        running = [grant for grant in withdrawn if not grant.is_over]
        last = max(running, key=_end) if running else await conn.fetch_one(_LAST, order, row=GrantRow)
        if last is not None and last.is_over:
            raise GrantEnded
        names = ("duration_s", "begun_at", "until", "observed_at")
        settled = await conn.fetch_one(
            _SETTLE, order | {name: getattr(last, name, None) for name in names}, row=GrantRow
        )
    assert settled is not None
    return Moved(settled, tuple(dict.fromkeys([new, *(grant.place for grant in withdrawn), *old])))


async def revoke(conn: TrioConnection, router: str, place: Place, *, dry_run: bool) -> list[Place]:
    """End what is granted there; the places whose rows may have to change."""
    assert place != Place(None, None)
    return await conn.fetch(_REVOKE, _at(router, [place], dry_run), row=Place)


async def expire(conn: TrioConnection, router: str, places: Sequence[Place], *, dry_run: bool) -> list[Place]:
    """Write down of what is granted there that its time is over, where it is."""
    return await conn.fetch(_EXPIRE, _at(router, places, dry_run), row=Place)


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


async def observed(conn: TrioConnection, ids: Sequence[UUID]) -> None:
    """The router was seen to hold them."""
    await conn.run(_OBSERVED, {"ids": list(ids)})


async def forget_old(conn: TrioConnection) -> int:
    """How many had ended long ago and are gone now."""
    total = 0
    while gone := await conn.run(_FORGET):
        total += gone
    return total


def _order(router: str, pedido: str, dry_run: bool) -> dict[str, object]:  # noqa: FBT001  # private, and called right above
    return {"router": router, "pedido": pedido, "dry_run": dry_run}


def _at(router: str, places: Sequence[Place], dry_run: bool) -> dict[str, object]:  # noqa: FBT001  # the same
    return {"router": router, "dry_run": dry_run, **_places(places)}


def _places(places: Sequence[Place]) -> dict[str, object]:
    return {"ips": [place.ip for place in places], "macs": [place.mac for place in places]}


def _end(grant: GrantRow) -> float:
    return float("inf") if grant.until_unix is None else grant.until_unix
