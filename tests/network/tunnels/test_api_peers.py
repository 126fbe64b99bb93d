"""The internal calls about peers."""

import json
from typing import Any

import httpx
import trio

from opendesk.network.tunnels.api.peers_api import PORTION
from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.behind import PATIENCE_S, TOKEN, good, refused
from tests.network.tunnels.calling import BINDING, DEVICE, DRY, INTERFACE, PEERS, TUNNEL_IP, escaped, key, tunnelled

# Base64 that has slashes and plus signs in it.
AWKWARD = "/" * 21 + "+" * 21 + "8="


async def test_every_peer_of_the_interface_is_told_and_whose_it_is(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        good(await net.call("/devices", DEVICE), 201)
        wg.add(key("stranger"), "10.9.9.0/24", endpoint="192.0.2.4:1000")
        for number in range(2 * PORTION):
            wg.add(key(f"p{number}"))
        with trio.fail_after(PATIENCE_S):
            while len((told := good(await net.call(f"{PEERS}/status")))["peers"]) == 1:  # noqa: ASYNC110  # what was read a moment ago may be told
                await trio.sleep(0.05)
        assert (told["interface"], told["dryRun"]) == (INTERFACE, False)
        peers = {peer["publicKey"]: peer for peer in told["peers"]}
        assert len(peers) == len(told["peers"]) == 2 * PORTION + 2
        assert (peers[key(1)]["device"], peers[key(1)]["status"]) == ("bus-1", "NEVER_CONNECTED")
        assert peers[key("stranger")] == {
            "publicKey": key("stranger"),
            "handshakeAge": None,
            "status": "NEVER_CONNECTED",
            "rx": 0,
            "tx": 0,
            "allowedIps": ["10.9.9.0/24"],
            "endpoint": "192.0.2.4:1000",
            "device": None,
        }


async def test_an_interface_that_cannot_be_read_is_not_an_empty_one(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        good(await net.call("/devices", DEVICE), 201)
        wg.is_gone = True
        with trio.fail_after(PATIENCE_S):
            while (answer := await net.call(f"{PEERS}/status")).is_success:  # noqa: ASYNC110  # likewise
                await trio.sleep(0.05)
        assert refused(answer) == (503, "WIREGUARD_UNAVAILABLE")
    async with tunnelled(conninfo, wireguard=wg, WG_INTERFACE="") as off:
        told = good(await off.call(f"{PEERS}/status"))
        assert (told["interface"], told["peers"]) == (None, [])


async def test_what_is_bound_is_listed_and_bound_anew(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        told = good(await net.call(f"{PEERS}/bind", BINDING))["binding"]
        assert (told["publicKey"], told["deviceId"], told["mikrotikIp"]) == (key(1), "bus-1", TUNNEL_IP)
        good(await net.call(f"{PEERS}/bind", {**BINDING, "mikrotikIp": "10.200.0.8"}))
        listed = good(await net.call(f"{PEERS}/bindings"))
        assert [each["mikrotikIp"] for each in listed["bindings"]] == ["10.200.0.8"]


async def test_a_peer_goes_whoever_asked_for_it(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        good(await net.call("/devices", DEVICE), 201)
        wg.add(AWKWARD, "10.9.9.0/24")
        told = good(await net.client.delete(f"{PEERS}/{escaped(AWKWARD)}"))
        assert told == {"ok": True, "removed": False, "dryRun": False}
        assert list(wg.peers) == [key(1)]
        assert good(await net.client.delete(f"{PEERS}/{escaped(key(1))}"))["removed"]
        assert (wg.peers, good(await net.call("/devices"))["items"]) == ({}, [])
        assert not good(await net.client.delete(f"{PEERS}/{escaped(key(1))}"))["removed"]


async def test_taking_the_key_away_that_waits_ends_the_rotation(conninfo: str) -> None:
    wg = SimulatedWireguard()
    async with tunnelled(conninfo, wireguard=wg) as net:
        good(await net.call("/devices", DEVICE), 201)
        good(await net.call("/devices", {**DEVICE, "publicKey": key(2)}), 202)
        assert good(await net.client.delete(f"{PEERS}/{escaped(key(2))}"))["removed"]
        assert (list(wg.peers), good(await net.call("/devices"))["items"][0]["rotation"]) == ([key(1)], None)


async def test_what_is_no_key_is_not_found(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        for name in ("x", "A" * 43 + "%3D", escaped(key(1))[:-3], "%00"):
            assert refused(await net.client.delete(f"{PEERS}/{name}"))[0] == 404, name


async def test_they_want_the_internal_token(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        calls: list[tuple[str, str, Any]] = [
            ("GET", f"{PEERS}/status", None),
            ("POST", f"{PEERS}/bind", BINDING),
            ("GET", f"{PEERS}/bindings", None),
            ("DELETE", f"{PEERS}/{escaped(key(1))}", None),
        ]
        async with httpx.AsyncClient(base_url=net.client.base_url, headers={"x-relay-token": TOKEN}) as relay:
            for method, path, body in calls:
                content = None if body is None else json.dumps(body)
                assert refused(await relay.request(method, path, content=content)) == (403, "FORBIDDEN")


async def test_all_of_it_in_a_dry_run(conninfo: str) -> None:
    wg = SimulatedWireguard()
    wg.add(key(1), "10.9.9.0/24")
    async with tunnelled(conninfo, wireguard=wg, **DRY) as dry:
        told = good(await dry.call(f"{PEERS}/status"))
        assert (told["dryRun"], told["interface"], told["peers"]) == (True, None, [])
        assert good(await dry.call(f"{PEERS}/bind", BINDING))["dryRun"]
        assert good(await dry.call(f"{PEERS}/bindings"))["dryRun"]
        assert good(await dry.client.delete(f"{PEERS}/{escaped(key(1))}")) == {
            "ok": True,
            "removed": True,
            "dryRun": True,
        }
    async with tunnelled(conninfo, wireguard=wg) as live:
        assert good(await live.call(f"{PEERS}/bindings"))["bindings"] == []
    assert list(wg.peers) == [key(1)]
