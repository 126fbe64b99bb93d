"""A relay's load, in a process of its own: `python -m scripts.benchmarks.relay_load`, told in a line of JSON what to do.

Two of its kinds are here: one host and one client, as fast as it goes (`saturate`) or at a rate (`pace`). Each has a thread, and both do
little but wait in the kernel, which does the copying: the frames are made beforehand, and sent and read many at a time.

As fast as it goes is not faster than the client takes it: a relay that never slows a host sheds what is too much, and what is measured would be
shedding. So the host stays a MiB ahead at the most.
"""

from collections.abc import Callable
import json
import socket
import sys
import threading
import time
from typing import Any, Final

from attrs import define, field
import psutil

from opendesk.stream.outgoing import BINARY
from scripts.benchmarks.measure import percentile, used_s
from scripts.benchmarks.relay_fairness import fairness
from scripts.benchmarks.relay_many import idle, rooms
from scripts.benchmarks.relay_sockets import (
    STAMP,
    Picture,
    Reader,
    connect,
    enter,
    header,
    knock,
    raise_descriptor_limit,
)

# Sent at once when saturating: more than the relay reads at once.
_BATCH_BYTES: Final = 128 * 1024
_READ_BYTES: Final = 1024 * 1024
# How far the host may be ahead of its client: what the relay on Node lets it before it pauses it, and less than ours keeps for a client.
_AHEAD_BYTES: Final = 1024 * 1024
_LOOK_S: Final = 0.05
# Of a run's samples; a longer one tells of its beginning.
_MOST_SAMPLES: Final = 200_000
_JOIN_S: Final = 10.0
# A proxy's start, and its way to us.
_PROXY_S: Final = 20.0
_KNOCK_AGAIN_S: Final = 0.02


@define(eq=False)
class Pair:
    """A host and its client, and what the client has got."""

    size: int
    host: socket.socket
    client: socket.socket
    # What a relay gets is; a proxy, which only copies, gets what the client is to have.
    masked: bool = True
    messages: int = 0
    latencies_us: list[float] = field(factory=list)
    is_over: bool = False
    fault: str | None = None
    _came: threading.Event = field(factory=threading.Event)

    def run(self, told: dict[str, Any], source: Callable[[], None], sink: Callable[[], None]) -> dict[str, Any]:
        """Let both work, and measure when they have warmed up."""
        threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True) for work in (sink, source)]
        for thread in threads:
            thread.start()
        time.sleep(told["warm_up"])
        self.latencies_us.clear()
        process, own = psutil.Process(told["pid"]), psutil.Process()
        before, own_before, messages, begun_s = _used_by_all(process), used_s(own), self.messages, time.monotonic()
        time.sleep(told["seconds"])
        took_s = time.monotonic() - begun_s
        done, cpu_s, own_s = self.messages - messages, _used_by_all(process) - before, used_s(own) - own_before
        samples = self.latencies_us[:]
        self._end(threads)
        return {
            "messages": done,
            "seconds": took_s,
            "cpu_s": cpu_s,
            "load_cpu_s": own_s,
            "p50_us": percentile(samples, 0.5),
            "p99_us": percentile(samples),
        }

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, RuntimeError) as error:
            if not self.is_over:
                self.fault = repr(error)

    def _end(self, threads: list[threading.Thread]) -> None:
        self.is_over = True
        for sock in (self.host, self.client):
            # With TLS its own would first take away what the threads are working with.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in threads:
            thread.join(_JOIN_S)
        if self.fault is not None:
            raise RuntimeError(self.fault)

    # ---- as fast as it goes

    def flood(self) -> None:
        picture = Picture(self.size, max(1, _BATCH_BYTES // self.size), self.masked)
        sent, ahead = 0, max(2, _AHEAD_BYTES // self.size)
        while not self.is_over:
            self._came.clear()
            if sent - self.messages >= ahead:
                self._came.wait(_LOOK_S)
                continue
            self.host.sendall(picture.frame)
            sent += picture.count

    def count(self) -> None:
        """All messages are of one length, so the bytes tell how many; where one begins, its header has to be."""
        head = header(BINARY, self.size, masked=False)
        buffer = memoryview(bytearray(_READ_BYTES))
        frame_bytes, got = len(head) + self.size, 0
        while not self.is_over:
            size = self.client.recv_into(buffer)
            if not size:
                raise RuntimeError("the relay has gone")
            begins = -got % frame_bytes
            if begins + len(head) <= size and buffer[begins : begins + len(head)] != head:
                raise RuntimeError("the stream is out of step")
            got += size
            self.messages = got // frame_bytes
            self._came.set()

    # ---- at a rate

    def pace(self, rate: float) -> None:
        """Each when it is due, whether or not the relay keeps up."""
        picture, begun_s, sent = Picture(self.size, masked=self.masked), time.monotonic(), 0
        while not self.is_over:
            wait_s = begun_s + sent / rate - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            self.host.sendall(picture.stamped())
            sent += 1

    def time(self) -> None:
        reader = Reader()
        while not self.is_over:
            for opcode, payload in reader.read(self.client):
                if opcode != BINARY:
                    continue
                self.messages += 1
                if len(self.latencies_us) < _MOST_SAMPLES:
                    (sent_ns,) = STAMP.unpack_from(payload)
                    self.latencies_us.append((time.monotonic_ns() - sent_ns) / 1000)


def _used_by_all(process: psutil.Process) -> float:
    """With its children: a proxy may have one for each connection. None of them ends while it is measured."""
    return sum(used_s(each) for each in [process, *process.children(recursive=True)])


def _pair(told: dict[str, Any]) -> Pair:
    if "sink" in told:
        return Pair(told["size"], *_through_a_proxy(told["port"], told["sink"]), masked=False)
    host, client = (knock(told["port"], query, told.get("trusts")) for query in told["queries"][0])
    for sock in (host, client):
        enter(sock)
    return Pair(told["size"], host, client)


def _through_a_proxy(port: int, sink: int) -> tuple[socket.socket, socket.socket]:
    """Both ends of one connection that a proxy makes of two; it is told to go to the port `sink`, which is ours."""
    with socket.create_server(("127.0.0.1", sink)) as listener:
        listener.settimeout(_PROXY_S)
        host = _knock_again(port)
        client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for sock in (host, client):
        sock.settimeout(None)
    return host, client


def _knock_again(port: int) -> socket.socket:
    until_s = time.monotonic() + _PROXY_S
    while True:
        try:
            return connect(port)
        except ConnectionRefusedError:
            if time.monotonic() > until_s:
                raise
        time.sleep(_KNOCK_AGAIN_S)


def saturate(told: dict[str, Any]) -> dict[str, Any]:
    pair = _pair(told)
    return pair.run(told, pair.flood, pair.count)


def pace(told: dict[str, Any]) -> dict[str, Any]:
    pair = _pair(told)
    return pair.run(told, lambda: pair.pace(told["rate"]), pair.time)


KINDS: Final = {"saturate": saturate, "pace": pace, "rooms": rooms, "fairness": fairness, "idle": idle}


def main() -> None:
    raise_descriptor_limit()
    told = json.loads(sys.stdin.readline())
    print(json.dumps(KINDS[told["kind"]](told)))


if __name__ == "__main__":
    main()
