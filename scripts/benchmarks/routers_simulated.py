"""Simulated routers in a process of their own: `python -m scripts.benchmarks.routers_simulated`, asked in lines of JSON."""

from functools import partial
import json
import time
from typing import Any, Final

import trio

from opendesk.simulators.routeros.fleet import Served, serve_all
from opendesk.simulators.routeros.menus import BINDING, HOST
from opendesk.simulators.routeros.router import Router
from opendesk.simulators.routeros.tables import Row
from scripts.benchmarks.relay_sockets import raise_descriptor_limit
from scripts.benchmarks.routers_devices import Device

_STDIN: Final = 0
_STDOUT: Final = 1


def _router(index: int, count: int, told: dict[str, Any]) -> Router:
    router = Router(f"{told['name']}-{index + 1}")
    router.faults.black_hole = _is_one_of(index, told["black_holes"])
    # Others than those: the next ones.
    router.faults.refuses_connections = (
        _is_one_of((index - 1) % count, told["refusing"]) and not router.faults.black_hole
    )
    return router


def _is_one_of(index: int, part: float) -> bool:
    """That part of all, spread evenly."""
    return int((index + 1) * part) > int(index * part)


def _alive(fleet: list[Router]) -> list[int]:
    dead = (router.faults.black_hole or router.faults.refuses_connections for router in fleet)
    return [index for index, is_dead in enumerate(dead) if not is_dead]


def _counts(fleet: list[Router]) -> dict[str, int]:
    names = ("connections", "logins", "round_trips", "commands", "open")
    return {name: sum(getattr(router.counts, name) for router in fleet) for name in names}


def _watch(fleet: list[Router], done_s: dict[str, float]) -> None:
    """From now on: when the last was done that lets a device through, by its MAC: its binding is there, its host of before is gone."""

    def changed(path: str, row: Row, gone: bool) -> None:  # noqa: FBT001  # a Watcher
        if (path, gone) in {(BINDING, False), (HOST, True)}:
            done_s[row.values["mac-address"]] = time.monotonic()

    for router in fleet:
        router.state.watchers.append(changed)


def _flap(fleet: list[Router], indices: list[int], *, refuses: bool) -> None:
    """All their connections end; from now on they refuse to be called, or don't."""
    for router in (fleet[index] for index in indices):
        router.faults.refuses_connections = refuses
        for hang_up in list(router.hang_ups):
            hang_up()


def _answer(fleet: list[Router], done_s: dict[str, float], told: dict[str, Any]) -> object:
    match told["ask"]:
        case "watch":
            _watch(fleet, done_s)
            return None
        case "done":
            return [done_s.get(Device(number).mac) for number in told["numbers"]]
        case "counts":
            return _counts(fleet)
        case "flap":
            _flap(fleet, told["indices"], refuses=told["refuses"])
            return None
        case "phones":
            for number in range(told["first"], told["first"] + told["count"]):
                device = Device(number)
                fleet[device.router(len(fleet))].phone(device.mac, device.ip)
            return None
        case "online":
            devices = map(Device, told["numbers"])
            return sum(fleet[it.router(len(fleet))].is_online(it.mac, it.ip) for it in devices)
    raise ValueError(told["ask"])


async def main() -> None:
    """The first line says how many, and how far away; the answer is MIKROTIK_NODES. Until standard input ends."""
    raise_descriptor_limit()
    stdin, stdout = trio.lowlevel.FdStream(_STDIN), trio.lowlevel.FdStream(_STDOUT)
    rest, fleet, done_s = b"", list[Router](), dict[str, float]()
    async with trio.open_nursery() as nursery:
        async for data in stdin:
            *lines, rest = (rest + data).split(b"\n")
            for told in map(json.loads, lines):
                if fleet:
                    said: object = _answer(fleet, done_s, told)
                else:
                    fleet = [_router(index, told["count"], told) for index in range(told["count"])]
                    served: list[Served] = await nursery.start(partial(serve_all, fleet, latency_s=told["latency_s"]))
                    said = {"nodes": [each.node for each in served], "alive": _alive(fleet)}
                await stdout.send_all(json.dumps(said).encode() + b"\n")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
