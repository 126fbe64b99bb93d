"""What a person pastes into a router's console so that it has its end of the tunnel.

The router makes its private key itself, and shows the public one: none that is secret ever passes. Pasted twice, the second time changes
nothing: each row is added only where there is none of ours, and then set. What somebody else has switched off in our place is told, and left so.
"""

from base64 import b64decode, b64encode
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError
import re
from typing import Any, Final

from attrs import field, frozen
from attrs.converters import optional
from attrs.validators import matches_re

from opendesk.network.routeros.console import quoted

INTERFACE: Final = "wg-opendesk"
# Of every row of ours on a router; those without it are somebody else's.
COMMENT: Final = "opendesk"
KEEPALIVE_S: Final = 25
# Where a router's API is, unless it is said otherwise.
API_PORT: Final = 8728

WIREGUARD: Final = "/interface/wireguard"
PEERS: Final = "/interface/wireguard/peers"
ADDRESSES: Final = "/ip/address"
ROUTES: Final = "/ip/route"
FILTER: Final = "/ip/firewall/filter"

# A terminal takes a longer line, but people can't look it over any more. The limits below keep to it.
MAX_LINE: Final = 500
MAX_ALLOWED: Final = 8
# RouterOS cuts a longer name of an interface in some menus.
MAX_INTERFACE: Final = 32
MAX_ID: Final = 64
KEY_BYTES: Final = 32
MAX_PORT: Final = 65_535
MAX_KEEPALIVE_S: Final = 65_535

_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,253}")


def _address(text: str) -> str:
    """With its prefix length, which is that of one host if none is said."""
    try:
        return str(IPv4Interface(text))
    except (AddressValueError, NetmaskValueError):
        raise ValueError("A tunnel's address is an IPv4 address, such as 10.200.0.7/32.") from None


def _host(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        raise ValueError("The VPS's own address in the tunnel isn't IPv4.") from None


def _key(text: str) -> str:
    """In the one spelling that a router prints."""
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError("The VPS's public key isn't base64 of 32 bytes.")
    return b64encode(key).decode()


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(str(IPv4Network(text)) for text in texts))
    except ValueError:
        raise ValueError("What a router reaches through its tunnel are IPv4 networks, such as 10.200.0.0/16.") from None


def _printable(most: int) -> Any:
    """RouterOS keeps other characters, but shows them to people as something else."""

    def check(_instance: object, attribute: Any, text: str) -> None:
        if not (0 < len(text) <= most and text.isascii() and text.isprintable()):
            raise ValueError(f"{attribute.name} isn't 1 to {most} printable characters.")

    return check


def _within(low: int, high: int) -> Any:
    def check(_instance: object, attribute: Any, value: int) -> None:
        if not low <= value <= high:
            raise ValueError(f"{attribute.name} isn't {low} to {high}.")

    return check


@frozen(kw_only=True)
class Tunnel:
    """A router's end. `allowed_ips` is what it reaches through the tunnel; `vps_address`, as far as it is known, from where its API is called, at
    `api_port`.
    """

    device_id: str = field(validator=_printable(MAX_ID))
    address: str = field(converter=_address)
    vps_public_key: str = field(converter=_key)
    vps_host: str = field(validator=matches_re(_HOST))
    vps_port: int = field(validator=_within(1, MAX_PORT))
    allowed_ips: tuple[str, ...] = field(converter=_networks)
    interface: str = field(default=INTERFACE, validator=_printable(MAX_INTERFACE))
    keepalive: int = field(default=KEEPALIVE_S, validator=_within(0, MAX_KEEPALIVE_S))
    vps_address: str | None = field(default=None, converter=optional(_host))
    api_port: int = field(default=API_PORT, validator=_within(1, MAX_PORT))

    @allowed_ips.validator
    def _check_count(self, _attribute: object, networks: tuple[str, ...]) -> None:
        if not 0 < len(networks) <= MAX_ALLOWED:
            raise ValueError(f"A router reaches 1 to {MAX_ALLOWED} networks through its tunnel.")

    @property
    def ip(self) -> str:
        return str(IPv4Interface(self.address).ip)

    @property
    def network(self) -> str:
        """The first address of its address' own network."""
        return str(IPv4Interface(self.address).network.network_address)

    @property
    def routed(self) -> tuple[str, ...]:
        """What needs a route: the address brings the one to its own network."""
        own = IPv4Interface(self.address).network
        return tuple(text for text in self.allowed_ips if IPv4Network(text) != own)


def key_lines(tunnel: Tunnel) -> tuple[str, ...]:
    """Make the interface, and show its public key."""
    find, comment = f"name={quoted(tunnel.interface)}", f"comment={quoted(COMMENT)}"
    return (
        _added(WIREGUARD, find, comment),
        f"{WIREGUARD} set [find {find} {comment}] disabled=no",
        f":put [{WIREGUARD} get [find {find}] public-key]",
    )


def commands(tunnel: Tunnel) -> tuple[str, ...]:
    """The whole of it, a line a command."""
    return (
        f"# OpenDesk: the tunnel of {quoted(tunnel.device_id)}",
        "# If the VPS has a preshared key for this router, set it by hand: preshared-key of the peer below.",
        "# RouterOS' usual firewall lets in the LAN only. Then let the VPS in, too, to the API: paste the next two lines without their #.",
        *(f"# {line}" for line in firewall(tunnel)),
        *key_lines(tunnel),
        *_peer_lines(tunnel),
        *_address_lines(tunnel),
        *_route_lines(tunnel),
        *_told_lines(tunnel),
    )


def firewall(tunnel: Tunnel) -> tuple[str, str]:
    """What a firewall takes that drops what isn't from the LAN; before the rule that does. Nothing goes before those that the router itself has
    made, and where there are no others there is nothing to go before: that is the second line's.
    """
    source = "" if tunnel.vps_address is None else f" src-address={tunnel.vps_address}"
    ours = f"in-interface={quoted(tunnel.interface)} comment={quoted(COMMENT)}"
    add = f"{FILTER} add chain=input action=accept protocol=tcp dst-port={tunnel.api_port}{source} {ours}"
    others = f"[{FILTER} find chain=input dynamic=no]"
    unless_there = f":if ([:len [{FILTER} find {ours}]] = 0) do={{"
    before = f":if ([:len {others}] > 0) do={{{add} place-before=[:pick {others} 0]}}"
    return f"{unless_there}{before}}}", f"{unless_there}{add}}}"


def _peer_lines(tunnel: Tunnel) -> tuple[str, ...]:
    find = _own("interface", tunnel)
    key = f"public-key={quoted(tunnel.vps_public_key)}"
    allowed = f"allowed-address={quoted(','.join(tunnel.allowed_ips))}"
    endpoint = f"endpoint-address={quoted(tunnel.vps_host)} endpoint-port={tunnel.vps_port}"
    return (
        _added(PEERS, find, key),
        f"{PEERS} set [find {find}] {key} {allowed}",
        f"{PEERS} set [find {find}] {endpoint} persistent-keepalive={tunnel.keepalive}s disabled=no",
    )


def _address_lines(tunnel: Tunnel) -> tuple[str, ...]:
    find = _own("interface", tunnel)
    # A router keeps the network of an address that is changed unless it is told.
    held = f"address={quoted(tunnel.address)} network={tunnel.network}"
    return _added(ADDRESSES, find, held), f"{ADDRESSES} set [find {find}] {held} disabled=no"


def _route_lines(tunnel: Tunnel) -> tuple[str, ...]:
    gateway, lines = f"gateway={quoted(tunnel.interface)}", []
    for network in tunnel.routed:
        find = f"{gateway} dst-address={quoted(network)}"
        lines.append(_added(ROUTES, find, f"comment={quoted(COMMENT)}"))
        lines.append(f"{ROUTES} set [find {find} comment={quoted(COMMENT)}] disabled=no")
    others = "".join(f" dst-address!={quoted(network)}" for network in tunnel.routed)
    return *lines, f"{ROUTES} remove [find {_own('gateway', tunnel)}{others}]"


def _told_lines(tunnel: Tunnel) -> tuple[str, ...]:
    """Ours are there and switched on by now: what isn't, or is besides, is somebody else's, and for a person to decide."""
    on_it, foreign = f"interface={quoted(tunnel.interface)}", f"comment!={quoted(COMMENT)}"
    peer = _is_there(
        PEERS, f"{on_it} public-key={quoted(tunnel.vps_public_key)} {foreign}", "a peer with the VPS' key was made"
    )
    address = _is_there(ADDRESSES, f"{on_it} {foreign}", "the interface was given an address")
    interface = _is_off(WIREGUARD, f"name={quoted(tunnel.interface)}", "the interface is switched off")
    routes = [
        _is_off(
            ROUTES,
            f"gateway={quoted(tunnel.interface)} dst-address={quoted(network)}",
            f"the route to {network} is switched off",
        )
        for network in tunnel.routed
    ]
    return interface, peer, address, *routes


def _is_off(menu: str, find: str, what: str) -> str:
    return _is_there(menu, f"{find} disabled=yes", what)


def _is_there(menu: str, find: str, what: str) -> str:
    told = quoted(f"IN THE WAY: {what}, by somebody else than OpenDesk")
    return f":if ([:len [{menu} find {find}]] > 0) do={{ :put {told} }}"


def _own(name: str, tunnel: Tunnel) -> str:
    return f"{name}={quoted(tunnel.interface)} comment={quoted(COMMENT)}"


def _added(menu: str, find: str, rest: str) -> str:
    """Unless it is there."""
    return f":if ([:len [{menu} find {find}]] = 0) do={{ {menu} add {find} {rest} }}"
