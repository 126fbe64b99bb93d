"""The other ends of a relay's sockets, for the load: the handshake, masked frames made beforehand, and frames read as they come."""

from collections.abc import Iterator
import resource
import socket
import ssl
import struct
import time
from typing import Final

from attrs import define, field

from opendesk.stream.outgoing import BINARY, CLOSE, FIN, LENGTH_16, LENGTH_64, MAX_16, PONG, TEXT, apply_mask

# Any will do: the relay has to unmask whatever the key is.
KEY: Final = bytes.fromhex("37fa213d")
_MASKED: Final = 0x80
_READ_BYTES: Final = 256 * 1024
_HANDSHAKE_S: Final = 20.0
_MOST_HEAD_BYTES: Final = 4096
_HANDSHAKE: Final = (
    "GET /stream/relay?{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

# What 12,000 sockets take in a relay; the soft limit is mostly 1024, and the hard one may be more than the system really has.
_DESCRIPTORS: Final = 20_000

# When it was sent, in ns of the system's monotonic clock: the first bytes of every picture.
STAMP: Final = struct.Struct("!Q")


def raise_descriptor_limit() -> None:
    """So that 10,000 sockets are possible, where that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connect(port: int) -> socket.socket:
    """A socket that gives up after a time, until `enter` has let it in."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=_HANDSHAKE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def knock(port: int, query: str, trusts: str | None = None) -> socket.socket:
    """A socket that has asked to come in. With TLS if there is a certificate, by its file's name, that it trusts."""
    sock = connect(port)
    if trusts is not None:
        sock = ssl.create_default_context(cafile=trusts).wrap_socket(sock, server_hostname="localhost")
    sock.sendall(_HANDSHAKE.format(query=query).encode())
    return sock


def enter(sock: socket.socket) -> None:
    """Read to the end of the welcome, and no further. Raise RuntimeError if there is none."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte or len(head) > _MOST_HEAD_BYTES:
            raise RuntimeError(f"no handshake: {head!r}")
        head += byte
    if not head.startswith(b"HTTP/1.1 101 "):
        raise RuntimeError(f"no handshake: {head!r}")
    first, length = _exactly(sock, 2)
    if length == LENGTH_16:
        (length,) = struct.unpack("!H", _exactly(sock, 2))
    text = _exactly(sock, length)
    if first != FIN | TEXT:
        raise RuntimeError(f"not let in: {text!r}")
    sock.settimeout(None)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise RuntimeError("gone before the welcome")
        data += more
    return data


def header(opcode: int, size: int, *, masked: bool) -> bytes:
    """Of a whole message, with the mask's key as its end."""
    first, mark, key = FIN | opcode, _MASKED if masked else 0, KEY if masked else b""
    if size < LENGTH_16:
        return bytes((first, mark | size)) + key
    if size <= MAX_16:
        return struct.pack("!BBH", first, mark | LENGTH_16, size) + key
    return struct.pack("!BBQ", first, mark | LENGTH_64, size) + key


def text(payload: bytes) -> bytes:
    return header(TEXT, len(payload), masked=True) + apply_mask(payload, KEY)


PONG_FRAME: Final = header(PONG, 0, masked=True)


@define
class Picture:
    """`count` messages of `size` bytes, made once; what is sent tells when the first of them was. Masked, if for a relay."""

    size: int
    count: int = 1
    masked: bool = True
    frame: bytearray = field(init=False)
    _stamp_at: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        head = header(BINARY, self.size, masked=self.masked)
        body = (bytes(n * 31 & 0xFF for n in range(256)) * (self.size // 256 + 1))[: self.size]
        self.frame = bytearray((head + self._as_sent(body)) * self.count)
        self._stamp_at = len(head)

    def stamped(self) -> bytearray:
        now = self._as_sent(STAMP.pack(time.monotonic_ns()))
        self.frame[self._stamp_at : self._stamp_at + STAMP.size] = now
        return self.frame

    def _as_sent(self, payload: bytes) -> bytes:
        return apply_mask(payload, KEY) if self.masked else payload


@define
class Reader:
    """Whole frames of a server, as opcode and payload."""

    _rest: bytes = b""

    def read(self, sock: socket.socket) -> Iterator[tuple[int, bytes]]:
        """What one recv() completes. Raise ConnectionError when the relay says good-bye or is gone."""
        data = sock.recv(_READ_BYTES)
        if not data:
            raise ConnectionError("the relay has gone")
        data, at = self._rest + data, 0
        while (found := _frame(data, at)) is not None:
            opcode, payload, at = found
            if opcode == CLOSE:
                raise ConnectionError(f"the relay closed: {payload!r}")
            yield opcode, payload
        self._rest = data[at:]


def _frame(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    if len(data) - at < 2:  # noqa: PLR2004  # the two bytes that tell what more there is
        return None
    length, body = data[at + 1], at + 2
    if length >= LENGTH_16:
        body += 2 if length == LENGTH_16 else 8
        if len(data) < body:
            return None
        length = int.from_bytes(data[at + 2 : body], "big")
    end = body + length
    return None if len(data) < end else (data[at] & 0x0F, data[body:end], end)
