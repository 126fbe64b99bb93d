"""A usual backend's way to a router, in a process of its own: `routeros-api` in a pool of threads, connecting for each authorization.

`python -m scripts.benchmarks.routers_peer`, told in a line of JSON.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import count
import time
from typing import Any, Final

import psutil
import routeros_api

from scripts.benchmarks.measure import used_s
from scripts.benchmarks.routers_child import answer
from scripts.benchmarks.routers_devices import LATENCY_S, Device

THREADS: Final = 32

_MENUS: Final = ("/ip/hotspot/ip-binding", "/ip/firewall/address-list", "/ip/hotspot/active", "/ip/hotspot/host")


def authorize(node: dict[str, Any], device: Device, latency_s: float = LATENCY_S) -> None:
    """What our rows are, each looked for before it is added; and the device sent away, so that it comes back as bypassed."""
    time.sleep(latency_s)  # of the connection's handshake, which takes no time on the loopback address
    pool = routeros_api.RouterOsApiPool(
        node["host"], username=node["user"], password=node["pass"], port=node["port"], plaintext_login=True
    )
    try:
        api = pool.get_api()
        bindings, paid, *online = map(api.get_resource, _MENUS)
        comment = f"pedido:{device.pedido}"
        if not bindings.get(**{"mac-address": device.mac}):
            bindings.add(**{"mac-address": device.mac, "address": device.ip, "type": "bypassed", "comment": comment})
        if not paid.get(list="paid_clients", address=device.ip):
            paid.add(list="paid_clients", address=device.ip, comment=comment)
        for devices in online:
            for row in devices.get(**{"mac-address": device.mac}):
                devices.remove(id=row["id"])
    finally:
        pool.disconnect()


def _run(told: dict[str, Any]) -> dict[str, Any]:
    numbers, nodes, done, failures = count(told["first"]), told["nodes"], list[float](), list[str]()
    until_s = time.monotonic() + told["seconds"]

    def work() -> None:
        while time.monotonic() < until_s:
            device, begun_s = Device(next(numbers)), time.monotonic()
            try:
                authorize(nodes[device.router(len(nodes))], device)
            except Exception as error:  # noqa: BLE001  # told, and then there is no result
                failures.append(repr(error))
                return
            done.append(time.monotonic() - begun_s)

    before_s, begun_s = used_s(psutil.Process()), time.monotonic()
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(THREADS):
            threads.submit(work)
    seconds, cpu_s = time.monotonic() - begun_s, used_s(psutil.Process()) - before_s
    return {"seconds": seconds, "took_s": done, "cpu_s": cpu_s, "failures": failures[:1]}


if __name__ == "__main__":
    answer(_run)
