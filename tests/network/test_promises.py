"""Everything good that the document promises of the network API happens; each answer is judged as it comes."""

from tests.network.behind import HERE, IP, MAC, Behind, behind, good, until


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


async def test_everything_good_that_it_promises_happens(conninfo: str) -> None:
    async with behind(conninfo, RELAY_ACTION_TIMEOUT_MS="100") as on:
        await until(on.services.network.fleet.open_lanes)
        await _a_day(on)
        await _with_a_slow_router(on)
        promised = {
            (operation["operationId"], int(status))
            for _, path, operation in on.conformance.operations()
            for status in operation["responses"]
            if status.startswith("2") and path.startswith("/relay/")
        }
        assert on.conformance.seen >= promised
