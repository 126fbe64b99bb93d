"""Rooms that all want more than there is: whether each gets its share, by Jain's index of the bytes that came through.

One thread does it all, on one selector, with nothing to do but system calls; the relay has more to do for each byte, so it is what is short.
"""

from collections.abc import Sequence
import selectors
import socket
import time
from typing import Any, Final

from attrs import define, field
import psutil

from opendesk.stream.outgoing import BINARY
from scripts.benchmarks.measure import used_s
from scripts.benchmarks.relay_sockets import Picture, enter, header, knock

# Sent and read at once, at the most: more than the relay takes at once.
_BATCH_BYTES: Final = 128 * 1024
_READ_BYTES: Final = 1024 * 1024
# How far a host may be ahead of its client, as where a pair is saturated.
_AHEAD_BYTES: Final = 1024 * 1024


@define(eq=False)
class Pipe:
    """One room: its host's socket and its client's. `sent` and `got` are bytes, headers and all."""

    host: socket.socket
    client: socket.socket
    sent: int = 0
    got: int = 0
    is_held: bool = False


@define(eq=False)
class Crowd:
    """All rooms. Each host sends whenever there is place for it, but not too far ahead."""

    pipes: Sequence[Pipe]
    size: int
    _frames: memoryview = field(init=False)
    _sent_frame: int = field(init=False)
    _got_frame: int = field(init=False)
    _buffer: memoryview = field(factory=lambda: memoryview(bytearray(_READ_BYTES)))
    _selector: selectors.BaseSelector = field(factory=selectors.DefaultSelector)

    def __attrs_post_init__(self) -> None:
        self._frames = memoryview(Picture(self.size, max(1, _BATCH_BYTES // self.size)).frame)
        self._sent_frame, self._got_frame = (
            len(header(BINARY, self.size, masked=masked)) + self.size for masked in (True, False)
        )
        for pipe in self.pipes:
            self._selector.register(pipe.host, selectors.EVENT_WRITE, pipe)
            self._selector.register(pipe.client, selectors.EVENT_READ, pipe)

    def run(self, seconds: float) -> None:
        ends_s = time.monotonic() + seconds
        while (left_s := ends_s - time.monotonic()) > 0:
            for key, events in self._selector.select(left_s):
                if events & selectors.EVENT_WRITE:
                    self._send(key.data)
                else:
                    self._receive(key.data)

    def _send(self, pipe: Pipe) -> None:
        at = pipe.sent % len(self._frames)
        pipe.sent += pipe.host.send(self._frames[at:])
        if self._is_far_ahead(pipe):
            self._selector.unregister(pipe.host)
            pipe.is_held = True

    def _receive(self, pipe: Pipe) -> None:
        count = pipe.client.recv_into(self._buffer)
        if not count:
            raise RuntimeError("the relay has gone")
        pipe.got += count
        if pipe.is_held and not self._is_far_ahead(pipe):
            self._selector.register(pipe.host, selectors.EVENT_WRITE, pipe)
            pipe.is_held = False

    def _is_far_ahead(self, pipe: Pipe) -> bool:
        messages = pipe.sent // self._sent_frame - pipe.got // self._got_frame
        return messages * self.size >= _AHEAD_BYTES


def fairness(told: dict[str, Any]) -> dict[str, Any]:
    """What each room got while it was measured, after a while of the same."""
    crowd = Crowd([_pipe(told["port"], *queries) for queries in told["queries"]], told["size"])
    crowd.run(told["warm_up"])
    process, own = psutil.Process(told["pid"]), psutil.Process()
    got = [pipe.got for pipe in crowd.pipes]
    before, own_before, begun_s = used_s(process), used_s(own), time.monotonic()
    crowd.run(told["seconds"])
    cpu_s, load_cpu_s, took_s = used_s(process) - before, used_s(own) - own_before, time.monotonic() - begun_s
    shares = [pipe.got - earlier for pipe, earlier in zip(crowd.pipes, got, strict=True)]
    return {
        "rooms": len(shares),
        "index": jain(shares),
        "bytes": sum(shares),
        "least": min(shares),
        "most": max(shares),
        "seconds": took_s,
        "cpu_s": cpu_s,
        "load_cpu_s": load_cpu_s,
    }


def jain(shares: Sequence[float]) -> float:
    """1 if all have the same, 1/n if one has it all. 0 if there is nothing."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def _pipe(port: int, host_query: str, client_query: str) -> Pipe:
    host, client = knock(port, host_query), knock(port, client_query)
    for sock in (host, client):
        enter(sock)
        sock.settimeout(0)
    return Pipe(host, client)
