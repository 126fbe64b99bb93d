"""Everything good that the document promises of the network API happens; each answer is judged as it comes."""

from typing import Any

from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.access.test_every_call import ROOTS
from tests.network.behind import HERE, IP, MAC, Behind, aged_router, good, until
from tests.network.tunnels.calling import (
    APPLY,
    BINDING,
    BOOTSTRAP,
    DEVICE,
    MANAGED,
    PEERS,
    PROBE,
    ROUTER,
    escaped,
    key,
    tunnelled,
)


async def _a_day(on: Behind) -> None:
    token = await on.hello()
    device = {"mikId": "r1", "pedidoId": "1", "deviceToken": token}
    good(await on.call("/relay/authorize-by-pedido", device))
    good(await on.call("/relay/resync-device", {**device, **HERE}))
    told = good(await on.revoke(mac=MAC))
    good(await on.call("/relay/action", {"action": "REVOKE_SESSION", "payload": {"mikId": "r1", "ip": IP}}))
    for page in (f"/relay/jobs/{told['jobId']}", "/relay/routers", "/relay/health", "/relay/metrics"):
        assert (await on.call(page)).is_success


async def _with_a_slow_router(on: Behind) -> None:
    device = {"mikId": "r1", "pedidoId": "2", "deviceToken": await on.hello()}
    on.routers["r1"].faults.slow_s = 0.3
    told = [
        good(await on.call("/relay/authorize-by-pedido", device), 202),
        good(await on.call("/relay/resync-device", {**device, "ipAtual": "10.5.50.8", "macAtual": MAC}), 202),
        good(await on.revoke(mac=MAC), 202),
        good(await on.call("/relay/action", {"action": "REVOKE_SESSION", "payload": {"mikId": "r1", "ip": IP}}), 202),
    ]
    on.routers["r1"].faults.slow_s = 0.0
    for each in told:
        await on.job_is(each["jobId"], "done")


async def _a_day_of_tunnels(on: Behind) -> None:
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/devices", DEVICE),
        ("/relay/routers/register", ROUTER),
        ("/relay/routers/routers/register", ROUTER),
        ("/relay/manager/register", MANAGED),
        ("/mikrotik/bootstrap", {**BOOTSTRAP, "devicePublicKey": key(1)}),
    )
    for path, body in calls:
        again: dict[str, Any] = {"mikrotikPublicKey": key(2), "publicKey": key(2), "devicePublicKey": key(2)}
        new: dict[str, Any] = {name: again.get(name, value) for name, value in body.items()}
        new |= {"wireguard": {"peerPublicKey": key(2)}} if "wireguard" in body else {}
        assert [(await on.call(path, each)).status_code for each in (body, body, new)] == [201, 200, 202]
        if path != "/mikrotik/bootstrap":
            way = path.removesuffix("/register") if path.startswith("/relay/routers") else "/devices"
            good(await on.client.delete(f"{way}/bus-1"))
            # A router that a manager registered stays when its device goes.
            await on.client.delete("/relay/routers/bus-1")
    good(await on.call("/mikrotik/bootstrap", BOOTSTRAP))
    good(await on.call("/relay/routers/register", ROUTER), 200)
    good(await on.call(f"{PEERS}/bind", BINDING))
    for page in ("/devices", "/devices/bus-1/status", f"{PEERS}/status", f"{PEERS}/bindings"):
        good(await on.call(page))
    good(await on.client.post("/devices/bus-1/sync"))
    good(await on.call("/internal/mikrotik/probe", PROBE))
    good(await on.call("/internal/mikrotik/apply", APPLY))
    good(await on.client.delete(f"{PEERS}/{escaped(key(1))}"))


async def test_everything_good_that_it_promises_happens(conninfo: str) -> None:
    router = aged_router()
    async with tunnelled(conninfo, router, wireguard=SimulatedWireguard()) as on:
        await _a_day_of_tunnels(on)
        seen = on.conformance.seen
    async with tunnelled(conninfo, RELAY_ACTION_TIMEOUT_MS="100") as on:
        await until(on.services.network.fleet.open_lanes)
        await _a_day(on)
        await _with_a_slow_router(on)
        promised = {
            (operation["operationId"], int(status))
            for _, path, operation in on.conformance.operations()
            for status in operation["responses"]
            if status.startswith("2") and path.startswith(ROOTS)
        }
        assert seen | on.conformance.seen >= promised
