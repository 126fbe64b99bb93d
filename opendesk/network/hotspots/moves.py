"""Orders whose time goes on: at another place, or after they were revoked."""

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from opendesk.network.hotspots.errors import GrantEnded
from opendesk.network.hotspots.grants import COLUMNS, END, IS_OPENED, IS_OVER, OF_PLACES, GrantRow, arrays
from opendesk.network.hotspots.place import Place
from opendesk.postgres.driver import TrioConnection

REVOKED: Final = "the order was revoked: to open its way again, authorize it"
RELEASED: Final = "the order had a trial, which ended when something was paid for this device"

# What there was before it was given more: it holds again if that can't be opened. Of what was opened nobody asks for it any more.
BEFORE: Final = f"""CASE WHEN {IS_OPENED} THEN jsonb_build_object(
                         'duration_s', g.duration_s, 'begun_at', g.begun_at, 'until', g.until, 'opening_at', g.opening_at,
                         'observed_at', g.observed_at, 'trial', g.trial)
                     ELSE g.before END"""
# Moves of one order take turns: each must see where the one before has taken it, and there may be no row yet that could be locked.
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%(router)s || ' ' || %(pedido)s, 0))"
_WITHDRAW: Final = f"""
    UPDATE hotspot_grants g
       SET ended_at = now(), end_reason = CASE WHEN {IS_OVER} THEN 'expired' ELSE 'moved' END
     WHERE g.router_id = %(router)s AND g.pedido_id = %(pedido)s AND g.dry_run = %(dry_run)s AND g.ended_at IS NULL
       AND (g.ip, g.mac) <> (%(ip)s::inet, %(mac)s::macaddr) AND (g.device = %(device)s::bytea OR {OF_PLACES})
 RETURNING {COLUMNS}
"""
# What it has here; what this device had last; what others have of it. What was moved is told by where it was moved to.
_LAST: Final = f"""
    SELECT {COLUMNS}, g.end_reason IS NOT DISTINCT FROM 'revoked' AS is_revoked,
           g.end_reason IS NOT DISTINCT FROM 'released' AS is_released
      FROM hotspot_grants g,
           LATERAL (SELECT (g.ip, g.mac) = (%(ip)s::inet, %(mac)s::macaddr)) AS here (is_here)
     WHERE g.router_id = %(router)s AND g.pedido_id = %(pedido)s AND g.dry_run = %(dry_run)s AND g.end_reason IS DISTINCT FROM 'moved'
     ORDER BY is_released, is_here AND g.ended_at IS NULL DESC, is_here OR g.device IS NOT DISTINCT FROM %(device)s::bytea OR {OF_PLACES} DESC,
              g.ended_at IS NULL DESC, g.created_at DESC LIMIT 1
"""
_REVOKED: Final = f"""
    SELECT {COLUMNS} FROM hotspot_grants g
     WHERE g.router_id = %(router)s AND g.pedido_id = %(pedido)s AND g.dry_run = %(dry_run)s AND g.end_reason IN ('revoked', 'removed')
       AND {IS_OPENED} AND g.until > now() AND g.duration_s >= %(asked_s)s AND NOT g.trial
     ORDER BY g.until DESC, g.created_at DESC LIMIT 1
"""
# Of two for one device, the one that was there and the one that comes, the time of the one that ends last holds; but what is paid before a trial.
_IS_LATER: Final = f"""CASE WHEN excluded.trial <> g.trial AND NOT {IS_OVER} THEN g.trial
                           ELSE g.duration_s IS NOT NULL
                                AND (excluded.duration_s IS NULL
                                     OR coalesce(excluded.until, now() + excluded.duration_s * interval '1 second') > {END}) END"""
_SETTLE: Final = f"""
    INSERT INTO hotspot_grants AS g (router_id, pedido_id, ip, mac, device, duration_s, begun_at, until, opening_at, observed_at, trial, had_time,
                                     before, dry_run)
    VALUES (%(router)s, %(pedido)s, %(ip)s, %(mac)s, %(device)s, %(duration_s)s, %(begun_at)s, %(until)s, %(opening_at)s, %(observed_at)s,
            %(trial)s, %(had_time)s, %(before)s::jsonb, %(dry_run)s)
        ON CONFLICT (router_id, pedido_id, mac, ip, dry_run) WHERE ended_at IS NULL DO UPDATE
       SET device = coalesce(excluded.device, g.device),
           trial = CASE WHEN {_IS_LATER} THEN excluded.trial ELSE g.trial END,
           had_time = g.had_time OR excluded.had_time OR {IS_OPENED},
           before = CASE WHEN {_IS_LATER} THEN coalesce({BEFORE}, excluded.before) ELSE g.before END,
           duration_s = CASE WHEN {_IS_LATER} THEN excluded.duration_s ELSE g.duration_s END,
           begun_at = CASE WHEN {_IS_LATER} THEN excluded.begun_at ELSE g.begun_at END,
           until = CASE WHEN {_IS_LATER} THEN excluded.until ELSE g.until END,
           opening_at = CASE WHEN {_IS_LATER} THEN excluded.opening_at ELSE g.opening_at END,
           observed_at = CASE WHEN {_IS_LATER} THEN excluded.observed_at ELSE g.observed_at END
 RETURNING {COLUMNS}
"""


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

    An order that is unknown is granted until it is revoked. Raise GrantEnded if the order's time is over, or it was revoked.
    """
    order = _order(router, pedido, dry_run) | _at(new, old, device)
    async with conn.transaction():
        await conn.fetch(_LOCK, order)
        withdrawn = await conn.fetch(_WITHDRAW, order, row=GrantRow)
        last = _longest(withdrawn) or await _had(conn, order)
        return await _settled(conn, order, new, last, withdrawn)


async def take_along(
    conn: TrioConnection,
    router: str,
    pedido: str,
    new: Place,
    old: Sequence[Place],
    *,
    device: bytes | None,
    dry_run: bool,
) -> Moved | None:
    """The same, if there is anything to take that still has time; else nothing is made of it. For whoever holds the `lock`."""
    order = _order(router, pedido, dry_run) | _at(new, old, device)
    withdrawn = await conn.fetch(_WITHDRAW, order, row=GrantRow)
    last = _longest(withdrawn)
    return None if last is None else await _settled(conn, order, new, last, withdrawn)


async def _settled(
    conn: TrioConnection, order: dict[str, object], new: Place, last: GrantRow | None, withdrawn: Sequence[GrantRow]
) -> Moved:
    had_time = any(grant.had_time or grant.is_opened for grant in withdrawn)
    settled = await conn.fetch_one(_SETTLE, order | _time_of(last, had_time=had_time), row=GrantRow)
    assert settled is not None
    return Moved(settled, tuple(dict.fromkeys([new, *(grant.place for grant in withdrawn)])))


async def _had(conn: TrioConnection, order: dict[str, object]) -> GrantRow | None:
    """What there is of an order that has nothing where it was."""
    found = await conn.fetch_one(_LAST, order)
    if found is None:
        return None
    *columns, is_revoked, is_released = found
    if is_released:
        raise GrantEnded(RELEASED)
    if is_revoked:
        raise GrantEnded(REVOKED)
    if (last := GrantRow(*columns)).is_over:
        raise GrantEnded
    return last


def _time_of(grant: GrantRow | None, *, had_time: bool = False) -> dict[str, object]:
    """Of one whose way was never opened nothing has begun. What may have been open counts as what was: once its rows are gone, nobody can tell.

    `had_time`: others of it were open, too.
    """
    if grant is None or not grant.is_opened:
        begun = dict.fromkeys(("begun_at", "until", "opening_at", "observed_at"))
    else:
        seen_at = grant.observed_at or grant.opening_at
        begun = {
            "begun_at": grant.begun_at,
            "until": grant.until,
            "opening_at": grant.opening_at,
            "observed_at": seen_at,
        }
    if grant is None:
        return {"duration_s": None, "trial": False, "had_time": had_time, "before": None, **begun}
    had_time = had_time or grant.had_time or grant.is_opened
    before = None if grant.is_opened else grant.before
    return {"duration_s": grant.duration_s, "trial": grant.trial, "had_time": had_time, "before": before, **begun}


async def lock(conn: TrioConnection, router: str, pedido: str, *, dry_run: bool) -> None:
    """Until the transaction ends nobody else moves this order."""
    await conn.fetch(_LOCK, _order(router, pedido, dry_run))


async def resume(
    conn: TrioConnection,
    router: str,
    pedido: str,
    place: Place,
    *,
    device: bytes | None,
    duration_s: int | None,
    dry_run: bool,
) -> GrantRow | None:
    """One that was revoked, or whose router was removed, and had no less time than this, goes on with what was left of it; None if nothing is."""
    order = _order(router, pedido, dry_run) | _at(place, (), device) | {"asked_s": duration_s}
    last = await conn.fetch_one(_REVOKED, order, row=GrantRow)
    if last is None:
        return None
    return await conn.fetch_one(_SETTLE, order | _time_of(last), row=GrantRow)


def _order(router: str, pedido: str, dry_run: bool) -> dict[str, object]:  # noqa: FBT001  # private, and called right above
    return {"router": router, "pedido": pedido, "dry_run": dry_run}


def _at(new: Place, old: Sequence[Place], device: bytes | None) -> dict[str, object]:
    return {"ip": new.ip, "mac": new.mac, "device": device, **arrays(old)}


def _longest(withdrawn: Sequence[GrantRow]) -> GrantRow | None:
    """What is paid goes before a trial."""
    return max((grant for grant in withdrawn if not grant.is_over), key=lambda g: (not g.trial, _end(g)), default=None)


def _end(grant: GrantRow) -> float:
    return float("inf") if grant.until_unix is None else grant.until_unix
