"""Tunnel IPs from WG_TUNNEL_POOL: the lowest that nobody holds."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from operator import itemgetter
from typing import Final

from opendesk.network.routers import registry
from opendesk.network.tunnels.errors import PoolExhausted
from opendesk.postgres.driver import TrioConnection

Network = IPv4Network | IPv6Network

# How far the next prefix is behind the end of this one: 1 where nothing is between them. Numbers are quicker, but hold no IPv6.
_BEHIND: Final = {
    4: "lead(prefix) OVER (ORDER BY prefix) - broadcast(prefix)",
    6: "CASE WHEN set_masklen(lead(prefix) OVER (ORDER BY prefix)::inet, 128) = set_masklen(broadcast(prefix), 128) + 1 THEN 1 END",
}
# What is held lies apart and in the index's order. The realm is part of the text, for each has an index of its own.
_FREE: Final = {
    (version, dry_run): f"""
        SELECT CASE
          WHEN EXISTS (SELECT FROM tunnel_prefixes WHERE {realm} AND prefix >>= %(pool)s::cidr) THEN NULL
          WHEN NOT EXISTS (SELECT FROM tunnel_prefixes WHERE {realm} AND prefix && %(first)s::inet) THEN host(%(first)s::inet)
          ELSE (SELECT host(set_masklen(ends, %(bits)s) + 1)
                  FROM (SELECT prefix, broadcast(prefix) AS ends, {behind} AS behind
                          FROM tunnel_prefixes WHERE dry_run = {dry_run} AND prefix << %(pool)s::cidr) AS held
                 WHERE behind IS DISTINCT FROM 1
                   AND set_masklen(ends, %(bits)s) BETWEEN %(first)s::inet AND %(last_but_one)s::inet
                 ORDER BY prefix LIMIT 1) END
    """
    for version, behind in _BEHIND.items()
    for dry_run, realm in ((False, "NOT dry_run"), (True, "dry_run"))
}

# Where a router is dialled isn't free, though its device may be gone: whoever came there next would be sent that router's password.
_DIALLED: Final = "SELECT id, host FROM routers WHERE dry_run <= %(dry_run)s AND id IS DISTINCT FROM %(id)s"
_HELD: Final = "SELECT prefix::text FROM tunnel_prefixes WHERE dry_run = %(dry_run)s AND prefix << %(pool)s::cidr"

# Of routers, by their ids, that a refusal names.
_TOLD: Final = 5


def own_address(pool: Network) -> str:
    """The VPS's own: the first host of the pool."""
    return str(pool.network_address + 1)


async def free_ip(
    conn: TrioConnection, pool: Network, device_id: str | None = None, *, dry_run: bool, dialled: Mapping[str, str] = {}
) -> str:
    """The lowest host that nobody else holds; whoever asks has the registry's turn. `dialled` are hosts of further routers, by id.

    Raise PoolExhausted.
    """
    # Network, the VPS, a host, broadcast.
    if pool.num_addresses > 3:  # noqa: PLR2004  # see above
        values = {
            "first": str(pool.network_address + 2),
            "last_but_one": str(pool.broadcast_address - 2),
            "pool": str(pool),
            "bits": pool.max_prefixlen,
        }
        found = await conn.fetch_one(_FREE[pool.version, dry_run], values)
        if found is not None and found[0] is not None:
            others = {name: host for name, host in dialled.items() if name != device_id}
            stored = await registry.other_at(conn, found[0], device_id, dry_run=dry_run)
            if stored is None and found[0] not in others.values():
                return str(found[0])
            return await _where_nobody_dials(conn, pool, device_id, others, dry_run=dry_run)
    raise _exhausted(pool)


async def _where_nobody_dials(
    conn: TrioConnection, pool: Network, device_id: str | None, others: Mapping[str, str], *, dry_run: bool
) -> str:
    """Seldom, and slower: all that is held is read."""
    held = [ip_network(text) for (text,) in await conn.fetch(_HELD, {"pool": str(pool), "dry_run": dry_run})]
    stored = await conn.fetch(_DIALLED, {"id": device_id, "dry_run": dry_run})
    dialled = _within(pool, [*stored, *others.items()])
    free = lowest_free(pool, [*held, *dialled.values()])
    if free is None:  # the devices alone leave some: without these routers there would be room
        raise _exhausted(pool, _without_device(dialled, held))
    return free


def _without_device(dialled: Mapping[str, Network], held: Iterable[Network]) -> Sequence[str]:
    """The routers that are dialled where no device is. What is held lies apart."""
    ranges = sorted((int(one.network_address), int(one.broadcast_address)) for one in held)

    def is_held(address: int) -> bool:
        before = bisect_right(ranges, address, key=itemgetter(0))
        return before > 0 and ranges[before - 1][1] >= address

    return sorted(name for name, place in dialled.items() if not is_held(int(place.network_address)))


def _within(pool: Network, routers: Iterable[tuple[str, str]]) -> dict[str, Network]:
    """By the routers' ids. Of names nobody knows where they are."""
    found = dict[str, Network]()
    for name, host in routers:
        try:
            address = ip_network(host)
        except ValueError:
            continue
        if address.version == pool.version and address.network_address in pool:
            found[name] = address
    return found


def lowest_free(pool: Network, held: Iterable[Network]) -> str | None:
    """The lowest host of the pool, after the VPS's own, that none of these holds; they may overlap."""
    at, last = int(pool.network_address) + 2, int(pool.broadcast_address) - 1
    for start, end in sorted((int(one.network_address), int(one.broadcast_address)) for one in held):
        if start > at:
            break
        at = max(at, end + 1)
    return None if at > last else str(pool.network_address + (at - int(pool.network_address)))


def _exhausted(pool: Network, without_device: Sequence[str] = ()) -> PoolExhausted:
    detail = f"all addresses of {pool} are held (WG_TUNNEL_POOL)"
    if without_device:
        some = ", ".join(without_device[:_TOLD])
        detail += f", {len(without_device)} of them by routers that have no device, such as {some}: remove those that are no more"
    return PoolExhausted(detail)
