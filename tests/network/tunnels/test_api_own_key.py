"""Routers are told the key that the interface has, or nothing; and what a call is told of what it asked for."""

import pytest

from opendesk.simulators.wireguard import SimulatedWireguard
from tests.network.behind import aged_router, good, refused, until
from tests.network.tunnels.calling import (
    APPLY,
    BOOTSTRAP,
    DEVICE,
    MANAGED,
    PEERS,
    ROUTER,
    VPS_KEY,
    escaped,
    key,
    rows,
    tunnelled,
)  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body"),
    [("/relay/manager/register", MANAGED), ("/mikrotik/bootstrap", BOOTSTRAP), ("/internal/mikrotik/apply", APPLY)],
)
async def test_no_router_is_told_a_key_that_the_interface_has_not(conninfo: str, path: str, body: object) -> None:
    async with tunnelled(conninfo, WG_VPS_PUBLIC_KEY=key("old")) as net:
        net.errors_expected = True  # the log says it too
        await until(lambda: net.lines("tunnel.key_differs"))
        answer = await net.call(path, body)
        assert refused(answer) == (500, "VPS_CONFIG_MISSING")
        assert all(part in answer.json()["detail"] for part in (key("old"), VPS_KEY, "WG_VPS_PUBLIC_KEY"))
        assert await rows(net, "tunnel_devices") == 0


async def test_a_router_is_not_synced_with_it_either(conninfo: str) -> None:
    async with tunnelled(conninfo, aged_router(), WG_VPS_PUBLIC_KEY=key("old")) as net:
        net.errors_expected = True
        await net.call("/relay/routers/register", ROUTER)
        answer = await net.client.post("/devices/bus-1/sync")
        assert refused(answer) == (500, "VPS_CONFIG_MISSING")


async def test_an_interface_that_is_not_there_says_how_to_make_it(conninfo: str) -> None:
    async with tunnelled(conninfo, wireguard=SimulatedWireguard(is_gone=True)) as net:
        answer = await net.call("/devices", DEVICE)
        assert refused(answer) == (503, "WIREGUARD_UNAVAILABLE")
        assert "opendesk tunnel init" in answer.json()["detail"]


async def test_removing_a_peer_that_nobody_knows_waits_until_it_is_gone(conninfo: str) -> None:
    wg = SimulatedWireguard()
    wg.add(key("stranger"))
    async with tunnelled(conninfo, wireguard=wg) as net:
        wg.lies = True
        answer = await net.client.delete(f"{PEERS}/{escaped(key('stranger'))}")
        assert refused(answer) == (503, "WIREGUARD_UNAVAILABLE")
        wg.lies = False
        good(await net.client.delete(f"{PEERS}/{escaped(key('stranger'))}"))
        assert wg.peers == {}


async def test_a_device_whose_preshared_key_nobody_can_open_is_not_said_to_be_put(conninfo: str) -> None:
    async with tunnelled(conninfo) as net:
        net.errors_expected = True
        good(await net.call("/devices", {**DEVICE, "presharedKey": key("psk")}), 201)
        await net.sql("UPDATE tunnel_devices SET preshared_key_sealed = 'damaged'")
        answer = await net.client.post("/devices/bus-1/sync")
        assert refused(answer) == (503, "WIREGUARD_UNAVAILABLE")
        assert "preshared key can't be opened" in answer.json()["detail"]
