"""Kinds of values: what a router accepts, and how it writes it afterwards."""

import base64
import binascii
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_network
import re
from typing import Final

from opendesk.simulators.routeros import durations
from opendesk.simulators.routeros.refusals import expects, invalid, no_match, out_of_range

# The argument's name and the text that was sent → what is kept. Refuses what a router refuses.
Kind = Callable[[str, str], str]

KEY_BYTES: Final = 32

_MAC: Final = re.compile(r"[0-9A-Fa-f]{2}([:.-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}")
_DNS_NAME: Final = re.compile(r"(?=.{1,253}$)(?=.*[A-Za-z])[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")

# Every policy of a group, in the order that a router prints them in.
POLICIES: Final = (
    "local", "telnet", "ssh", "ftp", "reboot", "read", "write", "policy", "test", "winbox", "password", "web", "sniff", "sensitive", "api",
    "romon", "rest-api",
)  # fmt: skip


def string(_name: str, text: str) -> str:
    return text


def boolean(name: str, text: str) -> str:
    if text not in {"yes", "true", "no", "false"}:
        raise no_match(name)
    return "true" if text in {"yes", "true"} else "false"


def choice(*options: str) -> Kind:
    def kind(name: str, text: str) -> str:
        if text not in options:
            raise no_match(name)
        return text

    return kind


def integer(low: int, high: int) -> Kind:
    def kind(name: str, text: str) -> str:
        if not (text.isascii() and text.isdigit()):
            raise invalid(name)
        if len(text) > len(str(high)) or not low <= int(text) <= high:
            raise out_of_range(name, str(low), str(high))
        return str(int(text))

    return kind


def duration(longest_s: int | None = None) -> Kind:
    def kind(name: str, text: str) -> str:
        total = durations.seconds(text)
        if total is None:
            raise invalid(name)
        if longest_s is not None and total > longest_s:
            raise out_of_range(name, "0s", durations.written(longest_s))
        return durations.written(total)

    return kind


def mac_address(name: str, text: str) -> str:
    if not _MAC.fullmatch(text):
        raise invalid(name)
    return re.sub("[.-]", ":", text.upper())


def ip_address(name: str, text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise invalid(name) from None


def ip_range(name: str, text: str) -> str:
    """An address, a prefix or a range; a /32 is written as the address."""
    try:
        if "-" in text:
            low, high = (IPv4Address(part) for part in text.split("-"))
            if low > high:
                raise ValueError(text)  # noqa: TRY301  # told as all else that is no range
            return f"{low}-{high}" if low < high else str(low)
        network = IPv4Network(text, strict=False)
    except ValueError:
        raise expects(name, "range of ip addresses") from None
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def ip_range_or_name(name: str, text: str) -> str:
    return text.lower() if _DNS_NAME.fullmatch(text) else ip_range(name, text)


def ip_interface(name: str, text: str) -> str:
    try:
        return str(IPv4Interface(text))
    except ValueError:
        raise invalid(name) from None


def prefixes(name: str, text: str) -> str:
    """Several of them, with commas: of either family, host bits cleared, masks always written."""
    try:
        return ",".join(str(ip_network(part, strict=False)) for part in text.split(","))
    except ValueError:
        raise invalid(name) from None


def key(name: str, text: str) -> str:
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(name) from None
    if len(decoded) != KEY_BYTES:
        raise invalid(name)
    return base64.b64encode(decoded).decode()


def policies(name: str, text: str) -> str:
    """Each is written: those that are not granted with an exclamation mark."""
    asked = text.split(",") if text else []
    if any(policy.removeprefix("!") not in POLICIES for policy in asked):
        raise no_match(name)
    granted = [policy for policy in POLICIES if policy in asked]
    return ",".join([*granted, *(f"!{policy}" for policy in POLICIES if policy not in granted)])
