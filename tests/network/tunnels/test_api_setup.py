"""Probing routers through their tunnels, having them hold their end, and putting a device right."""

from typing import Any

import pytest
import trio

from opendesk import database
from opendesk.simulators.routeros import PASSWORD, USER
from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.behind import Behind, aged_router, good, refused
from tests.network.tunnels.calling import (
    APPLY,
    BINDING,
    DRY,
    PEERS,
    PROBE,
    ROUTER,
    TUNNEL_IP,
    VPS_KEY,
    key,
    tunnelled,
)

PROBING, APPLYING = "/internal/mikrotik/probe", "/internal/mikrotik/apply"
CONFIG: dict[str, Any] = APPLY["config"]


async def registered(net: Behind) -> None:
    good(await net.call("/relay/routers/register", ROUTER), 201)


def held(net: Behind) -> list[str]:
    return [row["public-key"] for row in net.routers["r1"].rows("/interface/wireguard/peers")]


async def test_a_probe_tells_who_is_at_the_end_of_a_tunnel(conninfo: str) -> None:
    async with tunnelled(conninfo, aged_router("the bus")) as net:
        assert refused(await net.call(PROBING, PROBE)) == (404, "BINDING_NOT_FOUND")
        good(await net.call(f"{PEERS}/bind", BINDING))
        told = good(await net.call(PROBING, PROBE))
        assert (told["ok"], told["deviceId"], told["identity"]) == (True, "bus-1", "the bus")
        assert told["version"].startswith("7.")
        assert refused(await net.call(PROBING, {**PROBE, "password": "wrong"})) == (502, "AUTH_FAILED")
        good(await net.call(f"{PEERS}/bind", {**BINDING, "mikrotikIp": "10.200.0.99"}))
        assert refused(await net.call(PROBING, PROBE)) == (502, "UNREACHABLE")
        assert len(net.lines("audit", action="TUNNEL_ROUTER_PROBE", outcome="failure")) == 3


async def test_a_router_that_says_nothing_is_given_up(conninfo: str) -> None:
    router = aged_router()
    async with tunnelled(conninfo, router, RELAY_MIKROTIK_PROBE_TIMEOUT_MS="200") as net:
        good(await net.call(f"{PEERS}/bind", BINDING))
        router.faults.slow_s = 5.0
        assert refused(await net.call(PROBING, PROBE)) == (502, "TIMEOUT")


async def test_a_router_is_made_to_hold_its_end_and_the_second_time_nothing_is_left_to_do(conninfo: str) -> None:
    async with tunnelled(conninfo, aged_router()) as net:
        await registered(net)
        planned = good(await net.call(APPLYING, {**APPLY, "dryRun": True}))
        assert (planned["changed"], planned["dryRun"], held(net)) == (False, True, [])
        done = good(await net.call(APPLYING, APPLY))
        assert (done["changed"], done["dryRun"], done["plan"]) == (True, False, planned["plan"])
        assert held(net) == [VPS_KEY]
        again = good(await net.call(APPLYING, APPLY))
        assert (again["changed"], again["plan"]) == (False, [])


async def test_the_tunnel_ip_of_another_is_refused_before_anything_is_sent(conninfo: str) -> None:
    """All routers may let the same user in: the other would prove the change of this one."""
    async with tunnelled(conninfo, aged_router()) as net:
        await registered(net)
        other = {"deviceId": "bus-2", "publicKey": key(2), "tunnelIp": "10.200.0.99", "allowedIps": ["10.200.0.99/32"]}
        good(await net.call("/devices", other), 201)
        wrong = {**APPLY, "config": {**CONFIG, "tunnelIp": "10.200.0.99"}}
        assert refused(await net.call(APPLYING, wrong)) == (409, "TUNNEL_IP_TAKEN")
        assert held(net) == []


async def test_a_technical_user_is_made_and_its_password_is_masked(conninfo: str) -> None:
    asked = {**APPLY, "technicalUser": {"username": "tech", "password": "hush the technical one"}}
    async with tunnelled(conninfo, aged_router()) as net:
        await registered(net)
        planned = await net.call(APPLYING, {**asked, "dryRun": True})
        done = await net.call(APPLYING, asked)
        assert good(done)["changed"]
        assert "tech" in [row["name"] for row in net.routers["r1"].rows("/user")]
        assert "hush the technical one" not in planned.text + done.text + net.log.getvalue()
        assert not good(await net.call(APPLYING, asked))["changed"]


async def test_what_is_missing_is_400_and_nothing_is_sent(conninfo: str) -> None:
    settings: dict[str, Any] = {"WG_VPS_PUBLIC_KEY": "", "WG_VPS_ENDPOINT": ""}
    async with tunnelled(conninfo, aged_router(), **settings) as net:
        await registered(net)
        ours = {"vpsPublicKey": VPS_KEY, "vpsEndpoint": "vps.example:51820"}
        for config, where in (
            ({"tunnelIp": TUNNEL_IP}, ["/config/vpsPublicKey", "/config/vpsEndpoint"]),
            ({**ours}, ["/config/tunnelIp"]),
            ({**ours, "tunnelIp": TUNNEL_IP, "tunnelCidr": "10.200.0.7/16"}, ["/config/tunnelIp"]),
            ({**ours, "tunnelCidr": "10.200.0.7/64"}, ["/config/tunnelCidr"]),
            ({**ours, "tunnelIp": TUNNEL_IP, "allowedIps": ["10.0.0.1/8"]}, ["/config/allowedIps"]),
            ({**ours, "tunnelIp": TUNNEL_IP, "vpsEndpoint": "vps.example:99999"}, ["/config/vpsEndpoint"]),
        ):
            answer = await net.call(APPLYING, {**APPLY, "config": config})
            assert refused(answer) == (400, "VALIDATION_FAILED"), answer.text
            assert [fault["pointer"] for fault in answer.json()["errors"]] == where
        whole = {**APPLY, "config": {**ours, "tunnelIp": TUNNEL_IP}}
        answer = await net.call(APPLYING, {**whole, "technicalUser": {}})
        assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/technicalUser/password"]
        assert (held(net), net.routers["r1"].rows("/interface/wireguard")) == ([], [])
        assert not net.lines("audit", action="TUNNEL_ROUTER_APPLY")
        good(await net.call(APPLYING, whole))


async def test_one_at_a_time_sets_a_router_up_whichever_daemon_was_asked(conninfo: str) -> None:
    router = aged_router()
    async with tunnelled(conninfo, router) as net:
        await registered(net)
        async with await database.connect(conninfo) as conn:  # another daemon's
            what = "opendesk: setting up router bus-1"
            await conn.run("SELECT pg_advisory_lock(hashtextextended(%(what)s, 0))", {"what": what})
            assert refused(await net.call(APPLYING, APPLY)) == (409, "APPLY_IN_PROGRESS")
        assert held(net) == []
        good(await net.call(APPLYING, APPLY))


async def test_two_at_once_do_it_once(conninfo: str) -> None:
    async with tunnelled(conninfo, aged_router(), latency_s=0.02) as net:
        await registered(net)
        answers: list[Any] = []

        async def one() -> None:
            answers.append(await net.call(APPLYING, APPLY))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(one)
        assert sorted(answer.status_code for answer in answers) in ([200, 409], [200, 200])
        assert held(net) == [VPS_KEY]


async def test_a_router_that_is_not_there_is_told(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        assert refused(await net.call(APPLYING, APPLY)) == (404, "ROUTER_NOT_FOUND")
        good(await net.call("/relay/routers/register", {**ROUTER, "tunnelIp": "10.200.0.99"}), 201)
        assert refused(await net.call(APPLYING, APPLY)) == (503, "ROUTER_UNAVAILABLE")


async def test_sync_puts_the_peer_right_and_the_router_too(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, aged_router(), wireguard=wg) as net:
        assert refused(await net.client.post("/devices/bus-1/sync")) == (404, "DEVICE_NOT_FOUND")
        await registered(net)
        wg.remove(key(1))
        told = good(await net.client.post("/devices/bus-1/sync"))
        assert (told["deviceId"], told["config"]["changed"], key(1) in wg.peers) == ("bus-1", True, True)
        assert held(net) == [VPS_KEY]
        assert not good(await net.client.post("/devices/bus-1/sync"))["config"]["changed"]
        device = {"deviceId": "phone", "publicKey": key(2), "allowedIps": ["10.9.0.0/24"]}
        good(await net.call("/devices", device), 201)
        assert good(await net.client.post("/devices/phone/sync"))["config"] is None


async def test_sync_puts_the_peer_right_when_the_router_is_away(conninfo: str) -> None:
    wg, router = SimulatedWireguard(), aged_router()
    async with tunnelled(conninfo, router, wireguard=wg) as net:
        await registered(net)
        wg.remove(key(1))
        router.faults.refuses_connections = True
        assert refused(await net.client.post("/devices/bus-1/sync")) == (503, "ROUTER_UNAVAILABLE")
        assert key(1) in wg.peers


@pytest.mark.parametrize("name", ["no%20id", "%00", "x" * 65])
async def test_a_device_that_can_not_be_is_not_found(conninfo: str, name: str) -> None:
    async with tunnelled(conninfo) as net:
        assert refused(await net.client.post(f"/devices/{name}/sync")) == (404, "NOT_FOUND")


async def test_all_of_it_in_a_dry_run(conninfo: str) -> None:
    wg, router = SimulatedWireguard(), aged_router()
    async with tunnelled(conninfo, router, wireguard=wg, **DRY) as dry:
        await registered(dry)
        probed = good(await dry.call(PROBING, PROBE))
        assert (probed["dryRun"], probed["deviceId"], probed["identity"]) == (True, "bus-1", None)
        asked = {**APPLY, "technicalUser": {"password": PASSWORD, "username": USER}}
        applied = good(await dry.call(APPLYING, asked))
        assert (applied["dryRun"], applied["changed"], bool(applied["plan"])) == (True, False, True)
        synced = good(await dry.client.post("/devices/bus-1/sync"))
        assert (synced["dryRun"], synced["config"]["dryRun"]) == (True, True)
    assert (router.counts.connections, wg.calls) == (0, [])
