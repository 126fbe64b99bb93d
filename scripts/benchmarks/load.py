"""The load, in a process of its own so that it doesn't count: `python -m scripts.benchmarks.load`, told by `driving.py` what to do.

One thread and a selector. Every connection has one request under way at most. Without a rate each starts its next job when the last
is done; with one, jobs begin when they are due, whether the server keeps up or not, and what they wait for a connection counts.
"""

from collections import deque
from collections.abc import Callable, Iterator
import json
import re
import selectors
import socket
import sys
import time
from typing import Any, Final

from attrs import define, field

from scripts.benchmarks.jobs import JOBS, Answer, Job, MakeJob

# Jobs that are due and have no connection. More: the server is hopelessly behind, and they are counted as failed.
MAX_QUEUED: Final = 20_000
# What is told of; a longer run tells of its beginning.
MAX_SAMPLES: Final = 200_000
# After the last job was begun.
DRAIN_S: Final = 15.0

_READ_BYTES: Final = 65_536
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CLOSES: Final = re.compile(rb"connection: *close", re.IGNORECASE)


@define(eq=False)
class Connection:
    slot: int
    port: int
    sock: socket.socket
    job: Job | None = None
    asked_s: float = 0.0
    received: bytes = b""

    def reopen(self, selector: selectors.BaseSelector) -> None:
        selector.unregister(self.sock)
        self.sock.close()
        self.sock = connect(self.port)
        selector.register(self.sock, selectors.EVENT_READ, self)


@define
class Load:
    """`run` does it; the rest is what came of it. Times are of the system's monotonic clock, the same in every process."""

    port: int
    connections: list[Connection]
    make: MakeJob
    seconds: float
    rate: float | None
    most: int
    begun: int = 0
    done: int = 0
    requests: int = 0
    failed: int = 0
    first_failure: str | None = None
    samples: list[tuple[float, float]] = field(factory=list)
    _free: deque[Connection] = field(factory=deque)
    _queued: deque[float] = field(factory=deque)
    _selector: selectors.BaseSelector = field(factory=selectors.DefaultSelector)
    _begun_s: float = 0.0
    _ended_s: float = 0.0

    def run(self) -> dict[str, Any]:
        self._begun_s = time.monotonic()
        for connection in self.connections:
            self._selector.register(connection.sock, selectors.EVENT_READ, connection)
            self._free.append(connection)
        while self._turn():
            pass
        self._ended_s = time.monotonic()
        return self._told()

    def _turn(self) -> bool:
        """Whether there is more to do."""
        now_s = time.monotonic()
        over = now_s >= self._begun_s + self.seconds or self.begun >= self.most
        if over and (len(self._free) == len(self.connections) or now_s >= self._begun_s + self.seconds + DRAIN_S):
            return False
        if not over:
            self._begin_due(now_s)
        for key, _ in self._selector.select(self._pause_s(now_s, over=over)):
            self._receive(key.data)
        return True

    def _pause_s(self, now_s: float, *, over: bool) -> float:
        if over or self.rate is None:
            return 0.1
        return max(0.0, self._begun_s + self.begun / self.rate - now_s)

    def _begin_due(self, now_s: float) -> None:
        if self.rate is None:
            while self._free and self.begun < self.most:
                self._begin(self._free.popleft(), now_s)
            return
        while self.begun + len(self._queued) < self.most and self._due_s(len(self._queued)) <= now_s:
            self._queued.append(self._due_s(len(self._queued)))
        while self._queued and self._free:
            self._begin(self._free.popleft(), self._queued.popleft())
        while len(self._queued) > MAX_QUEUED:
            self._queued.popleft()
            self.begun += 1
            self._fail("it could not be begun")

    def _due_s(self, queued: int) -> float:
        assert self.rate is not None
        return self._begun_s + (self.begun + queued) / self.rate

    def _begin(self, connection: Connection, due_s: float) -> None:
        connection.job = self.make(self.begun, connection.slot)
        self.begun += 1
        self._send(connection, next(connection.job), due_s)

    def _send(self, connection: Connection, request: bytes, asked_s: float) -> None:
        connection.asked_s = asked_s
        connection.sock.sendall(request)

    def _receive(self, connection: Connection) -> None:
        data = connection.sock.recv(_READ_BYTES)
        connection.received += data
        answer, closes = parsed(connection.received)
        if answer is None and data:
            return
        connection.received = b""
        if answer is None or closes:
            connection.reopen(self._selector)
        if connection.job is None:
            return  # the server has enough of one that nobody used
        if answer is None:
            self._fail("the connection was closed without an answer")
            self._finish(connection)
        else:
            self._take(connection, answer)

    def _take(self, connection: Connection, answer: Answer) -> None:
        now_s = time.monotonic()
        self.requests += 1
        if len(self.samples) < MAX_SAMPLES:
            self.samples.append((connection.asked_s, now_s - connection.asked_s))
        if answer[0] >= 300:  # noqa: PLR2004  # HTTP's successes are below
            self._fail(f"{answer[0]}: {answer[1][:200]!r}")
            self._finish(connection)
            return
        assert connection.job is not None
        try:
            request = connection.job.send(answer)
        except StopIteration:
            self.done += 1
            self._finish(connection)
        else:
            self._send(connection, request, now_s)

    def _finish(self, connection: Connection) -> None:
        connection.job = None
        self._free.append(connection)

    def _fail(self, why: str) -> None:
        self.failed += 1
        self.first_failure = self.first_failure or why

    def _told(self) -> dict[str, Any]:
        return {
            "begun_s": self._begun_s,
            "seconds": self._ended_s - self._begun_s,
            "jobs": self.done,
            "requests": self.requests,
            "failed": self.failed + len(self.connections) - len(self._free),
            "first_failure": self.first_failure,
            "samples": self.samples,
        }


def parsed(data: bytes) -> tuple[Answer | None, bool]:
    """A whole answer, and whether the connection ends with it; None while something is missing."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None, False
    status = int(head[9:12])
    match = _LENGTH.search(head)
    if len(body) < (int(match[1]) if match else 0):
        return None, False
    return (status, body), _CLOSES.search(head) is not None


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=DRAIN_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def main(lines: Iterator[str], say: Callable[[str], object]) -> None:
    """The first line says what to do; the second, that it is time."""
    told = json.loads(next(lines))
    connections = [Connection(slot, told["port"], connect(told["port"])) for slot in range(told["connections"])]
    make = JOBS[told["job"]](told["people"])
    load = Load(told["port"], connections, make, told["seconds"], told["rate"], told["most"])
    say("ready")
    next(lines)
    say(json.dumps(load.run()))


if __name__ == "__main__":
    main(iter(sys.stdin), lambda line: print(line, flush=True))
