"""Orders become grants: made if there is none that is live, as they are if nothing more is asked for than there was."""

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from opendesk.network.hotspots.errors import GrantEnded
from opendesk.network.hotspots.grants import COLUMNS, GrantRow
from opendesk.network.hotspots.place import Place
from opendesk.postgres.driver import TrioConnection

# More than there was: without an end instead of with one, or for longer.
_IS_MORE: Final = "g.duration_s IS NOT NULL AND (excluded.duration_s IS NULL OR excluded.duration_s > g.duration_s)"

# Of a live one that is asked for again nothing changes, unless it is asked for more than it was: then its time begins anew. An order
# whose time has passed doesn't come back for as much as it had. The index decides of those who come at once, who take it in one order.
_AUTHORIZE: Final = f"""
    INSERT INTO hotspot_grants AS g (router_id, pedido_id, ip, mac, device, duration_s, dry_run)
    SELECT router, pedido, ip, mac, device, duration_s, %(dry_run)s
      FROM unnest(%(routers)s::text[], %(pedidos)s::text[], %(ips)s::inet[], %(macs)s::macaddr[], %(devices)s::bytea[], %(durations)s::int[])
           AS asked (router, pedido, ip, mac, device, duration_s)
     WHERE NOT EXISTS (SELECT FROM hotspot_grants g
                        WHERE g.router_id = asked.router AND g.pedido_id = asked.pedido AND g.dry_run = %(dry_run)s
                          AND g.until <= now() AND g.duration_s >= asked.duration_s)
     ORDER BY router, pedido, mac, ip
        ON CONFLICT (router_id, pedido_id, mac, ip, dry_run) WHERE ended_at IS NULL DO UPDATE
       SET device = coalesce(excluded.device, g.device),
           duration_s = CASE WHEN {_IS_MORE} THEN excluded.duration_s ELSE g.duration_s END,
           begun_at = CASE WHEN {_IS_MORE} THEN NULL ELSE g.begun_at END,
           until = CASE WHEN {_IS_MORE} THEN NULL ELSE g.until END,
           observed_at = CASE WHEN {_IS_MORE} THEN NULL ELSE g.observed_at END
     WHERE g.until IS NULL OR g.until > now() OR {_IS_MORE}
 RETURNING {COLUMNS}
"""


@frozen
class Order:
    """What is asked for: `duration_s` is None for until it is revoked."""

    router: str
    pedido: str
    place: Place
    device: bytes | None = None
    duration_s: int | None = None

    @property
    def key(self) -> tuple[str, str, Place]:
        return self.router, self.pedido, self.place


async def authorize_all(conn: TrioConnection, orders: Sequence[Order], *, dry_run: bool) -> list[GrantRow | None]:
    """The live grant of each order for its device, made if there is none. No two of one `key`.

    None is for one that was given this much time before, and whose time is over.
    """
    values = {
        "dry_run": dry_run,
        "routers": [order.router for order in orders],
        "pedidos": [order.pedido for order in orders],
        "ips": [order.place.ip for order in orders],
        "macs": [order.place.mac for order in orders],
        "devices": [order.device for order in orders],
        "durations": [order.duration_s for order in orders],
    }
    rows = await conn.fetch(_AUTHORIZE, values, row=GrantRow)
    granted = {(row.router_id, row.pedido_id, row.place): row for row in rows}
    return [granted.get(order.key) for order in orders]


async def authorize(
    conn: TrioConnection,
    router: str,
    pedido: str,
    place: Place,
    *,
    device: bytes | None,
    duration_s: int | None,
    dry_run: bool,
) -> GrantRow:
    """Of one. Raise GrantEnded if this much time was given to the order before, and is over."""
    (granted,) = await authorize_all(conn, [Order(router, pedido, place, device, duration_s)], dry_run=dry_run)
    if granted is None:
        raise GrantEnded
    return granted
