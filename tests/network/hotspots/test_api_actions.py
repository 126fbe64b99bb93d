"""Authorize, resync and revoke by HTTP, down to the rows of a router and up again."""

from typing import Any

import pytest
import trio

from opendesk.simulators.routeros import Act, Trapped
from tests.network.behind import (
    BINDINGS,
    HERE,
    IP,
    LISTS,
    MAC,
    NOTHING,
    SCHEDULERS,
    Behind,
    aged_router,
    behind,
    good,
    held,
    open_for,
    refused,
    until,
)

THERE = {"ipAtual": "10.5.50.8", "macAtual": MAC}


async def test_an_order_lets_a_phone_in_and_revoking_keeps_it_out(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        router.phone(MAC, IP)
        token = await net.hello()
        assert not router.is_online(MAC, IP)
        told = good(await net.authorize(deviceToken=token))
        assert told == {
            "ok": True,
            "changed": True,
            "mikId": "r1",
            "pedidoId": "1",
            "ip": IP,
            "mac": MAC,
            "until": None,
            "dryRun": False,
            "jobId": told["jobId"],
        }
        assert held(router) == open_for("1")
        assert router.is_online(MAC, IP)
        told = good(await net.revoke(mac=MAC))
        assert (told["changed"], told["pedidoId"], told["ip"], told["mac"]) == (True, None, None, MAC)
        assert held(router) == NOTHING
        assert not router.is_online(MAC, IP)


async def test_the_second_time_nothing_changes_and_it_says_so(conninfo: str) -> None:
    async with behind(conninfo) as net:
        assert [good(await net.authorize())["changed"] for _ in range(2)] == [True, False]
        assert [good(await net.revoke(ip=IP))["changed"] for _ in range(2)] == [True, False]


async def test_a_warm_authorization_takes_three_round_trips_at_most(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        router.phone(MAC, IP)
        good(await net.authorize("0", ipAtual="10.5.50.200", macAtual="AA:BB:CC:DD:EE:FF"))
        before = router.counts.round_trips
        good(await net.authorize())
        assert router.counts.round_trips - before <= 3
        assert router.counts.connections == 1


@pytest.mark.parametrize("by", [{"ip": IP}, {"mac": MAC}, {"ip": IP, "mac": MAC}, {"mac": "aa-bb-cc-dd-ee-01"}])
async def test_revoking_goes_by_ip_by_mac_or_by_both(conninfo: str, by: dict[str, str]) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        good(await net.authorize())
        good(await net.authorize("2", ipAtual="10.5.50.200", macAtual="AA:BB:CC:DD:EE:FF"))
        assert good(await net.revoke(**by))["changed"]
        assert held(router) == open_for("2", ip="10.5.50.200", mac="AA:BB:CC:DD:EE:FF")


async def test_revoking_by_both_leaves_what_has_only_one_of_them(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        good(await net.authorize())
        assert not good(await net.revoke(ip=IP, mac="AA:BB:CC:DD:EE:FF"))["changed"]
        assert not good(await net.revoke(ip="10.5.50.200", mac=MAC))["changed"]
        assert held(router) == open_for("1")


async def test_rows_of_an_earlier_system_are_revoked_too(conninfo: str) -> None:
    router = aged_router()
    router.run(f"{LISTS}/add", {"list": "paid_clients", "address": IP, "comment": "pedido:old"})
    router.run(f"{BINDINGS}/add", {"address": IP, "mac-address": MAC, "type": "bypassed", "comment": "pedido:old"})
    async with behind(conninfo, router) as net:
        assert good(await net.revoke(mac=MAC, ip=IP))["changed"]
        assert held(router) == NOTHING


async def test_of_two_orders_on_one_device_ending_one_changes_nothing(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        good(await net.authorize("forever"))
        told = good(await net.authorize("short", **HERE, minutes=5))
        assert not told["changed"]
        assert told["until"] is not None
        assert held(router) == open_for("forever")
        await _over(net, "short")
        assert held(router) == open_for("forever")
        assert [row[0] for row in await net.sql("SELECT end_reason FROM hotspot_grants WHERE pedido_id = 'short'")] == [
            "expired"
        ]


async def test_a_device_that_moved_takes_its_order_along(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        router.phone(MAC, IP)
        router.phone(MAC, "10.5.50.8")
        token = await net.hello()
        good(await net.authorize(deviceToken=token))
        body = {"mikId": "r1", "pedidoId": "1", "deviceToken": token, **THERE}
        told = good(await net.call("/relay/resync-device", body))
        assert (told["changed"], told["ip"], told["mac"]) == (True, "10.5.50.8", MAC)
        assert held(router) == open_for("1", ip="10.5.50.8")
        assert (router.is_online(MAC, IP), router.is_online(MAC, "10.5.50.8")) == (False, True)
        assert not good(await net.call("/relay/resync-device", body))["changed"]
        # And from now on it is there, also for other orders.
        assert good(await net.authorize("2", deviceToken=token))["ip"] == "10.5.50.8"


async def test_a_move_keeps_the_time_that_is_left(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        token = await net.hello()
        until_first = good(await net.authorize(deviceToken=token, minutes=5))["until"]
        body = {"mikId": "r1", "pedidoId": "1", "deviceToken": token, **THERE}
        assert good(await net.call("/relay/resync-device", body))["until"] == until_first
        assert len(router.rows(SCHEDULERS)) == 1
        await _over(net, "1")
        assert held(router) == NOTHING


async def _over(net: Behind, pedido: str) -> None:
    """The order's time passes, and what ends it is done."""
    await net.sql(
        """UPDATE hotspot_grants SET begun_at = begun_at - interval '1 day', until = now() - interval '1 second'
            WHERE pedido_id = %(pedido)s AND until IS NOT NULL AND ended_at IS NULL""",
        pedido=pedido,
    )
    rows = await net.sql(
        """UPDATE jobs SET run_at = now() WHERE type = 'END_GRANT' AND state = 'due' AND payload->>'pedidoId' = %(pedido)s
        RETURNING id""",
        pedido=pedido,
    )
    await net.sql("SELECT pg_notify('opendesk_jobs', '[\"r1\"]')")
    for (job_id,) in rows:
        await net.job_is(str(job_id), "done")


async def test_when_its_time_is_over_it_is_off_by_our_doing(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        router.phone(MAC, IP)
        assert good(await net.authorize(**HERE, minutes=5))["until"] is not None
        assert router.is_online(MAC, IP)
        await _over(net, "1")
        assert not router.is_online(MAC, IP)
        assert (held(router), router.rows(SCHEDULERS)) == (NOTHING, [])
        answer = await net.authorize(**HERE, minutes=5)
        assert refused(answer) == (409, "GRANT_ENDED")


async def test_when_its_time_is_over_the_router_ends_it_without_us(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        router.phone(MAC, IP)
        good(await net.authorize(**HERE, minutes=5))
    clock = router.state.clock
    clock.advance(290)  # type: ignore[attr-defined]  # a HandClock
    assert router.is_online(MAC, IP)
    clock.advance(11)  # type: ignore[attr-defined]  # a HandClock
    assert not router.is_online(MAC, IP)
    assert (held(router), router.rows(BINDINGS), router.rows(SCHEDULERS)) == (NOTHING, [], [])
    assert not router.script_errors


@pytest.mark.parametrize(
    "foreign",
    [
        (BINDINGS, {"address": IP, "mac-address": MAC, "type": "blocked", "comment": "by hand"}),
        (BINDINGS, {"mac-address": MAC, "type": "blocked"}),
    ],
)
async def test_a_foreign_row_in_the_way_is_a_conflict_and_stays(
    conninfo: str, foreign: tuple[str, dict[str, str]]
) -> None:
    router = aged_router()
    menu, attributes = foreign
    router.run(f"{menu}/add", attributes)
    before = router.rows(menu)
    async with behind(conninfo, router) as net:
        answer = await net.authorize()
        assert refused(answer) == (409, "ROUTER_CONFLICT")
        assert (await net.job(answer.json()["jobId"]))["state"] == "dead"
        assert router.rows(menu)[0] == before[0]
        good(await net.revoke(mac=MAC))
        assert router.rows(menu) == before


async def test_a_foreign_row_that_does_the_same_counts_and_stays(conninfo: str) -> None:
    router = aged_router()
    router.run(f"{LISTS}/add", {"list": "paid_clients", "address": IP, "comment": "by hand"})
    router.run(f"{BINDINGS}/add", {"address": IP, "mac-address": MAC, "type": "bypassed"})
    before = (router.rows(LISTS), router.rows(BINDINGS))
    async with behind(conninfo, router) as net:
        assert not good(await net.authorize())["changed"]
        assert not good(await net.revoke(mac=MAC, ip=IP))["changed"]
        assert (router.rows(LISTS), router.rows(BINDINGS)) == before


@pytest.mark.parametrize(
    "pedido", ["P 1", 'a"b\\c', "=x=y", "a\nb\r\t", "ção €", "$(x)[/system reset]; :put", "?#|", "x" * 128]
)
async def test_an_orders_id_goes_through_unharmed(conninfo: str, pedido: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        assert good(await net.authorize(pedido, **HERE, minutes=5))["pedidoId"] == pedido
        assert held(router) == open_for(pedido)
        assert not good(await net.authorize(pedido, **HERE, minutes=5))["changed"]
        good(await net.revoke(ip=IP))
        assert held(router) == NOTHING


async def test_ok_is_not_said_of_a_router_that_lies(conninfo: str) -> None:
    router = aged_router()
    router.faults.decide = lambda request: Act.LIE if request.verb != "print" else None
    async with behind(conninfo, router) as net:
        answer = await net.authorize()
        assert refused(answer) == (502, "ROUTER_DOES_NOT_HOLD")
        router.faults.clear()
        await net.job_is(answer.json()["jobId"], "done")
        assert held(router) == open_for("1")
        router.faults.decide = lambda request: Act.LIE if request.verb in {"remove", "set"} else None
        assert refused(await net.revoke(ip=IP)) == (502, "ROUTER_DOES_NOT_HOLD")


async def test_a_router_that_refuses_is_told_of(conninfo: str) -> None:
    router = aged_router()
    router.faults.decide = lambda request: (
        None if request.path.startswith("/system") else Trapped(None, "not enough permissions (9)")
    )
    async with behind(conninfo, router) as net:
        answer = await net.authorize()
        assert refused(answer) == (502, "ROUTER_REFUSED")
        assert "not enough permissions" in answer.json()["detail"]
        assert (await net.job(answer.json()["jobId"]))["state"] in {"due", "running"}


async def test_a_router_out_of_reach_gets_it_when_it_is_back(conninfo: str) -> None:
    router = aged_router()
    router.faults.refuses_connections = True
    async with behind(conninfo, router, RELAY_BREAKER_FAILURES="1000") as net:
        answer = await net.authorize()
        assert refused(answer) == (503, "ROUTER_UNAVAILABLE")
        assert answer.headers["retry-after"]
        router.faults.clear()
        assert (await net.job_is(answer.json()["jobId"], "done"))["result"]["online"] is True
        assert held(router) == open_for("1")


async def test_an_open_circuit_is_told_at_once_and_the_job_waits_for_it(conninfo: str) -> None:
    router = aged_router()
    router.faults.refuses_connections = True
    quick: dict[str, Any] = {"RELAY_BREAKER_FAILURES": "1", "RELAY_BREAKER_RECOVERY_MS": "300"}
    async with behind(conninfo, router, **quick) as net:
        await until(lambda: net.lines("router.circuit_opened"))
        answer = await net.authorize()
        assert refused(answer) == (503, "CIRCUIT_OPEN")
        assert answer.headers["retry-after"]
        listed = good(await net.call("/relay/routers"))["items"]
        assert listed[0]["breaker"]["state"] in {"open", "half-open", "half_open"}
        router.faults.clear()
        assert (await net.job_is(answer.json()["jobId"], "done"))["attempts"] == 1
        assert held(router) == open_for("1")


async def test_a_silent_tunnel_is_told_at_once_and_the_job_waits_for_it(conninfo: str) -> None:
    router, silent = aged_router(), {"127.0.0.1": 301.0}
    async with behind(conninfo, router) as net:
        fleet = net.services.network.fleet
        fleet.silent_for = silent.get
        answer = await net.authorize()
        assert refused(answer) == (503, "ROUTER_UNAVAILABLE")
        assert answer.headers["retry-after"]
        assert held(router) == NOTHING
        silent.clear()
        fleet.tunnels_came_back({"127.0.0.1"})
        assert (await net.job_is(answer.json()["jobId"], "done"))["attempts"] == 1
        assert held(router) == open_for("1")


async def test_a_slow_router_is_pending_and_the_job_ends_later(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router, RELAY_ACTION_TIMEOUT_MS="100") as net:
        await until(lambda: router.counts.logins)
        router.faults.slow_s = 0.3
        answer = await net.authorize()
        told = good(answer, 202)
        assert told == {"ok": True, "pending": True, "jobId": told["jobId"]}
        again = good(await net.authorize(), 202)
        assert again["jobId"] == told["jobId"]  # a repeat joins it
        body = {"action": "AUTHORIZE_BY_PEDIDO", "payload": {"mikId": "r1", "pedidoId": "1", **HERE}, "traceId": "t-1"}
        assert good(await net.call("/relay/action", body), 202) == {
            "ok": True,
            "pending": True,
            "action": "AUTHORIZE_BY_PEDIDO",
            "traceId": "t-1",
            "jobId": told["jobId"],
        }
        router.faults.clear()
        job = await net.job_is(told["jobId"], "done")
        assert job["result"]["changed"] is True
        assert held(router) == open_for("1")


async def test_many_repeats_at_once_are_done_once(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router, latency_s=0.02) as net:
        answers = []

        async def repeat() -> None:
            answers.append(good(await net.authorize()))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(repeat)
        assert len({answer["jobId"] for answer in answers}) < 10
        assert held(router) == open_for("1")
        adds = [request for request in router.log if request.verb == "add"]
        assert len(adds) == 2


async def test_any_order_of_contraries_at_once_ends_with_the_last_word(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router, latency_s=0.005) as net:
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(net.authorize)
                    nursery.start_soon(lambda: net.revoke(ip=IP))
                    nursery.start_soon(lambda: net.revoke(mac=MAC))
            assert held(router) in (NOTHING, open_for("1"))
            live = await net.sql("SELECT count(*) FROM hotspot_grants WHERE ended_at IS NULL")
            assert held(router) == (open_for("1") if live[0][0] else NOTHING)


async def test_a_caller_who_hangs_up_cancels_nothing(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        await until(lambda: router.counts.logins)
        router.faults.slow_s = 0.2
        before = router.counts.commands
        async with trio.open_nursery() as nursery:
            nursery.start_soon(net.authorize)
            await until(lambda: router.counts.commands > before)
            nursery.cancel_scope.cancel()
        await until(lambda: held(router) == open_for("1"))
        [(job_id,)] = await net.sql("SELECT id::text FROM jobs")
        router.faults.clear()
        await net.job_is(job_id, "done")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/relay/authorize-by-pedido", {"pedidoId": "1", **HERE}),
        ("/relay/resync-device", {"pedidoId": "1", "deviceToken": "x", **HERE}),
        ("/relay/revoke", {"ip": IP}),
        ("/relay/device/hello", {"ip": IP, "mac": MAC}),
    ],
)
async def test_a_router_that_nobody_knows(conninfo: str, path: str, body: dict[str, str]) -> None:
    async with behind(conninfo) as net:
        assert refused(await net.call(path, {"mikId": "r9", **body})) == (404, "ROUTER_NOT_FOUND")
        assert await net.sql("SELECT 1 FROM jobs UNION ALL SELECT 1 FROM hotspot_grants") == []


async def test_a_token_that_nobody_has_or_of_another_router(conninfo: str) -> None:
    async with behind(conninfo, aged_router(), aged_router()) as net:
        token = await net.hello("r2")
        bodies = {
            "/relay/authorize-by-pedido": {"pedidoId": "1"},
            "/relay/resync-device": {"pedidoId": "1", **HERE},
            "/relay/device/hello": {"ip": IP, "mac": MAC},
        }
        for path, body in bodies.items():
            unknown = {"mikId": "r1", "deviceToken": "nobody's", **body}
            assert refused(await net.call(path, unknown)) == (404, "DEVICE_NOT_FOUND"), path
            others = {"mikId": "r1", "deviceToken": token, **body}
            assert refused(await net.call(path, others)) == (409, "ROUTER_MISMATCH"), path
        assert await net.sql("SELECT 1 FROM jobs UNION ALL SELECT 1 FROM hotspot_grants") == []


async def test_a_resync_that_is_refused_moves_nothing(conninfo: str) -> None:
    async with behind(conninfo) as net:
        token = await net.hello()
        good(await net.authorize(deviceToken=token, minutes=5))
        await _over(net, "1")
        body = {"mikId": "r1", "pedidoId": "1", "deviceToken": token, **THERE}
        assert refused(await net.call("/relay/resync-device", body)) == (409, "GRANT_ENDED")
        assert await net.sql("SELECT host(ip) FROM hotspot_devices") == [(IP,)]


async def test_what_is_refused_was_an_attempt_as_well(conninfo: str) -> None:
    async with behind(conninfo) as on:
        assert refused(await on.authorize("1", deviceToken="of nobody"))[0] == 404
        assert refused(await on.revoke("r9", mac=MAC))[0] == 404
        told = [(line["outcome"], line.get("error", "")[:9]) for line in on.lines("audit")]
        assert told == [("attempt", ""), ("failure", "DEVICE_NO"), ("attempt", ""), ("failure", "ROUTER_NO")]
