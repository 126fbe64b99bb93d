"""Where routers dial, and what they are to hold of their tunnel."""

from ipaddress import IPv4Interface
from typing import Final

from attrs import frozen

from opendesk.network.setup.script import INTERFACE, KEEPALIVE_S, MAX_ALLOWED, Tunnel
from opendesk.network.tunnels.api.asked import Reading, ipv4_tunnel_ip
from opendesk.network.tunnels.api.requests import TunnelConfig
from opendesk.network.tunnels.errors import VpsConfigMissing
from opendesk.network.tunnels.registry.pool import own_address
from opendesk.network.wireguard import prefixes
from opendesk.settings import Settings

# What a router is told of its tunnel is IPv4.
_VERSION: Final = 4


@frozen
class Vps:
    """Our end, as routers are told of it."""

    public_key: str
    endpoint: str
    address: str

    def router_end(self, device_id: str, tunnel_ip: str) -> Tunnel:
        host, port = host_and_port(self.endpoint)
        return Tunnel(
            device_id=device_id,
            address=f"{tunnel_ip}/32",
            vps_public_key=self.public_key,
            vps_host=host,
            vps_port=port,
            # All that this daemon needs; and no bus reaches another.
            allowed_ips=(f"{self.address}/32",),
            vps_address=self.address,
        )


def host_and_port(endpoint: str) -> tuple[str, int]:
    """Of one that has been read; an IPv6 address without its brackets, as RouterOS has it."""
    host, _colon, port = endpoint.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def vps_key(settings: Settings, own_key: str | None) -> str | None:
    """What routers are told; `own_key` is the interface's, where that is known. Raise VpsConfigMissing if these are two."""
    told = settings.wg_vps_public_key
    if told is not None and own_key is not None and told != own_key:
        raise VpsConfigMissing(
            f"WG_VPS_PUBLIC_KEY is {told}, and the key of {settings.wg_interface} is {own_key}: no router that is told the first reaches it"
        )
    return told


def vps_of(settings: Settings, own_key: str | None) -> Vps:
    """`own_key` is the interface's, where that is known. Raise VpsConfigMissing."""
    key, endpoint, pool = vps_key(settings, own_key), settings.wg_vps_endpoint, settings.wg_tunnel_pool
    if key is None or endpoint is None:
        missing = [name for name, value in (("WG_VPS_PUBLIC_KEY", key), ("WG_VPS_ENDPOINT", endpoint)) if value is None]
        raise VpsConfigMissing(f"not set: {', '.join(missing)}")
    if pool.version != _VERSION:
        raise VpsConfigMissing("WG_TUNNEL_POOL is not IPv4, which routers' tunnels are")
    return Vps(key, endpoint, own_address(pool))


def router_end(config: TunnelConfig, settings: Settings, device_id: str, own_key: str | None) -> Tunnel:
    """As a call wants it; what it leaves out is the settings'. Raise ValidationFailed with all that is missing or no router's, VpsConfigMissing."""
    reading = Reading()
    if (config.tunnel_ip is None) == (config.tunnel_cidr is None):
        reading.fault("/config/tunnelIp", "or tunnelCidr is wanted, and not both")
    host = reading.read(ipv4_tunnel_ip, config.tunnel_ip, "/config/tunnelIp")
    cidr = reading.read(_interface, config.tunnel_cidr, "/config/tunnelCidr")
    allowed_ips = reading.read(_networks, config.allowed_ips, "/config/allowedIps")
    endpoint = reading.read(prefixes.endpoint, config.vps_endpoint, "/config/vpsEndpoint") or settings.wg_vps_endpoint
    key = config.vps_public_key or vps_key(settings, own_key)
    if key is None:
        reading.fault("/config/vpsPublicKey", "is missing, and WG_VPS_PUBLIC_KEY is not set")
    if config.vps_endpoint is None and endpoint is None:
        reading.fault("/config/vpsEndpoint", "is missing, and WG_VPS_ENDPOINT is not set")
    if allowed_ips is None and settings.wg_tunnel_pool.version != _VERSION:
        reading.fault("/config/allowedIps", "is missing, and WG_TUNNEL_POOL is not IPv4")
    reading.finish()
    assert key is not None
    assert endpoint is not None
    vps_host, vps_port = host_and_port(endpoint)
    return Tunnel(
        device_id=device_id,
        address=cidr or f"{host}/32",
        vps_public_key=key,
        vps_host=vps_host,
        vps_port=vps_port,
        allowed_ips=allowed_ips or (f"{own_address(settings.wg_tunnel_pool)}/32",),
        interface=config.interface_name or INTERFACE,
        keepalive=KEEPALIVE_S if config.keep_alive is None else config.keep_alive,
    )


def _interface(text: str) -> str:
    try:
        address = IPv4Interface(text)
    except ValueError:
        raise ValueError("is not an IPv4 address with the length of its prefix, such as 10.200.0.7/16") from None
    ipv4_tunnel_ip(str(address.ip))
    return str(address)


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    found = prefixes.allowed_ips(texts)
    if len(found) > MAX_ALLOWED:
        raise ValueError(f"has more than {MAX_ALLOWED} parts, all that a router is told")
    if any(":" in text for text in found):
        raise ValueError("has IPv6 networks, which a router's tunnel doesn't lead to")
    return found
