"""What was asked, in the one spelling that is stored and compared; all that is wrong with it, each fault in its place."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from attrs import define, field, frozen

from opendesk.errors import FieldFault, Misfit
from opendesk.network.addresses import ip_address
from opendesk.network.routers.registry import NewRouter
from opendesk.network.tunnels.api.requests import (
    BindPeer,
    Bootstrap,
    ManagerRegister,
    MikrotikAccess,
    PutDevice,
    RegisterRouter,
)
from opendesk.network.tunnels.registry.device import Login, NewDevice, checked_meta
from opendesk.network.wireguard import prefixes
from opendesk.settings.addresses import host
from opendesk.settings.secret import Secret
from opendesk.web.reading import refused

Given = TypeVar("Given")
Read = TypeVar("Read")

# What is ours of the notes on a device; the rest is the backend's.
MIKROTIK: Final = "mikrotik"
DEVICE_NAME: Final = "deviceName"


@define
class Reading:
    """Faults are gathered, so that they are told together."""

    _faults: list[FieldFault] = field(factory=list)

    def read(self, parse: Callable[[Given], Read], value: Given | None, pointer: str) -> Read | None:
        """None for what isn't given, and for a fault, which `finish` raises."""
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            self._faults.append(FieldFault(pointer, str(error)))
            return None

    def fault(self, pointer: str, detail: str) -> None:
        self._faults.append(FieldFault(pointer, detail))

    def finish(self) -> None:
        """Raise ValidationFailed."""
        if self._faults:
            raise refused(self._faults)


@frozen
class Registration:
    """A router: its end of a tunnel, how to log in to it, and what is noted of it."""

    device: NewDevice
    access: MikrotikAccess
    notes: Mapping[str, Any]


def device(asked: PutDevice) -> NewDevice:
    reading = Reading()
    found = NewDevice(
        id=asked.device_id,
        public_key=asked.public_key,
        allowed_ips=reading.read(prefixes.allowed_ips, asked.allowed_ips, "/allowedIps"),
        tunnel_ip=reading.read(prefixes.tunnel_ip, asked.tunnel_ip, "/tunnelIp"),
        endpoint=reading.read(prefixes.endpoint, asked.endpoint, "/endpoint"),
        keepalive=asked.keepalive,
        preshared_key=_secret(asked.preshared_key),
        meta=reading.read(notes, asked.meta, "/meta"),
    )
    reading.finish()
    return found


def notes(given: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        checked_meta(given)
    except Misfit as error:
        raise ValueError(error.detail.removeprefix("meta ")) from None
    return given


def registration(asked: RegisterRouter) -> Registration:
    reading = Reading()
    found = NewDevice(
        id=asked.device_id,
        public_key=asked.mikrotik_public_key,
        allowed_ips=reading.read(prefixes.allowed_ips, asked.allowed_ips, "/allowedIps"),
        tunnel_ip=reading.read(prefixes.tunnel_ip, asked.tunnel_ip, "/tunnelIp"),
        endpoint=reading.read(prefixes.endpoint, asked.endpoint, "/endpoint"),
        keepalive=asked.keepalive,
        preshared_key=_secret(asked.preshared_key),
    )
    public_ip = reading.read(host, asked.mikrotik.public_ip, "/mikrotik/publicIp")
    reading.finish()
    return Registration(found, asked.mikrotik, {MIKROTIK: {"publicIp": public_ip}})


def managed(asked: ManagerRegister) -> Registration:
    """Without a tunnel IP, which the pool gives."""
    reading = Reading()
    allowed = reading.read(prefixes.allowed_ips, asked.wireguard.allowed_ips, "/wireguard/allowedIps")
    public_ip = reading.read(host, asked.mikrotik.public_ip, "/mikrotik/publicIp")
    reading.finish()
    name = {} if asked.device_name is None else {DEVICE_NAME: asked.device_name}
    found = NewDevice(
        id=asked.device_id, public_key=asked.wireguard.peer_public_key, allowed_ips=allowed, tunnel_ip=None
    )
    return Registration(found, asked.mikrotik, {MIKROTIK: {"publicIp": public_ip}, **name})


@frozen
class Bootstrapping:
    """Without a device as long as nobody knows its key."""

    tunnel_ip: str
    device: NewDevice | None


def bootstrapping(asked: Bootstrap) -> Bootstrapping:
    reading = Reading()
    tunnel_ip = reading.read(ipv4_tunnel_ip, asked.tunnel_ip, "/tunnelIp")
    allowed = reading.read(prefixes.allowed_ips, asked.allowed_ips, "/allowedIps")
    reading.finish()
    assert tunnel_ip is not None
    key = asked.device_public_key
    if key is None:
        return Bootstrapping(tunnel_ip, None)
    return Bootstrapping(
        tunnel_ip, NewDevice(id=asked.device_id, public_key=key, allowed_ips=allowed, tunnel_ip=tunnel_ip)
    )


def router(name: str, access: MikrotikAccess, tunnel_ip: str) -> NewRouter:
    """It is driven through its tunnel."""
    password = Secret(access.api_password)
    return NewRouter(id=name, host=tunnel_ip, port=access.api_port, user=access.api_user, password=password)


def login(access: MikrotikAccess) -> Login:
    return Login(access.api_user, Secret(access.api_password), access.api_port)


def mikrotik_ip(asked: BindPeer) -> str:
    reading = Reading()
    found = reading.read(prefixes.tunnel_ip, asked.mikrotik_ip, "/mikrotikIp")
    reading.finish()
    assert found is not None
    return found


def ipv4_tunnel_ip(text: str) -> str:
    """Scripts know IPv4 only."""
    return prefixes.tunnel_ip(ip_address(text))


def _secret(text: str | None) -> Secret[str] | None:
    return None if text is None else Secret(text)
