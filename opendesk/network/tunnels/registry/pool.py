"""Tunnel IPs from WG_TUNNEL_POOL: the lowest that nobody holds."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

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
_IS_DIALLED: Final = (
    "SELECT FROM routers WHERE host = %(ip)s AND dry_run <= %(dry_run)s AND id IS DISTINCT FROM %(id)s LIMIT 1"
)
_DIALLED: Final = "SELECT host FROM routers WHERE dry_run <= %(dry_run)s AND id IS DISTINCT FROM %(id)s"
_HELD: Final = "SELECT prefix::text FROM tunnel_prefixes WHERE dry_run = %(dry_run)s AND prefix << %(pool)s::cidr"


def own_address(pool: Network) -> str:
    """The VPS's own: the first host of the pool."""
    return str(pool.network_address + 1)


async def free_ip(conn: TrioConnection, pool: Network, device_id: str | None = None, *, dry_run: bool) -> str:
    """The lowest host that nobody else holds; whoever asks has the registry's turn. Raise PoolExhausted."""
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
            if await conn.fetch_one(_IS_DIALLED, {"ip": found[0], "id": device_id, "dry_run": dry_run}) is None:
                return str(found[0])
            return await _where_nobody_dials(conn, pool, device_id, dry_run=dry_run)
    raise _exhausted(pool)


async def _where_nobody_dials(conn: TrioConnection, pool: Network, device_id: str | None, *, dry_run: bool) -> str:
    """Seldom, and slower: all that is held is read."""
    held = [ip_network(text) for (text,) in await conn.fetch(_HELD, {"pool": str(pool), "dry_run": dry_run})]
    dialled = [host for (host,) in await conn.fetch(_DIALLED, {"id": device_id, "dry_run": dry_run})]
    free = lowest_free(pool, [*held, *_within(pool, dialled)])
    if free is None:
        raise _exhausted(pool)
    return free


def _within(pool: Network, hosts: Iterable[str]) -> list[Network]:
    """Of names nobody knows where they are."""
    found = list[Network]()
    for host in hosts:
        try:
            address = ip_network(host)
        except ValueError:
            continue
        if address.version == pool.version and address.network_address in pool:
            found.append(address)
    return found


def lowest_free(pool: Network, held: Iterable[Network]) -> str | None:
    """The lowest host of the pool, after the VPS's own, that none of these holds; they may overlap."""
    at, last = int(pool.network_address) + 2, int(pool.broadcast_address) - 1
    for start, end in sorted((int(one.network_address), int(one.broadcast_address)) for one in held):
        if start > at:
            break
        at = max(at, end + 1)
    return None if at > last else str(pool.network_address + (at - int(pool.network_address)))


def _exhausted(pool: Network) -> PoolExhausted:
    return PoolExhausted(f"all addresses of {pool} are held (WG_TUNNEL_POOL)")
