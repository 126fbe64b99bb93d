"""Simulated routers far away, and a daemon that keeps connections to them: each a process of its own, and the load another."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
import json
from tempfile import TemporaryFile
from typing import IO, Any, Final

from attrs import frozen
import trio

from scripts.benchmarks.driving import NO_LIMIT
from scripts.benchmarks.load import DRAIN_S
from scripts.benchmarks.measure import Cpu
from scripts.benchmarks.routers_child import Child, child
from scripts.benchmarks.routers_devices import LATENCY_S, Device
from scripts.benchmarks.servers import OURS, Database, Served, serving

TOKEN: Final = "benchmarks-only-benchmarks-only"  # noqa: S105  # of a daemon on the loopback address
OK: Final = 200

# Everybody here has one address. Routers that are dead are no news.
_SETTINGS: Final = {"RELAY_TOKEN": TOKEN, "RELAY_RATE_LIMIT": "1000000", "LOG_LEVEL": "error"}
# Until all routers that let one in have.
_CONNECTED_S: Final = 120.0
_LOOK_S: Final = 0.1


@frozen
class Fleet:
    """How many routers, and which parts of them are of no use."""

    name: str  # another's routers are others, with nothing that is known of them
    count: int
    black_holes: float = 0.0
    refusing: float = 0.0
    latency_s: float = LATENCY_S


@frozen
class Load:
    """New devices, beginning with this one; as many at once as there are connections, or `rate` a second."""

    first: int
    connections: int
    seconds: float
    rate: float | None = None
    most: int = NO_LIMIT


@frozen
class Done:
    """`took_s` is of those that were authorized, `refused` counts the others by their status."""

    seconds: float
    took_s: Sequence[float]
    refused: Mapping[int, int]
    cpu: Cpu
    simulators_s: float

    def cpu_us(self, seconds: float) -> float:
        return seconds / max(len(self.took_s), 1) * 1e6


@frozen
class World:
    served: Served
    nodes: Sequence[dict[str, Any]]
    simulated: Child
    alive: frozenset[int]

    async def counts(self) -> dict[str, int]:
        found: dict[str, int] = await self.simulated.ask({"ask": "counts"})
        return found

    async def phones(self, first: int, count: int) -> None:
        """These devices are at their hotspots, and wait to be let through."""
        await self.simulated.ask({"ask": "phones", "first": first, "count": count})

    async def drive(self, load: Load) -> Done:
        """Raise RuntimeError if a router that lives was not used as asked, or a device isn't let through afterwards."""
        async with child("routers_load") as backends:
            before, simulators_s = self.served.cpu(), self.simulators_s()
            found = await backends.ask(self._told(load), within_s=load.seconds + DRAIN_S)
            cpu, simulators_s = self.served.cpu() - before, self.simulators_s() - simulators_s
        refused: dict[int, int] = {}
        numbers, took_s = list[int](), list[float]()
        for begun, status, seconds in found["answers"]:
            number = load.first + begun
            if Device(number).router(len(self.nodes)) not in self.alive:
                refused[status] = refused.get(status, 0) + 1
            elif status == OK:
                numbers.append(number)
                took_s.append(seconds)
            else:
                raise RuntimeError(f"a living router's device got {status}: {found['bodies'][str(status)]}")
        if found["failed"]:
            raise RuntimeError(f"{found['failed']} calls failed, the first: {found['first_failure']}")
        return Done(found["seconds"], took_s, refused, cpu, simulators_s)

    def _told(self, load: Load) -> dict[str, Any]:
        return {
            "port": self.served.port,
            "token": TOKEN,
            "routers": [node["id"] for node in self.nodes],
            "first": load.first,
            "connections": load.connections,
            "seconds": load.seconds,
            "rate": load.rate,
            "most": load.most,
        }

    def simulators_s(self) -> float:
        times = self.simulated.usage.cpu_times()
        return float(times.user + times.system)


@asynccontextmanager
async def world(
    base: Database,
    fleet: Fleet,
    *,
    settings: Mapping[str, str] = {},
    log: IO[bytes] | None = None,
    command: Sequence[str] = OURS,
) -> AsyncIterator[World]:
    """Entered when the daemon is connected to every router that lives. `settings` are further ones of the daemon's."""
    async with child("routers_simulated") as simulated:
        told = {
            "name": fleet.name,
            "count": fleet.count,
            "latency_s": fleet.latency_s,
            "black_holes": fleet.black_holes,
            "refusing": fleet.refusing,
        }
        made = await simulated.ask(told)
        nodes = made["nodes"]
        environ = {**_SETTINGS, "MIKROTIK_NODES": json.dumps(nodes, separators=(",", ":")), **settings}
        # The audit is written whatever LOG_LEVEL says: thousands of lines that nobody wants on a screen.
        with TemporaryFile() as unread:
            async with serving(base, command, environ=environ, log=log or unread) as served:
                found = World(served, nodes, simulated, frozenset(made["alive"]))
                await _until_connected(found)
                yield found


async def _until_connected(found: World) -> None:
    with trio.move_on_after(_CONNECTED_S):
        while (await found.counts())["logins"] < len(found.alive):  # noqa: ASYNC110  # another process knows
            await trio.sleep(_LOOK_S)
        return
    raise RuntimeError(f"not all routers were connected to within {_CONNECTED_S:g} s")
