"""Many routers in one process, each on a port of its own."""

from functools import partial
from typing import Any

from attrs import frozen
import trio

from opendesk.simulators.routeros.router import LATEST, PASSWORD, USER, Router
from opendesk.simulators.routeros.server import LOOPBACK, serve


@frozen
class Served:
    router: Router
    port: int

    @property
    def node(self) -> dict[str, Any]:
        """As MIKROTIK_NODES has it."""
        return {"id": self.router.name, "host": LOOPBACK, "port": self.port, "user": USER, "pass": PASSWORD}


def routers(count: int, *, dead: float = 0.0, version: str = LATEST) -> list[Router]:
    """`sim-1` and so on. That share of them, spread evenly, takes connections and never answers."""
    made = [Router(f"sim-{number}", version=version) for number in range(1, count + 1)]
    for index, router in enumerate(made):
        router.faults.black_hole = int((index + 1) * dead) > int(index * dead)
    return made


async def serve_all(
    fleet: list[Router],
    *,
    first_port: int = 0,
    latency_s: float = 0.0,
    task_status: trio.TaskStatus[list[Served]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """From `first_port` on, or on any that are free. Started with where they are; runs until cancelled."""
    async with trio.open_nursery() as nursery:
        served = []
        for index, router in enumerate(fleet):
            port = first_port and first_port + index
            bound: int = await nursery.start(partial(serve, router, port=port, latency_s=latency_s))
            served.append(Served(router, bound))
        task_status.started(served)
