"""Tunnel IPs from WG_TUNNEL_POOL: the lowest that nobody holds."""

from ipaddress import IPv4Network, IPv6Network
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


def own_address(pool: Network) -> str:
    """The VPS's own: the first host of the pool."""
    return str(pool.network_address + 1)


async def free_ip(conn: TrioConnection, pool: Network, *, dry_run: bool) -> str:
    """The lowest host that nobody holds; whoever asks has the registry's turn. Raise PoolExhausted."""
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
            return str(found[0])
    raise PoolExhausted(f"all addresses of {pool} are held (WG_TUNNEL_POOL)")
