"""Phones, routers and orders that go elsewhere while nobody can ask: time isn't had twice, and nobody who paid stays outside."""

from typing import Any, Final

import pytest
import trio

from opendesk import database
from opendesk.network.hotspots import grants
from opendesk.simulators.routeros import Act, Router, Slow
from tests.network.behind import (
    BINDINGS,
    HERE,
    IP,
    MAC,
    SCHEDULERS,
    Behind,
    aged_router,
    behind,
    good,
    held,
    until,
)
from tests.network.hotspots.test_paid_time import ELSEWHERE, ONCE, OTHER_MAC, gone, later, left_s

UNDER_WAY: Final = "SELECT 1 FROM jobs WHERE state IN ('due', 'running') AND type <> 'END_GRANT'"


async def passes(net: Behind, router: Router, minutes: int) -> None:
    await later(net, minutes)
    router.state.clock.advance(minutes * 60)  # type: ignore[attr-defined]  # it stands still else


async def is_back(net: Behind, router: Router) -> None:
    router.faults.clear()
    await net.sql("UPDATE jobs SET run_at = now() WHERE state = 'due' AND type <> 'END_GRANT'")
    await net.sql("SELECT pg_notify('opendesk_jobs', '')")
    await net.finds(UNDER_WAY, 0)


@pytest.mark.parametrize("mac", [MAC, OTHER_MAC])
@pytest.mark.parametrize("by_hello", [False, True], ids=["resync", "hello"])
async def test_a_phone_that_moves_while_its_router_is_away_has_its_time_once(
    conninfo: str, mac: str, *, by_hello: bool
) -> None:
    router = aged_router()
    async with behind(conninfo, router, **ONCE) as net:
        await until(lambda: router.counts.logins)
        token = await net.hello()
        router.faults.plan(Act.DROP_AFTER, f"{BINDINGS}/set")
        assert (await net.authorize("1", deviceToken=token, minutes=30)).status_code == 503
        gone(router)
        await passes(net, router, 20)
        if by_hello:
            await net.hello(ip=ELSEWHERE, mac=mac, deviceToken=token)
            await net.authorize("1", deviceToken=token, minutes=30)
        else:
            there = {"deviceToken": token, "ipAtual": ELSEWHERE, "macAtual": mac}
            await net.call("/relay/resync-device", {"mikId": "r1", "pedidoId": "1", **there})
        await is_back(net, router)
        assert await left_s(net) == [600]
        assert held(router)["bindings"] == [f"{ELSEWHERE} {mac} pedido:1"]


async def test_a_phone_that_moves_while_its_way_is_being_opened_has_its_time_once(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router, **ONCE) as net, trio.open_nursery() as nursery:
        await until(lambda: router.counts.logins)
        token = await net.hello()
        router.faults.plan(Slow(0.5), f"{SCHEDULERS}/add")
        nursery.start_soon(lambda: net.authorize("1", deviceToken=token, minutes=30))
        await until(lambda: router.rows(SCHEDULERS))
        there = {"deviceToken": token, "ipAtual": ELSEWHERE, "macAtual": MAC}
        good(await net.call("/relay/resync-device", {"mikId": "r1", "pedidoId": "1", **there}))
        await net.finds(UNDER_WAY, 0)
        assert held(router)["bindings"] == [f"{ELSEWHERE} {MAC} pedido:1"]
        opened = await net.sql("SELECT ended_at IS NULL FROM hotspot_grants WHERE opening_at IS NOT NULL")
        assert opened == [(True,)], "the old place was about to be opened"


async def test_another_box_behind_the_same_id_is_told_what_is_granted(conninfo: str) -> None:
    one, other = aged_router(), aged_router()
    other.state.clock.advance(9000)  # type: ignore[attr-defined]  # as above: up for longer
    async with behind(conninfo, one) as net:
        good(await net.authorize("1", **HERE, minutes=30))
        good(await net.authorize("2", ipAtual=ELSEWHERE, macAtual=OTHER_MAC))
    async with behind(conninfo, other):
        await until(lambda: len(held(other)["bindings"]) == 2)


async def test_an_order_of_a_router_that_was_removed_goes_on_with_what_was_left(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        good(await net.authorize("1", **HERE, minutes=30))
        await passes(net, router, 29)
        async with await database.connect(conninfo) as conn:
            await grants.remove(conn, "r1")
        good(await net.authorize("1", **HERE, minutes=30))
        assert await left_s(net) == [60]


async def test_who_closes_the_way_is_not_refused_for_a_crowd_that_opens_it(conninfo: str) -> None:
    router = aged_router()
    crowd: dict[str, Any] = {
        "RELAY_ACTION_TIMEOUT_MS": "100",
        "RELAY_BREAKER_FAILURES": "1",
        "RELAY_BREAKER_RECOVERY_MS": "600000",
    }
    async with behind(conninfo, router, **crowd) as net:
        good(await net.authorize("paid", **HERE))
        gone(router)
        told = [(await net.authorize(f"{number}", **HERE)).json()["code"] for number in range(205)]
        assert told[-1] == "OVERLOADED"
        assert (await net.revoke(mac=MAC)).json()["code"] != "OVERLOADED"
        assert (await net.revoke(ip=IP)).json()["code"] != "OVERLOADED"
        assert not await net.sql("SELECT 1 FROM hotspot_grants WHERE ended_at IS NULL")
