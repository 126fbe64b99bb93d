"""A router on a TCP port of this machine, with a wire as long as one likes."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
import socket
import ssl
import struct
from typing import Final

from attrs import define, field
import trio

from opendesk.network.routeros.codec import Decoder, encode
from opendesk.network.routeros.errors import ProtocolError
from opendesk.simulators.routeros.router import Router
from opendesk.simulators.routeros.session import Session

LOOPBACK: Final = "127.0.0.1"
_CHUNK: Final = 65536
# On the wire at once, each way; then reading waits.
_MOST_ON_THE_WAY: Final = 1000
# A peer that takes no bytes for so long is cut off.
_SEND_S: Final = 30.0
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@asynccontextmanager
async def simulated(
    router: Router, *, latency_s: float = 0.0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, int]]:
    """The router on a port of its own: host and port."""
    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(partial(serve, router, latency_s=latency_s, tls=tls))
        yield LOOPBACK, port
        nursery.cancel_scope.cancel()


async def serve(
    router: Router,
    *,
    port: int = 0,
    latency_s: float = 0.0,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """`latency_s` is what a round trip takes. Started with the port; runs until cancelled."""

    async def handle(stream: trio.SocketStream) -> None:
        await _Connection(router, stream, latency_s).run(tls)

    listeners = await trio.open_tcp_listeners(port, host=LOOPBACK)
    bound: int = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, handle, listeners))
        task_status.started(bound)


@define(eq=False)
class _Connection:
    """One task reads. What it read is on its way for half of the latency, what is answered for the other half: a task for each, only while
    there is something. So a thousand idle connections are a thousand tasks, and commands that follow each other closely share the wire.
    Without a latency what was read is answered by who read it.
    """

    router: Router
    tcp: trio.SocketStream
    latency_s: float
    stream: trio.abc.Stream = field(init=False)
    session: Session = field(init=False)
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    _decoder: Decoder = field(factory=Decoder)
    _coming: deque[tuple[float, bytes]] = field(factory=deque)
    _going: deque[tuple[float, bytes]] = field(factory=deque)
    _nursery: trio.Nursery = field(init=False)
    _room: trio.Event = field(factory=trio.Event)
    _delivers: bool = False
    _sends: bool = False
    _waiting: int = 0

    async def run(self, tls: ssl.SSLContext | None) -> None:
        router = self.router
        router.counts.connections += 1
        if router.faults.refuses_connections or not router.is_up:
            self._reset()
            return
        router.counts.open += 1
        router.hang_ups.add(self._hang_up)
        self.session = Session(router, self._has_news)
        try:
            with self.scope:
                await self._speak(tls)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, ProtocolError, OSError):
            self._reset()
        finally:
            self.session.close()
            router.hang_ups.discard(self._hang_up)
            router.counts.open -= 1
            self.tcp.socket.close()

    async def _speak(self, tls: ssl.SSLContext | None) -> None:
        self.stream = (
            self.tcp if tls is None else trio.SSLStream(self.tcp, tls, server_side=True, https_compatible=True)
        )
        self.tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with trio.open_nursery() as self._nursery:
            await self._read()
            self._nursery.cancel_scope.cancel()

    async def _read(self) -> None:
        while data := await self.stream.receive_some(_CHUNK):
            if not self.latency_s and not self._delivers:
                self._hear(bytes(data))
                if self._is_all_due():
                    self._sends = True
                    await self._send()
                self._start_sending()
                continue
            self._coming.append((trio.current_time() + self.latency_s / 2, bytes(data)))
            if not self._delivers:
                self._delivers = True
                self._nursery.start_soon(self._deliver)
            while len(self._coming) + len(self._going) > _MOST_ON_THE_WAY:
                self._room = trio.Event()
                await self._room.wait()

    async def _deliver(self) -> None:
        """What has come the way here is done, in its order."""
        while self._coming:
            at, data = self._coming.popleft()
            await trio.sleep_until(at)
            self._hear(data)
            self._start_sending()
            self._room.set()
        self._delivers = False

    def _hear(self, data: bytes) -> None:
        for sentence in self._decoder.feed(data):
            if not self._going and not self._sends and not self._waiting:
                self.router.counts.round_trips += 1
            self._waiting += 1
            self._answer(b"".join(encode(words) for words in self.session.answer(sentence)))
            self._waiting -= 1
            if self.session.is_over:
                break

    def _answer(self, data: bytes) -> None:
        session = self.session
        if session.is_cut:
            data = data[: len(data) // 2]
        if not data and not session.is_over:
            return
        at = trio.current_time() + self.latency_s / 2 + self.router.faults.slow_s + session.pause_s
        session.pause_s = 0.0
        self._going.append((max(at, self._going[-1][0]) if self._going else at, data))

    def _is_all_due(self) -> bool:
        if self._sends or not self._going or self.router.faults.drip_s is not None:
            return False
        return self._going[-1][0] <= trio.current_time()

    def _start_sending(self) -> None:
        if self._going and not self._sends:
            self._sends = True
            self._nursery.start_soon(self._send)

    async def _send(self) -> None:
        while self._going:
            await trio.sleep_until(self._going[0][0])
            await self._put(self._take_due())
            self._room.set()
        self._sends = False
        if self.session.is_over:
            if self.session.is_cut:
                self._reset()
            self.scope.cancel()

    def _take_due(self) -> bytes:
        now_s = trio.current_time()
        parts = []
        while self._going and self._going[0][0] <= now_s:
            parts.append(self._going.popleft()[1])
        return b"".join(parts)

    async def _put(self, data: bytes) -> None:
        drip_s = self.router.faults.drip_s
        with trio.fail_after(_SEND_S if drip_s is None else _SEND_S + drip_s * len(data)):
            if drip_s is None:
                await self.stream.send_all(data)
                return
            for at in range(len(data)):
                await self.stream.send_all(data[at : at + 1])
                await trio.sleep(drip_s)

    def _has_news(self) -> None:
        """A change on another connection; what this one's own command brings about is told with its answer."""
        if not self._waiting:
            self._answer(b"".join(encode(words) for words in self.session.news()))
            self._start_sending()

    def _hang_up(self) -> None:
        if self.session.is_over:  # its own reboot: it is told first
            return
        self._reset()
        self.scope.cancel()

    def _reset(self) -> None:
        if self.tcp.socket.fileno() >= 0:
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.tcp.socket.close()
