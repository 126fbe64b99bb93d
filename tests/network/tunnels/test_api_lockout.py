"""What keeps a call from locking a router out, or this daemon out of it."""

import io
import json
from typing import Any

import pytest
import trio

from opendesk.network.setup.redialling import NAME, REDIAL_S
from opendesk.network.tunnels.api import setting_up
from opendesk.network.tunnels.api.auditing import audited
from opendesk.ops import logging
from opendesk.ops.audit import Audit
from opendesk.simulators.routeros import HandClock, Router
from opendesk.simulators.routeros.tables import Row
from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.behind import SCHEDULERS, Behind, aged_router, behind, good, refused
from tests.network.tunnels.calling import ACCESS, APPLY, ON, ROUTER, TUNNEL_IP, key

APPLYING = "/internal/mikrotik/apply"
PEERS, ADDRESSES = "/interface/wireguard/peers", "/ip/address"
ELSEWHERE = "10.200.0.8"
MOVED = {**APPLY, "config": {"tunnelIp": TUNNEL_IP, "vpsEndpoint": "new.example:51820"}}


def network(conninfo: str, router: Router, wg: SimulatedWireguard | None = None, **settings: Any) -> Any:
    """The router is at both addresses."""
    wg = wg or SimulatedWireguard()
    wanted = {**ON, "WG_VPS_PUBLIC_KEY": wg.public_key, **settings}
    return behind(conninfo, router, wireguard=wg, through={TUNNEL_IP: "r1", ELSEWHERE: "r1"}, **wanted)


async def registered(net: Behind, **more: Any) -> None:
    good(await net.call("/relay/routers/register", {**ROUTER, **more}), 201)


def in_time(router: Router) -> None:
    """The router's time goes on once its peer is off."""
    clock = router.state.clock
    assert isinstance(clock, HandClock)

    def changed(path: str, row: Row, gone: bool) -> None:  # noqa: FBT001  # a Watcher
        if path == PEERS and not gone and not row.is_enabled:
            clock.advance(REDIAL_S)

    router.state.watchers.append(changed)


async def test_another_endpoint_is_proven_by_a_peer_that_was_made_anew(conninfo: str) -> None:
    wg, router = SimulatedWireguard(), aged_router()
    in_time(router)
    async with network(conninfo, router, wg) as net:
        await registered(net)
        good(await net.call(APPLYING, APPLY))
        assert not any("remove" in call for call in wg.calls)
        wg.handshake(key(1), 1_790_000_000)
        done = good(await net.call(APPLYING, MOVED))
        assert NAME in [step["attributes"].get("name") for step in done["plan"]]
        assert [call[call.index(key(1)) + 1] for call in wg.calls if "remove" in call] == ["remove"]
        assert (wg.peers[key(1)].endpoint, router.rows(SCHEDULERS)) == (None, [])
        assert [row["disabled"] for row in router.rows(PEERS)] == ["false"]


async def test_where_the_vps_can_not_forget_no_other_endpoint_is_told(conninfo: str) -> None:
    """A router of MIKROTIK_NODES, of which there is no device."""
    router = aged_router()
    in_time(router)
    async with network(conninfo, router) as net:
        good(await net.call(APPLYING, {**APPLY, "mikId": "r1"}))
        before = router.rows(PEERS)
        for more in ({}, {"dryRun": True}):
            answer = await net.call(APPLYING, {**MOVED, **more, "mikId": "r1"})
            assert refused(answer) == (409, "ENDPOINT_NOT_PROVABLE")
        assert router.rows(PEERS) == before
    async with network(conninfo, router, WG_VPS_ENDPOINT="new.example:51820") as net:
        good(await net.call(APPLYING, {**APPLY, "mikId": "r1"}))
        assert router.rows(PEERS)[0]["endpoint-address"] == "new.example"


async def test_a_router_that_is_reached_by_another_way_is_proven_through_its_tunnel(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setting_up, "APPLY_S", 1.0)
    router = aged_router()
    async with network(conninfo, router) as net:
        nowhere = {"mikId": "r1", "config": {"tunnelIp": "10.200.0.99"}}
        answer = await net.call(APPLYING, nowhere)
        assert refused(answer) == (503, "ROUTER_UNAVAILABLE")
        assert "An undo is armed" in answer.json()["detail"]
        assert len(router.rows(SCHEDULERS)) == 2


async def test_a_router_gets_another_tunnel_ip_as_the_docs_say(conninfo: str) -> None:
    wg, router = SimulatedWireguard(), aged_router()
    async with network(conninfo, router, wg) as net:
        await registered(net)
        good(await net.call(APPLYING, APPLY))
        device = {"deviceId": "bus-1", "publicKey": key(1)}
        both = [f"{TUNNEL_IP}/32", f"{ELSEWHERE}/32"]
        good(await net.call("/devices", {**device, "tunnelIp": TUNNEL_IP, "allowedIps": both}))
        assert good(await net.call(APPLYING, {**APPLY, "config": {"tunnelIp": ELSEWHERE}}))["changed"]
        assert [row["address"] for row in router.rows(ADDRESSES)] == [f"{ELSEWHERE}/32"]
        good(await net.call("/devices", {**device, "tunnelIp": ELSEWHERE, "allowedIps": both[1:]}))
        assert [tuple(peer.allowed_ips) for peer in wg.peers.values()] == [(f"{ELSEWHERE}/32",)]
        assert not good(await net.client.post("/devices/bus-1/sync"))["config"]["changed"]


async def test_the_user_that_a_router_is_driven_as_keeps_its_password(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setting_up, "source_of", lambda _ip: "10.200.0.1")
    router = aged_router()
    async with network(conninfo, router) as net:
        await registered(net)
        tech = {"username": "tech", "password": "the technical password"}
        good(await net.call(APPLYING, {**APPLY, "technicalUser": tech}))
        assert router.rows("/user")[-1]["address"] == "10.200.0.1/32"
        access = {**ACCESS, "apiUser": tech["username"], "apiPassword": tech["password"]}
        good(await net.call("/relay/routers/register", {**ROUTER, "mikrotik": access}))
        assert not good(await net.call(APPLYING, {**APPLY, "technicalUser": tech}))["changed"]
        changed = {**tech, "password": "another password"}
        assert refused(await net.call(APPLYING, {**APPLY, "technicalUser": changed})) == (409, "TECHNICAL_USER_IN_USE")
        assert not good(await net.call(APPLYING, {**APPLY, "technicalUser": tech}))["changed"]


async def test_a_sync_has_the_time_that_it_takes(conninfo: str) -> None:
    """A job's is far shorter."""
    router = aged_router()
    async with network(conninfo, router, latency_s=0.05, RELAY_ACTION_TIMEOUT_MS="100") as net:
        await registered(net)
        assert good(await net.client.post("/devices/bus-1/sync"))["config"]["changed"]
        assert router.rows(SCHEDULERS) == []


async def test_what_is_cancelled_has_its_line_too() -> None:
    stream = io.StringIO()
    logs = logging.configure("info", "json", stream, environ={})
    try:
        with (
            trio.move_on_after(0),
            audited(Audit(lambda _outcome: None), "TUNNEL_ROUTER_APPLY", "trace", router="bus-1"),
        ):
            await trio.sleep_forever()
    finally:
        logs.close()
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["outcome"], line.get("error")) for line in told] == [("attempt", None), ("failure", "cancelled")]
