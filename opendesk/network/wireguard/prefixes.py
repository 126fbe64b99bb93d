"""Where a peer is reached: prefixes behind it, its address in the tunnel, its endpoint. `wg` lets through too much of them.

Faults go on after the value: "… is not an address or a CIDR".
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
import re
from typing import Final

from opendesk.settings.addresses import ENDPOINT, Network
from opendesk.settings.values import integer

Address = IPv4Address | IPv6Address

# Of one peer. A router has a handful of networks behind it; each one is compared with those of all other devices.
MAX: Final = 64
# A shorter one takes the traffic of half the world into one bus; the longest private network of IPv4 is 10.0.0.0/8. In IPv6
# nobody is given more than a /16.
SHORTEST: Final = {4: 8, 6: 16}
KEEPALIVE_MAX_S: Final = 65_535

# No host that a tunnel leads to. IPv4 addresses in the clothes of IPv6 have two spellings, and `wg` prints the other one.
_NOWHERE: Final = tuple(
    (ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "unspecified"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4 in IPv6"),
        ("::ffff:0:0/96", "IPv4 in IPv6"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)

# Prefixes whose numbers are kept: three times the devices there may be.
_SPANS_MAX: Final = 65_536

# `ip_network` takes netmasks and zones too.
_PREFIX: Final = re.compile(r"[0-9a-fA-F.:]{2,45}(?:/[0-9]{1,3})?")


def prefix(text: str) -> str:
    """A CIDR in its canonical text. An address alone is a host's."""
    return str(_prefix(text))


def allowed_ips(texts: Iterable[str]) -> tuple[str, ...]:
    """In canonical text and order, IPv4 first, without those that are part of another."""
    found: set[Network] = set()
    for number, text in enumerate(texts):
        if number == MAX:
            raise ValueError(f"has more than {MAX} parts")
        try:
            found.add(_prefix(text))
        except ValueError as exc:
            raise ValueError(f"has a part {text[:50]!r} that {exc}") from None
    ordered = sorted(found, key=_order)
    return tuple(str(network) for network in ordered if not _is_part_of_another(network, found))


@lru_cache(_SPANS_MAX)
def span(canonical: str) -> tuple[int, int, int]:
    """Of a canonical prefix: the bits of its addresses, its first address and its last. Thousands are asked, so it is quick."""
    text, _slash, length = canonical.partition("/")
    if ":" in text:
        bits, first = 128, int(IPv6Address(text))
    else:
        a, b, c, d = text.split(".")
        bits, first = 32, int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)
    return bits, first, first | ((1 << (bits - int(length))) - 1)


def tunnel_ip(text: str) -> str:
    """A host's address in its canonical text."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError("is not an address") from None
    if "%" in text:
        raise ValueError("has a zone (%…)")
    _refuse_nowhere(ip_network(address))
    return str(address)


def endpoint(text: str) -> str:
    """Return host:port in its canonical text, an IPv6 address in brackets."""
    if "%" in text:
        raise ValueError("has a zone (%…)")
    return ENDPOINT.parse(text)


def keepalive(value: int) -> int:
    """Check the seconds between two keepalives; 0 is none."""
    return integer(0, KEEPALIVE_MAX_S).parse(str(value))


def _prefix(text: str) -> Network:
    if not _PREFIX.fullmatch(text):
        raise ValueError("is not an address or a CIDR")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("is not an address or a CIDR") from None
    if ip_address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"has bits right of its mask (the network is {network})")
    if network.prefixlen < SHORTEST[network.version]:
        raise ValueError(f"is shorter than /{SHORTEST[network.version]}")
    _refuse_nowhere(network)
    return network


def _refuse_nowhere(network: Network) -> None:
    for nowhere, why in _NOWHERE:
        if network.overlaps(nowhere):
            raise ValueError(f"has {why} addresses in it")


def _order(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


def _is_part_of_another(network: Network, others: Iterable[Network]) -> bool:
    return any(
        network != other and isinstance(other, type(network)) and network.subnet_of(other)  # type: ignore[arg-type]  # same
        for other in others
    )
