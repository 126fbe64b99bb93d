"""What the calls of tunnels take: strict shapes. What they mean is read by `reading.py`."""

from typing import Annotated, Any, ClassVar, Final

from attrs import field, frozen
from msgspec import Meta

from opendesk.network.hotspots.requests import MikId
from opendesk.network.wireguard import keys, prefixes

# A device's name, as a router's: they are the same where the device is a router.
DeviceId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$", title="a device's id", examples=["bus-17"])]
# Beside the path that routers are removed at is the one where they are registered.
RouterId = Annotated[
    str, Meta(pattern=r"^(?!register$)[A-Za-z0-9._:-]{1,64}$", title="a router's id", examples=["bus-17"])
]
_KEY_EXAMPLE: Final = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw="
PublicKey = Annotated[
    str,
    Meta(
        pattern=rf"^(?!A{{43}}=)({keys.PATTERN})$",
        title="a WireGuard key (32 bytes in base64)",
        examples=[_KEY_EXAMPLE],
    ),
]
PresharedKey = Annotated[
    str, Meta(pattern=rf"^(?!A{{43}}=)({keys.PATTERN})$", title="a WireGuard key (32 bytes in base64)")
]
Prefix = Annotated[
    str, Meta(pattern=r"^[0-9a-fA-F.:]{2,45}(/[0-9]{1,3})?$", title="a CIDR", examples=["10.200.0.7/32"])
]
Prefixes = Annotated[tuple[Prefix, ...], Meta(max_length=prefixes.MAX)]
SomePrefixes = Annotated[tuple[Prefix, ...], Meta(min_length=1, max_length=prefixes.MAX)]
Address = Annotated[str, Meta(pattern=r"^[0-9a-fA-F.:]{2,45}$", title="a host's address", examples=["10.200.0.7"])]
# With room for the longest host name, and for its port.
Endpoint = Annotated[
    str, Meta(pattern=r"^[!-~]{3,261}$", title="host:port", examples=["203.0.113.7:51820", "[2001:db8::7]:51820"])
]
Keepalive = Annotated[int, Meta(ge=0, le=prefixes.KEEPALIVE_MAX_S, description="seconds; 0 is none")]
Host = Annotated[str, Meta(pattern=r"^[!-~]{1,253}$", title="an address or a host name", examples=["203.0.113.7"])]
User = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\u0000-\u001f\u007f]*$", title="a user's name")]
Password = Annotated[str, Meta(max_length=128)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
# RouterOS cuts a longer one in some menus.
InterfaceName = Annotated[str, Meta(pattern=r"^[ -~]{1,32}$", title="an interface's name", examples=["wg-opendesk"])]


@frozen
class PutDevice:
    """Without `deviceId`, the device that has this key, or a new one."""

    public_key: PublicKey
    allowed_ips: Prefixes
    device_id: DeviceId | None = None
    tunnel_ip: Address | None = None
    endpoint: Endpoint | None = None
    keepalive: Keepalive | None = None
    preshared_key: PresharedKey | None = field(default=None, repr=False)
    meta: dict[str, Any] | None = None


@frozen
class MikrotikAccess:
    """How to log in to a router. It is reached through its tunnel; `publicIp` is kept as a note."""

    public_ip: Host
    api_user: User
    api_password: Password = field(repr=False)
    api_port: Port | None = None


@frozen
class RegisterRouter:
    device_id: RouterId
    mikrotik_public_key: PublicKey
    tunnel_ip: Address
    mikrotik: MikrotikAccess
    allowed_ips: Prefixes | None = None
    endpoint: Endpoint | None = None
    keepalive: Keepalive | None = None
    preshared_key: PresharedKey | None = field(default=None, repr=False)


@frozen
class ManagedPeer:
    peer_public_key: PublicKey
    allowed_ips: Prefixes | None = None


@frozen
class ManagerRegister:
    """The tunnel IP comes from the pool."""

    device_id: RouterId
    mikrotik: MikrotikAccess
    wireguard: ManagedPeer
    device_name: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


@frozen
class Bootstrap:
    """Without a key, what to paste so that there is one."""

    device_id: DeviceId
    tunnel_ip: Address
    device_public_key: PublicKey | None = None
    allowed_ips: Prefixes | None = None


@frozen
class BindPeer:
    public_key: PublicKey
    device_id: DeviceId
    mikrotik_ip: Address


@frozen
class Probe:
    public_key: PublicKey
    username: User
    password: Password = field(repr=False)


@frozen
class TechnicalUserAsked:
    """RELAY_TECH_USER, and the password of this call, or RELAY_TECH_PASS."""

    username: User | None = None
    password: Annotated[str, Meta(min_length=1, max_length=128)] | None = field(default=None, repr=False)


def _given(name: str) -> dict[str, Any]:
    """For the published schema: it is there, and not null."""
    return {"required": [name], "properties": {name: {"type": "string"}}}


@frozen
class TunnelConfig:
    """A router's end of its tunnel. Key and endpoint are the VPS' own, if these aren't given."""

    tunnel_ip: Address | None = None
    tunnel_cidr: Prefix | None = None
    interface_name: InterfaceName | None = None
    allowed_ips: SomePrefixes | None = None
    vps_public_key: PublicKey | None = None
    vps_endpoint: Endpoint | None = None
    keep_alive: Keepalive | None = None

    SCHEMA_EXTRA: ClassVar = {"anyOf": [_given("tunnelIp"), _given("tunnelCidr")]}


@frozen
class ApplyConfig:
    mik_id: MikId
    config: TunnelConfig
    dry_run: bool = False
    technical_user: TechnicalUserAsked | None = None
