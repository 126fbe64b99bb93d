"""A dry run takes the whole way, plans, audits and answers; no router hears of it, and nothing of it is left when it is over."""

from typing import Any, Final

from tests.network.behind import (
    BINDINGS,
    HERE,
    IP,
    MAC,
    NOTHING,
    Behind,
    aged_router,
    behind,
    good,
    held,
    open_for,
    refused,
    until,
)

DRY: Final[dict[str, Any]] = {"RELAY_DRY_RUN": "1"}


async def steps(net: Behind, answer: dict[str, Any]) -> list[str]:
    job = await net.job(answer["jobId"])
    assert job["result"]["dryRun"] is True
    return [f"{step['menu']}/{step['verb']}" for step in job["result"]["steps"]]


async def test_every_action_is_planned_and_no_packet_is_sent(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router, **DRY) as net:
        token = await net.hello()
        told = good(await net.authorize(deviceToken=token, minutes=5))
        assert (told["ok"], told["dryRun"], told["changed"]) == (True, True, False)
        assert told["until"] is not None
        assert "/ip/hotspot/ip-binding/add" in await steps(net, told)
        there = {"mikId": "r1", "pedidoId": "1", "deviceToken": token, "ipAtual": "10.5.50.8", "macAtual": MAC}
        told = good(await net.call("/relay/resync-device", there))
        assert (told["dryRun"], told["ip"]) == (True, "10.5.50.8")
        told = good(await net.revoke(mac=MAC))
        assert (told["dryRun"], told["changed"]) == (True, False)
        body = {"action": "AUTHORIZE_BY_PEDIDO", "payload": {"mikId": "r1", "pedidoId": "2", **HERE}}
        assert good(await net.call("/relay/action", body))["result"]["dryRun"] is True
        assert (await net.authorize(deviceToken="x" * 22)).status_code == 404
        assert refused(await net.revoke("r9", ip=IP)) == (404, "ROUTER_NOT_FOUND")
        assert len(net.lines("audit", outcome="success", dryRun=True)) == 4
        listed = good(await net.call("/relay/routers"))["items"]
        assert [item["lane"]["connected"] for item in listed] == [False]
    assert router.counts.connections == 0


async def test_what_was_pretended_is_never_done_and_what_is_real_is_not_undone(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        good(await net.authorize("real"))
    async with behind(conninfo, router, **DRY) as net:
        good(await net.authorize("pretended", ipAtual="10.5.50.8", macAtual="AA:BB:CC:DD:EE:02"))
        good(await net.revoke(ip=IP))
    async with behind(conninfo, router) as net:
        assert held(router) == open_for("real")
        # Also when all that is granted is put back.
        router.reboot()
        assert not good(await net.authorize("real"))["changed"]
        assert not good(await net.revoke(ip="10.5.50.8"))["changed"]
        good(await net.revoke(ip=IP))
        assert held(router) == NOTHING


async def test_a_real_job_waits_for_a_daemon_that_does_it_for_real(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as on:
        good(await on.authorize("1"))
        router.faults.refuses_connections = True
        router.reboot()
        await until(lambda: not on.services.network.fleet.get("r1").is_connected)  # type: ignore[union-attr]  # it is driven
        answer = await on.revoke(mac=MAC)
        job = answer.json()["jobId"]
    async with behind(conninfo, router, RELAY_DRY_RUN="1") as pretending:
        told = good(await pretending.authorize("2"))
        assert told["dryRun"]
        assert (await pretending.job(job))["state"] == "due"
    router.faults.refuses_connections = False
    async with behind(conninfo, router) as on:
        await on.job_is(job, "done")
        assert held(router) == NOTHING


async def test_what_was_pretended_is_never_done(conninfo: str) -> None:
    router = aged_router()
    row = {"address": IP, "mac-address": MAC, "type": "bypassed", "comment": "pedido:of the system before"}
    async with behind(conninfo, router, RELAY_DRY_RUN="1") as pretending:
        good(await pretending.authorize("1", minutes=1, **HERE))
    router.run(f"{BINDINGS}/add", row)
    async with behind(conninfo, router) as on:
        await on.sql("UPDATE jobs SET run_at = now() WHERE state = 'due'")
        await on.sql("UPDATE hotspot_grants SET until = now() WHERE until IS NOT NULL")
        good(await on.authorize("2", ipAtual="10.5.50.99", macAtual="AA:BB:CC:DD:EE:99"))
        assert {state for (state,) in await on.sql("SELECT state FROM jobs WHERE lane <> 'r1'")} <= {
            "due",
            "done",
        }
        assert [each for each in router.rows(BINDINGS) if each["comment"] == row["comment"]]


async def test_who_only_pretends_keeps_no_router_from_who_drives_it(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router, RELAY_DRY_RUN="1") as pretending, behind(conninfo, router) as on:
        told = [good(await each.authorize(str(number))) for number, each in enumerate((pretending, on))]
        assert [each["dryRun"] for each in told] == [True, False]
        assert held(router) == open_for("1")
