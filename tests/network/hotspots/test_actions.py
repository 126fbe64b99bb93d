"""Intents that meet jobs under way: what was asked for last is what the router ends up with, and nobody is told otherwise."""

from functools import partial
from typing import Any

import trio

from opendesk.network.jobs import table
from opendesk.simulators.routeros import Act, Slow
from tests.network.behind import (
    BINDINGS,
    HERE,
    IP,
    MAC,
    NOTHING,
    SCHEDULERS,
    aged_router,
    behind,
    good,
    held,
    open_for,
    refused,
    until,
)


async def test_more_time_asked_for_in_the_midst_of_it_is_given(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        answers = {}

        async def authorize(minutes: int) -> None:
            answers[minutes] = good(await net.authorize(**HERE, minutes=minutes))

        router.faults.plan(Slow(0.5), f"{BINDINGS}/print", skip=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(authorize, 5)
            await until(lambda: router.rows(BINDINGS))
            await authorize(60)
        assert answers[5]["jobId"] != answers[60]["jobId"]
        [(seconds, observed)] = await net.sql(
            "SELECT extract(epoch FROM until - begun_at)::int, observed_at IS NOT NULL FROM hotspot_grants"
        )
        assert (seconds, observed) == (3600, True)
        [entry] = router.rows(SCHEDULERS)
        [(ends,)] = await net.sql("SELECT extract(epoch FROM until)::int FROM hotspot_grants")
        assert entry["name"].endswith(f"-{ends}") or entry["name"].endswith(f"-{ends - 1}")


async def test_access_given_while_a_revocation_is_written_down_is_revoked_by_the_next(conninfo: str) -> None:
    """The next asks for the same as the one that runs, but that one has looked already."""
    router = aged_router()
    async with behind(conninfo, router) as net:
        await until(lambda: router.counts.logins)
        good(await net.revoke(ip=IP))
        # As if it were still under way: its outcome isn't written yet.
        await net.sql(
            """UPDATE jobs SET state = 'running', leased_until = now() + interval '1 hour', leased_by = gen_random_uuid(),
                               finished_at = NULL"""
        )
        good(await net.authorize())
        assert held(router) == open_for("1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(net.revoke, "r1")  # neither IP nor MAC: refused, and changes nothing
            nursery.start_soon(lambda: net.revoke(ip=IP))
            await net.finds("SELECT 1 FROM jobs WHERE type = 'REVOKE_SESSION' AND state = 'due'")
            await net.sql(
                """UPDATE jobs SET state = 'done', leased_until = NULL, leased_by = NULL, finished_at = now()
                    WHERE state = 'running'"""
            )
            await net.sql("SELECT pg_notify('opendesk_jobs', '')")
        assert held(router) == NOTHING


async def test_who_was_revoked_meanwhile_is_told(conninfo: str) -> None:
    router = aged_router()
    router.faults.black_hole = True
    async with behind(conninfo, router) as net:
        answers = []

        async def authorize() -> None:
            answers.append(await net.authorize())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(authorize)
            await net.finds("SELECT 1 FROM hotspot_grants")
            nursery.start_soon(lambda: net.revoke(mac=MAC))
            await net.finds("SELECT 1 FROM hotspot_grants WHERE ended_at IS NOT NULL")
            router.faults.clear()
            for hang_up in list(router.hang_ups):
                hang_up()
        assert refused(answers[0])[1] in {"SUPERSEDED", "ROUTER_UNAVAILABLE"}
        assert held(router) == NOTHING


async def test_two_devices_do_not_wait_for_each_other(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router, RELAY_ACTION_TIMEOUT_MS="10000") as net:
        await until(lambda: router.counts.logins)
        router.faults.decide = lambda request: Act.IGNORED if request.attributes.get("address") == IP else None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(net.authorize)
            await until(lambda: router.counts.commands > 2)
            other = {"ipAtual": "10.5.50.8", "macAtual": "AA:BB:CC:DD:EE:02"}
            good(await net.authorize("2", **other))
            assert held(router) == open_for("2", ip="10.5.50.8", mac="AA:BB:CC:DD:EE:02")
            nursery.cancel_scope.cancel()


async def test_routers_do_not_wait_for_each_other(conninfo: str) -> None:
    dead, well = aged_router(), aged_router()
    dead.faults.black_hole = True
    async with behind(conninfo, dead, well) as net, trio.open_nursery() as nursery:
        for number in range(12):
            place = {"ipAtual": f"10.5.50.{number}", "macAtual": f"AA:BB:CC:DD:EE:{number:02}"}
            nursery.start_soon(partial(net.authorize, "1", "r1", **place))
        await net.finds("SELECT 1 FROM jobs", rows=12)
        good(await net.authorize("1", "r2"))
        assert held(well) == open_for("1")
        nursery.cancel_scope.cancel()


async def test_repeats_of_a_move_leave_one_end(conninfo: str) -> None:
    async with behind(conninfo) as net:
        token = await net.hello()
        good(await net.authorize(deviceToken=token, minutes=5))
        body = {"mikId": "r1", "pedidoId": "1", "deviceToken": token, "ipAtual": "10.5.50.8", "macAtual": MAC}
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(net.call, "/relay/resync-device", body)
        live = await net.sql("SELECT host(ip) FROM hotspot_grants WHERE ended_at IS NULL")
        assert live == [("10.5.50.8",)]
        assert held(net.routers["r1"]) == open_for("1", ip="10.5.50.8")


async def test_of_orders_that_come_together_each_is_told_its_own(conninfo: str) -> None:
    """They are written together; a wrong one among them is wrong alone."""
    async with behind(conninfo, aged_router(), aged_router()) as net:
        token, others = await net.hello(), await net.hello("r2")
        wanted: dict[str, tuple[dict[str, Any], int]] = {
            "good by token": ({"deviceToken": token}, 200),
            "again": ({"deviceToken": token}, 200),
            "for longer": ({"deviceToken": token, "minutes": 60}, 200),
            "unknown": ({"deviceToken": "nobody's"}, 404),
            "another router's": ({"deviceToken": others}, 409),
            "by place": ({"ipAtual": "10.5.50.9", "macAtual": "AA:BB:CC:DD:EE:09"}, 200),
            "no place": ({"ipAtual": "10.5.50.9"}, 400),
        }
        told: dict[str, int] = {}

        async def ask(name: str) -> None:
            told[name] = (await net.authorize(**wanted[name][0])).status_code

        async with trio.open_nursery() as nursery:
            for name in wanted:
                nursery.start_soon(ask, name)
        assert told == {name: status for name, (_, status) in wanted.items()}
        assert len(await net.sql("SELECT 1 FROM hotspot_grants")) == 2
        assert held(net.routers["r1"]) == {
            "lists": [f"{IP} pedido:1", "10.5.50.9 pedido:1"],
            "bindings": [f"{IP} {MAC} pedido:1", "10.5.50.9 AA:BB:CC:DD:EE:09 pedido:1"],
        }


async def test_minutes_that_differ_at_once_end_with_the_most(conninfo: str) -> None:
    router = aged_router()
    async with behind(conninfo, router) as net:
        async with trio.open_nursery() as nursery:
            for minutes in (5, 60, 5, 30, 60, 10):
                nursery.start_soon(partial(net.authorize, **HERE, minutes=minutes))
        [(seconds,)] = await net.sql("SELECT extract(epoch FROM until - begun_at)::int FROM hotspot_grants")
        assert seconds == 3600
        [(ends,)] = await net.sql("SELECT floor(extract(epoch FROM until))::bigint FROM hotspot_grants")
        assert [row["name"].rpartition("-")[2] for row in router.rows(SCHEDULERS)] == [str(ends)]
        assert await net.sql("SELECT run_at <= until FROM jobs, hotspot_grants WHERE type = 'END_GRANT'") == [(True,)]


async def test_a_router_that_was_missed_once_is_asked_again_when_somebody_asks(conninfo: str) -> None:
    """Not only when its next try is due: a repeat, and whatever else is asked for the device, is done as soon as it is back."""
    router = aged_router()
    router.faults.refuses_connections = True
    slow_to_retry: dict[str, Any] = {"RELAY_BREAKER_FAILURES": "1000", "RELAY_JOB_BACKOFF_BASE_MS": "3600000"}
    async with behind(conninfo, router, latency_s=0.0, **slow_to_retry) as net:
        first = await net.authorize()
        assert refused(first) == (503, "ROUTER_UNAVAILABLE")
        router.faults.clear()
        await until(lambda: router.counts.logins)
        told = good(await net.authorize())
        assert (told["jobId"], told["changed"]) == (first.json()["jobId"], True)
        router.faults.refuses_connections = True
        for hang_up in list(router.hang_ups):
            hang_up()
        assert refused(await net.revoke(ip=IP, mac=MAC)) == (503, "ROUTER_UNAVAILABLE")
        logins = router.counts.logins
        router.faults.clear()
        await until(lambda: router.counts.logins > logins)
        good(await net.authorize("2"))
        assert held(router) == open_for("2")


async def test_what_is_asked_in_turn_of_a_router_that_is_away_waits_once(conninfo: str) -> None:
    """However often the way of one device is opened and closed; what was asked last is done."""
    router = aged_router()
    router.faults.refuses_connections = True
    away: dict[str, Any] = {
        "RELAY_BREAKER_FAILURES": "1",
        "RELAY_BREAKER_RECOVERY_MS": "1500",
        "RELAY_ACTION_TIMEOUT_MS": "1000",
    }
    async with behind(conninfo, router, latency_s=0.0, **away) as net:
        for _ in range(10):
            assert refused(await net.authorize())[0] == 503
            assert refused(await net.revoke(mac=MAC))[0] == 503
        told = refused(await net.authorize())
        assert told[0] == 503
        # One of each may be under way, and one wait.
        [(waiting,)] = await net.sql("SELECT count(*) FROM jobs WHERE state IN ('due', 'running')")
        assert waiting <= 4
        router.faults.clear()
        with trio.fail_after(30):
            while held(router) != open_for("1"):  # noqa: ASYNC110  # the router tells nobody
                await trio.sleep(0.02)
        await net.finds("SELECT 1 FROM jobs WHERE state IN ('due', 'running')", rows=0)
        assert held(router) == open_for("1")


async def test_a_device_for_which_too_many_wait_is_refused_alone(conninfo: str) -> None:
    """Nothing is written of that, and those that come together with it are served."""
    router = aged_router()
    async with behind(conninfo, router) as net:
        await until(lambda: router.counts.logins)
        await net.sql(
            """INSERT INTO jobs (type, lane, key, payload, run_at) SELECT 'AUTHORIZE_BY_PEDIDO', 'r1', %(mac)s, '{}', now() + interval '1 day'
                 FROM generate_series(1, %(most)s)""",
            mac=MAC,
            most=table.MOST_OF_A_KEY,
        )
        answers = {}

        async def ask(pedido: str, **place: str) -> None:
            answers[pedido] = await net.authorize(pedido, **place)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(partial(ask, f"no {number}", **HERE))
                other = {"ipAtual": f"10.5.51.{number}", "macAtual": f"AA:BB:CC:DD:EF:0{number}"}
                nursery.start_soon(partial(ask, f"yes {number}", **other))
        assert {pedido: answer.status_code for pedido, answer in answers.items()} == {
            f"{word} {number}": status for word, status in (("no", 503), ("yes", 200)) for number in range(4)
        }
        assert refused(answers["no 0"]) == (503, "OVERLOADED")
        assert answers["no 0"].headers["Retry-After"]
        good(await net.revoke(mac=MAC))  # who closes the way is heard
        assert await net.sql("SELECT 1 FROM hotspot_grants WHERE pedido_id LIKE 'no%%'") == []
