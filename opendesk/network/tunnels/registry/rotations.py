"""What becomes of a device's next key."""

from typing import Final

from opendesk.postgres.driver import TrioConnection

_NO_NEXT: Final = "next_public_key = NULL, next_preshared_key_sealed = NULL, next_since = NULL, updated_at = now()"
# The binding goes over to the new key, unless somebody has bound that already.
_COMPLETE: Final = f"""
    WITH turned AS (
        UPDATE tunnel_devices d
           SET public_key = d.next_public_key,
               preshared_key_sealed = coalesce(d.next_preshared_key_sealed, d.preshared_key_sealed), {_NO_NEXT}
          FROM (SELECT public_key FROM tunnel_devices
                 WHERE dry_run = %(dry_run)s AND id = %(id)s AND next_public_key = %(next_key)s FOR UPDATE) AS before
         WHERE d.dry_run = %(dry_run)s AND d.id = %(id)s AND d.next_public_key = %(next_key)s
     RETURNING before.public_key AS old
    ), loosed AS (
        DELETE FROM tunnel_bindings b USING turned WHERE b.dry_run = %(dry_run)s AND b.public_key = turned.old RETURNING b.*
    ), bound AS (
        INSERT INTO tunnel_bindings (dry_run, public_key, device_id, mikrotik_ip, created_at)
        SELECT dry_run, %(next_key)s, device_id, mikrotik_ip, created_at FROM loosed ON CONFLICT DO NOTHING
    )
    SELECT FROM turned
"""
_CANCEL: Final = f"""
    UPDATE tunnel_devices SET {_NO_NEXT} WHERE dry_run = %(dry_run)s AND id = %(id)s AND next_public_key IS NOT NULL
"""
_EXPIRE: Final = f"""
    UPDATE tunnel_devices SET {_NO_NEXT}
     WHERE dry_run = %(dry_run)s AND next_since <= now() - make_interval(secs => %(after_s)s) RETURNING id
"""


async def complete_rotation(conn: TrioConnection, device_id: str, next_key: str, *, dry_run: bool) -> bool:
    """The next key has proven itself: it is the device's now, and the old one is to go. False if another one waits meanwhile, or none."""
    return await conn.run(_COMPLETE, {"dry_run": dry_run, "id": device_id, "next_key": next_key}) == 1


async def cancel_rotation(conn: TrioConnection, device_id: str, *, dry_run: bool) -> bool:
    """The next key is to go. False if there was none."""
    return await conn.run(_CANCEL, {"dry_run": dry_run, "id": device_id}) == 1


async def expire_rotations(conn: TrioConnection, after_s: float, *, dry_run: bool) -> list[str]:
    """The devices whose next key has had so long to prove itself and is to go."""
    return [device for (device,) in await conn.fetch(_EXPIRE, {"dry_run": dry_run, "after_s": float(after_s)})]
