"""Devices and tombstones as they are stored."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from opendesk.network.tunnels.errors import DeviceNotFound
from opendesk.network.tunnels.registry.device import Device
from opendesk.postgres.driver import TrioConnection

# Told whenever something changed: a device's id, or nothing for what is no device's.
CHANNEL: Final = "opendesk_tunnels"

# Twice what one interface is measured with; behind it reads and passes are no longer quick.
DEVICES_MAX: Final = 20_000
# One present and one next of each device, and as many that wait to be seen gone: they pile up while the interface is away.
KEYS_MAX: Final = 3 * DEVICES_MAX

COLUMNS: Final = """
    id, seq, public_key, preshared_key_sealed, next_public_key, next_preshared_key_sealed, next_since, next_username,
    next_password_sealed, next_port, host(tunnel_ip) AS tunnel_ip,
    array_to_string(allowed_ips, ',') AS allowed_ips, endpoint, keepalive, meta, created_at, updated_at
"""
# "tunl" in ASCII, so that it is nobody else's, and the realm.
_LOCK: Final = "SELECT pg_advisory_xact_lock(1953852012, %(dry_run)s::boolean::integer)"
_SOME: Final = f"SELECT {COLUMNS} FROM tunnel_devices WHERE dry_run = %(dry_run)s AND id = ANY (%(ids)s)"
_OTHER_AT: Final = (
    "SELECT id FROM tunnel_devices WHERE dry_run = %(dry_run)s AND tunnel_ip = %(tunnel_ip)s::inet AND id <> %(id)s"
)
_OF_KEY: Final = f"""
    SELECT {COLUMNS} FROM tunnel_devices
     WHERE dry_run = %(dry_run)s AND (public_key = %(public_key)s OR next_public_key = %(public_key)s)
"""
_PORTION: Final = f"""
    SELECT {COLUMNS} FROM tunnel_devices WHERE dry_run = %(dry_run)s AND seq > %(seq)s ORDER BY seq LIMIT %(limit)s
"""
_PAGE: Final = f"""
    SELECT {COLUMNS} FROM tunnel_devices WHERE dry_run = %(dry_run)s AND seq < coalesce(%(seq)s, 9223372036854775807)
     ORDER BY seq DESC LIMIT %(limit)s
"""
_TOMBSTONES: Final = "SELECT public_key, device_id FROM tunnel_keys WHERE dry_run = %(dry_run)s AND removed_at IS NOT NULL LIMIT %(limit)s"
_TOMBSTONES_OF: Final = """
    SELECT public_key, device_id FROM tunnel_keys
     WHERE dry_run = %(dry_run)s AND removed_at IS NOT NULL AND device_id = ANY (%(ids)s)
     UNION SELECT public_key, device_id FROM tunnel_keys
     WHERE dry_run = %(dry_run)s AND removed_at IS NOT NULL AND public_key = ANY (%(keys)s)
     LIMIT %(limit)s
"""
_BURY: Final = """
    DELETE FROM tunnel_keys
     WHERE dry_run = %(dry_run)s AND public_key = ANY (%(keys)s) AND removed_at <= now() - make_interval(secs => %(after_s)s)
 RETURNING public_key
"""
_CHANGED_LATELY: Final = """
    SELECT id FROM tunnel_devices WHERE dry_run = %(dry_run)s AND endpoint_changed_at > now() - make_interval(secs => %(within_s)s)
"""


async def take_turn(conn: TrioConnection, *, dry_run: bool) -> None:
    """Until the transaction ends nobody else registers; what is read after this is what they left."""
    await conn.run(_LOCK, {"dry_run": dry_run})


async def get(conn: TrioConnection, device_id: str, *, dry_run: bool) -> Device:
    """Raise DeviceNotFound."""
    found = await some(conn, [device_id], dry_run=dry_run)
    if not found:
        raise DeviceNotFound(f"there is no device {device_id}")
    return found[0]


async def find_key(conn: TrioConnection, public_key: str, *, dry_run: bool) -> Device | None:
    """The device whose present or next key this is."""
    return await conn.fetch_one(_OF_KEY, {"dry_run": dry_run, "public_key": public_key}, row=Device)


async def some(conn: TrioConnection, ids: Collection[str], *, dry_run: bool) -> Sequence[Device]:
    """Those of them that there are, in no order."""
    return await conn.fetch(_SOME, {"dry_run": dry_run, "ids": list(ids)}, row=Device)


async def other_at(conn: TrioConnection, tunnel_ip: str, device_id: str, *, dry_run: bool) -> str | None:
    """Another device that has this tunnel IP."""
    found = await conn.fetch_one(_OTHER_AT, {"tunnel_ip": tunnel_ip, "id": device_id, "dry_run": dry_run})
    return None if found is None else str(found[0])


async def portion(conn: TrioConnection, after_seq: int, limit: int, *, dry_run: bool) -> Sequence[Device]:
    """Oldest first: all of them, portion by portion, from `after_seq` 0 on."""
    return await conn.fetch(_PORTION, {"dry_run": dry_run, "seq": after_seq, "limit": limit}, row=Device)


async def page(conn: TrioConnection, before_seq: int | None, limit: int, *, dry_run: bool) -> Sequence[Device]:
    """Newest first, from the newest where `before_seq` is None."""
    return await conn.fetch(_PAGE, {"dry_run": dry_run, "seq": before_seq, "limit": limit}, row=Device)


async def changed_lately(conn: TrioConnection, within_s: float, *, dry_run: bool) -> frozenset[str]:
    """The devices that were told to be dialled elsewhere so short a time ago, by the database's clock."""
    values = {"dry_run": dry_run, "within_s": float(within_s)}
    return frozenset(device for (device,) in await conn.fetch(_CHANGED_LATELY, values))


async def tombstones(conn: TrioConnection, *, dry_run: bool) -> Mapping[str, str | None]:
    """Keys that are to go from the interface, by the devices that had them, if any. They stay here until it was seen without them."""
    return dict(await conn.fetch(_TOMBSTONES, {"dry_run": dry_run, "limit": KEYS_MAX}))


async def tombstones_of(
    conn: TrioConnection, ids: Collection[str], keys: Collection[str], *, dry_run: bool
) -> Mapping[str, str | None]:
    """Those of these devices, and of these keys."""
    values = {"dry_run": dry_run, "ids": list(ids), "keys": list(keys), "limit": KEYS_MAX}
    return dict(await conn.fetch(_TOMBSTONES_OF, values))


async def bury(conn: TrioConnection, keys: Collection[str], after_s: float, *, dry_run: bool) -> frozenset[str]:
    """Those of them that were removed so long ago, and that nobody asked for again meanwhile."""
    if not keys:
        return frozenset()
    values = {"dry_run": dry_run, "keys": list(keys), "after_s": float(after_s)}
    return frozenset(key for (key,) in await conn.fetch(_BURY, values))
