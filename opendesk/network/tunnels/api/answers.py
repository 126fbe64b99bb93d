"""What the calls of tunnels answer. Nothing here holds a secret: of a preshared key it is told that there is one."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from attrs import frozen
from msgspec import Meta

from opendesk.network.routers.status import MikStatus
from opendesk.network.setup.apply import Applied
from opendesk.network.setup.steps import PlannedStep
from opendesk.network.tunnels.keeping.presence import status_of
from opendesk.network.tunnels.registry.bindings import Binding
from opendesk.network.tunnels.registry.device import Device
from opendesk.network.wireguard.dump import Peer

PeerStatus = Literal["ONLINE", "OFFLINE", "NEVER_CONNECTED"]
Age = Annotated[int, Meta(description="seconds")]


@frozen(kw_only=True)
class RotationShown:
    """The key that waits beside the device's own for its first handshake, and since when."""

    public_key: str
    since: datetime


@frozen(kw_only=True)
class DeviceShown:
    id: str
    device_id: str
    public_key: str
    allowed_ips: tuple[str, ...]
    tunnel_ip: str | None
    endpoint: str | None
    keepalive: int
    has_preshared_key: bool
    meta: dict[str, Any]
    rotation: RotationShown | None
    created_at: datetime
    updated_at: datetime


@frozen(kw_only=True)
class DevicesPage:
    """Newest first. `nextCursor` is null on the last page."""

    items: tuple[DeviceShown, ...]
    next_cursor: str | None
    dry_run: bool


@frozen(kw_only=True)
class DeviceDone:
    ok: bool
    device_id: str
    dry_run: bool


@frozen(kw_only=True)
class DeviceRotating:
    """The new key is beside the old one, and takes over with its first handshake. If there is none, nothing changes."""

    ok: bool
    device_id: str
    rotation: bool
    dry_run: bool


@frozen(kw_only=True)
class PeerShown:
    """As the interface has it. `device` is whose it is; null if nobody asked for it."""

    public_key: str
    handshake_age: Age | None
    status: PeerStatus
    rx: int
    tx: int
    allowed_ips: tuple[str, ...]
    endpoint: str | None
    device: str | None


@frozen(kw_only=True)
class DeviceStatus:
    """`hasPeer` is null where it isn't known: this daemon has no interface, or can't read it."""

    ok: bool
    device: DeviceShown
    has_peer: bool | None
    peer: PeerShown | None
    mik_status: MikStatus
    dry_run: bool


@frozen(kw_only=True)
class PeersStatus:
    """All peers of the interface; without one, which `interface` tells, there are none to be seen."""

    timestamp: datetime
    interface: str | None
    peers: tuple[PeerShown, ...]
    dry_run: bool


@frozen(kw_only=True)
class BindingShown:
    public_key: str
    device_id: str
    mikrotik_ip: str
    created_at: datetime


@frozen(kw_only=True)
class BindingDone:
    ok: bool
    binding: BindingShown
    dry_run: bool


@frozen(kw_only=True)
class BindingsListed:
    ok: bool
    bindings: tuple[BindingShown, ...]
    dry_run: bool


@frozen(kw_only=True)
class PeerRemoved:
    """`removed` is false where nothing was known of it; if it is on the interface all the same, it goes."""

    ok: bool
    removed: bool
    dry_run: bool


@frozen(kw_only=True)
class RouterRemoved:
    """How many jobs are dead letters now, and how many grants ended."""

    ok: bool
    jobs: int
    grants: int
    dry_run: bool


@frozen(kw_only=True)
class ManagerRegistered:
    """`mikrotikScript` is to be pasted into the router's console; twice does no harm."""

    success: bool
    mikrotik_script: str
    created_peer: bool
    tunnel_ip: str
    rotation: bool
    dry_run: bool


@frozen(kw_only=True)
class KeyNeeded:
    """`instructions` are lines for the router's console: they make its interface, and show the key that is to be told here."""

    ok: bool
    need_public_key: bool
    instructions: tuple[str, ...]
    dry_run: bool


@frozen(kw_only=True)
class Bootstrapped:
    """`commands` are lines for the router's console; pasted twice they do no harm."""

    ok: bool
    created_peer: bool
    commands: tuple[str, ...]
    rotation: bool
    dry_run: bool


@frozen(kw_only=True)
class ProbeAnswer:
    """What the router tells of itself; null is what it doesn't tell, and in a dry run, all."""

    ok: bool
    device_id: str
    identity: str | None
    version: str | None
    board: str | None
    dry_run: bool


@frozen(kw_only=True)
class ConfigApplied:
    """`plan` is what was to do on the router; in a dry run nothing of it was done."""

    ok: bool
    mik_id: str
    changed: bool
    plan: tuple[PlannedStep, ...]
    dry_run: bool


@frozen(kw_only=True)
class DeviceSynced:
    """`config` is what became of the router's own end; null for a device that isn't a router, or has no tunnel IP."""

    ok: bool
    device_id: str
    config: ConfigApplied | None
    dry_run: bool


def device_shown(device: Device) -> DeviceShown:
    return DeviceShown(
        id=device.id,
        device_id=device.id,
        public_key=device.public_key,
        allowed_ips=device.allowed_ips,
        tunnel_ip=device.tunnel_ip,
        endpoint=device.endpoint,
        keepalive=device.keepalive,
        has_preshared_key=device.preshared_key_sealed is not None,
        meta=dict(device.meta),
        rotation=_rotation(device),
        created_at=device.created_at,
        updated_at=device.updated_at,
    )


def _rotation(device: Device) -> RotationShown | None:
    if device.next_public_key is None or device.next_since is None:
        return None
    return RotationShown(public_key=device.next_public_key, since=device.next_since)


def peer_shown(peer: Peer, *, device: str | None, now_s: float, online_s: float) -> PeerShown:
    """A handshake in the future, by a clock that was set back, was just now."""
    return PeerShown(
        public_key=peer.public_key,
        handshake_age=max(0, int(now_s - peer.handshake_unix)) if peer.handshake_unix else None,
        status=status_of(peer.handshake_unix, now_s, online_s),
        rx=peer.rx,
        tx=peer.tx,
        allowed_ips=peer.allowed_ips,
        endpoint=peer.endpoint,
        device=device,
    )


def binding_shown(binding: Binding) -> BindingShown:
    return BindingShown(
        public_key=binding.public_key,
        device_id=binding.device_id,
        mikrotik_ip=binding.mikrotik_ip,
        created_at=binding.created_at,
    )


def config_applied(router: str, applied: Applied) -> ConfigApplied:
    return ConfigApplied(
        ok=True, mik_id=router, changed=applied.changed, plan=tuple(applied.plan), dry_run=applied.dry_run
    )


def by_key(devices: Sequence[Device]) -> Mapping[str, str]:
    """Whose key it is, the present and the next ones."""
    return {key: device.id for device in devices for key in device.keys}
