"""Paid time: it runs only while somebody may use it, and nobody has it twice."""

from typing import Any, Final

import pytest
import trio

from opendesk.simulators.routeros import Act, Router, Trapped
from tests.network.behind import (
    BINDINGS,
    HERE,
    IP,
    LISTS,
    MAC,
    NOTHING,
    Behind,
    aged_router,
    behind,
    good,
    held,
    open_for,
    refused,
    until,
)

ELSEWHERE: Final = "10.5.50.8"
NO_END: Final[dict[str, Any]] = {}
OTHER_MAC: Final = "AA:BB:CC:DD:EE:02"
# Jobs that failed are tried again only when somebody asks.
ONCE: Final[dict[str, Any]] = {
    "RELAY_JOB_BACKOFF_BASE_MS": "3600000",
    "RELAY_BREAKER_FAILURES": "1000",
    "RELAY_ACTION_TIMEOUT_MS": "1500",
}


async def later(net: Behind, minutes: int) -> None:
    """As if everything about grants had happened that much earlier; jobs stay where they are."""
    await net.sql(
        f"""UPDATE hotspot_grants
               SET begun_at = begun_at - by, until = until - by, opening_at = opening_at - by, observed_at = observed_at - by,
                   ended_at = ended_at - by
              FROM (SELECT interval '{minutes} minutes' AS by) AS shift"""
    )


async def times(net: Behind, pedido: str = "1") -> list[tuple[bool, bool, bool]]:
    """Of what isn't ended: whether it began, was about to be opened, and was seen."""
    return [
        (bool(begun), bool(opening), bool(observed))
        for begun, opening, observed in await net.sql(
            """SELECT begun_at IS NOT NULL, opening_at IS NOT NULL, observed_at IS NOT NULL FROM hotspot_grants
                WHERE pedido_id = %(pedido)s AND ended_at IS NULL""",
            pedido=pedido,
        )
    ]


async def left_s(net: Behind, pedido: str = "1") -> list[int]:
    """Of what is live, to the next ten seconds."""
    rows = await net.sql(
        """SELECT (round(extract(epoch FROM until - now()) / 10) * 10)::int FROM hotspot_grants
            WHERE pedido_id = %(pedido)s AND ended_at IS NULL AND until > now()""",
        pedido=pedido,
    )
    return [seconds for (seconds,) in rows]


def gone(router: Router) -> None:
    """It neither takes connections nor keeps those that it has."""
    router.faults.refuses_connections = True
    for hang_up in list(router.hang_ups):
        hang_up()


async def answered(net: Behind, **asked: Any) -> dict[str, Any]:
    """Once the router is there again."""
    told: list[dict[str, Any]] = []
    while not told:
        answer = await net.authorize("1", **asked)
        if answer.status_code == 200:
            told.append(answer.json())
        else:
            assert answer.status_code == 503, answer.text
    return told[0]


# ---- time that nobody could use


@pytest.mark.parametrize("command", [f"{BINDINGS}/add", "/system/scheduler/add"])
async def test_a_router_that_dies_before_the_way_is_opened_uses_up_no_time(conninfo: str, command: str) -> None:
    router = aged_router()
    async with behind(conninfo, router, **ONCE) as net:
        await until(lambda: router.counts.logins)
        router.faults.plan(Act.DROP_BEFORE, command)
        assert refused(await net.authorize("1", **HERE, minutes=1))[0] == 503
        assert await times(net) == [(True, False, False)]
        await later(net, 2)
        await net.sql("UPDATE jobs SET run_at = now() WHERE type = 'END_GRANT'")
        router.faults.clear()
        assert (await answered(net, **HERE, minutes=1))["until"] is not None
        assert await left_s(net) == [60]
        assert held(router) == open_for("1")


async def test_a_router_that_dies_as_the_way_is_opened_may_have_given_the_time(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router, **ONCE) as net:
        await until(lambda: router.counts.logins)
        router.faults.plan(Act.DROP_AFTER, f"{BINDINGS}/set")
        assert refused(await net.authorize("1", **HERE, minutes=30))[0] == 503
        assert await times(net) == [(True, True, False)]
        await later(net, 20)
        router.faults.clear()
        await answered(net, **HERE, minutes=30)
        assert await left_s(net) == [600]
        assert await times(net) == [(True, True, True)]


async def test_time_that_passed_unheard_is_not_given_again(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router, **ONCE) as net:
        await until(lambda: router.counts.logins)
        router.faults.plan(Act.DROP_AFTER, f"{BINDINGS}/set")
        assert refused(await net.authorize("1", **HERE, minutes=30))[0] == 503
        await later(net, 31)
        assert refused(await net.authorize("1", **HERE, minutes=30)) == (409, "GRANT_ENDED")


async def test_a_row_in_the_way_uses_up_no_time(conninfo: str) -> None:
    router = aged_router()
    router.run(f"{BINDINGS}/add", {"mac-address": MAC, "type": "blocked", "comment": "no"})
    async with behind(conninfo, router) as net:
        assert refused(await net.authorize("1", **HERE, minutes=1)) == (409, "ROUTER_CONFLICT")
        assert await net.sql("SELECT begun_at, opening_at, end_reason FROM hotspot_grants") == [(None, None, "failed")]
        await later(net, 2)
        [row] = router.rows(BINDINGS)
        router.run(f"{BINDINGS}/remove", {"numbers": row[".id"]})
        good(await net.authorize("1", **HERE, minutes=1))
        assert await left_s(net) == [60]


async def test_a_router_that_refuses_uses_up_no_time_and_its_job_is_not_done(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        router.faults.plan(Trapped(None, "not enough permissions (9)"), "*/add", times=1_000)
        answer = await net.authorize("1", **HERE, minutes=5)
        assert refused(answer) == (502, "ROUTER_REFUSED")
        await later(net, 6)
        await net.finds("SELECT 1 FROM jobs WHERE type = 'AUTHORIZE_BY_PEDIDO' AND outcomes >= 2")
        job = await net.job(answer.json()["jobId"])
        assert job["state"] != "done"
        router.faults.clear()
        good(await net.authorize("1", **HERE, minutes=5))
        assert await left_s(net) == [300]
        assert {line["online"] for line in net.lines("audit", action="AUTHORIZE_BY_PEDIDO", outcome="success")} == {
            True
        }


async def test_what_is_half_open_uses_up_time(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router, **ONCE) as net:
        router.faults.plan(Trapped(None, "failure: full"), f"{LISTS}/add", times=1_000)
        assert refused(await net.authorize("1", **HERE, minutes=30)) == (502, "ROUTER_REFUSED")
        assert await times(net) == [(True, True, False)]
        await later(net, 20)
        router.faults.clear()
        good(await net.authorize("1", **HERE, minutes=30))
        assert await left_s(net) == [600]


# ---- a device that is elsewhere


async def test_a_device_that_asks_for_its_order_from_elsewhere_takes_its_time_along(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        token = await net.hello()
        good(await net.authorize("1", deviceToken=token, minutes=30))
        for number in range(8, 12):
            await later(net, 5)
            await net.hello(ip=f"10.5.50.{number}", deviceToken=token)
            good(await net.authorize("1", deviceToken=token, minutes=30))
            assert held(router) == open_for("1", ip=f"10.5.50.{number}")
        assert await left_s(net) == [600]
        good(await net.authorize("1", deviceToken=token, minutes=60))
        assert await left_s(net) == [3600]


async def test_what_was_granted_to_an_address_of_the_device_goes_along(conninfo: str) -> None:
    for pedido, call in (("1", "authorize"), ("2", "resync")):
        router = aged_router()
        async with behind(conninfo, router) as net:
            token = await net.hello()
            good(await net.authorize(pedido, **HERE, minutes=30))
            await later(net, 20)
            await net.hello(ip="10.5.50.20", deviceToken=token)  # it has been on since
            if call == "authorize":
                await net.hello(ip=ELSEWHERE, deviceToken=token)
                good(await net.authorize(pedido, deviceToken=token, minutes=30))
            else:
                good(await net.call("/relay/resync-device", _resync(token, pedido)))
            assert held(router) == open_for(pedido, ip=ELSEWHERE)
            assert await left_s(net, pedido) == [600]
            await net.sql("DELETE FROM hotspot_grants")


async def test_another_device_of_the_order_stays_where_it_is(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        good(await net.authorize("1", ipAtual=ELSEWHERE, macAtual=OTHER_MAC))
        token = await net.hello()
        for _ in range(2):
            good(await net.authorize("1", deviceToken=token))
        assert len(held(router)["bindings"]) == 2


async def test_many_who_ask_from_elsewhere_at_once_move_once(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        token = await net.hello()
        good(await net.authorize("1", deviceToken=token, minutes=30))
        await later(net, 20)
        await net.hello(ip=ELSEWHERE, deviceToken=token)
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(_asks_well, net, token)
        assert held(router) == open_for("1", ip=ELSEWHERE)
        assert await left_s(net) == [600]
        # Before, and after the move: the end is the same, the grant isn't.
        assert len(await net.sql("SELECT 1 FROM jobs WHERE type = 'END_GRANT'")) == 2


async def _asks_well(net: Behind, token: str) -> None:
    good(await net.authorize("1", deviceToken=token, minutes=30))


def _resync(token: str, pedido: str = "1", ip: str = ELSEWHERE) -> dict[str, str]:
    return {"mikId": "r1", "pedidoId": pedido, "deviceToken": token, "ipAtual": ip, "macAtual": MAC}


# ---- repeats


async def test_a_repeat_of_what_is_live_is_good_whatever_else_of_the_order_is_over(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        good(await net.authorize("1", **HERE, minutes=30))
        await later(net, 20)
        two = {"ipAtual": ELSEWHERE, "macAtual": OTHER_MAC}
        good(await net.authorize("1", **two, minutes=30))
        await later(net, 15)
        good(await net.authorize("1", **two, minutes=30))
        assert refused(await net.authorize("1", **HERE, minutes=30)) == (409, "GRANT_ENDED")


async def test_time_that_was_moved_on_is_not_over_where_it_was(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        token = await net.hello()
        good(await net.authorize("1", deviceToken=token, minutes=30))
        good(await net.call("/relay/resync-device", _resync(token)))
        good(await net.authorize("1", deviceToken=token, minutes=60))
        await later(net, 31)
        good(await net.authorize("1", deviceToken=token, minutes=30))
        other = {"ipAtual": "10.5.50.30", "macAtual": "AA:BB:CC:DD:EE:30"}
        good(await net.authorize("1", **other, minutes=30))


# ---- what was revoked


async def test_a_resync_does_not_revive_what_was_revoked(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        token = await net.hello()
        for pedido, more in (("1", NO_END), ("2", {"minutes": 30})):
            good(await net.authorize(pedido, deviceToken=token, **more))
            good(await net.revoke(mac=MAC))
            for ip in (IP, ELSEWHERE):
                answer = await net.call("/relay/resync-device", _resync(token, pedido, ip))
                assert refused(answer) == (409, "GRANT_ENDED")
                assert "revoked" in answer.json()["detail"]
        assert held(router) == NOTHING
        good(await net.call("/relay/resync-device", _resync(token, "unknown", IP)))


async def test_who_is_revoked_and_authorized_again_gains_no_time(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        for _ in range(3):
            good(await net.authorize("1", **HERE, minutes=30))
            await later(net, 9)
            good(await net.revoke(mac=MAC))
        ends = await net.sql("SELECT 1 FROM jobs WHERE type = 'END_GRANT'")
        assert len(ends) == 3
        elsewhere = {"ipAtual": ELSEWHERE, "macAtual": OTHER_MAC}
        good(await net.authorize("1", **elsewhere, minutes=20))
        assert await left_s(net) == [180]
        good(await net.revoke(mac=OTHER_MAC))
        await later(net, 4)
        answer = await net.authorize("1", **HERE, minutes=30)
        assert refused(answer) == (409, "GRANT_ENDED")
        good(await net.authorize("1", **HERE, minutes=31))
        assert await left_s(net) == [31 * 60]
        assert held(router) == open_for("1")


async def test_what_was_revoked_before_it_was_opened_has_all_of_its_time(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router, **ONCE) as net:
        await until(lambda: router.counts.logins)
        gone(router)
        assert refused(await net.authorize("1", **HERE, minutes=30))[0] == 503
        await net.revoke(mac=MAC)
        router.faults.clear()
        await answered(net, **HERE, minutes=30)
        assert await left_s(net) == [1800]
