"""Routers that are registered with their tunnels, and the scripts that are given out for them."""

from typing import Any

import pytest
import trio

from opendesk.simulators.routeros import PASSWORD, USER
from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.behind import aged_router, good, refused, until
from tests.network.tunnels.calling import (
    BOOTSTRAP,
    DRY,
    MANAGED,
    ROUTER,
    TUNNEL_IP,
    VPS_KEY,
    key,
    rows,
    tunnelled,
)

REGISTER = ["/relay/routers/register", "/relay/routers/routers/register"]


@pytest.mark.parametrize("path", REGISTER)
async def test_a_router_is_registered_with_its_tunnel_and_driven_through_it(conninfo: str, path: str) -> None:
    wg, router = SimulatedWireguard(), aged_router()
    async with tunnelled(conninfo, router, wireguard=wg) as net:
        told = good(await net.call(path, ROUTER), 201)
        assert told == {"ok": True, "deviceId": "bus-1", "dryRun": False}
        assert wg.peers[key(1)].allowed_ips == ["10.200.0.7/32"]
        stored = await net.sql("SELECT host, username, password_sealed IS NOT NULL FROM routers WHERE id = 'bus-1'")
        assert stored == [(TUNNEL_IP, USER, True)]
        (bound,) = good(await net.call("/internal/wireguard/peers/bindings"))["bindings"]
        assert (bound["publicKey"], bound["deviceId"], bound["mikrotikIp"]) == (key(1), "bus-1", TUNNEL_IP)
        assert good(await net.call("/devices"))["items"][0]["meta"] == {"mikrotik": {"publicIp": "203.0.113.7"}}
        await until(lambda: net.services.network.fleet.get("bus-1") is not None)
        assert good(await net.authorize(router="bus-1"))["ok"]
        remove = path.removesuffix("/register") + "/bus-1"
        assert good(await net.client.delete(remove))["grants"] == 1
        assert (wg.peers, await rows(net, "routers"), await rows(net, "tunnel_bindings")) == ({}, 0, 0)
        assert refused(await net.client.delete(remove)) == (404, "ROUTER_NOT_FOUND")


async def test_ipv6_tunnels_have_no_script(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        good(await net.call(REGISTER[0], {**ROUTER, "tunnelIp": "fd00::7"}), 201)
        assert refused(await net.call("/relay/manager/register", MANAGED)) == (400, "VALIDATION_FAILED")
        assert good(await net.client.post("/devices/bus-1/sync"))["config"] is None
        assert wg.peers[key(1)].allowed_ips == ["fd00::7/128"]


async def test_a_router_without_a_device_goes_whatever_the_interface_does(conninfo: str) -> None:
    async with tunnelled(conninfo, wireguard=SimulatedWireguard(is_gone=True)) as net:
        await net.sql("INSERT INTO routers (id, host) VALUES ('bare', '192.0.2.1')")
        assert good(await net.client.delete("/relay/routers/bare"))["ok"]
        assert refused(await net.call("/relay/routers/register", ROUTER)) == (503, "WIREGUARD_UNAVAILABLE")
        answer = await net.client.delete("/relay/routers/bus-1")
        assert (refused(answer), answer.json()["deviceId"]) == ((503, "WIREGUARD_UNAVAILABLE"), "bus-1")
        assert [await rows(net, table) for table in ("routers", "tunnel_devices")] == [0, 0]


async def test_the_same_router_again_is_no_news(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        good(await net.call(REGISTER[0], ROUTER), 201)
        before = await net.sql("SELECT xmin FROM routers UNION ALL SELECT xmin FROM tunnel_devices")
        good(await net.call(REGISTER[0], ROUTER))
        assert await net.sql("SELECT xmin FROM routers UNION ALL SELECT xmin FROM tunnel_devices") == before
        good(await net.call(REGISTER[0], {**ROUTER, "mikrotik": {**ROUTER["mikrotik"], "apiPassword": "another"}}))
        assert await net.sql("SELECT xmin FROM routers UNION ALL SELECT xmin FROM tunnel_devices") != before


async def test_what_an_operator_said_of_a_router_stays(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        good(await net.call(REGISTER[0], ROUTER), 201)
        await net.sql("UPDATE routers SET tls = true, timeout_ms = 900")
        good(await net.call(REGISTER[0], {**ROUTER, "mikrotik": {**ROUTER["mikrotik"], "apiPort": 8729}}))
        assert await net.sql("SELECT tls, timeout_ms, port FROM routers") == [(True, 900, 8729)]


async def test_a_new_key_of_a_router_waits_and_its_binding_stays(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        good(await net.call(REGISTER[0], ROUTER), 201)
        assert good(await net.call(REGISTER[0], {**ROUTER, "mikrotikPublicKey": key(2)}), 202)["rotation"]
        (bound,) = good(await net.call("/internal/wireguard/peers/bindings"))["bindings"]
        assert bound["publicKey"] == key(1)


async def test_nothing_of_a_router_is_stored_without_a_master_key(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg, RELAY_MASTER_KEY="") as net:
        for path, body in ((REGISTER[0], ROUTER), ("/relay/manager/register", MANAGED)):
            assert refused(await net.call(path, body)) == (503, "SEALING_UNAVAILABLE")
        tables = ("routers", "tunnel_devices", "tunnel_bindings", "tunnel_prefixes")
        assert [await rows(net, table) for table in tables] == [0, 0, 0, 0]
        assert wg.peers == {}


async def test_passwords_are_nowhere_to_be_read(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        good(await net.call(REGISTER[0], ROUTER), 201)
        good(
            await net.call(
                "/relay/manager/register", {**MANAGED, "deviceId": "b", "wireguard": {"peerPublicKey": key(9)}}
            ),
            201,
        )
        for page in ("/devices", "/relay/routers", "/internal/wireguard/peers/bindings", "/devices/bus-1/status"):
            assert PASSWORD not in (await net.call(page)).text
        assert PASSWORD not in net.log.getvalue()


async def test_the_manager_gets_one_tunnel_ip_a_device_and_a_script(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        first = good(await net.call("/relay/manager/register", {**MANAGED, "deviceName": "Bus 1"}), 201)
        again = good(await net.call("/relay/manager/register", MANAGED))
        other = {**MANAGED, "deviceId": "bus-2", "wireguard": {"peerPublicKey": key(2), "allowedIps": ["10.9.0.0/24"]}}
        second = good(await net.call("/relay/manager/register", other), 201)
        assert (first["tunnelIp"], again["tunnelIp"], second["tunnelIp"]) == ("10.200.0.2", "10.200.0.2", "10.200.0.3")
        assert (first["createdPeer"], again["createdPeer"]) == (True, False)
        assert first["mikrotikScript"] == again["mikrotikScript"]
        assert "10.200.0.2/32" in first["mikrotikScript"]
        assert VPS_KEY in first["mikrotikScript"]
        assert wg.peers[key(2)].allowed_ips == ["10.9.0.0/24", "10.200.0.3/32"]
        rotating = good(
            await net.call("/relay/manager/register", {**MANAGED, "wireguard": {"peerPublicKey": key(3)}}), 202
        )
        assert (rotating["tunnelIp"], rotating["rotation"], rotating["createdPeer"]) == ("10.200.0.2", True, True)
        (_, device) = good(await net.call("/devices"))["items"]
        assert device["meta"]["deviceName"] == "Bus 1"


async def test_tunnel_ips_are_unique_in_a_crowd_and_given_back(conninfo: str) -> None:
    async with tunnelled(conninfo, WG_TUNNEL_POOL="10.200.0.0/28") as net:
        told: list[Any] = []

        async def one(number: int) -> None:
            body = {**MANAGED, "deviceId": f"b{number}", "wireguard": {"peerPublicKey": key(number)}}
            told.append(await net.call("/relay/manager/register", body))

        async with trio.open_nursery() as nursery:
            for number in range(15):
                nursery.start_soon(one, number)
        made = [answer.json() for answer in told if answer.status_code == 201]
        assert sorted(each["tunnelIp"] for each in made) == sorted(f"10.200.0.{n}" for n in range(2, 15))
        assert {refused(a) for a in told if a.is_error} == {(409, "TUNNEL_POOL_EXHAUSTED")}
        (device,) = await net.sql("SELECT id FROM tunnel_devices WHERE tunnel_ip = '10.200.0.5'")
        good(await net.client.delete(f"/relay/routers/{device[0]}"))
        late = {**MANAGED, "deviceId": "late", "wireguard": {"peerPublicKey": key("late")}}
        assert good(await net.call("/relay/manager/register", late), 201)["tunnelIp"] == "10.200.0.5"


@pytest.mark.parametrize("missing", ["WG_VPS_PUBLIC_KEY", "WG_VPS_ENDPOINT"])
async def test_without_the_vps_own_end_nothing_is_stored(conninfo: str, missing: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg, **{missing: ""}) as net:
        for path, body in (
            ("/relay/manager/register", MANAGED),
            ("/mikrotik/bootstrap", BOOTSTRAP),
            ("/mikrotik/bootstrap", {**BOOTSTRAP, "devicePublicKey": key(1)}),
        ):
            answer = await net.call(path, body)
            assert refused(answer) == (500, "VPS_CONFIG_MISSING")
            assert missing in answer.json()["detail"]
        assert [await rows(net, table) for table in ("routers", "tunnel_devices")] == [0, 0]
        assert wg.peers == {}


async def test_bootstrap_asks_for_a_key_and_then_knows_the_peer(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        asks = good(await net.call("/mikrotik/bootstrap", BOOTSTRAP))
        assert (asks["needPublicKey"], wg.peers, await rows(net, "tunnel_devices")) == (True, {}, 0)
        told = good(await net.call("/mikrotik/bootstrap", {**BOOTSTRAP, "devicePublicKey": key(1)}), 201)
        assert (told["createdPeer"], wg.peers[key(1)].allowed_ips) == (True, ["10.200.0.7/32"])
        again = good(await net.call("/mikrotik/bootstrap", {**BOOTSTRAP, "devicePublicKey": key(1)}))
        assert (again["createdPeer"], again["commands"]) == (False, told["commands"])
        assert set(asks["instructions"]) < set(told["commands"])


async def test_a_bootstrap_s_lines_pasted_twice_leave_one_of_each(conninfo: str) -> None:
    router = aged_router()
    async with tunnelled(conninfo, router) as net:
        asks = good(await net.call("/mikrotik/bootstrap", BOOTSTRAP))
        router.paste(asks["instructions"])
        (interface,) = router.rows("/interface/wireguard")
        body = {**BOOTSTRAP, "devicePublicKey": interface["public-key"]}
        told = good(await net.call("/mikrotik/bootstrap", body), 201)
        for _ in range(2):
            router.paste(told["commands"])
        (peer,) = router.rows("/interface/wireguard/peers")
        assert (peer["public-key"], peer["endpoint-address"]) == (VPS_KEY, "vps.example")
        assert router.rows("/interface/wireguard") == [interface]


async def test_all_of_it_in_a_dry_run(conninfo: str) -> None:
    wg, router = SimulatedWireguard(), aged_router()
    async with tunnelled(conninfo, router, wireguard=wg, **DRY) as dry:
        assert good(await dry.call(REGISTER[0], ROUTER), 201)["dryRun"]
        assert good(await dry.call(REGISTER[0], {**ROUTER, "mikrotikPublicKey": key(2)}), 202)["dryRun"]
        managed = {**MANAGED, "deviceId": "bus-2", "wireguard": {"peerPublicKey": key(3)}}
        told = good(await dry.call("/relay/manager/register", managed), 201)
        assert (told["dryRun"], told["tunnelIp"]) == (True, "10.200.0.2")
        assert good(await dry.call("/mikrotik/bootstrap", BOOTSTRAP))["dryRun"]
        assert good(await dry.call("/mikrotik/bootstrap", {**BOOTSTRAP, "devicePublicKey": key(1)}))["dryRun"]
        assert good(await dry.client.delete("/relay/routers/bus-2"))["dryRun"]
        assert dry.lines("audit", action="TUNNEL_ROUTER_REGISTER", outcome="success")
    async with tunnelled(conninfo, router, wireguard=wg) as live:
        assert "bus-1" not in live.services.network.fleet.specs
        assert refused(await live.client.delete("/relay/routers/bus-1")) == (404, "ROUTER_NOT_FOUND")
        good(await live.call(REGISTER[0], {**ROUTER, "mikrotikPublicKey": key(5)}), 201)
    assert [key(n) in wg.peers for n in (1, 2, 3, 5)] == [False, False, False, True]
    assert not any("set" in call and key(1) in call for call in wg.calls)
