"""A relay socket's bytes: read into one buffer that all sockets share, written without copying, and never waited for needlessly."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
import os
import socket
import struct
from typing import Final, Protocol

import trio

from opendesk.web.http.transport import Stream

# 256 KiB is slower: what is read no longer stays in the second-level cache until it is written (measured before the project began).
BUFFER_BYTES: Final = 64 * 1024

# Linux and macOS take so many pieces in one writev(); more are joined.
_MOST_PIECES: Final = 1024

# A socket that always has something to read lets the others in after so many buffers: 512 KiB, a millisecond or so.
_READS_IN_A_ROW: Final = 8

# Linger for no time: closing sends a reset, so that nobody takes half a message for a whole one.
_RESET: Final = struct.pack("ii", 1, 0)

Pieces = Sequence[bytes | memoryview]


class Gone(OSError):
    """The other side has left, or can't be reached."""


class Wire(Protocol):
    """One socket, plain or in TLS. One task reads, one calls `send`; `send_now` may be called by any that doesn't wait meanwhile."""

    async def receive(self) -> memoryview:
        """Wait for bytes, which must be used up before the next wait of any task; empty at the end. Raise Gone."""
        ...

    def send_now(self, pieces: Pieces) -> int:
        """Hand over what goes without waiting, and say how many bytes that were. Raise Gone."""
        ...

    async def send(self, pieces: Iterable[bytes | memoryview]) -> int:
        """Wait until some of it goes, and say how much. Raise Gone."""
        ...

    def give_way(self) -> None:
        """Let all others have a turn before the next read."""
        ...

    def abort(self) -> None:
        """Make the end a reset."""
        ...


class PlainWire:
    def __init__(self, stream: trio.SocketStream, buffer: memoryview) -> None:
        self._socket = stream.socket
        self._fd = stream.socket.fileno()
        self._buffer = buffer
        self._reads = 0
        self._is_empty = False  # the last read took all that was there

    async def receive(self) -> memoryview:
        self._reads += 1
        if self._is_empty:
            await self._readable()
        elif self._reads >= _READS_IN_A_ROW:
            self._reads = 0
            await trio.lowlevel.checkpoint()
        while True:
            try:
                size = os.readv(self._fd, (self._buffer,))
            except BlockingIOError:
                await self._readable()
            except OSError as error:
                raise Gone from error
            else:
                self._is_empty = size < len(self._buffer)
                return self._buffer[:size]

    async def _readable(self) -> None:
        self._reads = 0
        await trio.lowlevel.wait_readable(self._socket)

    def give_way(self) -> None:
        self._reads = _READS_IN_A_ROW

    def send_now(self, pieces: Pieces) -> int:
        try:
            return os.writev(self._fd, pieces if len(pieces) <= _MOST_PIECES else (b"".join(pieces),))
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Gone from error

    async def send(self, pieces: Iterable[bytes | memoryview]) -> int:
        some = list(islice(pieces, _MOST_PIECES))
        while not (sent := self.send_now(some)):
            await trio.lowlevel.wait_writable(self._socket)
        return sent

    def abort(self) -> None:
        _reset(self._socket)


class TlsWire:
    """TLS encrypts on the way, so nothing goes without waiting: whole buffers at a time instead."""

    def __init__(self, stream: "trio.SSLStream[trio.SocketStream]") -> None:
        self._stream = stream

    async def receive(self) -> memoryview:
        try:
            return memoryview(await self._stream.receive_some(BUFFER_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Gone from error

    def send_now(self, pieces: Pieces) -> int:  # noqa: ARG002  # nothing goes at once, whatever it is
        return 0

    async def send(self, pieces: Iterable[bytes | memoryview]) -> int:
        some, size = list[bytes | memoryview](), 0
        for piece in pieces:
            some.append(piece)
            size += len(piece)
            if size >= BUFFER_BYTES:
                break
        try:
            await self._stream.send_all(b"".join(some))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Gone from error
        return size

    def give_way(self) -> None:
        """Each read of TLS is a turn of the loop anyway."""

    def abort(self) -> None:
        _reset(self._stream.transport_stream.socket)


def wire_of(stream: Stream, buffer: memoryview) -> Wire:
    return TlsWire(stream) if isinstance(stream, trio.SSLStream) else PlainWire(stream, buffer)


def _reset(sock: trio.socket.SocketType) -> None:
    with suppress(OSError):  # it is gone already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
