"""A relay socket's bytes: read into one buffer that all sockets share, written without copying, and never waited for needlessly."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
import os
import socket
import struct
from typing import Final, Protocol

import trio

from opendesk.stream.reactor import Reactor
from opendesk.web.http.transport import Stream

# 256 KiB is slower: what is read no longer stays in the second-level cache until it is written (measured before the project began).
BUFFER_BYTES: Final = 64 * 1024

# The first read. 64 KiB of the smallest frames there are take the parser 40 ms, in which nobody else is served, and this much 3: whole
# buffers are for who is known to send larger ones.
MORSEL_BYTES: Final = 4 * 1024

# Linux and macOS take so many pieces in one writev(); more are joined.
_MOST_PIECES: Final = 1024

# Linger for no time: closing sends a reset, so that nobody takes half a message for a whole one.
_RESET: Final = struct.pack("ii", 1, 0)

Pieces = Sequence[bytes | memoryview]

# Takes what came, and says how many bytes it wants at most the next time (no more than BUFFER_BYTES). Nothing came: that is the end.
Take = Callable[[memoryview], int]


class Gone(OSError):
    """The other side has left, or can't be reached."""


class Wire(Protocol):
    """One socket, plain or in TLS. One task reads, one calls `send`; `send_now` may be called by any that doesn't wait meanwhile."""

    async def feed(self, take: Take) -> None:
        """Give what comes to `take`, which must use it up before it returns, until it wants no more. Raise Gone."""
        ...

    def send_now(self, pieces: Pieces) -> int:
        """Hand over what goes without waiting, and say how many bytes that were. Raise Gone."""
        ...

    async def send(self, pieces: Iterable[bytes | memoryview]) -> int:
        """Wait until some of it goes, and say how much. Raise Gone."""
        ...

    def abort(self) -> None:
        """Make the end a reset."""
        ...


class PlainWire:
    def __init__(self, stream: trio.SocketStream, buffer: memoryview, reactor: Reactor) -> None:
        self._socket = stream.socket
        self._fd = stream.socket.fileno()
        self._buffer = buffer
        self._reactor = reactor

    async def feed(self, take: Take) -> None:
        """One read a turn, and then the others': none is faster than the rest."""
        fd, buffer = self._fd, self._buffer[:MORSEL_BYTES]

        def read() -> bool:
            nonlocal buffer
            try:
                size = os.readv(fd, (buffer,))
            except BlockingIOError:
                return True
            except OSError as error:
                raise Gone from error
            wanted = take(buffer[:size])
            if wanted != len(buffer):
                buffer = self._buffer[:wanted]
            return wanted > 0

        await self._reactor.watch(fd, read)

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

    async def feed(self, take: Take) -> None:
        wanted = MORSEL_BYTES
        while wanted:
            try:
                data = await self._stream.receive_some(wanted)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise Gone from error
            wanted = take(memoryview(data))

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

    def abort(self) -> None:
        _reset(self._stream.transport_stream.socket)


def wire_of(stream: Stream, buffer: memoryview, reactor: Reactor) -> Wire:
    return TlsWire(stream) if isinstance(stream, trio.SSLStream) else PlainWire(stream, buffer, reactor)


def _reset(sock: trio.socket.SocketType) -> None:
    with suppress(OSError):  # it is gone already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
