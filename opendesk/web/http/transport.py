"""A client's socket, with TLS or without: sends that end, and the ways to part."""

from contextlib import suppress
import os
import socket
import struct
from typing import Final

import trio

from opendesk.web.http.limits import KIB, Limits

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
Address = tuple[str, int]

# One read: a head with a small body fits in.
_READ_BYTES: Final = 64 * KIB
# Where plain reads go first, all of them: asking for that many bytes each time would make a block of 64 KiB and give back all but its
# beginning, and what lives longer settles in between; in a day the heap has holes of some MiB.
_READ: Final = memoryview(bytearray(_READ_BYTES))
# What `Limits.send_s` is for.
_SEND_BYTES: Final = 64 * KIB

# Linger for no time: closing sends a reset, so that nobody takes half an answer for a whole one.
_RESET: Final = struct.pack("ii", 1, 0)


class ClientGone(OSError):
    """The client has left, or doesn't read. The ASGI specification asks for an OSError from `send`."""


class Transport:
    def __init__(self, stream: Stream, limits: Limits) -> None:
        """Raise OSError if the client has left already."""
        self.stream = stream
        self._limits = limits
        self._tls = stream if isinstance(stream, trio.SSLStream) else None
        self._socket = (stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket
        self._cut_off = False
        self.scheme = "https" if self._tls else "http"
        # Whether somebody has been told so by ClientGone.
        self.gone = False
        self.client = _address(self._socket.family, self._socket.getpeername())
        self.server = _address(self._socket.family, self._socket.getsockname())

    async def handshake(self) -> None:
        """Raise ClientGone if there is no agreeing with the client."""
        if self._tls is not None:
            try:
                await self._tls.do_handshake()
            except trio.BrokenResourceError as exc:
                raise self._leaving() from exc

    async def receive(self) -> bytes:
        """What came; nothing if the client has sent all that it will. Raise ClientGone."""
        try:
            if self._tls is not None:
                return bytes(await self._tls.receive_some(_READ_BYTES))
            return await self._receive_plain()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise self._leaving() from exc

    async def _receive_plain(self) -> bytes:
        """Wait first: between two requests there is nothing to read, and finding that out takes a system call and an exception."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            with suppress(BlockingIOError):
                return bytes(_READ[: os.readv(self._socket.fileno(), (_READ,))])

    async def send(self, data: bytes) -> None:
        """Raise ClientGone, also when the client takes less than 64 KiB in `Limits.send_s`: it is cut off then."""
        sent = self._send_now(data)
        for start in range(sent, len(data), _SEND_BYTES):
            await self._send_piece(memoryview(data)[start : start + _SEND_BYTES])

    def _send_now(self, data: bytes) -> int:
        """How much the kernel takes without waiting: nearly always all, and then no time-out has to be set up."""
        if self._tls is not None:
            return 0
        try:
            return os.write(self._socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise self._leaving() from exc

    async def _send_piece(self, piece: memoryview) -> None:
        try:
            with trio.move_on_after(self._limits.send_s) as scope:
                await self.stream.send_all(piece)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise self._leaving() from exc
        if scope.cancelled_caught:
            self.cut_off()
            raise self._leaving()

    def _leaving(self) -> ClientGone:
        self.gone = True
        return ClientGone()

    def cut_off(self) -> None:
        """Make closing a reset."""
        self._cut_off = True
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    async def linger(self) -> None:
        """Let our last words be read: closing while something is unread resets the connection, and a reset overtakes."""
        left = self._limits.linger_bytes
        with trio.move_on_after(self._limits.linger_s), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if isinstance(self.stream, trio.SocketStream):
                await self.stream.send_eof()
            while left > 0 and (data := await self.stream.receive_some(_READ_BYTES)):
                left -= len(data)

    async def close(self) -> None:
        """TLS says good-bye, if that doesn't take long; a plain socket is closed by who accepted it."""
        if self._tls is not None and not self._cut_off:
            with trio.move_on_after(self._limits.linger_s), suppress(trio.BrokenResourceError):
                await self._tls.aclose()


def _address(family: int, name: object) -> Address | None:
    if family in (socket.AF_INET, socket.AF_INET6):
        assert isinstance(name, tuple)
        return name[0], name[1]
    return None
