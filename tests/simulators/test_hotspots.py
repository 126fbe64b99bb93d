"""A day's hotspots: what is proven of phones is what their routers do, and a day that went wrong doesn't pass."""

from collections.abc import AsyncIterator
import json

import pytest
import trio
import trio.testing

from opendesk.settings import load
from opendesk.simulators.hotspots import BINDINGS, ENDED_BY_ROUTER, MOVED, OFF_AFTER, ONLINE, Hotspots, served_hotspots

MAC, IP, NEXT_IP = "AA:BB:CC:00:00:01", "10.5.50.7", "10.5.50.8"


@pytest.fixture
async def hotspots() -> AsyncIterator[Hotspots]:
    async with served_hotspots() as served:
        yield served


def let_in(hotspots: Hotspots, ip: str = IP) -> str:
    """What the daemon does; the row's id."""
    hotspots.router("cafe").phone(MAC, ip)
    row = {"mac-address": MAC, "address": ip, "type": "bypassed", "comment": "pedido:w-1"}
    made = hotspots.router("cafe").run(f"{BINDINGS}/add", row).ret
    for host in hotspots.router("cafe").run("/ip/hotspot/host/print").rows:
        hotspots.router("cafe").run("/ip/hotspot/host/remove", {".id": host[".id"]})
    assert made is not None
    return made


def wrong(hotspots: Hotspots, guests: int = 0) -> set[str]:
    return {check.states for check in hotspots.checks(guests=guests) if not check.ok}


async def test_the_daemon_is_told_of_both_and_takes_no_unsigned_call(hotspots: Hotspots) -> None:
    settings = load({"OPENDESK_DATA_DIR": "/nowhere", **hotspots.settings})
    assert [node.id for node in settings.mikrotik_nodes] == ["cafe", "praia"]
    assert settings.relay_strict_security
    assert hotspots.token not in repr(hotspots)
    for node in settings.mikrotik_nodes:
        stream = await trio.open_tcp_stream(node.host, node.port or 0)
        await stream.aclose()


async def test_a_phone_that_is_let_in_and_out_again_leaves_nothing_wrong(hotspots: Hotspots) -> None:
    row = let_in(hotspots)
    hotspots.opened("w-1", "cafe", MAC, IP, until=60)
    assert (hotspots.sums().online, hotspots.sums().orders) == (1, 1)
    hotspots.router("cafe").run(f"{BINDINGS}/remove", {".id": row})
    hotspots.turn(60, 60)
    hotspots.closed("w-1")
    assert wrong(hotspots) == set()
    assert (hotspots.sums().online, hotspots.sums().ended) == (0, 1)


async def test_a_phone_that_is_not_online_when_it_is_said_to_be_is_wrong(hotspots: Hotspots) -> None:
    hotspots.router("cafe").phone(MAC, IP)
    hotspots.opened("w-1", "cafe", MAC, IP, until=60)
    assert wrong(hotspots) == {ONLINE}


async def test_a_phone_that_stays_on_is_wrong(hotspots: Hotspots) -> None:
    let_in(hotspots)
    hotspots.opened("w-1", "cafe", MAC, IP, until=60)
    hotspots.turn(60, 60)
    hotspots.closed("w-1")
    assert wrong(hotspots) == {ENDED_BY_ROUTER, OFF_AFTER, "routers hold what they held before"}


async def test_a_phone_that_is_let_in_where_it_no_longer_is_is_wrong(hotspots: Hotspots) -> None:
    let_in(hotspots)
    hotspots.opened("w-1", "cafe", MAC, IP, until=60)
    let_in(hotspots, NEXT_IP)
    hotspots.goes_on("w-1", NEXT_IP)
    assert MOVED in wrong(hotspots)


async def test_a_guest_who_did_not_come_is_missed(hotspots: Hotspots) -> None:
    assert wrong(hotspots, guests=1) == {"every guest's story was played"}


async def test_routers_live_by_the_day_s_clock(hotspots: Hotspots) -> None:
    router = hotspots.router("praia")
    held = {"list": "paid_clients", "address": IP, "timeout": "30m"}
    router.run("/ip/firewall/address-list/add", held)
    hotspots.turn(29, 29)
    assert len(router.rows("/ip/firewall/address-list")) == 1
    hotspots.turn(1, 30)
    assert router.rows("/ip/firewall/address-list") == []


async def test_a_router_that_is_killed_is_dead_until_it_is_revived(hotspots: Hotspots) -> None:
    [_, praia] = json.loads(hotspots.settings["MIKROTIK_NODES"])
    before = await trio.open_tcp_stream(praia["host"], praia["port"])
    await trio.testing.wait_all_tasks_blocked(0.01)
    hotspots.kill("praia")
    assert hotspots.sums().dead == ("praia",)
    async with before:
        with trio.fail_after(10), pytest.raises(trio.BrokenResourceError):
            await before.receive_some(1)
    hotspots.revive("praia")
    assert hotspots.sums().dead == ()
