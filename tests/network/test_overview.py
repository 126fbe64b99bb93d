"""Who looks after it all: routers, jobs, figures, and the lines of the audit."""

from typing import Any

import trio

from tests.network.behind import HERE, IP, MAC, PATIENCE_S, TOKEN, aged_router, behind, good, refused, until


async def test_routers_are_listed_with_their_circuits_and_no_secrets(conninfo: str) -> None:
    first, second = aged_router("one"), aged_router("two")
    second.faults.refuses_connections = True
    quick: dict[str, Any] = {"RELAY_BREAKER_FAILURES": "1", "RELAY_BREAKER_RECOVERY_MS": "60000"}
    async with behind(conninfo, first, second, **quick) as net:
        await until(lambda: first.counts.logins and net.lines("router.circuit_opened"))
        good(await net.authorize())
        answer = await net.call("/relay/routers")
        one, two = good(answer)["items"]
        assert (one["id"], one["identity"], one["breaker"]["state"], one["lane"]["connected"]) == (
            "r1",
            "one",
            "closed",
            True,
        )
        assert one["lastContactAt"] is not None
        assert (two["id"], two["breaker"]["state"], two["lane"]["connected"]) == ("r2", "open", False)
        assert two["lastError"]
        assert "parallel-hedgehog" not in answer.text
        assert not {"pass", "password", "user"} & one.keys()


async def test_routers_come_in_pages(conninfo: str) -> None:
    async with behind(conninfo, *(aged_router() for _ in range(5))) as net:
        await until(lambda: all(router.counts.logins for router in net.routers.values()))
        seen, cursor = [], ""
        while True:
            page = good(await net.call(f"/relay/routers?limit=2{cursor}"))
            seen += [item["id"] for item in page["items"]]
            if page["nextCursor"] is None:
                break
            cursor = f"&cursor={page['nextCursor']}"
        assert seen == ["r1", "r2", "r3", "r4", "r5"]
        for query in (
            "limit=0",
            "limit=x",
            "cursor=%21",
            "cursor=" + "A" * 200,
            "cursor=gICA",
            "order=id",
            "limit=1&limit=2",
        ):
            assert refused(await net.call(f"/relay/routers?{query}")) == (400, "VALIDATION_FAILED"), query


async def test_each_action_has_its_lines_in_the_audit(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        token = await net.hello()
        payload = {"mikId": "r1", "pedidoId": "1", "deviceToken": token}
        body = {"action": "AUTHORIZE_BY_PEDIDO", "payload": payload, "source": "checkout", "traceId": "order-1"}
        told = good(await net.call("/relay/action", body))
        assert told["traceId"] == "order-1"
        assert told["action"] == "AUTHORIZE_BY_PEDIDO"
        attempt, success = net.lines("audit", traceId="order-1")
        common = {
            "action": "AUTHORIZE_BY_PEDIDO",
            "router": "r1",
            "pedidoId": "1",
            "source": "checkout",
            "jobId": told["result"]["jobId"],
        }
        assert common.items() <= attempt.items()
        assert common.items() <= success.items()
        assert (attempt["outcome"], success["outcome"]) == ("attempt", "success")
        assert (success["changed"], success["online"], success["dryRun"]) == (True, True, False)
        # What fails, by the id of its request.
        router.run("/ip/hotspot/ip-binding/add", {"mac-address": "AA:BB:CC:DD:EE:09", "type": "blocked"})
        answer = await net.authorize("9", ipAtual="10.5.50.9", macAtual="AA:BB:CC:DD:EE:09")
        assert refused(answer) == (409, "ROUTER_CONFLICT")
        outcomes = [line["outcome"] for line in net.lines("audit", traceId=answer.headers["x-request-id"])]
        assert outcomes == ["attempt", "failure"]
        assert token not in net.log.getvalue()
        assert TOKEN not in net.log.getvalue()


async def test_actions_are_counted_for_all_and_for_each_router(conninfo: str) -> None:
    first, second = aged_router(), aged_router()
    async with behind(conninfo, first, second) as net:
        for router in ("r1", "r2", "r2"):
            good(await net.authorize("1", router))
        good(await net.revoke(mac=MAC))
        second.run("/ip/hotspot/ip-binding/add", {"mac-address": "AA:BB:CC:DD:EE:09", "type": "blocked"})
        assert (await net.authorize("9", "r2", ipAtual="10.5.50.9", macAtual="AA:BB:CC:DD:EE:09")).status_code == 409
        ordered = {"action": "AUTHORIZE_BY_PEDIDO"}
        assert await net.figure("opendesk_actions_total", **ordered, outcome="attempt") == 4
        assert await net.figure("opendesk_actions_total", **ordered, outcome="success") == 3
        assert await net.figure("opendesk_actions_total", **ordered, outcome="fail") == 1
        assert await net.figure("opendesk_actions_total", action="REVOKE_SESSION", outcome="success") == 1
        assert await net.figure("opendesk_action_duration_seconds_count", **ordered) == 4
        assert await net.figure("opendesk_router_actions_total", router="r1", outcome="success") == 2
        assert await net.figure("opendesk_router_actions_total", router="r2", outcome="success") == 2
        assert await net.figure("opendesk_router_actions_total", router="r2", outcome="fail") == 1
        assert await net.figure("opendesk_router_action_seconds_total", router="r2") > 0
        assert await net.figure("opendesk_audit_total", outcome="attempt") == 5
        plain = (await net.client.get("/metrics")).text
        assert "opendesk_actions_total" in plain
        assert "opendesk_router_actions" not in plain


async def test_jobs_are_counted_by_state(conninfo: str) -> None:
    async with behind(conninfo) as net:
        good(await net.authorize(**HERE, minutes=5))
        good(await net.revoke(ip=IP))
    async with behind(conninfo) as net:
        # Counted when it starts, and every ten seconds.
        with trio.fail_after(PATIENCE_S):
            while await net.figure("opendesk_jobs", state="done") != 2:  # noqa: ASYNC110  # nothing tells of it
                await trio.sleep(0.02)
        assert await net.figure("opendesk_jobs", state="due") == 1  # the end that is not due yet
        assert await net.figure("opendesk_jobs", state="dead") == 0
        assert await net.figure("opendesk_job_oldest_due_seconds") == 0
