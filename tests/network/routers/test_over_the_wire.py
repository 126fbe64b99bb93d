"""The fleet with the real driver, on simulated routers behind sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
import json

from attrs import frozen
from click.testing import CliRunner
import pytest
from structlog.testing import capture_logs
import trio

from opendesk.cli import group
from opendesk.network.routeros.client import connect
from opendesk.network.routeros.session import Command
from opendesk.network.routers.errors import RouterUnavailable
from opendesk.network.routers.link import Connect
from opendesk.network.routers.worker import Worker
from opendesk.postgres.driver import TrioConnection
from opendesk.settings.secret import Secret
from opendesk.simulators.routeros import PASSWORD, USER, Act, HandClock, Router, simulated
from tests.network.routers.fleets import Running, fleet_on, register, settings_of, until
from tests.system.daemon import url_of

SETTINGS = settings_of(relay_breaker_failures=2, relay_breaker_recovery_ms=200)


@frozen
class Real:
    """A network whose routers are wherever they say."""

    connect: Connect = connect


@frozen
class Wired:
    on: Running
    router: Router
    port: int


@asynccontextmanager
async def wired(
    conn: TrioConnection, conninfo: str, router: Router, *, password: str = PASSWORD
) -> AsyncIterator[Wired]:
    async with simulated(router) as (host, port):
        await register(conn, "r1", host=host, port=port, user=USER, password=Secret(password), timeout_ms=1000)
        async with fleet_on(conninfo, Real(), SETTINGS) as on:
            yield Wired(on, router, port)


async def add(worker: Worker) -> str | None:
    command = Command("/ip/firewall/address-list/add", {"list": "paid_clients", "address": "10.5.50.7"})
    return (await worker.use(lambda api: api.run(command))).ret


async def test_a_router_is_logged_in_to_once_and_used(conn: TrioConnection, conninfo: str) -> None:
    async with wired(conn, conninfo, Router("hotspot")) as wire:
        worker = await wire.on.worker("r1")
        assert await add(worker) == "*1"
        assert worker.health.identity == "hotspot"
        assert wire.router.counts.logins == 1
        [row] = wire.router.rows("/ip/firewall/address-list")
        assert row["address"] == "10.5.50.7"
    assert wire.router.counts.open == 0


async def test_its_reboot_is_noticed_when_it_is_back(conn: TrioConnection, conninfo: str) -> None:
    clock = HandClock()
    router = Router(clock=clock)
    clock.advance(5000)
    async with wired(conn, conninfo, router) as wire:
        await wire.on.worker("r1")
        router.reboot(down_s=60)
        await until(lambda: router.counts.open == 0)
        clock.advance(61)
        await until(lambda: wire.on.rebooted == ["r1"])
        await wire.on.worker("r1")


async def test_a_black_hole_opens_its_circuit_and_comes_back(conn: TrioConnection, conninfo: str) -> None:
    async with wired(conn, conninfo, Router()) as wire:
        worker = await wire.on.worker("r1")
        wire.router.faults.decide = lambda _request: Act.IGNORED
        for _ in range(2):
            with pytest.raises(RouterUnavailable):
                await worker.use(lambda api: api.run(Command("/system/identity/print"), timeout_s=0.1))
        assert not worker.health.breaker.is_closed
        assert wire.on.fleet.open_lanes() == {}
        wire.router.faults.clear()
        await until(lambda: wire.on.opened == ["r1", "r1"])
        assert await add(worker) is not None


async def test_a_command_that_was_cut_is_unavailable_and_the_next_goes_through(
    conn: TrioConnection, conninfo: str
) -> None:
    async with wired(conn, conninfo, Router()) as wire:
        worker = await wire.on.worker("r1")
        wire.router.faults.plan(Act.DROP_MIDWAY, "*/add")
        with pytest.raises(RouterUnavailable):
            await add(worker)
        assert worker.health.breaker.failures == 1
        await worker.use(lambda api: api.run(Command("/system/identity/print")))
        assert worker.health.breaker.failures == 0


async def test_a_wrong_password_is_said_and_shown_to_nobody(conn: TrioConnection, conninfo: str) -> None:
    with capture_logs() as logs:
        async with wired(conn, conninfo, Router(), password="wr0ng-word") as wire:
            await until(lambda: wire.router.counts.refused_logins >= 2)
            await until(lambda: wire.on.fleet.open_lanes() == {})
            [status] = await wire.on.fleet.status(conn)
    assert status.last_error is not None
    assert "wr0ng-word" not in repr((status, logs, wire.on.fleet.get("r1"), wire.on.fleet))


async def test_opendesk_router_test_says_who_it_is(
    conn: TrioConnection, conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with simulated(Router("hotspot")) as (host, port):
        nodes = [{"id": "r1", "host": host, "port": port, "user": USER, "pass": PASSWORD}]
        monkeypatch.setenv("MIKROTIK_NODES", json.dumps(nodes))
        monkeypatch.setenv("DATABASE_URL", url_of(conninfo))
        for arguments, says in (((), "router r1: hotspot, RouterOS 7"), (("--json",), '"identity": "hotspot"')):
            told = await trio.to_thread.run_sync(
                partial(CliRunner().invoke, group, ["router", "test", "r1", *arguments])
            )
            assert told.exit_code == 0, told.output
            assert says in told.stdout
