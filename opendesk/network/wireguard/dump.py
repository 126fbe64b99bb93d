"""What `wg show IF dump` prints. It holds the private key and every preshared key: no line of it is ever quoted.

A dump is whole or unknown. One that was cut at the end of a line looks whole: what tells is the exit code of `wg`, which the
caller looks at first.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_network
import re
from typing import Final

from attrs import field, frozen

from opendesk.network.wireguard.keys import PATTERN

# What the loop waits for between two portions: 1 ms, ten times as much where a peer's allowed IPs are seen for the first time.
PORTION: Final = 250
# Of a portion too: somebody's peer with thousands of allowed IPs must not stop the loop.
PORTION_CHARS: Final = 65_536
# Texts of allowed IPs, which seldom change from dump to dump; three times the devices there may be.
_TEXTS_MAX: Final = 65_536
# Of one peer's, some 60,000 of them: somebody may route whole countries by hand, and the rest is read all the same.
_TEXT_MAX: Final = 1_048_576

_NONE: Final = "(none)"
_NUMBER: Final = "[0-9]{1,20}"
# Zones of IPv6 are named as interfaces are, which is nearly anyhow.
_ENDPOINT: Final = r"[0-9.]{7,15}:[0-9]{1,5}|\[[0-9a-f:.]{2,45}(?:%[^\]\s]{1,15})?\]:[0-9]{1,5}"
_PEER: Final = re.compile(
    rf"({PATTERN})\t(?:\(none\)|({PATTERN}))\t(?:\(none\)|({_ENDPOINT}))\t(\(none\)|[0-9a-f.:/,]{{4,{_TEXT_MAX}}})"
    rf"\t({_NUMBER})\t({_NUMBER})\t({_NUMBER})\t(?:off|([0-9]{{1,5}}))"
)
_INTERFACE: Final = re.compile(
    rf"(?:\(none\)|{PATTERN})\t(?:\(none\)|({PATTERN}))\t([0-9]{{1,5}})\t(?:off|0x[0-9a-f]{{1,8}})"
)
_BYTE: Final = "(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_ONE_OF_V4: Final = re.compile(rf"{_BYTE}\.{_BYTE}\.{_BYTE}\.{_BYTE}/(?:3[0-2]|[12]?[0-9])")


class Malformed(ValueError):
    """What `wg` printed is not a whole dump."""


@frozen
class Peer:
    """`allowed_ips` in the order of `prefixes.allowed_ips`. `handshake_unix` 0: never; `keepalive` 0: off."""

    public_key: str
    preshared_key: str | None = field(repr=False)
    endpoint: str | None
    allowed_ips: tuple[str, ...]
    handshake_unix: int
    rx: int
    tx: int
    keepalive: int


@frozen
class Interface:
    """`public_key` is None where the interface has no key yet. The private key isn't kept."""

    public_key: str | None
    listen_port: int
    peers: Mapping[str, Peer]


class Reading:
    """Feed it the lines in portions, then ask for the interface."""

    def __init__(self) -> None:
        self._head: tuple[str | None, int] | None = None
        self._peers: dict[str, Peer] = {}

    def take(self, lines: Sequence[str]) -> None:
        if self._head is None and lines:
            self._head, lines = _head(lines[0]), lines[1:]
        peers, before = self._peers, len(self._peers)
        for line in lines:
            peer = _peer(line)
            peers[peer.public_key] = peer
        if len(peers) != before + len(lines):
            raise Malformed("a dump has a peer twice")

    def interface(self) -> Interface:
        if self._head is None:
            raise Malformed("a dump is empty")
        public_key, listen_port = self._head
        return Interface(public_key, listen_port, self._peers)


def lines_of(data: bytes) -> list[str]:
    """Part a dump into its lines. The last one ends as all do, or it was cut."""
    if not data.endswith(b"\n"):
        raise Malformed("a dump doesn't end with the end of a line")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("a dump isn't ASCII") from None
    return text[:-1].split("\n")


def portions(lines: Sequence[str]) -> Iterator[Sequence[str]]:
    """Part lines into as many as are taken in one go."""
    start = chars = 0
    for end, line in enumerate(lines):
        if end > start and (end - start == PORTION or chars + len(line) > PORTION_CHARS):
            yield lines[start:end]
            start, chars = end, 0
        chars += len(line)
    yield lines[start:]


def parse(data: bytes) -> Interface:
    reading = Reading()
    reading.take(lines_of(data))
    return reading.interface()


def _head(line: str) -> tuple[str | None, int]:
    if not (match := _INTERFACE.fullmatch(line)):
        raise Malformed("the first line of a dump is not an interface's")
    public_key, port = match.groups()
    return public_key, int(port)


def _peer(line: str) -> Peer:
    if not (match := _PEER.fullmatch(line)):
        raise Malformed("a line of a dump is not a peer's")
    key, preshared, endpoint, allowed, handshake, rx, tx, keepalive = match.groups()
    return Peer(key, preshared, endpoint, _allowed_ips(allowed), int(handshake), int(rx), int(tx), int(keepalive or 0))


@lru_cache(_TEXTS_MAX)
def _allowed_ips(text: str) -> tuple[str, ...]:
    """As `wg` spelt them; its order is that of its tree."""
    if _ONE_OF_V4.fullmatch(text):
        return (text,)
    return () if text == _NONE else tuple(sorted(text.split(","), key=_order))


def _order(text: str) -> tuple[int, int, int]:
    try:
        network = ip_network(text)
    except ValueError:
        raise Malformed("a dump has an allowed IP that is none") from None
    return network.version, int(network.network_address), network.prefixlen
