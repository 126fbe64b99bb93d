"""Which router is behind a peer, by its public key."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from attrs import frozen

from opendesk.network.tunnels.errors import BindingNotFound, TooManyBindings
from opendesk.postgres.driver import TrioConnection

# As many as devices: a binding without one is of a peer that somebody set up by hand.
BINDINGS_MAX: Final = 20_000

_COLUMNS: Final = "public_key, device_id, host(mikrotik_ip) AS mikrotik_ip, created_at"
_BIND: Final = f"""
    INSERT INTO tunnel_bindings AS b (dry_run, public_key, device_id, mikrotik_ip)
    SELECT %(dry_run)s, %(public_key)s, %(device_id)s, %(mikrotik_ip)s::inet
     WHERE EXISTS (SELECT FROM tunnel_bindings WHERE dry_run = %(dry_run)s AND public_key = %(public_key)s)
        OR (SELECT count(*) FROM tunnel_bindings WHERE dry_run = %(dry_run)s) < {BINDINGS_MAX}
        ON CONFLICT (dry_run, public_key) DO UPDATE SET device_id = excluded.device_id, mikrotik_ip = excluded.mikrotik_ip
     WHERE (b.device_id, b.mikrotik_ip) IS DISTINCT FROM (excluded.device_id, excluded.mikrotik_ip)
"""
# Whoever binds a key knows it: it isn't to go any more.
_SPARE: Final = """
    WITH spared AS (
        DELETE FROM tunnel_keys WHERE dry_run = %(dry_run)s AND public_key = %(public_key)s AND removed_at IS NOT NULL RETURNING public_key
    )
    SELECT pg_notify('opendesk_tunnels', '') FROM spared
"""
_FIND: Final = f"SELECT {_COLUMNS} FROM tunnel_bindings WHERE dry_run = %(dry_run)s AND public_key = %(public_key)s"
_LIST: Final = (
    f"SELECT {_COLUMNS} FROM tunnel_bindings WHERE dry_run = %(dry_run)s ORDER BY public_key LIMIT {BINDINGS_MAX}"
)
_KEYS: Final = f"SELECT public_key FROM tunnel_bindings WHERE dry_run = %(dry_run)s LIMIT {2 * BINDINGS_MAX}"
_UNBIND_DEVICE: Final = "DELETE FROM tunnel_bindings WHERE dry_run = %(dry_run)s AND device_id = %(device_id)s"
_UNBIND: Final = "DELETE FROM tunnel_bindings WHERE dry_run = %(dry_run)s AND public_key = ANY (%(keys)s)"
# Where it was bound to somewhere else by hand, it stays so.
_FOLLOW: Final = """
    UPDATE tunnel_bindings SET mikrotik_ip = %(to)s::inet
     WHERE dry_run = %(dry_run)s AND public_key = %(public_key)s AND mikrotik_ip = %(was)s::inet
"""
_MAKE_MISSING: Final = f"""
    INSERT INTO tunnel_bindings (dry_run, public_key, device_id, mikrotik_ip)
    SELECT d.dry_run, d.public_key, d.id, d.tunnel_ip
      FROM tunnel_devices d
     WHERE d.dry_run = %(dry_run)s AND d.tunnel_ip IS NOT NULL AND (%(id)s::text IS NULL OR d.id = %(id)s)
       AND NOT EXISTS (SELECT FROM tunnel_bindings b WHERE b.dry_run = d.dry_run AND b.public_key = d.public_key)
     ORDER BY d.seq LIMIT %(limit)s
        ON CONFLICT DO NOTHING
    RETURNING {_COLUMNS}
"""


@frozen(kw_only=True)
class Binding:
    public_key: str
    device_id: str
    mikrotik_ip: str
    created_at: datetime


async def bind(conn: TrioConnection, public_key: str, device_id: str, mikrotik_ip: str, *, dry_run: bool) -> Binding:
    """What the key was bound to before no longer counts. Raise TooManyBindings."""
    values = {"dry_run": dry_run, "public_key": public_key, "device_id": device_id, "mikrotik_ip": mikrotik_ip}
    async with conn.transaction():
        await conn.run(_BIND, values)
        await conn.run(_SPARE, values)
        bound = await conn.fetch_one(_FIND, values, row=Binding)
    if bound is None:
        raise TooManyBindings
    return bound


async def find(conn: TrioConnection, public_key: str, *, dry_run: bool) -> Binding:
    """Raise BindingNotFound."""
    found = await conn.fetch_one(_FIND, {"dry_run": dry_run, "public_key": public_key}, row=Binding)
    if found is None:
        raise BindingNotFound
    return found


async def list_all(conn: TrioConnection, *, dry_run: bool) -> Sequence[Binding]:
    """By key, BINDINGS_MAX at most."""
    return await conn.fetch(_LIST, {"dry_run": dry_run}, row=Binding)


async def keys(conn: TrioConnection, *, dry_run: bool) -> frozenset[str]:
    """The keys that somebody bound: their peers are known."""
    return frozenset(key for (key,) in await conn.fetch(_KEYS, {"dry_run": dry_run}))


async def unbind(conn: TrioConnection, *public_keys: str, dry_run: bool) -> bool:
    """Whether one of them was bound."""
    return await conn.run(_UNBIND, {"dry_run": dry_run, "keys": list(public_keys)}) > 0


async def unbind_device(conn: TrioConnection, device_id: str, *, dry_run: bool) -> None:
    """Whatever is bound to it, by whatever key."""
    await conn.run(_UNBIND_DEVICE, {"dry_run": dry_run, "device_id": device_id})


async def follow(conn: TrioConnection, public_key: str, was: str, to: str, *, dry_run: bool) -> None:
    """A device has another tunnel IP, and what is bound to the old one goes with it."""
    await conn.run(_FOLLOW, {"dry_run": dry_run, "public_key": public_key, "was": was, "to": to})


async def make(conn: TrioConnection, device_id: str, *, dry_run: bool) -> None:
    """Of a device that was just registered; as `make_missing` does it."""
    await conn.run(_MAKE_MISSING, {"dry_run": dry_run, "id": device_id, "limit": 1})


async def make_missing(conn: TrioConnection, *, dry_run: bool) -> Sequence[Binding]:
    """Those that were made: each device with a tunnel IP is bound to it by its present key, unless that key is bound already."""
    return await conn.fetch(_MAKE_MISSING, {"dry_run": dry_run, "id": None, "limit": BINDINGS_MAX}, row=Binding)
