"""What becomes of a device's next key."""

from typing import Final

from attrs import field, frozen

from opendesk.network.routers.registry import NewRouter
from opendesk.network.tunnels.registry import routers
from opendesk.postgres.driver import TrioConnection

_NO_NEXT: Final = """
    next_public_key = NULL, next_preshared_key_sealed = NULL, next_since = NULL, next_username = NULL, next_password_sealed = NULL,
    next_port = NULL, updated_at = now()
"""
# The binding goes over to the new key, unless somebody has bound that already.
_COMPLETE: Final = f"""
    WITH turned AS (
        UPDATE tunnel_devices d
           SET public_key = d.next_public_key,
               preshared_key_sealed = coalesce(d.next_preshared_key_sealed, d.preshared_key_sealed), {_NO_NEXT}
          FROM (SELECT public_key, next_username, next_password_sealed, next_port FROM tunnel_devices
                 WHERE dry_run = %(dry_run)s AND id = %(id)s AND next_public_key = %(next_key)s FOR UPDATE) AS before
         WHERE d.dry_run = %(dry_run)s AND d.id = %(id)s AND d.next_public_key = %(next_key)s
     RETURNING before.public_key AS old, before.next_username AS username, before.next_password_sealed AS password_sealed,
               before.next_port AS port, host(d.tunnel_ip) AS host
    ), loosed AS (
        DELETE FROM tunnel_bindings b USING turned WHERE b.dry_run = %(dry_run)s AND b.public_key = turned.old RETURNING b.*
    ), bound AS (
        INSERT INTO tunnel_bindings (dry_run, public_key, device_id, mikrotik_ip, created_at)
        SELECT dry_run, %(next_key)s, device_id, mikrotik_ip, created_at FROM loosed ON CONFLICT DO NOTHING
    )
    SELECT host, username, password_sealed, port FROM turned
"""
_CANCEL: Final = f"""
    UPDATE tunnel_devices SET {_NO_NEXT} WHERE dry_run = %(dry_run)s AND id = %(id)s AND next_public_key IS NOT NULL
"""
_EXPIRE: Final = f"""
    UPDATE tunnel_devices SET {_NO_NEXT}
     WHERE dry_run = %(dry_run)s AND next_since <= now() - make_interval(secs => %(after_s)s) RETURNING id
"""


@frozen
class _Turned:
    """Where its router is dialled, and the login that waited with the key."""

    host: str | None
    username: str | None
    password_sealed: bytes | None = field(repr=False)
    port: int | None


async def complete_rotation(conn: TrioConnection, device_id: str, next_key: str, *, dry_run: bool) -> bool:
    """The next key has proven itself: it is the device's now, and the old one is to go. False if another one waits meanwhile, or none."""
    async with conn.transaction():
        turned = await conn.fetch_one(
            _COMPLETE, {"dry_run": dry_run, "id": device_id, "next_key": next_key}, row=_Turned
        )
        if turned is not None and turned.username is not None and turned.host is not None:
            new = NewRouter(id=device_id, host=turned.host, port=turned.port, user=turned.username)
            await routers.take_over(conn, new, turned.password_sealed, dry_run=dry_run)
    return turned is not None


async def cancel_rotation(conn: TrioConnection, device_id: str, *, dry_run: bool) -> bool:
    """The next key is to go. False if there was none."""
    return await conn.run(_CANCEL, {"dry_run": dry_run, "id": device_id}) == 1


async def expire_rotations(conn: TrioConnection, after_s: float, *, dry_run: bool) -> list[str]:
    """The devices whose next key has had so long to prove itself and is to go."""
    return [device for (device,) in await conn.fetch(_EXPIRE, {"dry_run": dry_run, "after_s": float(after_s)})]
