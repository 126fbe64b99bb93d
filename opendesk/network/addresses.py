"""The one spelling of an address: what people, backends and routers write in many ways is compared, stored and sent in this."""

from ipaddress import AddressValueError, IPv4Address
import re
from typing import Final

# Colons, dashes, Cisco's dots, or nothing between the digits.
_MAC: Final = re.compile(
    r"[0-9A-F]{2}(:[0-9A-F]{2}){5}|[0-9A-F]{2}(-[0-9A-F]{2}){5}|[0-9A-F]{4}(\.[0-9A-F]{4}){2}|[0-9A-F]{12}", re.ASCII
)
_PARTED: Final = re.compile(r"[:.-]")
_GROUP_BIT: Final = 0x01


def mac_address(text: str) -> str:
    """Upper case with colons. Raise ValueError for what isn't the MAC of one device: all zeros is a router's word for any."""
    upper = text.upper()
    # Before upper case too: it makes ASCII of letters that aren't.
    if not (text.isascii() and _MAC.fullmatch(upper)):
        raise ValueError("must be a MAC address, such as AA:BB:CC:DD:EE:FF")
    octets = bytes.fromhex(_PARTED.sub("", upper))
    if octets[0] & _GROUP_BIT or not any(octets):
        raise ValueError("must be the MAC address of one device")
    return octets.hex(":").upper()


def ip_address(text: str) -> str:
    """Dotted decimal: RouterOS' hotspot knows no IPv6. Raise ValueError for what isn't the address of one device."""
    try:
        address = IPv4Address(text)
    except AddressValueError:
        raise ValueError("must be an IPv4 address, such as 10.5.50.12") from None
    # 0.0.0.0 is a router's word for any; the rest of its block, and what is kept for a future that never came, no device has.
    if address.is_multicast or address.is_loopback or address.is_reserved or address.packed[0] == 0:
        raise ValueError("must be the address of one device")
    return str(address)
