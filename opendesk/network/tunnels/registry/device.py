"""A device behind a tunnel, and what a registration makes of it."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
import re
from typing import Any, Final

from attrs import evolve, field, frozen
import msgspec

from opendesk.errors import Misfit
from opendesk.network.routers.errors import CannotOpen
from opendesk.network.routers.sealing import Sealer, password_of
from opendesk.settings.secret import Secret

# WireGuard's advice for who sits behind a NAT, as routers do: most of them forget a silent connection after 30 s.
KEEPALIVE_S: Final = 25

# Notes about a device, not a place to store things: each full read of the registry carries them.
META_MAX_BYTES: Final = 16_384

# The one character that PostgreSQL's JSON refuses, unless what is escaped is the backslash before it.
_NUL: Final = re.compile(rb"(?<!\\)(\\\\)*\\u0000")

Network = IPv4Network | IPv6Network


@frozen
class Login:
    """How to log in to the router behind a device."""

    user: str
    password: Secret[str] | None
    port: int | None


@frozen(kw_only=True)
class NewDevice:
    """What is asked for. What is None stays as it is; without an id it is the device that has this key, or a new one.

    The login waits with a next key: before that is proven, the router is the present one. For any other key it is nothing.
    """

    id: str | None = None
    public_key: str
    allowed_ips: tuple[str, ...] | None = None
    tunnel_ip: str | None = None
    endpoint: str | None = None
    keepalive: int | None = None
    preshared_key: Secret[str] | None = None
    meta: Mapping[str, Any] | None = None
    login: Login | None = None


def _texts(given: Iterable[str]) -> tuple[str, ...]:
    """The database tells them with commas between: an array takes it a tenth of a millisecond to read."""
    return tuple(filter(None, given.split(","))) if isinstance(given, str) else tuple(given)


@frozen(kw_only=True)
class Device:
    """A row; what is sealed is in no repr.

    While a rotation runs there is a next key, which may have a preshared key of its own, and a login of the router that comes with it.
    """

    id: str
    seq: int
    public_key: str
    preshared_key_sealed: bytes | None = field(repr=False)
    next_public_key: str | None
    next_preshared_key_sealed: bytes | None = field(repr=False)
    next_since: datetime | None
    next_username: str | None
    next_password_sealed: bytes | None = field(repr=False)
    next_port: int | None
    tunnel_ip: str | None
    allowed_ips: tuple[str, ...] = field(converter=_texts)
    endpoint: str | None
    keepalive: int
    meta: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.public_key,) if self.next_public_key is None else (self.public_key, self.next_public_key)


class Outcome(Enum):
    """What a registration did. ROTATING: its key is another than the device's present one, and must prove itself first."""

    MADE = "made"
    SAME = "same"
    CHANGED = "changed"
    ROTATING = "rotating"


@frozen
class Registered:
    device: Device
    outcome: Outcome


def preshared_key_of(device_id: str) -> str:
    """The `about` of a device's preshared keys."""
    return f"device:{device_id}:preshared-key"


def addresses(new: NewDevice, old: Device | None, tunnel_ip: str | None) -> tuple[str, ...]:
    """What the device is to hold: what is asked for, else what it has, and its tunnel IP in any case."""
    if new.allowed_ips is None and old is not None:
        held = [network for network in map(ip_network, old.allowed_ips) if str(network) != _host(old.tunnel_ip)]
    else:
        held = list(map(ip_network, new.allowed_ips or ()))
    if tunnel_ip is not None:
        held.append(ip_network(tunnel_ip))
    told = {ip_network(text) for text in old.allowed_ips} if old is not None else set()
    apart = _without_contained(held)
    return old.allowed_ips if old is not None and told == set(apart) else tuple(map(str, apart))


def _host(tunnel_ip: str | None) -> str | None:
    return None if tunnel_ip is None else str(ip_network(tunnel_ip))


def _without_contained(networks: Iterable[Network]) -> list[Network]:
    """Sorted by family and address: a network that holds another comes before it."""
    kept: list[Network] = []
    for network in sorted(networks, key=lambda one: (one.version, one.network_address.packed, one.prefixlen)):
        if not (kept and kept[-1].version == network.version and network.network_address in kept[-1]):
            kept.append(network)
    return kept


def changed(new: NewDevice, old: Device, sealer: Sealer) -> Device:
    """The row as it is to be; equal to the old one where nothing is new. `next_since` is the database's to set."""
    return evolve(
        old,
        tunnel_ip=new.tunnel_ip,
        allowed_ips=new.allowed_ips or (),
        endpoint=old.endpoint if new.endpoint is None else new.endpoint,
        keepalive=old.keepalive if new.keepalive is None else new.keepalive,
        meta=old.meta if new.meta is None else new.meta,
        **_keys(new, old, sealer),
    )


def _keys(new: NewDevice, old: Device, sealer: Sealer) -> dict[str, Any]:
    """A third key takes the place of the one that waits; the present one again leaves a rotation alone."""
    if new.public_key == old.public_key:
        return {"preshared_key_sealed": sealed(new, old.id, sealer, had=old.preshared_key_sealed)}
    is_same = new.public_key == old.next_public_key
    had = old.next_preshared_key_sealed if is_same else None
    return {
        "next_public_key": new.public_key,
        "next_preshared_key_sealed": sealed(new, old.id, sealer, had=had),
        **_login(new, old, sealer, is_same_key=is_same),
    }


def _login(new: NewDevice, old: Device, sealer: Sealer, *, is_same_key: bool) -> dict[str, Any]:
    """A login goes with the key that it came with."""
    if new.login is None:
        return {} if is_same_key else {"next_username": None, "next_password_sealed": None, "next_port": None}
    had = old.next_password_sealed if is_same_key else None
    return {
        "next_username": new.login.user,
        "next_password_sealed": _sealed_again(new.login.password, password_of(old.id), sealer, had),
        "next_port": new.login.port,
    }


def sealed(new: NewDevice, device_id: str, sealer: Sealer, *, had: bytes | None = None) -> bytes | None:
    """The new preshared key, else the one that is there."""
    if new.preshared_key is None:
        return had
    return _sealed_again(new.preshared_key, preshared_key_of(device_id), sealer, had)


def _sealed_again(secret: Secret[str] | None, about: str, sealer: Sealer, had: bytes | None) -> bytes | None:
    """What is there if it says the same, for no sealing gives the same bytes twice."""
    if secret is None:
        return None
    try:
        if had is not None and sealer.open(had, about=about) == secret:
            return had
    except CannotOpen:  # what nobody can read any more is replaced
        pass
    return sealer.seal(secret, about=about)


def checked_meta(meta: Mapping[str, Any] | None) -> str:
    """As JSON that the database takes. Raise Misfit."""
    try:
        text = msgspec.json.encode(meta or {})
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        raise Misfit("meta has what can't be written as JSON") from None
    if len(text) > META_MAX_BYTES:
        raise Misfit(f"meta is larger than {META_MAX_BYTES} bytes")
    if _NUL.search(text):
        raise Misfit("meta has a NUL in a text")
    return text.decode()


def changes_besides_key(new: NewDevice, old: Device) -> tuple[str, ...]:
    """What else of the interface a call that brings another key would change; `new` is complete in its addresses."""
    wanted = (
        ("tunnelIp", new.tunnel_ip, old.tunnel_ip),
        ("allowedIps", new.allowed_ips, old.allowed_ips),
        ("endpoint", new.endpoint, old.endpoint),
        ("keepalive", new.keepalive, old.keepalive),
    )
    return tuple(name for name, asked, present in wanted if asked is not None and asked != present)


def covers(allowed_ips: Iterable[str], address: str) -> bool:
    return any(ip_address(address) in ip_network(text) for text in allowed_ips)
