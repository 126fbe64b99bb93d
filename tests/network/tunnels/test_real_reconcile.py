"""The same on real WireGuard: what somebody does to the interface, and what becomes of a tunnel meanwhile."""

from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs
import trio

from opendesk.network.tunnels.errors import WireguardUnavailable
from opendesk.network.tunnels.keeping import keeper as keeping
from opendesk.network.tunnels.registry import devices
from opendesk.network.tunnels.registry.devices import NewDevice
from tests.network.tunnels.tunnelled import PATIENCE_S, SEALER, On, key, tunnels_on
from tests.network.wireguard.namespaces import INSIDE, Joined, Side, new_key

BUS = INSIDE["bus"]


async def held(side: Side) -> Mapping[str, tuple[str, ...]]:
    return {public_key: peer.allowed_ips for public_key, peer in (await side.wg.read()).peers.items()}


async def until_held(side: Side, expected: Mapping[str, tuple[str, ...]]) -> None:
    with trio.fail_after(PATIENCE_S):
        while await held(side) != expected:  # noqa: ASYNC110  # nothing tells of it
            await trio.sleep(0.02)


async def put_many(on: On, count: int) -> None:
    async with on.pool.connection() as conn, conn.transaction():
        for number in range(count):
            address = f"10.200.{100 + number // 250}.{number % 250}"
            new = NewDevice(id=f"d{number}", public_key=key(f"d{number}"), tunnel_ip=address)
            await devices.put(conn, new, SEALER, dry_run=False)


async def test_a_registered_router_answers_and_a_removed_one_no_longer(conninfo: str, wires: Joined) -> None:
    async with tunnels_on(conninfo, real=wires.vps.wg) as on:
        await on.put("bus", public_key=wires.bus.public_key, tunnel_ip=BUS)
        assert await wires.bus.pings(wires.vps.inside)
        await on.remove("bus")
        assert await held(wires.vps) == {}
        assert not await wires.vps.pings(BUS)


async def test_what_somebody_set_by_hand_is_put_right_and_the_tunnel_lives(conninfo: str, wires: Joined) -> None:
    vps, bus = wires.vps, wires.bus
    async with tunnels_on(conninfo, real=vps.wg) as on:
        await on.put("bus", public_key=bus.public_key, tunnel_ip=BUS)
        assert await bus.pings(vps.inside)
        await vps.set("peer", bus.public_key, "allowed-ips", "10.9.9.9/32", "persistent-keepalive", "99")
        assert not await bus.pings(vps.inside)
        with capture_logs() as logs:
            await on.tunnels.pass_once(remove_unknown=False)
        assert await bus.pings(vps.inside)
        assert {line["kind"] for line in logs if line["event"] == "tunnel.drift"} == {"allowed_ips", "keepalive"}
        await vps.set("peer", bus.public_key, "remove")
        await on.tunnels.pass_once(remove_unknown=False)
        assert await held(vps) == {bus.public_key: (f"{BUS}/32",)}
        assert on.figures("opendesk_tunnel_drift_total") == {"allowed_ips": 1, "keepalive": 1, "missing": 1}


async def test_a_stolen_address_is_given_back(conninfo: str, wires: Joined) -> None:
    vps, bus = wires.vps, wires.bus
    async with tunnels_on(conninfo, real=vps.wg, interval_s=0.1) as on:
        await on.put("bus", public_key=bus.public_key, tunnel_ip=BUS)
        with capture_logs() as logs:
            await vps.set("peer", key("thief"), "allowed-ips", f"{BUS}/32")
            await until_held(vps, {bus.public_key: (f"{BUS}/32",), key("thief"): ()})
        [line] = [line for line in logs if line["event"] == "tunnel.drift"]
        assert (line["kind"], line["detail"]) == ("stolen", f"{BUS}/32 is at {key('thief')}")
        assert await bus.pings(vps.inside)


async def test_an_interface_that_goes_and_comes_back_is_filled_again(
    conninfo: str, wires: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "RETRY_S", 0.1)
    vps, bus = wires.vps, wires.bus
    async with tunnels_on(conninfo, real=vps.wg) as on:
        await on.put("bus", public_key=bus.public_key, tunnel_ip=BUS)
        await vps.stop()
        with pytest.raises(WireguardUnavailable) as told:
            await on.put("other", tunnel_ip="10.200.0.9")
        assert told.value.members == {"deviceId": "other"}
        await vps.start()
        await until_held(vps, {bus.public_key: (f"{BUS}/32",), key("other"): ("10.200.0.9/32",)})
        assert await bus.pings(vps.inside)


async def test_a_key_is_rotated_without_a_gap(conninfo: str, wires: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "ROTATION_LOOK_S", 0.05)
    vps, bus = wires.vps, wires.bus
    async with tunnels_on(conninfo, real=vps.wg) as on:
        old = bus.public_key
        await on.put("bus", public_key=old, tunnel_ip=BUS)
        assert await bus.pings(vps.inside)
        bus.key = new_key()
        await on.put("bus", public_key=bus.public_key)
        assert await held(vps) == {old: (f"{BUS}/32",), bus.public_key: ()}
        assert await vps.pings(BUS)  # through the old one, as before
        await bus.wg.set_private_key(bus.key)
        await bus.set("peer", vps.public_key, "persistent-keepalive", "1")
        await until_held(vps, {bus.public_key: (f"{BUS}/32",)})
        assert await vps.pings(BUS)


async def test_a_peer_is_made_anew_in_one_set_without_its_endpoint(conninfo: str, wires: Joined) -> None:
    vps, bus = wires.vps, wires.bus
    async with tunnels_on(conninfo, real=vps.wg) as on:
        await on.put("bus", public_key=bus.public_key, tunnel_ip=BUS)
        assert await bus.pings(vps.inside)
        before = (await vps.wg.read()).peers[bus.public_key]
        await on.tunnels.forget_endpoint("bus")
        after = (await vps.wg.read()).peers[bus.public_key]
        assert (before.endpoint is None, after.endpoint, after.handshake_unix) == (False, None, 0)
        assert (after.allowed_ips, after.keepalive) == (before.allowed_ips, before.keepalive)
        await on.tunnels.settle({"bus"})
        assert on.figures("opendesk_tunnel_drift_total") == {}


async def test_a_thousand_peers_come_and_go(conninfo: str, wires: Joined) -> None:
    vps = wires.vps
    async with tunnels_on(conninfo, real=vps.wg, runs=False) as on:
        await put_many(on, 1000)
        report = await on.tunnels.pass_once(remove_unknown=False)
        assert (len(report.done), report.left.changes, len(await held(vps))) == (1000, (), 1000)
        again = await on.tunnels.pass_once(remove_unknown=True)
        assert (again.found.changes, again.found.unknown) == ((), ())
        async with on.pool.connection() as conn:
            await conn.run("DELETE FROM tunnel_devices")
        report = await on.tunnels.pass_once(remove_unknown=False)
        assert (len(report.done), await held(vps), len(await on.tombstones())) == (1000, {}, 1000)
        await on.age_tombstones()
        await on.tunnels.pass_once(remove_unknown=False)
        assert await on.tombstones() == frozenset()


async def test_of_a_thousand_unknown_peers_a_tenth_goes(conninfo: str, wires: Joined) -> None:
    async with tunnels_on(conninfo, real=wires.vps.wg, runs=False) as on:
        await wires.vps.set(*(word for number in range(1000) for word in ("peer", key(f"{number}"))))
        await on.tunnels.pass_once(remove_unknown=True)
        assert len(await held(wires.vps)) == 900
