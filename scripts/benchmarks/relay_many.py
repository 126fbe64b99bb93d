"""Many sockets at a time, on one selector: rooms in which pictures and control messages pass, and sockets that only are there."""

from collections.abc import Iterator, Sequence
import json
import selectors
import socket
import time
from typing import Any, Final

from attrs import define, field
import psutil

from opendesk.stream.outgoing import BINARY, PING, TEXT
from scripts.benchmarks.measure import percentile, used_s
from scripts.benchmarks.relay_sockets import PONG_FRAME, Picture, Reader, enter, knock, text

# Handshakes under way: each waits 5 ms for its welcome.
_AT_ONCE: Final = 64
# Until what an opened socket leaves behind is gone.
_SETTLE_S: Final = 1.0


@define(eq=False)
class Member:
    """One socket of a room. `scope` is what its own messages carry."""

    sock: socket.socket
    scope: dict[str, str]
    is_host: bool
    reader: Reader = field(factory=Reader)

    def say(self, **fields: Any) -> None:
        self.sock.sendall(text(json.dumps({**self.scope, **fields}).encode()))


@define(eq=False)
class Rooms:
    """Pictures from every host at its rate, pings from every client at its: what a ping and its pong took, each one's way for itself."""

    hosts: list[Member]
    clients: list[Member]
    picture: Picture
    pictures: int = 0
    latencies_us: list[float] = field(factory=list)
    _selector: selectors.BaseSelector = field(factory=selectors.DefaultSelector)

    def run(self, seconds: float, *, pictures_a_second: float, pings_a_second: float) -> None:
        for member in (*self.hosts, *self.clients):
            self._selector.register(member.sock, selectors.EVENT_READ, member)
        ends_s = time.monotonic() + seconds
        for due_s, what, number in _due(time.monotonic(), pictures_a_second, pings_a_second):
            if due_s > ends_s:
                break
            self._hear_until(due_s)
            if what == "picture":
                self.hosts[number % len(self.hosts)].sock.sendall(self.picture.frame)
            else:
                self.clients[number % len(self.clients)].say(type="stream_ping", pingId=number, sentAtUs=_now_us())
        self._selector.close()

    def _hear_until(self, due_s: float) -> None:
        """At least once, also when it is late: what isn't read would count as late too."""
        left_s = 1.0
        while left_s > 0:
            left_s = due_s - time.monotonic()
            for key, _ in self._selector.select(max(left_s, 0)):
                self._hear(key.data)

    def _hear(self, member: Member) -> None:
        for opcode, payload in member.reader.read(member.sock):
            if opcode == BINARY:
                self.pictures += 1
            elif opcode == PING:
                member.sock.sendall(PONG_FRAME)
            elif opcode == TEXT:
                said = json.loads(payload)
                self.latencies_us.append(_now_us() - said["sentAtUs"])
                if member.is_host:
                    member.say(type="stream_pong", pingId=said["pingId"], sentAtUs=_now_us())


def _due(begun_s: float, pictures_a_second: float, pings_a_second: float) -> Iterator[tuple[float, str, int]]:
    """What is to be sent when, forever."""
    pictures = pings = 0
    while True:
        picture_s, ping_s = begun_s + pictures / pictures_a_second, begun_s + pings / pings_a_second
        if picture_s <= ping_s:
            yield picture_s, "picture", pictures
            pictures += 1
        else:
            yield ping_s, "ping", pings
            pings += 1


def _now_us() -> int:
    return time.monotonic_ns() // 1000


def rooms(told: dict[str, Any]) -> dict[str, Any]:
    """Of `pings` a second each one goes through the relay twice: from the client, and answered by the host."""
    hosts, clients = list[Member](), list[Member]()
    scopes = told["scopes"]
    for (host, client), (host_scope, client_scope) in zip(told["queries"], scopes, strict=True):
        for query, scope, members in ((host, host_scope, hosts), (client, client_scope, clients)):
            members.append(Member(_entered(told["port"], [query])[0], scope, members is hosts))
    all_rooms = Rooms(hosts, clients, Picture(told["size"]))
    rates = {"pictures_a_second": told["rate"], "pings_a_second": told["pings"]}
    process, own = psutil.Process(told["pid"]), psutil.Process()
    before, own_before, begun_s = used_s(process), used_s(own), time.monotonic()
    all_rooms.run(told["seconds"], **rates)
    cpu_s, load_cpu_s, took_s = used_s(process) - before, used_s(own) - own_before, time.monotonic() - begun_s
    return {
        "rooms": len(hosts),
        "pictures": all_rooms.pictures,
        "controls": len(all_rooms.latencies_us),
        "seconds": took_s,
        "cpu_s": cpu_s,
        "load_cpu_s": load_cpu_s,
        "p50_us": percentile(all_rooms.latencies_us, 0.5),
        "p99_us": percentile(all_rooms.latencies_us),
    }


def idle(told: dict[str, Any]) -> dict[str, Any]:
    """All there, some at a time; who is pinged meanwhile answers."""
    selector = selectors.DefaultSelector()
    queries = [query for room in told["queries"] for query in room]
    process = psutil.Process(told["pid"])
    before = process.memory_info().rss
    for at in range(0, len(queries), _AT_ONCE):
        for sock in _entered(told["port"], queries[at : at + _AT_ONCE]):
            selector.register(sock, selectors.EVENT_READ, Reader())
        _answer(selector)
    time.sleep(_SETTLE_S)
    _answer(selector)
    return {"sockets": len(selector.get_map()), "before_bytes": before, "rss_bytes": process.memory_info().rss}


def _entered(port: int, queries: Sequence[str]) -> list[socket.socket]:
    socks = [knock(port, query) for query in queries]
    for sock in socks:
        enter(sock)
    return socks


def _answer(selector: selectors.BaseSelector) -> None:
    for key, _ in selector.select(0):
        assert isinstance(key.fileobj, socket.socket)
        for opcode, _payload in key.data.read(key.fileobj):
            if opcode == PING:
                key.fileobj.sendall(PONG_FRAME)
