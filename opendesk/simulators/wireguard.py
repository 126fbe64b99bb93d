"""`wg` without WireGuard: takes the place of `trio.run_process` where `wg show IF dump` and `wg set IF …` are called.

It does as the program does, its traps among it: an allowed IP that another peer has moves without a word, a bad key anywhere
applies nothing, removing who isn't there is fine, host bits and ports out of range are bent into shape.
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path
import re
from subprocess import CalledProcessError, CompletedProcess
from typing import Any, Final, NamedTuple

from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
import trio

KEY: Final = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
ZERO: Final = f"{'A' * 43}="
# Seconds of a keepalive have 16 bits as well.
PORTS: Final = 65_536
# What was called is for tests, which look at the last few.
CALLS_KEPT: Final = 10_000


class _Refusal(Exception):
    """What goes to stderr; the exit code is 1."""


@define
class SimulatedPeer:
    """Its allowed IPs in the order that they came."""

    preshared_key: str | None = field(default=None, repr=False)
    endpoint: str | None = None
    allowed_ips: list[str] = field(factory=list)
    handshake_unix: int = 0
    rx: int = 0
    tx: int = 0
    keepalive: int = 0


class _Order(NamedTuple):
    """Of one peer, checked. None leaves what is there."""

    key: str
    removes: bool
    preshared_key: str | None
    endpoint: str | None
    keepalive: int | None
    allowed_ips: list[str] | None


@define(eq=False)
class SimulatedWireguard:
    """One interface, whatever its name. Set what is to go wrong; change by hand what somebody else would."""

    private_key: str | None = field(
        factory=lambda: base64.b64encode(X25519PrivateKey.generate().private_bytes_raw()).decode(), repr=False
    )
    listen_port: int = 51820
    peers: dict[str, SimulatedPeer] = field(factory=dict)
    calls: list[list[str]] = field(factory=list)
    is_gone: bool = False  # there is no such interface
    forbidden: bool = False
    missing: bool = False  # there is no program
    hangs: bool = False
    cuts_dump: bool = False  # with exit code 0
    lies: bool = False  # a set does nothing, with exit code 0
    stops_after: int | None = None  # peers of a set, then exit code 1
    _owners: dict[str, str] = field(factory=dict, init=False)

    async def run(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        check: bool = True,
        pass_fds: Sequence[int] = (),
        **_rest: Any,  # how output is captured and the process is ended
    ) -> CompletedProcess[bytes]:
        self.calls.append(list(command))
        del self.calls[:-CALLS_KEPT]
        await trio.lowlevel.checkpoint()
        if self.missing:
            raise FileNotFoundError(2, "No such file or directory", command[0])
        if self.hangs:
            await trio.sleep_forever()
        arguments = list(command[list(command).index("wg") + 1 :])
        try:
            done = CompletedProcess(command, 0, self._answer(arguments, _files(stdin, pass_fds)), b"")
        except _Refusal as exc:
            done = CompletedProcess(command, 1, b"", f"{exc}\n".encode())
        if check and done.returncode:
            raise CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done

    @property
    def public_key(self) -> str | None:
        return None if self.private_key is None else _public_key_of(self.private_key)

    def add(
        self,
        key: str,
        *allowed_ips: str,
        keepalive: int | None = None,
        endpoint: str | None = None,
        preshared_key: str | None = None,
    ) -> None:
        """Somebody's `wg set`."""
        told = [str(ip_network(text)) for text in allowed_ips]
        self._put(_Order(key, removes=False, preshared_key=preshared_key, endpoint=endpoint, keepalive=keepalive, allowed_ips=told))  # fmt: skip

    def steal(self, allowed_ip: str, key: str) -> None:
        """Somebody gives it to this peer, which keeps what it has."""
        self._own(key, str(ip_network(allowed_ip)))

    def remove(self, key: str) -> None:
        if peer := self.peers.pop(key, None):
            for text in peer.allowed_ips:
                del self._owners[text]

    def handshake(self, key: str, unix: int, *, endpoint: str = "192.0.2.7:40000", rx: int = 148, tx: int = 92) -> None:
        peer = self.peers[key]
        peer.handshake_unix, peer.endpoint, peer.rx, peer.tx = unix, endpoint, peer.rx + rx, peer.tx + tx

    def clear(self) -> None:
        """As it is after somebody made the interface anew: no key, no peers."""
        self.private_key = None
        self.peers.clear()
        self._owners.clear()

    def _answer(self, arguments: Sequence[str], read: Callable[[str], str]) -> bytes:
        if self.forbidden or self.is_gone:
            raise _Refusal(
                f"Unable to access interface: {'Operation not permitted' if self.forbidden else 'No such device'}"
            )
        match arguments:
            case ["show", _, "dump"]:
                told = "".join(self._dump()).encode()
                return told[: len(told) * 2 // 3] if self.cuts_dump else told
            case ["set", _, *words]:
                self._set(words, read)
                return b""
        raise _Refusal("Usage: wg <cmd> [<args>]")

    def _dump(self) -> Iterator[str]:
        yield f"{self.private_key or '(none)'}\t{self.public_key or '(none)'}\t{self.listen_port}\toff\n"
        for key, peer in self.peers.items():
            allowed = ",".join(peer.allowed_ips) or "(none)"
            yield (
                f"{key}\t{peer.preshared_key or '(none)'}\t{peer.endpoint or '(none)'}\t{allowed}"
                f"\t{peer.handshake_unix}\t{peer.rx}\t{peer.tx}\t{peer.keepalive or 'off'}\n"
            )

    def _set(self, words: Sequence[str], read: Callable[[str], str]) -> None:
        first = words.index("peer") if "peer" in words else len(words)
        own = dict(zip(words[:first:2], words[1:first:2], strict=True))
        orders = list(_orders(words[first:], read))
        private_key = _key(read(own["private-key"])) if "private-key" in own else self.private_key
        if self.lies:
            return
        self.private_key, self.listen_port = private_key, int(own.get("listen-port", self.listen_port))
        for order in orders[: self.stops_after]:
            self._put(order)
        if self.stops_after is not None and self.stops_after < len(orders):
            raise _Refusal("Unable to modify interface: Input/output error")

    def _put(self, order: _Order) -> None:
        if order.removes:
            self.remove(order.key)
        elif order.key != (self.public_key or ZERO):  # its own; wireguard-go takes it for zeros where it has none
            self._change(order, self.peers.setdefault(order.key, SimulatedPeer()))

    def _change(self, order: _Order, peer: SimulatedPeer) -> None:
        if order.preshared_key is not None:
            peer.preshared_key = order.preshared_key or None
        peer.endpoint = order.endpoint or peer.endpoint
        peer.keepalive = peer.keepalive if order.keepalive is None else order.keepalive
        if order.allowed_ips is None:
            return
        for text in peer.allowed_ips:
            del self._owners[text]
        peer.allowed_ips.clear()
        for text in order.allowed_ips:
            self._own(order.key, text)

    def _own(self, key: str, text: str) -> None:
        """It moves over from whoever has it."""
        if text in self._owners:
            self.peers[self._owners[text]].allowed_ips.remove(text)
        self._owners[text] = key
        self.peers[key].allowed_ips.append(text)


# It takes longer than all else of a change.
@lru_cache(16)
def _public_key_of(private_key: str) -> str:
    key = X25519PrivateKey.from_private_bytes(base64.b64decode(private_key))
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _files(stdin: bytes, pass_fds: Sequence[int]) -> Callable[[str], str]:
    """What the program could open: its standard input, and what it inherits."""

    def read(path: str) -> str:
        if path == "/dev/stdin":
            return stdin.decode().strip()
        if path == "/dev/null":
            return ""
        if int(path.removeprefix("/dev/fd/")) not in pass_fds:
            raise _Refusal("fopen: No such file or directory")
        return Path(path).read_text().strip()

    return read


def _key(text: str) -> str:
    if not KEY.fullmatch(text):
        raise _Refusal(f"Key is not the correct length or format: `{text}'")
    return text


def _orders(words: Iterable[str], read: Callable[[str], str]) -> Iterator[_Order]:
    left = iter(words)
    peers: list[dict[str, str]] = []
    for word in left:
        if word == "peer":
            peers.append({"key": _key(next(left, ""))})
        elif word == "remove":
            peers[-1][word] = ""
        elif word in {"preshared-key", "endpoint", "persistent-keepalive", "allowed-ips"}:
            peers[-1][word] = next(left, "")
        else:
            raise _Refusal(f"Invalid argument: {word}")
    return (_order(told, read) for told in peers)


def _order(told: dict[str, str], read: Callable[[str], str]) -> _Order:
    preshared = read(told["preshared-key"]) if "preshared-key" in told else None
    if preshared:
        _key(preshared)
    return _Order(
        told["key"],
        "remove" in told,
        "" if preshared == ZERO else preshared,
        _endpoint(told["endpoint"]) if "endpoint" in told else None,
        _keepalive(told["persistent-keepalive"]) if "persistent-keepalive" in told else None,
        _allowed_ips(told["allowed-ips"]) if "allowed-ips" in told else None,
    )


def _endpoint(text: str) -> str:
    host, _colon, port = text.rpartition(":")
    return f"{host}:{int(port) % PORTS}"


def _keepalive(text: str) -> int:
    if text == "off":
        return 0
    if not (text.isdigit() and int(text) < PORTS):
        raise _Refusal(f"The persistent keepalive interval must be 0/off or 1-65535. Found: `{text}'")
    return int(text)


def _allowed_ips(text: str) -> list[str]:
    try:
        return [str(ip_network(part, strict=False)) for part in text.split(",") if part]
    except ValueError:
        raise _Refusal("AllowedIP has invalid address") from None
