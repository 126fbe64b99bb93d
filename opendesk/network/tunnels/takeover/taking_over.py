"""Registering what was imported: an entry's parts together or not at all, and nothing twice."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

from attrs import frozen

from opendesk.errors import OpenDeskError
from opendesk.network.hotspots import devices as hotspot_devices
from opendesk.network.hotspots.errors import DeviceNotFound as TokenUnknown
from opendesk.network.hotspots.place import Place
from opendesk.network.routers.registry import NewRouter
from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.errors import BindingNotFound, PublicKeyTaken
from opendesk.network.tunnels.registry import bindings, devices, routers
from opendesk.network.tunnels.registry.device import Login, NewDevice, Outcome
from opendesk.network.tunnels.registry.stored import take_turn
from opendesk.network.tunnels.takeover.fields import Token
from opendesk.network.tunnels.takeover.importing import Entry
from opendesk.postgres.driver import TrioConnection
from opendesk.settings.routers import RouterNode

Network = IPv4Network | IPv6Network

# Of several parts: what became of the entry as a whole.
_ORDER: Final = (Outcome.SAME, Outcome.CHANGED, Outcome.MADE)


class CannotTakeOver(OpenDeskError):
    """Something is missing in what is to be taken over."""

    status, code = 400, "CANNOT_TAKE_OVER"


@frozen
class TakingOver:
    """Into which registry, and with which key."""

    sealer: Sealer
    pool: Network
    dry_run: bool
    own_key: str | None = None  # of the interface
    nodes: Sequence[RouterNode] = ()  # of MIKROTIK_NODES
    preshared: frozenset[str] = frozenset()  # keys of the interface's peers that have a preshared key

    async def entry(self, conn: TrioConnection, entry: Entry) -> Outcome:
        """What became of it. Raise an OpenDeskError that says why it isn't taken over; nothing is stored then."""
        check(entry)
        async with conn.transaction():
            # Before anything else is locked, as whoever registers does.
            await take_turn(conn, dry_run=self.dry_run)
            outcomes = [Outcome.SAME]
            device_id = entry.device_id
            if entry.user is not None:
                await routers.check_alone(conn, *_router(entry), self.nodes, dry_run=self.dry_run)
            has_next_key = False
            if is_device(entry):
                device_id, outcome, has_next_key = await self._device(conn, entry)
                outcomes.append(outcome)
            if entry.user is not None and not has_next_key:
                outcomes.append(await self._router(conn, entry))
            if entry.public_key is not None and entry.mikrotik_ip is not None:
                outcomes.append(await self._binding(conn, entry.public_key, device_id or "", entry.mikrotik_ip))
            outcomes += [await _hotspot_device(conn, token) for token in entry.tokens]
        return max(outcomes, key=_ORDER.index)

    async def _device(self, conn: TrioConnection, entry: Entry) -> tuple[str, Outcome, bool]:
        """And whether the key is one that waits: then the login of a router in its tunnel waits with it."""
        assert entry.public_key is not None
        known = await self._known(conn, entry, entry.public_key)
        if known is not None and entry.public_key not in known.keys:
            # What is in the files may be older than a rotation: it must not begin one back.
            raise PublicKeyTaken(f"device {known.id} is registered with another public key")
        if entry.preshared_key is None and entry.public_key in self.preshared and not _has_preshared(known, entry):
            # It would be taken off the peer, which is heard of no more then.
            raise CannotTakeOver(
                "its peer on the interface has a preshared key, and the file has none: add presharedKey to it"
            )
        new = NewDevice(
            id=entry.device_id,
            public_key=entry.public_key,
            allowed_ips=entry.allowed_ips,
            tunnel_ip=entry.tunnel_ip,
            endpoint=entry.endpoint,
            keepalive=entry.keepalive,
            preshared_key=entry.preshared_key,
            meta={**(known.meta if known else {}), **_notes(entry)},
            login=None if entry.user is None else Login(entry.user, entry.password, entry.port),
        )
        done = await devices.put(
            conn, new, self.sealer, dry_run=self.dry_run, pool=self.pool, allocate=False, own_key=self.own_key
        )
        if done.outcome is not Outcome.ROTATING:
            return done.device.id, done.outcome, False
        outcome = Outcome.SAME if done.device == known else Outcome.CHANGED
        return done.device.id, outcome, done.device.tunnel_ip is not None

    async def _known(self, conn: TrioConnection, entry: Entry, public_key: str) -> devices.Device | None:
        if entry.device_id is None:
            return await devices.find_key(conn, public_key, dry_run=self.dry_run)
        found = await devices.some(conn, [entry.device_id], dry_run=self.dry_run)
        return found[0] if found else None

    async def _router(self, conn: TrioConnection, entry: Entry) -> Outcome:
        router_id, host = _router(entry)
        new = NewRouter(id=router_id, host=host, port=entry.port, user=entry.user, password=entry.password)
        return await routers.keep(conn, new, self.sealer, dry_run=self.dry_run)

    async def _binding(self, conn: TrioConnection, public_key: str, device_id: str, mikrotik_ip: str) -> Outcome:
        try:
            old = await bindings.find(conn, public_key, dry_run=self.dry_run)
        except BindingNotFound:
            old = None
        new = await bindings.bind(conn, public_key, device_id, mikrotik_ip, dry_run=self.dry_run)
        if old is None:
            return Outcome.MADE
        return Outcome.SAME if new == old else Outcome.CHANGED


def _has_preshared(known: devices.Device | None, entry: Entry) -> bool:
    if known is None:
        return False
    is_next = entry.public_key == known.next_public_key
    return (known.next_preshared_key_sealed if is_next else known.preshared_key_sealed) is not None


def _router(entry: Entry) -> tuple[str, str]:
    """Its id, and where it is dialled; of an entry that was checked."""
    host = entry.tunnel_ip or entry.mikrotik_ip
    assert entry.device_id is not None
    assert host is not None
    return entry.device_id, host


async def _hotspot_device(conn: TrioConnection, token: Token) -> Outcome:
    """One that has greeted since then is somewhere else by now, and stays there."""
    text = token.token.reveal()
    try:
        await hotspot_devices.find(conn, text, token.router_id)
    except TokenUnknown:
        await hotspot_devices.hello(conn, token.router_id, Place(token.ip, token.mac), None, None, text)
        return Outcome.MADE
    return Outcome.SAME


def is_device(entry: Entry) -> bool:
    return entry.public_key is not None and (entry.allowed_ips is not None or entry.tunnel_ip is not None)


def check(entry: Entry) -> None:
    """Raise CannotTakeOver for what would be lost without a word."""
    faults = [why for is_so, why in _faults(entry) if is_so]
    if faults:
        raise CannotTakeOver("; ".join(faults))


def _faults(entry: Entry) -> Sequence[tuple[bool, str]]:
    has_key, has_access = entry.public_key is not None, entry.user is not None
    of_peer = (entry.allowed_ips, entry.tunnel_ip, entry.endpoint, entry.keepalive, entry.preshared_key)
    is_peer = any(value is not None for value in of_peer)
    has_place = entry.tunnel_ip is not None or entry.mikrotik_ip is not None
    has_notes = bool(_notes(entry))
    return (
        (not (has_key or has_access or entry.tokens), "it has no public key, no router's user and no token"),
        (is_peer and not has_key and not has_access, "it has no public key"),
        (has_notes and not is_device(entry), "what is noted of it has no device: it has no public key, or no address"),
        (has_key and not is_device(entry) and entry.mikrotik_ip is None, "it has neither allowed IPs nor a tunnel IP"),
        (
            has_key and not is_device(entry) and is_peer,
            "it is to be a peer, and has neither allowed IPs nor a tunnel IP",
        ),
        (has_key and not is_device(entry) and entry.device_id is None, "its public key belongs to no device"),
        (has_access and not has_place, "its router has neither a tunnel IP nor a mikrotikIp"),
        (has_access and entry.device_id is None, "its router has no id"),
        (not has_access and (entry.password, entry.port) != (None, None), "its router has no apiUser"),
    )


def _notes(entry: Entry) -> Mapping[str, Any]:
    """As the API keeps them."""
    notes = dict(entry.meta or {})
    if entry.device_name is not None:
        notes["deviceName"] = entry.device_name
    if entry.public_ip is not None:
        notes["mikrotik"] = {"publicIp": entry.public_ip}
    return notes
