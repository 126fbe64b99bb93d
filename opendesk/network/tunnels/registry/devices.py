"""Registering devices behind tunnels, and taking them away. Registrations take turns, so that none is granted what another has."""

from collections.abc import Mapping
from typing import Any, Final

from attrs import asdict, evolve

from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.errors import (
    AllowedIpsTaken,
    DeviceNotFound,
    PublicKeyTaken,
    RotationChangesMore,
    TooManyDevices,
    TunnelIpTaken,
)
from opendesk.network.tunnels.registry import bindings, routers
from opendesk.network.tunnels.registry.device import (
    KEEPALIVE_S,
    Device,
    NewDevice,
    Outcome,
    Registered,
    addresses,
    changed,
    changes_besides_key,
    checked_meta,
    covers,
    sealed,
)
from opendesk.network.tunnels.registry.pool import Network, free_ip, own_address
from opendesk.network.tunnels.registry.rotations import cancel_rotation, complete_rotation, expire_rotations
from opendesk.network.tunnels.registry.stored import (
    CHANNEL,
    COLUMNS,
    DEVICES_MAX,
    KEYS_MAX,
    bury,
    changed_lately,
    find_key,
    get,
    page,
    portion,
    some,
    take_turn,
    tombstones,
    tombstones_of,
)
from opendesk.postgres.driver import TrioConnection

__all__ = [
    "CHANNEL", "DEVICES_MAX", "Device", "NewDevice", "Outcome", "Registered", "bury", "cancel_rotation", "changed_lately",
    "complete_rotation", "expire_rotations", "find_key", "get", "page", "portion", "put", "remove", "remove_key", "some", "tombstones",
    "tombstones_of",
]  # fmt: skip

_KNOWN: Final = f"""
    SELECT {COLUMNS} FROM tunnel_devices
     WHERE dry_run = %(dry_run)s AND (id = %(id)s OR public_key = %(public_key)s OR next_public_key = %(public_key)s)
       FOR UPDATE
"""
_ROOM: Final = """
    SELECT coalesce(%(id)s, opendesk.uuid7()::text), (SELECT count(*) FROM tunnel_devices WHERE dry_run = %(dry_run)s)
"""
# The realm is part of the text, for each has an index of its own. A tunnel IP that is meant is told before other addresses are.
_OVERLAP: Final = {
    dry_run: f"""
        SELECT wanted.prefix::text, held.prefix::text, held.device_id, d.tunnel_ip IS NOT DISTINCT FROM %(tunnel_ip)s::inet
          FROM unnest(%(allowed_ips)s::cidr[]) AS wanted (prefix)
          JOIN tunnel_prefixes held ON held.prefix && wanted.prefix
          JOIN tunnel_devices d ON d.dry_run = held.dry_run AND d.id = held.device_id
         WHERE {realm} AND held.device_id IS DISTINCT FROM %(id)s::text
         ORDER BY 4 DESC, held.prefix LIMIT 1
    """
    for dry_run, realm in ((False, "NOT held.dry_run"), (True, "held.dry_run"))
}
_MAKE: Final = f"""
    INSERT INTO tunnel_devices (dry_run, id, public_key, preshared_key_sealed, tunnel_ip, allowed_ips, endpoint, keepalive, meta)
    VALUES (%(dry_run)s, %(id)s, %(public_key)s, %(preshared_key_sealed)s, %(tunnel_ip)s, %(allowed_ips)s::cidr[], %(endpoint)s,
            %(keepalive)s, %(meta)s::jsonb)
    RETURNING {COLUMNS}
"""
_CHANGE: Final = f"""
    UPDATE tunnel_devices
       SET preshared_key_sealed = %(preshared_key_sealed)s, next_public_key = %(next_public_key)s,
           next_preshared_key_sealed = %(next_preshared_key_sealed)s, next_username = %(next_username)s,
           next_password_sealed = %(next_password_sealed)s, next_port = %(next_port)s,
           next_since = CASE WHEN next_public_key = %(next_public_key)s THEN next_since
                             WHEN %(next_public_key)s::text IS NOT NULL THEN now() END,
           tunnel_ip = %(tunnel_ip)s, allowed_ips = %(allowed_ips)s::cidr[], endpoint = %(endpoint)s, keepalive = %(keepalive)s,
           meta = %(meta)s::jsonb, updated_at = now(),
           endpoint_changed_at = CASE WHEN endpoint IS DISTINCT FROM %(endpoint)s THEN now() ELSE endpoint_changed_at END
     WHERE dry_run = %(dry_run)s AND id = %(id)s
    RETURNING {COLUMNS}
"""
_REMOVE: Final = f"DELETE FROM tunnel_devices WHERE dry_run = %(dry_run)s AND id = %(id)s RETURNING {COLUMNS}"
_KEYS: Final = "SELECT count(*) FROM tunnel_keys WHERE dry_run = %(dry_run)s"
# What was pretended is on no interface, and leaves nothing to be removed.
_CONDEMN: Final = """
    INSERT INTO tunnel_keys (dry_run, public_key, removed_at) SELECT false, %(public_key)s, now() WHERE NOT %(dry_run)s
        ON CONFLICT DO NOTHING
"""


async def put(
    conn: TrioConnection, new: NewDevice, sealer: Sealer, *, dry_run: bool, pool: Network | None = None, allocate: bool = True,
    own_key: str | None = None, dialled: Mapping[str, str] = {},
) -> Registered:  # fmt: skip
    """Register a device, or change it; within the caller's transaction if there is one, at READ COMMITTED and as its first step.

    With a pool nobody gets the VPS's own address, and a device without a tunnel IP gets one, unless `allocate` is false. `own_key` is the interface's: `wg` makes no peer of it, and says nothing. `dialled` are hosts of routers
    that are in no table, by their ids: the pool gives nobody else these. Raise
    AllowedIpsTaken, TunnelIpTaken, PublicKeyTaken, RotationChangesMore, PoolExhausted, TooManyDevices, SealingUnavailable, Misfit.
    """
    checked_meta(new.meta)
    if new.public_key == own_key:
        raise PublicKeyTaken("it is this server's own public key")
    async with conn.transaction():
        await take_turn(conn, dry_run=dry_run)
        old = await _known(conn, new, dry_run=dry_run)
        tunnel_ip = new.tunnel_ip or (None if old is None else old.tunnel_ip)
        if tunnel_ip is None and pool is not None and allocate:
            tunnel_ip = await free_ip(conn, pool, new.id, dry_run=dry_run, dialled=dialled)
        new = evolve(new, tunnel_ip=tunnel_ip, allowed_ips=addresses(new, old, tunnel_ip))
        if old is not None and new.public_key != old.public_key:
            _check_only_key(new, old)
        if old is None or new.allowed_ips != old.allowed_ips:
            _check_own(new, pool)
            await _check_apart(conn, new, None if old is None else old.id, dry_run=dry_run)
        if old is None:
            return await _make(conn, new, sealer, dry_run=dry_run)
        return await _change(conn, new, old, changed(new, old, sealer), dry_run=dry_run)


async def _known(conn: TrioConnection, new: NewDevice, *, dry_run: bool) -> Device | None:
    values = {"dry_run": dry_run, "id": new.id, "public_key": new.public_key}
    found = await conn.fetch(_KNOWN, values, row=Device)
    if new.id is None:
        return found[0] if found else None
    for device in found:
        if device.id != new.id:
            raise PublicKeyTaken(f"device {device.id} has this public key", members={"deviceId": device.id})
    return found[0] if found else None


def _check_only_key(new: NewDevice, old: Device) -> None:
    """What else it is to be would be so before the key is proven, and stay so if it never is."""
    if more := changes_besides_key(new, old):
        detail = (
            f"device {old.id} is to have another public key and another {', '.join(more)}: the key first, then the rest"
        )
        raise RotationChangesMore(detail, members={"deviceId": old.id})


def _check_own(new: NewDevice, pool: Network | None) -> None:
    if pool is None or not covers(new.allowed_ips or (), own := own_address(pool)):
        return
    if new.tunnel_ip == own:
        raise TunnelIpTaken(f"{own} is this server's own address in the tunnel")
    raise AllowedIpsTaken(f"{own} is among them, this server's own address in the tunnel")


async def _check_apart(conn: TrioConnection, new: NewDevice, device_id: str | None, *, dry_run: bool) -> None:
    values = {"allowed_ips": list(new.allowed_ips or ()), "tunnel_ip": new.tunnel_ip, "id": device_id}
    found = await conn.fetch_one(_OVERLAP[dry_run], values)
    if found is None:
        return
    wanted, held, holder, is_tunnel_ip = found
    members = {"deviceId": holder}
    if is_tunnel_ip and new.tunnel_ip is not None:
        raise TunnelIpTaken(f"device {holder} has the tunnel IP {new.tunnel_ip}", members=members)
    which = wanted if wanted == held else f"{wanted} (as {held})"
    raise AllowedIpsTaken(f"device {holder} holds {which}", members=members)


async def _make(conn: TrioConnection, new: NewDevice, sealer: Sealer, *, dry_run: bool) -> Registered:
    device_id = await _room_for(conn, new.id, dry_run=dry_run)
    row = {
        "dry_run": dry_run,
        "id": device_id,
        "public_key": new.public_key,
        "preshared_key_sealed": sealed(new, device_id, sealer),
        "tunnel_ip": new.tunnel_ip,
        "allowed_ips": list(new.allowed_ips or ()),
        "endpoint": new.endpoint,
        "keepalive": KEEPALIVE_S if new.keepalive is None else new.keepalive,
        "meta": checked_meta(new.meta),
    }
    device = await _stored(conn, _MAKE, row)
    await bindings.make(conn, device.id, dry_run=dry_run)
    return Registered(device, Outcome.MADE)


async def _change(conn: TrioConnection, new: NewDevice, old: Device, row: Device, *, dry_run: bool) -> Registered:
    is_next = new.public_key != old.public_key
    if row == old:
        return Registered(old, Outcome.ROTATING if is_next else Outcome.SAME)
    if row.next_public_key != old.next_public_key:
        await _check_keys(conn, dry_run=dry_run)
    values = asdict(row) | {"dry_run": dry_run, "allowed_ips": list(row.allowed_ips), "meta": checked_meta(row.meta)}
    device = await _stored(conn, _CHANGE, values)
    if device.tunnel_ip is not None and old.tunnel_ip != device.tunnel_ip:
        if old.tunnel_ip is not None:
            await bindings.follow(conn, old.public_key, old.tunnel_ip, device.tunnel_ip, dry_run=dry_run)
            await routers.follow(conn, device.id, old.tunnel_ip, device.tunnel_ip, dry_run=dry_run)
        await bindings.make(conn, device.id, dry_run=dry_run)
    return Registered(device, Outcome.ROTATING if is_next else Outcome.CHANGED)


async def _room_for(conn: TrioConnection, device_id: str | None, *, dry_run: bool) -> str:
    """Its id. Raise TooManyDevices."""
    found = await conn.fetch_one(_ROOM, {"dry_run": dry_run, "id": device_id})
    assert found is not None
    new_id, devices = found
    if devices >= DEVICES_MAX:
        raise TooManyDevices(f"there are {devices} devices")
    await _check_keys(conn, dry_run=dry_run)
    return str(new_id)


async def _check_keys(conn: TrioConnection, *, dry_run: bool) -> None:
    found = await conn.fetch_one(_KEYS, {"dry_run": dry_run})
    assert found is not None
    if found[0] >= KEYS_MAX:
        raise TooManyDevices(f"{found[0]} public keys are in use, or wait to be taken off the interface")


async def _stored(conn: TrioConnection, statement: str, row: Mapping[str, Any]) -> Device:
    stored = await conn.fetch_one(statement, row, row=Device)
    assert stored is not None
    return stored


async def remove(conn: TrioConnection, device_id: str, *, dry_run: bool) -> Device:
    """Its keys are to go, and their bindings are gone; its addresses are free. Raise DeviceNotFound."""
    async with conn.transaction():
        removed = await conn.fetch_one(_REMOVE, {"dry_run": dry_run, "id": device_id}, row=Device)
        if removed is None:
            raise DeviceNotFound(f"there is no device {device_id}")
        await bindings.unbind(conn, *removed.keys, dry_run=dry_run)
    return removed


async def remove_key(conn: TrioConnection, public_key: str, *, dry_run: bool) -> bool:
    """A device goes with its present key, a rotation ends with its next one, and any other key is to go all the same.

    Whether anybody knew it. Raise TooManyDevices where too many keys wait already.
    """
    async with conn.transaction():
        await take_turn(conn, dry_run=dry_run)
        was_bound = await bindings.unbind(conn, public_key, dry_run=dry_run)
        device = await find_key(conn, public_key, dry_run=dry_run)
        if device is None:
            await _check_keys(conn, dry_run=dry_run)
            await conn.run(_CONDEMN, {"public_key": public_key, "dry_run": dry_run})
        elif device.public_key == public_key:
            await remove(conn, device.id, dry_run=dry_run)
        else:
            await cancel_rotation(conn, device.id, dry_run=dry_run)
    return was_bound or device is not None
