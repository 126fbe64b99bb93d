"""Two daemons on one database: a call at either does its work, and a router has one of them at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.simulators.routeros import Router, simulated
from tests.network.behind import HERE, MAC, NOTHING, TOKEN, aged_router, good, held, nodes, open_for
from tests.system.conftest import Start
from tests.system.daemon import Daemon, until, url_of

pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

SETTINGS: Final[dict[str, Any]] = {
    "RELAY_TOKEN": TOKEN,
    "RELAY_LOCK_TTL_MS": "1000",
    "RELAY_JOB_BACKOFF_BASE_MS": "100",
}
ORDER: Final = {"mikId": "r1", "pedidoId": "1", **HERE}
CALLS: Final = 12


@asynccontextmanager
async def twins(start: Start, folder: Path, conninfo: str, router: Router) -> AsyncIterator[tuple[Daemon, Daemon]]:
    async with simulated(router) as (_, port):
        given = {"DATABASE_URL": url_of(conninfo), "MIKROTIK_NODES": nodes({"r1": port}), **SETTINGS}
        first, second = await start(folder, **given), await start(folder, **given)
        yield first, second
        await first.stop()
        await second.stop()


async def post(daemon: Daemon, path: str, body: dict[str, Any]) -> httpx.Response:
    return await daemon.http.post(path, json=body, headers={"x-relay-token": TOKEN})


async def test_a_call_at_either_works_and_the_router_has_one_connection(
    start: Start, folder: Path, conninfo: str
) -> None:
    router = aged_router()
    async with twins(start, folder, conninfo, router) as both:
        for first, second in (both, both[::-1]):
            assert good(await post(first, "/relay/authorize-by-pedido", ORDER))["changed"]
            assert held(router) == open_for("1")
            assert not good(await post(second, "/relay/authorize-by-pedido", ORDER))["changed"]
            assert good(await post(second, "/relay/revoke", {"mikId": "r1", "mac": MAC}))["changed"]
            assert held(router) == NOTHING
        job = good(await post(both[0], "/relay/revoke", {"mikId": "r1", "mac": MAC}))["jobId"]
        shown = await both[1].http.get(f"/relay/jobs/{job}", headers={"x-relay-token": TOKEN})
        assert good(shown)["job"]["state"] == "done"
        drivers = set()
        for daemon in both:
            listed = good(await daemon.http.get("/relay/routers", headers={"x-relay-token": TOKEN}))
            drivers.add(listed["items"][0]["node"])
        assert len(drivers) == 1
        assert router.counts.connections == 1


async def test_the_same_order_at_both_at_once_is_done_once(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection
) -> None:
    router = aged_router()
    async with twins(start, folder, conninfo, router) as both:
        async with trio.open_nursery() as nursery:
            for number in range(CALLS):
                nursery.start_soon(post, both[number % 2], "/relay/authorize-by-pedido", ORDER)
        assert held(router) == open_for("1")
        assert len([request for request in router.log if request.verb == "add"]) == 2
        assert await conn.fetch("SELECT count(*) FROM hotspot_grants") == [(1,)]


async def test_a_token_of_one_is_known_to_the_other(start: Start, folder: Path, conninfo: str) -> None:
    router = aged_router()
    async with twins(start, folder, conninfo, router) as (first, second):
        hello = {"mikId": "r1", "ip": HERE["ipAtual"], "mac": MAC}
        token = good(await post(first, "/relay/device/hello", hello))["deviceToken"]
        order = {"mikId": "r1", "pedidoId": "1", "deviceToken": token}
        assert good(await post(second, "/relay/authorize-by-pedido", order))["changed"]
        assert not any(token in str(line) for daemon in (first, second) for line in daemon.log)


async def test_when_one_is_killed_the_other_drives_its_routers(start: Start, folder: Path, conninfo: str) -> None:
    router = aged_router()
    async with twins(start, folder, conninfo, router) as (first, second):
        good(await post(first, "/relay/authorize-by-pedido", ORDER))
        # The first that came drives it.
        await first.kill()
        revoke = {"mikId": "r1", "mac": MAC}
        answer = await post(second, "/relay/revoke", revoke)
        assert answer.status_code in {200, 202}, answer.text

        async def is_off() -> bool:
            return held(router) == NOTHING

        await until(is_off)
        assert router.counts.open == 1
        assert good(await post(second, "/relay/authorize-by-pedido", ORDER))["changed"]
