"""Orders become grants: made if there is none that is live, as they are if nothing more is asked for than there was."""

from collections.abc import Sequence
from typing import Final

from attrs import field, frozen

from opendesk.network.hotspots import moves
from opendesk.network.hotspots.errors import GrantEnded
from opendesk.network.hotspots.grants import COLUMNS, IS_OPENED, LIVE, GrantRow
from opendesk.network.hotspots.place import Place
from opendesk.postgres.driver import TrioConnection

# More than there was: paid instead of on trial, without an end instead of with one, or for longer. A trial is never more than anything.
_IS_MORE: Final = """NOT excluded.trial AND (g.trial OR g.duration_s IS NOT NULL
                     AND (excluded.duration_s IS NULL OR excluded.duration_s > g.duration_s))"""
# This much time was given to it before, and is over, or was taken away before that. Only what was paid counts for what is paid; of a
# trial, there is none for an order that ever had anything, or has it elsewhere.
_IS_SPENT: Final = f"""g.end_reason IS DISTINCT FROM 'moved' AND CASE WHEN asked.trial
                           THEN g.ended_at IS NULL OR {IS_OPENED} OR g.had_time
                           ELSE NOT g.trial AND g.duration_s >= asked.duration_s AND {IS_OPENED}
                                AND (g.until <= now() OR g.end_reason IN ('revoked', 'removed')) END"""
_IS_HERE: Final = f"({LIVE}) AND (g.ip, g.mac) = (asked.ip, asked.mac) AND (asked.trial OR NOT g.trial)"

# Of a live one that is asked for again nothing changes, unless it is asked for more than it was: then its time begins anew. An order
# whose time has passed doesn't come back for as much as it had. The index decides of those who come at once, who take it in one order.
# Left out, too, is what takes a second look (`revisit`): what was revoked with time left, and what this device may have elsewhere.
_AUTHORIZE: Final = f"""
    INSERT INTO hotspot_grants AS g (router_id, pedido_id, ip, mac, device, duration_s, trial, dry_run)
    SELECT router, pedido, ip, mac, device, duration_s, trial, %(dry_run)s
      FROM unnest(%(routers)s::text[], %(pedidos)s::text[], %(ips)s::inet[], %(macs)s::macaddr[], %(devices)s::bytea[], %(durations)s::int[],
                  %(trials)s::bool[], %(by_macs)s::bool[])
           AS asked (router, pedido, ip, mac, device, duration_s, trial, by_mac)
           CROSS JOIN LATERAL (
               SELECT bool_or({_IS_HERE}) AS is_here,
                      bool_or({_IS_SPENT}) AS is_spent,
                      bool_or({LIVE} AND (g.ip, g.mac) <> (asked.ip, asked.mac)
                              AND CASE WHEN asked.by_mac THEN g.mac = asked.mac
                                       ELSE asked.device IS NOT NULL AND coalesce(g.device = asked.device, true) END) AS is_elsewhere
                 FROM hotspot_grants g
                WHERE g.router_id = asked.router AND g.pedido_id = asked.pedido AND g.dry_run = %(dry_run)s
           ) AS had
     WHERE (is_here OR is_spent IS NOT TRUE) AND (%(is_settled)s OR is_elsewhere IS NOT TRUE)
     ORDER BY router, pedido, mac, ip
        ON CONFLICT (router_id, pedido_id, mac, ip, dry_run) WHERE ended_at IS NULL DO UPDATE
       SET device = coalesce(excluded.device, g.device),
           trial = g.trial AND excluded.trial,
           had_time = g.had_time OR {_IS_MORE} AND {IS_OPENED},
           before = CASE WHEN {_IS_MORE} THEN {moves.BEFORE} ELSE g.before END,
           duration_s = CASE WHEN {_IS_MORE} THEN excluded.duration_s ELSE g.duration_s END,
           begun_at = CASE WHEN {_IS_MORE} THEN NULL ELSE g.begun_at END,
           until = CASE WHEN {_IS_MORE} THEN NULL ELSE g.until END,
           opening_at = CASE WHEN {_IS_MORE} THEN NULL ELSE g.opening_at END,
           observed_at = CASE WHEN {_IS_MORE} THEN NULL ELSE g.observed_at END
     WHERE ({LIVE}) OR {_IS_MORE}
 RETURNING {COLUMNS}
"""


@frozen
class Order:
    """What is asked for: `duration_s` is None for until it is revoked. `last` is where its device was before.

    A `trial` is given once an order, before anything else is, and joins whatever is there; it always has an end. `by_mac`: who has this
    MAC is the device, and takes along what it has of the order at other IPs.
    """

    router: str
    pedido: str
    place: Place
    device: bytes | None = None
    duration_s: int | None = None
    last: tuple[Place, ...] = field(default=(), eq=False)
    trial: bool = False
    by_mac: bool = False

    def __attrs_post_init__(self) -> None:
        assert not self.trial or self.duration_s is not None

    @property
    def key(self) -> tuple[str, str, Place]:
        return self.router, self.pedido, self.place


@frozen
class Settled:
    """An order's grant, and the places from which it was taken: their rows have to go."""

    grant: GrantRow
    left: tuple[Place, ...] = ()


async def authorize_all(
    conn: TrioConnection, orders: Sequence[Order], *, dry_run: bool, is_settled: bool = False
) -> list[GrantRow | None]:
    """The live grant of each order for its device, made if there is none. No two of one `key`.

    None is for one to `revisit`. `is_settled`: what its device has elsewhere was looked at.
    """
    values = {
        "dry_run": dry_run,
        "is_settled": is_settled,
        "routers": [order.router for order in orders],
        "pedidos": [order.pedido for order in orders],
        "ips": [order.place.ip for order in orders],
        "macs": [order.place.mac for order in orders],
        "devices": [order.device for order in orders],
        "durations": [order.duration_s for order in orders],
        "trials": [order.trial for order in orders],
        "by_macs": [order.by_mac for order in orders],
    }
    rows = await conn.fetch(_AUTHORIZE, values, row=GrantRow)
    granted = {(row.router_id, row.pedido_id, row.place): row for row in rows}
    return [granted.get(order.key) for order in orders]


async def revisit(conn: TrioConnection, order: Order, *, dry_run: bool) -> Settled:
    """One that `authorize_all` left out: its device takes along what it has elsewhere, and what was revoked goes on with what was left.

    Raise GrantEnded if this much time was given to the order before, and is over; of a trial, if it had any.
    """
    async with conn.transaction():
        await moves.lock(conn, order.router, order.pedido, dry_run=dry_run)
        left = await _taken_along(conn, order, dry_run=dry_run)
        (granted,) = await authorize_all(conn, [order], dry_run=dry_run, is_settled=True)
        if granted is None and not order.trial:
            granted = await moves.resume(
                conn,
                order.router,
                order.pedido,
                order.place,
                device=order.device,
                duration_s=order.duration_s,
                dry_run=dry_run,
            )
    if granted is None:
        raise GrantEnded
    return Settled(granted, left)


async def _taken_along(conn: TrioConnection, order: Order, *, dry_run: bool) -> tuple[Place, ...]:
    """From where."""
    if order.device is None and not order.by_mac:
        return ()
    last = (*order.last, Place(None, order.place.mac)) if order.by_mac else order.last
    moved = await moves.take_along(
        conn, order.router, order.pedido, order.place, last, device=order.device, dry_run=dry_run
    )
    return () if moved is None else moved.places[1:]


async def authorize(
    conn: TrioConnection,
    router: str,
    pedido: str,
    place: Place,
    *,
    device: bytes | None,
    duration_s: int | None,
    dry_run: bool,
    trial: bool = False,
) -> GrantRow:
    """Of one. Raise GrantEnded if this much time was given to the order before, and is over."""
    order = Order(router, pedido, place, device, duration_s, trial=trial)
    (granted,) = await authorize_all(conn, [order], dry_run=dry_run)
    return granted or (await revisit(conn, order, dry_run=dry_run)).grant
