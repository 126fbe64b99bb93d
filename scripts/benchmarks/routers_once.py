"""Authorizations one after another on one router: what each takes, in round trips as the router counts them and in time."""

import json
import time
from typing import Final

from attrs import frozen
import trio

from scripts.benchmarks.jobs import request
from scripts.benchmarks.load import parsed
from scripts.benchmarks.measure import middle
from scripts.benchmarks.routers_devices import Device
from scripts.benchmarks.routers_world import OK, TOKEN, World

_READ_BYTES: Final = 65536
_ANSWER_S: Final = 30.0


@frozen
class Once:
    round_trips: float
    ms: float


async def once(world: World, first: int, count: int) -> Once:
    """Medians: the daemon's own look at the router, every half minute, may fall into one."""
    await world.phones(first, count)
    found = [await _authorized(world, Device(number)) for number in range(first, first + count)]
    return Once(middle([each.round_trips for each in found]), middle([each.ms for each in found]))


async def _authorized(world: World, device: Device) -> Once:
    node = world.nodes[device.router(len(world.nodes))]
    asked = {"mikId": node["id"], "pedidoId": device.pedido, "ipAtual": device.ip, "macAtual": device.mac}
    wire = request("POST", "/relay/authorize-by-pedido", TOKEN, json.dumps(asked).encode())
    before = (await world.counts())["round_trips"]
    async with await trio.open_tcp_stream("127.0.0.1", world.served.port) as stream:
        begun_s = time.perf_counter()
        status, body = await _asked(stream, wire)
        took_s = time.perf_counter() - begun_s
    if status != OK:
        raise RuntimeError(f"{status}: {body!r}")
    if await world.simulated.ask({"ask": "online", "numbers": [device.number]}) != 1:
        raise RuntimeError(f"{device} was said to be let through, and isn't")
    return Once((await world.counts())["round_trips"] - before, took_s * 1000)


async def _asked(stream: trio.SocketStream, wire: bytes) -> tuple[int, bytes]:
    received = b""
    with trio.fail_after(_ANSWER_S):
        await stream.send_all(wire)
        while True:
            data = await stream.receive_some(_READ_BYTES)
            received += data
            answer, _ = parsed(received)
            if answer is not None:
                return answer
            if not data:
                raise RuntimeError("the connection was closed without an answer")
