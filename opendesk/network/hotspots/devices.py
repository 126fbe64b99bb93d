"""Devices behind hotspots, known by a token that they keep while their addresses change."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from attrs import frozen
from msgspec import json

from opendesk.network.hotspots.errors import DeviceNotFound, RouterMismatch
from opendesk.network.hotspots.place import Place
from opendesk.postgres.driver import TrioConnection

# The contract's: pairs of IP and MAC that are kept of a device, the present one among them.
ADDRESSES_KEPT: Final = 20

# Browsers have some 200 characters. What is longer is cut off, for it is only for people to read.
USER_AGENT_LENGTH: Final = 512

# Not greeted for so long, it has lost its token or gone for good; an order's rows are kept for as long.
KEPT_DAYS: Final = 180
FORGOTTEN_AT_ONCE: Final = 5_000

_PAIR: Final = "jsonb_build_array(host(%(ip)s::inet), upper(%(mac)s::macaddr::text))"
_MAKE: Final = f"""
    INSERT INTO hotspot_devices (token_hash, router_id, ip, mac, user_agent, addresses)
    VALUES (%(hash)s, %(router)s, %(ip)s, %(mac)s, %(user_agent)s, jsonb_build_array({_PAIR}))
"""
# A device that greets again from where it was writes no index and no list.
_GREET: Final = f"""
    WITH found AS (
        SELECT router_id FROM hotspot_devices WHERE token_hash = %(hash)s
    ), changed AS (
        UPDATE hotspot_devices d
           SET ip = %(ip)s, mac = %(mac)s, user_agent = coalesce(%(user_agent)s, d.user_agent), seen_at = now(),
               addresses = CASE WHEN d.ip = %(ip)s::inet AND d.mac = %(mac)s::macaddr THEN d.addresses
                                ELSE (SELECT jsonb_agg(pair ORDER BY n)
                                        FROM (SELECT pair, n FROM jsonb_array_elements(d.addresses || jsonb_build_array({_PAIR}))
                                                                  WITH ORDINALITY AS pairs (pair, n)
                                               ORDER BY n DESC LIMIT {ADDRESSES_KEPT}) AS last) END
         WHERE d.token_hash = %(hash)s AND d.router_id = %(router)s
    )
    SELECT router_id FROM found
"""
_FIND: Final = """
    SELECT token_hash, router_id, host(ip) AS ip, upper(mac::text) AS mac, addresses::text AS addresses
      FROM hotspot_devices WHERE token_hash = ANY (%(hashes)s)
"""
_FORGET: Final = f"""
    DELETE FROM hotspot_devices
     WHERE token_hash = ANY (ARRAY(
               SELECT d.token_hash FROM hotspot_devices d
                WHERE d.created_at < now() - interval '{KEPT_DAYS} days' AND d.seen_at < now() - interval '{KEPT_DAYS} days'
                  AND NOT EXISTS (SELECT FROM hotspot_grants g WHERE g.device = d.token_hash AND g.ended_at IS NULL)
                LIMIT {FORGOTTEN_AT_ONCE}))
       AND seen_at < now() - interval '{KEPT_DAYS} days'
"""


@frozen
class Device:
    """`addresses` are the last places that it was at, the newest last."""

    token_hash: bytes
    router_id: str
    ip: str
    mac: str
    addresses: tuple[Place, ...]

    @property
    def place(self) -> Place:
        return Place(self.ip, self.mac)


async def hello(  # noqa: PLR0917  # a statement's values, each of a kind of its own
    conn: TrioConnection, router: str, place: Place, token: str | None, user_agent: str | None, new_token: str
) -> str:
    """The device is there now. Its token: the one that it has, or `new_token`. Raise DeviceNotFound, RouterMismatch."""
    agent = None if user_agent is None else user_agent[:USER_AGENT_LENGTH]
    hashed = _hash(new_token if token is None else token)
    values = {"hash": hashed, "router": router, "ip": place.ip, "mac": place.mac, "user_agent": agent}
    if token is None:
        await conn.run(_MAKE, values)
        return new_token
    _check(await conn.fetch_one(_GREET, values), router)
    return token


async def find(conn: TrioConnection, token: str, router: str) -> Device:
    """Raise DeviceNotFound, RouterMismatch."""
    (found,) = await find_all(conn, [(token, router)])
    if not isinstance(found, Device):
        raise found
    return found


async def find_all(
    conn: TrioConnection, wanted: Sequence[tuple[str, str]]
) -> list[Device | DeviceNotFound | RouterMismatch]:
    """Of each token and the router that it is said to be of: the device, or why it isn't told."""
    hashes = [_hash(token) for token, _ in wanted]
    known = {device.token_hash: device for device in await conn.fetch(_FIND, {"hashes": hashes}, row=_device)}
    return [_of(known.get(hashed), router) for hashed, (_, router) in zip(hashes, wanted, strict=True)]


def _of(device: Device | None, router: str) -> Device | DeviceNotFound | RouterMismatch:
    if device is None:
        return DeviceNotFound()
    return device if device.router_id == router else RouterMismatch()


async def forget_old(conn: TrioConnection) -> int:
    """How many have been away for long, and without access, and are gone now."""
    total = 0
    while gone := await conn.run(_FORGET):
        total += gone
    return total


def _hash(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def _check(found: tuple[str] | None, router: str) -> None:
    if found is None:
        raise DeviceNotFound
    if found[0] != router:
        raise RouterMismatch


def _device(*, token_hash: bytes, router_id: str, ip: str, mac: str, addresses: str) -> Device:
    pairs = json.decode(addresses, type=list[tuple[str, str]])
    return Device(bytes(token_hash), router_id, ip, mac, tuple(Place(*pair) for pair in pairs))
