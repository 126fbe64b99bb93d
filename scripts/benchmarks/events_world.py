"""A backend, routers, and a daemon between them, each a process of its own; and what became of a number of events."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from tempfile import TemporaryFile
from typing import Any, Final

from attrs import frozen

from scripts.benchmarks.events_made import ACKS_PATH, EVENTS_PATH, SECRET, opens, stays_open
from scripts.benchmarks.measure import Cpu
from scripts.benchmarks.routers_child import Child, child
from scripts.benchmarks.routers_world import Fleet, World, world
from scripts.benchmarks.servers import Database

POLL_MS: Final = 250
# Until the last ACK, at a tenth of what it should be.
PATIENCE_S: Final = 240.0
# Lines of the daemon's log that tell why a run failed.
_SHOWN: Final = 5


@frozen
class Ran:
    """What each process took of the CPU between the offer and the last ACK; seconds from the first answer that had events."""

    count: int
    seconds: float
    cpu: Cpu
    backend_s: float
    routers_s: float

    def us(self, seconds: float) -> float:
        return seconds / self.count * 1e6


@frozen
class Site:
    found: World
    backend: Child

    @property
    def routers(self) -> list[str]:
        return [node["id"] for node in self.found.nodes]

    async def phones(self, first: int, count: int) -> None:
        await self.found.phones(first, count)

    async def run(self, first: int, count: int) -> Ran:
        """All are there at once. Raise RuntimeError if one isn't acked as done, or a device isn't as its last event wants it."""
        await self.phones(first, count)
        before, others_s = self.found.served.cpu(), await self._others_s()
        await self.offer("mixed", first, count)
        told = await self.acked()
        cpu, after_s = self.found.served.cpu() - before, await self._others_s()
        await self._check(first, count)
        return Ran(count, told["seconds"], cpu, after_s[0] - others_s[0], after_s[1] - others_s[1])

    async def spread(self, first: int, count: int, seconds: float) -> list[float]:
        """Paid orders, one after another over so long: from when each could be fetched until its device was let through."""
        await self.phones(first, count)
        available_s: list[float] = await self.offer("paid", first, count, seconds)
        await self.acked(seconds)
        numbers = list(range(first, first + count))
        done_s = await self.found.simulated.ask({"ask": "done", "numbers": numbers})
        await self._online(numbers)
        return [done - available for done, available in zip(done_s, available_s, strict=True)]

    async def offer(self, kind: str, first: int, count: int, seconds: float = 0.0) -> Any:
        told = {"ask": "offer", "kind": kind, "first": first, "count": count, "seconds": seconds}
        return await self.backend.ask({**told, "routers": self.routers})

    async def acked(self, seconds: float = 0.0) -> dict[str, Any]:
        within_s = seconds + PATIENCE_S
        told: dict[str, Any] = await self.backend.ask({"ask": "acked", "within_s": within_s}, within_s=within_s)
        if told["faults"]:
            raise RuntimeError(f"not all went well: {told['faults']}")
        return told

    async def _others_s(self) -> tuple[float, float]:
        return await self.backend.ask({"ask": "cpu"}), self.found.simulators_s()

    async def _check(self, first: int, count: int) -> None:
        end = first + count
        numbers = [number for number in range(first, end) if opens(number)]
        await self._online([number for number in numbers if stays_open(number, end)])
        await self._online([number for number in numbers if not stays_open(number, end)], none=True)

    async def _online(self, numbers: Sequence[int], *, none: bool = False) -> None:
        wanted = 0 if none else len(numbers)
        online = await self.found.simulated.ask({"ask": "online", "numbers": numbers})
        if online != wanted:
            raise RuntimeError(f"{online} of {len(numbers)} devices are let through, and {wanted} should be")


@asynccontextmanager
async def site(base: Database, fleet: Fleet) -> AsyncIterator[Site]:
    """Entered when the daemon is connected to every router. It logs as it does by default, into a file: that is part of the work."""
    async with child("events_backend") as backend:
        port = await backend.ask({"ask": "port"})
        settings = {
            "BACKEND_EVENTS_URL": f"http://127.0.0.1:{port}{EVENTS_PATH}",
            "BACKEND_ACK_URL": f"http://127.0.0.1:{port}{ACKS_PATH}",
            "BACKEND_HMAC_SECRET": SECRET,
            "BACKEND_EVENTS_POLL_MS": str(POLL_MS),
            "LOG_LEVEL": "info",
            "LOG_FORMAT": "json",
        }
        with TemporaryFile() as log:
            async with world(base, fleet, settings=settings, log=log) as found:
                await found.simulated.ask({"ask": "watch"})
                try:
                    yield Site(found, backend)
                except RuntimeError as error:
                    log.seek(0)
                    raise RuntimeError(f"{error}; the daemon said {_faults(log)}") from None


def _faults(log: Iterable[bytes]) -> list[str]:
    lines = (line.decode("utf-8", "replace").strip() for line in log)
    return [line for line in lines if '"level": "info"' not in line and '"level":"info"' not in line][:_SHOWN]
