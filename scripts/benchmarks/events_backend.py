"""A backend in a process of its own: `python -m scripts.benchmarks.events_backend`, asked in lines of JSON.

As lean as can be, since it shares the cores: it hands out each event once, checks the signature of each request, and notes when each ACK came.
"""

import asyncio
from collections import deque
import hmac
import json
import sys
import time
from typing import Any, Final

from attrs import define, field, frozen
import psutil

from scripts.benchmarks.events_made import ACKS_PATH, EVENTS_PATH, event_id, mixed, paid, revoked, signature
from scripts.benchmarks.measure import used_s

# Of one answer.
BATCH: Final = 1_000
_HOST: Final = "127.0.0.1"
_LINE_BYTES: Final = 2**20


@frozen
class _Ack:
    at_s: float
    ok: bool
    reason: str | None


@define(eq=False)
class _Books:
    """What waits to be fetched, each from a time on, and what became of it. Times are the machine's monotonic clock."""

    queue: deque[tuple[float, bytes]] = field(factory=deque)
    ids: list[str] = field(factory=list)
    acks: dict[str, _Ack] = field(factory=dict)
    again: int = 0
    faults: list[str] = field(factory=list)
    first_s: float | None = None
    news: asyncio.Event = field(factory=asyncio.Event)

    def offer(self, told: dict[str, Any]) -> list[float]:
        """From now on, or spread over `seconds`. When each is there to be fetched."""
        make = {"mixed": mixed, "paid": paid, "revoked": revoked}[told["kind"]]
        numbers = range(told["first"], told["first"] + told["count"])
        made = [make(number, told["routers"]) for number in numbers]
        self.ids, self.acks, self.again, self.faults, self.first_s = [event_id(it) for it in numbers], {}, 0, [], None
        now_s, apart_s = time.monotonic(), told["seconds"] / told["count"]
        times = [now_s + at * apart_s for at in range(told["count"])]
        self.queue.extend(zip(times, made, strict=True))
        return times

    def events(self) -> bytes:
        now_s, found = time.monotonic(), list[bytes]()
        while self.queue and self.queue[0][0] <= now_s and len(found) < BATCH:
            found.append(self.queue.popleft()[1])
        if found and self.first_s is None:
            self.first_s = now_s
        return b"[" + b",".join(found) + b"]"

    def acked(self, body: bytes) -> None:
        told = json.loads(body)
        if told["eventId"] in self.acks:
            self.again += 1
            return
        self.acks[told["eventId"]] = _Ack(time.monotonic(), told["ok"], told["payload"].get("reason"))
        if len(self.acks) >= len(self.ids):
            self.news.set()

    async def all_acked(self, within_s: float) -> dict[str, Any]:
        """What is missing then is said."""
        self.news.clear()
        if len(self.acks) < len(self.ids):
            try:
                await asyncio.wait_for(self.news.wait(), within_s)
            except TimeoutError:
                self.faults.append(f"{len(self.ids) - len(self.acks)} ACKs are missing after {within_s:g} s")
        refused = [f"{name}: {ack.reason}" for name, ack in self.acks.items() if not ack.ok]
        strangers = sorted(self.acks.keys() - set(self.ids))
        first_s = self.first_s if self.first_s is not None else time.monotonic()
        return {
            "seconds": max((ack.at_s for ack in self.acks.values()), default=first_s) - first_s,
            "again": self.again,
            "faults": [*self.faults, *refused, *strangers][:3],
            "acked_s": [self.acks[name].at_s for name in self.ids if name in self.acks],
        }


@define(eq=False)
class _Connection(asyncio.Protocol):
    """HTTP/1.1 as far as our two callers speak it."""

    books: _Books
    _transport: asyncio.Transport | None = None
    _received: bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            line, *lines = self._received[:end].split(b"\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (each.partition(b":") for each in lines)}
            body_end = end + 4 + int(fields.get(b"content-length", b"0"))
            if len(self._received) < body_end:
                return
            body, self._received = self._received[end + 4 : body_end], self._received[body_end:]
            self._respond(line.split(b" ")[1].decode(), fields, body)

    def _respond(self, path: str, fields: dict[bytes, bytes], body: bytes) -> None:
        text = body if path == ACKS_PATH else fields.get(b"x-relay-ts", b"")
        if not hmac.compare_digest(signature(text), fields.get(b"x-relay-hmac", b"")):
            self.books.faults.append(f"a wrong signature: {path}")
            self._send(b"401 Unauthorized", b"")
        elif path == EVENTS_PATH:
            answer = self.books.events()
            self._send(b"200 OK", answer, b"x-backend-hmac: " + signature(answer) + b"\r\n")
        else:
            self.books.acked(body)
            self._send(b"200 OK", b"{}")

    def _send(self, status: bytes, body: bytes, more: bytes = b"") -> None:
        assert self._transport is not None
        self._transport.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n%b\r\n%b" % (status, len(body), more, body))


async def _answer(books: _Books, told: dict[str, Any]) -> object:
    match told["ask"]:
        case "offer":
            return books.offer(told)
        case "acked":
            return await books.all_acked(told["within_s"])
        case "cpu":
            return used_s(psutil.Process())
    raise ValueError(told["ask"])


async def main() -> None:
    """The first line is any; the answer is the port. Until standard input ends."""
    loop, books = asyncio.get_running_loop(), _Books()
    reader = asyncio.StreamReader(_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    server = await loop.create_server(lambda: _Connection(books), _HOST, 0)
    said: object = server.sockets[0].getsockname()[1]
    async for line in reader:
        told = json.loads(line)
        if told["ask"] != "port":
            said = await _answer(books, told)
        print(json.dumps(said), flush=True)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
