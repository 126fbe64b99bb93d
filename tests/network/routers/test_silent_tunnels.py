"""A router whose tunnel has been silent for too long is left alone, and tried at once when it is heard of again."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import define, evolve, field
import pytest
import trio
from trio.testing import MockClock

from opendesk.network.routeros import transport
from opendesk.network.routeros.errors import Unreachable
from opendesk.network.routeros.session import Result
from opendesk.network.routers import registry
from opendesk.network.routers.breaker import Breaker
from opendesk.network.routers.errors import CircuitOpen, RouterUnavailable, TunnelSilent
from opendesk.network.routers.fleet import WOKEN_TOGETHER
from opendesk.network.routers.health import Health
from opendesk.network.routers.link import Api, target_of
from opendesk.network.routers.states import StoredState
from opendesk.network.routers.status import status_of
from opendesk.network.routers.worker import Worker
from opendesk.network.tunnels.registry import bindings
from opendesk.postgres.driver import TrioConnection
from tests.network.routers.fake_routers import LIMIT, PING, RECOVERY_S, FakeRouter, Heard, spec_of
from tests.network.routers.fleets import Net, fleet_on, register, settings_of, until

HOST = spec_of().host


@define(eq=False)
class Tunnels:
    """Seconds of silence, by host."""

    silent: dict[str, float] = field(factory=dict)

    def worker_of(self, router: FakeRouter, heard: Heard | None = None) -> Worker:
        health = Health(breaker=Breaker(limit=LIMIT, recovery_s=RECOVERY_S))
        hooks = evolve((heard or Heard()).hooks(), silent_for=self.silent.get)
        return Worker(spec_of(), health, router.connect, hooks)


async def ping(api: Api) -> Result:
    return await api.run(PING)


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Worker]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        yield worker
        nursery.cancel_scope.cancel()


async def test_nothing_is_dialled_and_no_job_taken_while_it_is_silent(autojump_clock: MockClock) -> None:
    router, tunnels = FakeRouter(), Tunnels({HOST: 301.0})
    async with running(tunnels.worker_of(router)) as worker:
        await trio.sleep(3600)
        assert (router.dialled, worker.room) == (0, 0)
        with pytest.raises(TunnelSilent, match="301 s"):
            await worker.use(ping)
        assert worker.health.breaker.failures == 0


async def test_heard_of_again_it_is_dialled_at_once_and_takes_jobs(autojump_clock: MockClock) -> None:
    router, tunnels, heard = FakeRouter(), Tunnels({HOST: 301.0}), Heard()
    async with running(tunnels.worker_of(router, heard)) as worker:
        await trio.sleep(100)
        before_s = trio.current_time()
        tunnels.silent.clear()
        worker.wake()
        await worker.use(ping)
        assert trio.current_time() == before_s
        assert worker.room > 0
        assert heard.opened == ["r1"]


async def test_a_word_that_got_lost_costs_half_a_minute(autojump_clock: MockClock) -> None:
    router, tunnels = FakeRouter(), Tunnels({HOST: 301.0})
    async with running(tunnels.worker_of(router)):
        await trio.sleep(100)
        tunnels.silent.clear()
        await trio.sleep(31)
        assert router.dialled == 1


async def test_a_circuit_that_opened_meanwhile_is_tried_at_once_and_not_before(autojump_clock: MockClock) -> None:
    router, tunnels, heard = FakeRouter(mood="refusing"), Tunnels(), Heard()
    async with running(tunnels.worker_of(router, heard)) as worker:
        while worker.health.breaker.is_closed:
            with pytest.raises(RouterUnavailable):
                await worker.use(ping)
        tunnels.silent[HOST] = 400.0
        dialled = router.dialled
        await trio.sleep(10 * RECOVERY_S)
        assert router.dialled == dialled
        router.mood = "well"
        worker.health = evolve(worker.health, breaker=worker.health.breaker.failed(trio.current_time()))
        tunnels.silent.clear()
        worker.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert worker.health.breaker.is_closed
        assert heard.opened == ["r1"]


async def test_woken_without_a_reason_a_shut_circuit_still_lets_only_one_try(autojump_clock: MockClock) -> None:
    router, tunnels = FakeRouter(mood="refusing"), Tunnels()
    async with running(tunnels.worker_of(router)) as worker:
        while worker.health.breaker.is_closed:
            with pytest.raises(RouterUnavailable):
                await worker.use(ping)
        dialled = router.dialled
        worker.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert router.dialled == dialled + 1
        with pytest.raises(CircuitOpen):
            await worker.use(ping)
        await trio.sleep(RECOVERY_S / 2)
        assert router.dialled == dialled + 1


async def test_a_fleet_wakes_the_router_behind_the_tunnel_that_came_back(conninfo: str, conn: TrioConnection) -> None:
    net, silent = Net(), {"10.200.0.2": 999.0}
    net.add("10.200.0.2")
    await register(conn, "bus-1", host="10.200.0.2")
    async with fleet_on(conninfo, net) as on:
        on.fleet.silent_for = silent.get
        await until(lambda: on.fleet.get("bus-1") is not None)
        assert on.fleet.silent_here("bus-1")
        assert "bus-1" not in on.fleet.open_lanes()
        silent.clear()
        on.fleet.tunnels_came_back({"10.200.0.2"})
        assert (await on.worker("bus-1")).room > 0
        assert on.opened
        assert await on.fleet.mik_status(conn, "bus-1") == "ONLINE"


async def test_who_lets_nobody_in_is_told_from_who_is_not_there(conninfo: str, conn: TrioConnection) -> None:
    net = Net()
    for host, mood in (("locked", "lockout"), ("gone", "refusing")):
        net.add(host, mood)
        await register(conn, host)
    async with fleet_on(conninfo, net) as on:
        await until(lambda: all((w := on.fleet.get(h)) is not None and w.health.error for h in ("locked", "gone")))
        told = {name: await on.fleet.mik_status(conn, name) for name in ("locked", "gone", "nobody")}
    assert told == {"locked": "AUTH_FAILED", "gone": "UNREACHABLE", "nobody": "UNKNOWN"}
    # What another daemon reads of it.
    (row,) = await conn.fetch("SELECT refused FROM router_states WHERE router_id = 'locked'")
    assert row[0]


def test_a_router_that_let_us_in_again_is_refused_no_more() -> None:
    health = Health(breaker=Breaker(limit=LIMIT, recovery_s=RECOVERY_S)).failed("no", 1.0, refused=True)
    assert health.refused
    assert not health.answered(2.0).refused
    assert not health.failed("gone", 3.0).refused


def test_of_a_router_that_was_never_tried_nothing_is_known() -> None:
    assert status_of(spec_of(), None, None).mik_status == "UNKNOWN"
    assert status_of(spec_of(), StoredState(router_id="r1", failures=2), None).mik_status == "UNREACHABLE"


async def test_in_a_dry_run_no_tunnel_keeps_a_router(conninfo: str, conn: TrioConnection) -> None:
    await register(conn, "r1")
    async with fleet_on(conninfo, Net(), settings_of(relay_dry_run=True)) as on:
        on.fleet.silent_for = lambda _host: 999.0
        await until(lambda: "dry run/r1" in on.fleet.open_lanes())
        assert not on.fleet.silent_here("r1")
        assert await on.fleet.mik_status(conn, "r1") == "UNKNOWN"


async def test_many_that_come_back_together_are_woken_in_portions(conninfo: str, conn: TrioConnection) -> None:
    net, hosts = Net(), [f"10.201.0.{number}" for number in range(1, 2 * WOKEN_TOGETHER + 1)]
    silent = dict.fromkeys(hosts, 999.0)
    for number, host in enumerate(hosts):
        net.add(host)
        await register(conn, f"bus-{number}", host=host)
    async with fleet_on(conninfo, net) as on:
        on.fleet.silent_for = silent.get
        await until(lambda: all(on.fleet.get(f"bus-{number}") is not None for number in range(len(hosts))))
        silent.clear()
        on.fleet.tunnels_came_back(hosts)
        await until(lambda: bool(on.opened))
        assert len(on.opened) <= WOKEN_TOGETHER
        await until(lambda: len(set(on.opened)) == len(hosts))


# ---- which daemon drives what is behind a tunnel, and how


async def behind_tunnel(conn: TrioConnection, name: str, ip: str) -> None:
    await conn.run(
        "INSERT INTO tunnel_devices (dry_run, id, public_key, tunnel_ip, allowed_ips)"
        " VALUES (false, %(id)s, %(key)s, %(ip)s::inet, ARRAY[%(ip)s::cidr])",
        {"id": name, "ip": ip, "key": base64.b64encode(name.encode().ljust(32)).decode()},
    )
    await register(conn, name, host=ip)


async def test_a_daemon_without_the_interface_leaves_what_is_behind_it_to_another(
    conninfo: str, conn: TrioConnection
) -> None:
    net = Net()
    net.add("10.200.0.2")
    net.add("192.0.2.9")
    await behind_tunnel(conn, "bus", "10.200.0.2")
    await register(conn, "lan", host="192.0.2.9")
    async with fleet_on(conninfo, net) as without:
        await without.worker("lan")
        assert without.fleet.get("bus") is None
        async with fleet_on(conninfo, net, settings_of(wg_interface="wg0")) as having:
            await having.worker("bus")
            assert {target.interface for target in net.routers["10.200.0.2"].targets} == {"wg0"}
        assert {target.interface for target in net.routers["192.0.2.9"].targets} == {None}
        # And whoever asks for one of them is told the same as ever.
        assert set(without.fleet.specs) == {"bus", "lan"}


async def test_nor_does_it_dial_what_is_behind_it_for_anything_else(conn: TrioConnection) -> None:
    """Its password would go wherever this machine's routes lead."""
    await behind_tunnel(conn, "bus", "10.200.0.2")
    await register(conn, "bound", host="10.9.0.2")
    await bindings.bind(conn, base64.b64encode(b"b" * 32).decode(), "bound", "10.9.0.2", dry_run=False)
    for name in ("bus", "bound"):
        spec = await registry.find(conn, settings_of(), name)
        assert spec.is_tunnelled
        with pytest.raises(Unreachable, match="WG_INTERFACE"):
            await transport.open_stream(target_of(spec))


async def test_an_address_of_the_pool_is_dialled_through_the_tunnel_though_its_device_is_gone(
    conn: TrioConnection,
) -> None:
    for name, host in (("gone", "10.200.0.7"), ("link", "fe80::1%eth0"), ("name", "gw.example"), ("lan", "192.0.2.9")):
        await register(conn, name, host=host)
    specs = await registry.load(conn, settings_of(wg_interface="wg0"))
    assert {name: (spec.interface, spec.is_tunnelled) for name, spec in specs.items()} == {
        "gone": ("wg0", False), "link": (None, False), "name": (None, False), "lan": (None, False),
    }  # fmt: skip
    assert {spec.interface for spec in (await registry.load(conn, settings_of())).values()} == {None}
