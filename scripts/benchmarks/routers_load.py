"""Backends that ask for authorizations, in a process of their own: `python -m scripts.benchmarks.routers_load`, told in lines of JSON."""

from collections.abc import Sequence
import json
import time
from typing import Any, Final

from attrs import define, field

from scripts.benchmarks.jobs import Answer, Job, MakeJob, request
from scripts.benchmarks.load import Connection, Load, connect
from scripts.benchmarks.relay_sockets import raise_descriptor_limit
from scripts.benchmarks.routers_child import answer
from scripts.benchmarks.routers_devices import Device

_PATH: Final = "/relay/authorize-by-pedido"
_SHOWN_CHARS: Final = 300


@define(eq=False)
class Backends(Load):
    """Whatever is answered counts: a router that is away has an answer, too."""

    answers: list[tuple[int, int, float]] = field(factory=list)  # number, status, seconds
    bodies: dict[int, str] = field(factory=dict)  # the first of each status
    _asked: dict[int, int] = field(factory=dict)  # by the connection's slot

    def _begin(self, connection: Connection, due_s: float) -> None:
        self._asked[connection.slot] = self.begun
        Load._begin(self, connection, due_s)  # noqa: SLF001  # ours: super() knows no class that attrs made anew

    def _take(self, connection: Connection, answer: Answer) -> None:
        status, body = answer
        self.bodies.setdefault(status, body[:_SHOWN_CHARS].decode("utf-8", "replace"))
        self.answers.append((self._asked[connection.slot], status, time.monotonic() - connection.asked_s))
        self.requests += 1
        self.done += 1
        self._finish(connection)


def _authorizations(routers: Sequence[str], token: str, first: int) -> MakeJob:
    """New devices, one behind each router in turn."""

    def make(number: int, _: int) -> Job:
        device = Device(first + number)
        asked = {
            "mikId": routers[device.router(len(routers))],
            "pedidoId": device.pedido,
            "ipAtual": device.ip,
            "macAtual": device.mac,
        }
        yield request("POST", _PATH, token, json.dumps(asked).encode())

    return make


def _run(told: dict[str, Any]) -> dict[str, Any]:
    connections = [Connection(slot, told["port"], connect(told["port"])) for slot in range(told["connections"])]
    make = _authorizations(told["routers"], told["token"], told["first"])
    load = Backends(told["port"], connections, make, told["seconds"], told["rate"], told["most"])
    found = load.run()
    for connection in connections:
        connection.sock.close()
    names = ("seconds", "failed", "first_failure")
    return {**{name: found[name] for name in names}, "answers": load.answers, "bodies": load.bodies}


if __name__ == "__main__":
    raise_descriptor_limit()
    answer(_run)
