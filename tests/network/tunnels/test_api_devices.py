"""Devices behind tunnels, over real HTTP, on a real database and a simulated interface."""

from typing import Any

import pytest
import trio

from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.behind import PATIENCE_S, aged_router, good, refused, until
from tests.network.tunnels.calling import DEVICE, DRY, OFF, SECRET_KEY, TUNNEL_IP, escaped, key, rows, tunnelled


async def test_a_new_device_is_on_the_interface_when_the_call_is_answered(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        told = good(await net.call("/devices", {**DEVICE, "endpoint": "192.0.2.9:51820", "keepalive": 0}), 201)
        assert told == {"ok": True, "deviceId": "bus-1", "dryRun": False}
        peer = wg.peers[key(1)]
        assert (peer.allowed_ips, peer.endpoint, peer.keepalive) == (["10.200.0.7/32"], "192.0.2.9:51820", 0)
        assert [line["outcome"] for line in net.lines("audit", action="TUNNEL_DEVICE_PUT")] == ["attempt", "success"]


async def test_the_same_again_changes_nothing_and_is_answered_200(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        body = {**DEVICE, "presharedKey": SECRET_KEY}
        good(await net.call("/devices", body), 201)
        before = await net.sql("SELECT xmin, public_key FROM tunnel_devices")
        sets = [call for call in wg.calls if "set" in call]
        good(await net.call("/devices", body))
        assert await net.sql("SELECT xmin, public_key FROM tunnel_devices") == before
        assert [call for call in wg.calls if "set" in call] == sets
        good(await net.call("/devices", {**body, "keepalive": 5}))
        assert wg.peers[key(1)].keepalive == 5


async def test_without_an_id_one_is_made_and_the_key_finds_it_again(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        body = {name: value for name, value in DEVICE.items() if name != "deviceId"}
        made = good(await net.call("/devices", body), 201)["deviceId"]
        assert good(await net.call("/devices", body))["deviceId"] == made
        assert len(good(await net.call("/devices"))["items"]) == 1


async def test_another_key_begins_a_rotation(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        good(await net.call("/devices", DEVICE), 201)
        told = good(await net.call("/devices", {**DEVICE, "publicKey": key(2)}), 202)
        assert told == {"ok": True, "deviceId": "bus-1", "rotation": True, "dryRun": False}
        (shown,) = good(await net.call("/devices"))["items"]
        assert (shown["publicKey"], shown["rotation"]["publicKey"]) == (key(1), key(2))
        assert (wg.peers[key(1)].allowed_ips, wg.peers[key(2)].allowed_ips) == (["10.200.0.7/32"], [])


async def test_what_another_device_holds_is_refused_and_nothing_is_stored(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        good(await net.call("/devices", {**DEVICE, "tunnelIp": TUNNEL_IP}), 201)
        other = {**DEVICE, "deviceId": "bus-2", "publicKey": key(2)}
        assert refused(await net.call("/devices", {**other, "allowedIps": ["10.200.0.0/29"]})) == (
            409,
            "ALLOWED_IPS_TAKEN",
        )
        assert refused(await net.call("/devices", {**other, "allowedIps": [], "tunnelIp": TUNNEL_IP})) == (
            409,
            "TUNNEL_IP_TAKEN",
        )
        assert refused(await net.call("/devices", {**other, "allowedIps": ["10.9.0.0/24"], "publicKey": key(1)})) == (
            409,
            "PUBLIC_KEY_TAKEN",
        )
        assert await rows(net, "tunnel_devices") == 1
        assert list(wg.peers) == [key(1)]


async def test_a_list_is_newest_first_and_goes_on_where_it_ended(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        for number in range(5):
            body = {"deviceId": f"bus-{number}", "publicKey": key(number), "allowedIps": [f"10.9.{number}.0/24"]}
            good(await net.call("/devices", {**body, "meta": {"line": number}}), 201)
        first = good(await net.call("/devices?limit=2"))
        second = good(await net.call(f"/devices?limit=2&cursor={first['nextCursor']}"))
        last = good(await net.call(f"/devices?limit=2&cursor={second['nextCursor']}"))
        told = [each["deviceId"] for page in (first, second, last) for each in page["items"]]
        assert told == ["bus-4", "bus-3", "bus-2", "bus-1", "bus-0"]
        assert (last["nextCursor"], first["items"][0]["meta"]) == (None, {"line": 4})


async def test_secrets_are_never_answered_nor_logged(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        good(await net.call("/devices", {**DEVICE, "presharedKey": SECRET_KEY}), 201)
        assert wg.peers[key(1)].preshared_key == SECRET_KEY
        for page in ("/devices", "/devices/bus-1/status", "/internal/wireguard/peers/status", "/relay/metrics"):
            assert SECRET_KEY not in (await net.call(page)).text
        assert good(await net.call("/devices"))["items"][0]["hasPresharedKey"] is True
        assert SECRET_KEY not in net.log.getvalue()
        assert not any(SECRET_KEY in word for call in wg.calls for word in call)


async def test_without_a_master_key_no_preshared_key_is_stored(conninfo: str) -> None:
    async with tunnelled(conninfo, RELAY_MASTER_KEY="") as net:
        answer = await net.call("/devices", {**DEVICE, "presharedKey": SECRET_KEY})
        assert refused(answer) == (503, "SEALING_UNAVAILABLE")
        assert await rows(net, "tunnel_devices") == 0
        good(await net.call("/devices", DEVICE), 201)


async def test_a_removed_device_is_off_the_interface_and_unknown(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        good(await net.call("/devices", DEVICE), 201)
        assert good(await net.client.delete("/devices/bus-1"))["ok"]
        assert wg.peers == {}
        assert refused(await net.client.delete("/devices/bus-1")) == (404, "DEVICE_NOT_FOUND")
        assert refused(await net.call("/devices/bus-1/status")) == (404, "DEVICE_NOT_FOUND")
        assert refused(await net.client.delete("/devices/no%20id")) == (404, "NOT_FOUND")
        good(await net.call("/devices", {**DEVICE, "deviceId": "bus-2"}), 201)
        assert list(wg.peers) == [key(1)]


async def test_an_interface_that_is_away_costs_nothing_that_was_asked(conninfo: str) -> None:
    wg = SimulatedWireguard(is_gone=True)
    async with tunnelled(conninfo, wireguard=wg) as net:
        answer = await net.call("/devices", DEVICE)
        assert refused(answer) == (503, "WIREGUARD_UNAVAILABLE")
        assert answer.json()["deviceId"] == "bus-1"
        status = good(await net.call("/devices/bus-1/status"))
        assert (status["hasPeer"], status["peer"]) == (None, None)
        wg.is_gone = False
        await until(lambda: key(1) in wg.peers)
        good(await net.call("/devices", DEVICE))


async def test_a_daemon_without_an_interface_reads_and_changes_nothing(conninfo: str) -> None:
    async with tunnelled(conninfo) as on:
        good(await on.call("/devices", DEVICE), 201)
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg, WG_INTERFACE="") as off:
        assert len(good(await off.call("/devices"))["items"]) == 1
        assert good(await off.call("/devices/bus-1/status"))["hasPeer"] is None
        for answer in (
            await off.call("/devices", {**DEVICE, "keepalive": 7}),
            await off.client.delete("/devices/bus-1"),
            await off.client.delete("/relay/routers/bus-1"),
            await off.client.post("/devices/bus-1/sync"),
            await off.client.delete(f"/internal/wireguard/peers/{escaped(key(1))}"),
        ):
            assert refused(answer) == (503, "TUNNELS_OFF")
        assert await off.sql("SELECT keepalive FROM tunnel_devices") == [(25,)]
        assert wg.calls == []


async def test_the_status_tells_peer_and_router(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, aged_router(), wireguard=wg) as net:
        good(await net.call("/devices", {**DEVICE, "deviceId": "r1"}), 201)
        await until(net.services.network.fleet.open_lanes)
        status = good(await net.call("/devices/r1/status"))
        assert (status["hasPeer"], status["peer"]["status"], status["peer"]["handshakeAge"]) == (
            True,
            "NEVER_CONNECTED",
            None,
        )
        wg.handshake(key(1), 2**32)
        with trio.fail_after(PATIENCE_S):
            while (status := good(await net.call("/devices/r1/status")))["peer"]["status"] != "ONLINE":  # noqa: ASYNC110  # nothing tells of it
                await trio.sleep(0.05)
        assert (status["peer"]["handshakeAge"], status["peer"]["rx"]) == (0, 148)
        with trio.fail_after(PATIENCE_S):
            while good(await net.call("/devices/r1/status"))["mikStatus"] != "ONLINE":  # noqa: ASYNC110  # likewise
                await trio.sleep(0.05)
        good(await net.call("/devices", {**DEVICE, "publicKey": key(2), "allowedIps": []}), 201)
        assert good(await net.call("/devices/bus-1/status"))["mikStatus"] == "UNKNOWN"


async def test_a_dry_run_has_a_realm_of_its_own(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg, **DRY) as dry:
        assert good(await dry.call("/devices", DEVICE), 201)["dryRun"]
        assert good(await dry.call("/devices", {**DEVICE, "publicKey": key(2)}), 202)["dryRun"]
        assert good(await dry.call("/devices"))["dryRun"]
        status = good(await dry.call("/devices/bus-1/status"))
        assert (status["dryRun"], status["hasPeer"], status["mikStatus"]) == (True, None, "UNKNOWN")
    async with tunnelled(conninfo, wireguard=wg) as live:
        assert good(await live.call("/devices"))["items"] == []
        good(await live.call("/devices", {**DEVICE, "publicKey": key(3)}), 201)
        assert list(wg.peers) == [key(3)]
    async with tunnelled(conninfo, wireguard=wg, **DRY) as dry:
        assert good(await dry.client.delete("/devices/bus-1"))["dryRun"]
    assert list(wg.peers) == [key(3)]


async def test_a_crowd_of_registrations_gets_each_its_own(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        answers: list[Any] = []

        async def one(number: int) -> None:
            body = {
                "deviceId": f"b{number % 10}",
                "publicKey": key(number % 10),
                "allowedIps": [f"10.9.{number % 10}.0/24"],
            }
            answers.append(await net.call("/devices", body))

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(one, number)
        assert sorted(answer.status_code for answer in answers) == [200] * 20 + [201] * 10
        assert sorted(wg.peers) == sorted(key(number) for number in range(10))


@pytest.mark.parametrize("settings", [OFF])
async def test_a_dry_run_needs_no_interface(conninfo: str, settings: dict[str, Any]) -> None:
    async with tunnelled(conninfo, **settings, WG_INTERFACE="", RELAY_DRY_RUN="1") as dry:
        good(await dry.call("/devices", DEVICE), 201)
