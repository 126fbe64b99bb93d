"""Routers are driven as the registry has them, by one daemon each."""

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from attrs import evolve
import pytest
from structlog.testing import capture_logs
import trio
from trio.testing import wait_all_tasks_blocked

from opendesk.network.routers import registry, states
from opendesk.network.routers.errors import CircuitOpen, RouterUnavailable
from opendesk.network.routers.fleet import Fleet
from opendesk.network.routers.worker import MAX_AT_ONCE, Worker
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.settings.routers import RouterNode
from opendesk.settings.secret import Secret
from tests.network.routers.fake_routers import FakeRouter
from tests.network.routers.fleets import Net, Running, fleet_on, register, settings_of, until, until_in_db
from tests.network.routers.test_worker import fail_until_open, ping

QUICK = settings_of(relay_breaker_failures=2, relay_breaker_recovery_ms=100_000)


# ---- the registry


async def test_a_registered_router_is_driven_at_once(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    router = net.add("a")
    async with fleet_on(conninfo, net) as on:
        await register(conn, "a", port=1234)
        worker = await on.worker("a")
        await worker.use(ping)
        assert on.fleet.open_lanes() == {"a": MAX_AT_ONCE}
        assert on.opened == ["a"]
    target = router.targets[0]
    assert (target.host, target.port, target.user, target.password) == ("a", 1234, "api", Secret("geheim"))


async def test_a_removed_one_no_longer(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    router = net.add("a")
    await register(conn, "a")
    async with fleet_on(conninfo, net) as on:
        worker = await on.worker("a")
        await registry.remove(conn, "a")
        await until(lambda: on.fleet.get("a") is None and not router.open)
        assert on.fleet.open_lanes() == {}
        assert "a" not in on.fleet.specs
        with pytest.raises(RouterUnavailable):
            await worker.use(ping)


async def test_a_changed_one_is_dialled_anew(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    old, new = net.add("a"), net.add("b")
    await register(conn, "a")
    async with fleet_on(conninfo, net) as on:
        await (await on.worker("a")).use(ping)
        await register(conn, "a", host="b", password=Secret("neu"))
        await until(lambda: bool(new.open))
        assert old.open == []
        await (await on.worker("a")).use(ping)
    assert new.targets[0].password == Secret("neu")


async def test_one_that_did_not_change_keeps_its_connection(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    router = net.add("a")
    net.add("b")
    await register(conn, "a")
    async with fleet_on(conninfo, net) as on:
        worker = await on.worker("a")
        await register(conn, "a")  # sealed anew, and yet the same
        await register(conn, "b")
        await on.worker("b")
        assert on.fleet.get("a") is worker
    assert router.dialled == 1


async def test_who_held_a_place_still_does_when_the_router_is_replaced(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    net.add("a")
    await register(conn, "a")
    async with fleet_on(conninfo, net) as on:
        before = await on.worker("a")
        async with trio.open_nursery() as nursery, before.holding(frozenset({"ip"})):
            await register(conn, "a", password=Secret("neu"))
            await until(lambda: on.fleet.get("a") is not before)
            after = await on.worker("a")
            held = trio.Event()
            nursery.start_soon(hold, after, held)
            await until(lambda: after.places.holders == 2)
            await wait_all_tasks_blocked()
            assert not held.is_set()
        assert held.is_set()


async def hold(worker: Worker, held: trio.Event) -> None:
    async with worker.holding(frozenset({"ip"})):
        held.set()


async def test_a_change_makes_up_for_failures(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    router = net.add("a", "lockout")
    await register(conn, "a")
    async with fleet_on(conninfo, net, QUICK) as on:
        await until(lambda: on.fleet.get("a") is not None)
        worker = on.fleet.get("a")
        assert worker is not None
        await fail_until_open(worker)
        router.mood = "well"
        await register(conn, "a", password=Secret("right"))
        await until(lambda: on.fleet.get("a") is not worker)
        await (await on.worker("a")).use(ping)


async def test_routers_of_the_environment_are_driven_beside_those_of_the_database(
    conn: TrioConnection, conninfo: str
) -> None:
    net = Net()
    net.add("a")
    net.add("c")
    nodes = (
        RouterNode("a", "a", "root", Secret("env")),
        RouterNode("c", "c", "root", Secret("env"), port=7, timeout_ms=900),
    )
    await register(conn, "a", host="nowhere")
    with capture_logs() as logs:
        async with fleet_on(conninfo, net, settings_of(mikrotik_nodes=nodes)) as on:
            await on.worker("a")
            await on.worker("c")
            on.fleet.look_again()
            await register(conn, "d", host="c")
            await on.worker("d")
            assert {name: spec.source for name, spec in on.fleet.specs.items()} == {
                "a": "environment over database", "c": "environment", "d": "database",
            }  # fmt: skip
    assert [line["routers"] for line in logs if line["event"] == "fleet.environment_wins"] == [["a"]]


async def test_a_router_is_known_before_it_is_driven(conn: TrioConnection, conninfo: str) -> None:
    async with fleet_on(conninfo, Net(), settings_of(relay_dry_run=True)) as on:
        assert not await on.fleet.knows(conn, "a")
        await register(conn, "a")
        assert await on.fleet.knows(conn, "a")


# ---- one at a time


def most_at_once(*routers: FakeRouter) -> int:
    return max(router.most_open for router in routers)


async def test_two_daemons_never_drive_one_router(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    routers = [net.add(name) for name in "abcdef"]
    for name in "abcdef":
        await register(conn, name)
    async with fleet_on(conninfo, net) as one, fleet_on(conninfo, net) as two:
        await until(lambda: all(router.open for router in routers))
        assert set(one.fleet.open_lanes()) | set(two.fleet.open_lanes()) == set("abcdef")
        assert not set(one.fleet.open_lanes()) & set(two.fleet.open_lanes())
    assert most_at_once(*routers) == 1


async def driver_of(name: str, *fleets: Running) -> tuple[Running, Running]:
    """Who drives it, and who doesn't."""
    await until(lambda: any(on.fleet.get(name) is not None for on in fleets))
    first, second = fleets
    return (first, second) if first.fleet.get(name) is not None else (second, first)


async def test_another_takes_over_at_once_from_one_that_stops(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    router = net.add("a")
    await register(conn, "a")
    long = settings_of(relay_lock_ttl_ms=3_600_000)
    async with fleet_on(conninfo, net, long) as one:
        await one.worker("a")
        async with fleet_on(conninfo, net, long) as two:
            await until(lambda: "a" in two.fleet.specs)
            one.nursery.cancel_scope.cancel()
            await two.worker("a")
    assert router.most_open == 1


async def test_another_takes_over_from_one_that_was_killed(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    router = net.add("a")
    await register(conn, "a")
    async with fleet_on(conninfo, net) as one:
        await one.worker("a")
        async with fleet_on(conninfo, net) as two:
            await until(lambda: "a" in two.fleet.specs)
            assert two.fleet.get("a") is None
            with capture_logs():
                await one.kill()
            await two.worker("a")
    assert router.most_open == 1


async def test_one_that_is_cut_off_stops_before_another_begins(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    router = net.add("a")
    await register(conn, "a")
    with capture_logs() as logs:
        async with fleet_on(conninfo, net) as one:
            worker = await one.worker("a")
            async with fleet_on(conninfo, net) as two:
                await until(lambda: "a" in two.fleet.specs)
                await one.cut_off()
                await two.worker("a")
                assert one.fleet.get("a") is None
                assert one.fleet.open_lanes() == {}
                with pytest.raises(RouterUnavailable):
                    await worker.use(ping)
    assert router.most_open == 1
    assert "fleet.cut_off" in {line["event"] for line in logs}


async def test_one_whose_database_was_away_for_long_drives_again(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    router = net.add("a")
    await register(conn, "a")
    with capture_logs():
        async with fleet_on(conninfo, net) as on:
            before = await on.worker("a")
            pool = on.fleet._pool
            on.fleet._pool = on.fleet._states._pool = Pool("host=/nowhere", size=1)
            await until(lambda: on.fleet.get("a") is None)
            on.fleet._pool = on.fleet._states._pool = pool
            assert await on.worker("a") is not before
    assert router.most_open == 1


async def test_a_lease_that_another_took_ends_the_worker(conn: TrioConnection, conninfo: str) -> None:
    """Such as after the machine slept for longer than its leases."""
    net = Net()
    router = net.add("a")
    await register(conn, "a")
    async with fleet_on(conninfo, net) as on:
        await on.worker("a")
        await conn.run(
            "UPDATE router_states SET leased_by = gen_random_uuid(), leased_until = now() + interval '1 hour'"
        )
        await until(lambda: on.fleet.get("a") is None and not router.open)
        status = (await on.fleet.status(conn))[0]
        assert status.lane is None
        assert status.node not in {None, on.fleet.node}


# ---- what is kept


async def test_an_open_circuit_survives_a_restart(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    router = net.add("a", "refusing")
    await register(conn, "a")
    async with fleet_on(conninfo, net, QUICK) as on:
        await until(lambda: on.fleet.get("a") is not None)
        worker = on.fleet.get("a")
        assert worker is not None
        await fail_until_open(worker)
        assert await on.fleet.circuit_open(conn, "a")
    dialled = router.dialled
    assert await states.circuit_open(conn, "a")
    async with fleet_on(conninfo, net, QUICK) as on:
        await until(lambda: on.fleet.get("a") is not None)
        assert on.fleet.open_lanes() == {}
        assert on.opened == []
        again = on.fleet.get("a")
        assert again is not None
        with pytest.raises(CircuitOpen, match="connection refused"):
            await again.use(ping)
        assert 60 < (again.health.breaker.open_until_s or 0) - trio.current_time() <= 100
    assert router.dialled == dialled


async def test_a_circuit_is_seen_by_other_daemons(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    net.add("a", "refusing")
    await register(conn, "a")
    async with fleet_on(conninfo, net, QUICK) as one, fleet_on(conninfo, net, QUICK) as two:
        driver, other = await driver_of("a", one, two)
        worker = driver.fleet.get("a")
        assert worker is not None
        await fail_until_open(worker)
        await until_in_db(conn, "SELECT FROM router_states WHERE open_until > now()")
        assert await other.fleet.circuit_open(conn, "a")
        [told] = await other.fleet.status(conn)
        assert (told.breaker.state, told.node, told.lane) == ("open", driver.fleet.node, None)
        assert told.last_error == "connection refused"
        [seen] = await driver.fleet.status(conn)
        assert seen.breaker.state == "open"
        assert seen.lane is not None
        assert (seen.lane.connected, seen.lane.room) == (False, 0)


async def test_a_circuit_is_closed_by_hand(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    router = net.add("a", "refusing")
    await register(conn, "a")
    async with fleet_on(conninfo, net, QUICK) as on:
        await until(lambda: on.fleet.get("a") is not None)
        worker = on.fleet.get("a")
        assert worker is not None
        await fail_until_open(worker)
        await until_in_db(conn, "SELECT FROM router_states WHERE open_until > now()")
        router.mood = "well"
        assert await states.reset(conn, "a")
        await (await on.worker("a")).use(ping)
        await until_in_db(conn, "SELECT FROM router_states WHERE open_until IS NULL AND failures = 0")
        assert on.fleet.get("a") is worker


async def test_a_reboot_while_no_daemon_ran_is_told(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    router = net.add("a")
    await register(conn, "a")
    router.booted_s = trio.current_time() - 5000
    async with fleet_on(conninfo, net) as on:
        await on.worker("a")
        assert on.rebooted == []
    router.booted_s = trio.current_time() - 100
    async with fleet_on(conninfo, net) as on:
        await on.worker("a")
        assert on.rebooted == ["a"]
    async with fleet_on(conninfo, net) as on:
        await on.worker("a")
        assert on.rebooted == []


async def test_how_a_router_is_can_be_seen(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    router = net.add("a")
    router.identity = "half of an emoji: \udc80, a NUL: \0, and much" + "!" * 1000
    await register(conn, "a")
    async with fleet_on(conninfo, net) as on:
        await on.worker("a")
        await until_in_db(conn, "SELECT FROM router_states WHERE identity IS NOT NULL")
        [now] = await on.fleet.status(conn)
        assert now.lane is not None
        assert now.lane.connected
        assert await on.fleet.status(conn, ["b"]) == []
    stored = (await states.read(conn, ["a"]))["a"]
    assert stored.node is None
    assert stored.version == "7.16 (stable)"
    assert stored.last_contact_at is not None
    assert stored.booted_at is not None
    assert now.booted_at is not None
    assert abs((stored.booted_at - now.booted_at).total_seconds()) < 5
    assert "geheim" not in repr(now)


async def test_what_another_drives_by_now_is_not_written(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    net.add("a")
    await register(conn, "a")
    async with fleet_on(conninfo, net) as on:
        worker = await on.worker("a")
        other = evolve(worker.health, identity="somebody else's")
        assert await states.write(conn, on.fleet.node, {"a": other}, trio.current_time()) == 1
        await conn.run("UPDATE router_states SET leased_by = gen_random_uuid()")
        assert await states.write(conn, on.fleet.node, {"a": worker.health}, trio.current_time()) == 0


@pytest.mark.parametrize(("days", "is_kept"), [(6, True), (8, False)])
async def test_what_nobody_knows_is_forgotten_in_time(conn: TrioConnection, days: int, *, is_kept: bool) -> None:
    ended = "INSERT INTO router_states (router_id, leased_by, leased_until) VALUES (%s, gen_random_uuid(), now() - %s * interval '1 day')"
    await register(conn, "kept")
    for name in ("kept", "gone"):
        await conn.run(ended, (name, days))
    await states.forget_old(conn)
    assert set(await states.read(conn, ["kept", "gone"])) == ({"kept", "gone"} if is_kept else {"kept"})


async def test_a_state_that_the_database_refuses_keeps_no_other_from_being_written(
    conn: TrioConnection, conninfo: str
) -> None:
    net = Net()
    net.add("a")
    net.add("b")
    await register(conn, "a")
    await register(conn, "b")
    with capture_logs() as logs:
        async with fleet_on(conninfo, net) as on:
            well = (await on.worker("b")).health
            refused = evolve(well, breaker=evolve(well.breaker, failures=2**40))
            on.fleet._states._changed = {"a": refused, "b": evolve(well, identity="written all the same")}
            await until_in_db(conn, "SELECT FROM router_states WHERE identity = 'written all the same'")
            assert on.fleet.get("a") is not None
    assert [line["routers"] for line in logs if line["event"] == "fleet.states_refused"][:2] == [["a", "b"], ["a"]]


async def test_who_begins_again_after_a_fault_begins_without_leases(
    conn: TrioConnection, conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And they were given up, though its last words could not be written."""
    net, long = Net(), settings_of(relay_lock_ttl_ms=60_000)
    router = net.add("a")
    await register(conn, "a")
    listen = partial(TrioConnection.connect, conninfo, autocommit=True)
    write, lease, asked = states.write, states.lease, trio.Event()

    async def write_or_fail(conn: TrioConnection, node: UUID, *rest: Any) -> int:
        if node == faulty.node:
            raise ZeroDivisionError
        return await write(conn, node, *rest)

    async def lease_or_not(conn: TrioConnection, node: UUID, *rest: Any) -> Sequence[states.Lease]:
        if node == faulty.node and is_again:
            asked.set()
            await trio.sleep_forever()
        return await lease(conn, node, *rest)

    async with aclosing(Pool(conninfo, size=3)) as pool:
        faulty, is_again = Fleet(pool, listen, long, uuid4(), connect=net.connect), False
        monkeypatch.setattr(states, "write", write_or_fail)
        monkeypatch.setattr(states, "lease", lease_or_not)
        with capture_logs(), pytest.RaisesGroup(ZeroDivisionError):
            await faulty.run()
        assert router.dialled
        async with fleet_on(conninfo, net, long) as on:
            await on.worker("a")
            is_again = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(faulty.run)
                await asked.wait()
                await wait_all_tasks_blocked()
                assert faulty.get("a") is None
                assert router.most_open == 1
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_running", [True, False])
@pytest.mark.parametrize(("change", "told"), [({"host": "b"}, ["a"]), ({"port": 7}, ["a"]), ({"user": "b"}, [])])
async def test_another_router_under_the_same_id_is_told_as_one_that_forgot_all(
    conn: TrioConnection, conninfo: str, change: dict[str, Any], told: list[str], *, is_running: bool
) -> None:
    net = Net()
    net.add("a")
    net.add("b").booted_s = -1e6
    await register(conn, "a", port=1)
    async with fleet_on(conninfo, net) as on:
        before = await on.worker("a")
        await until_in_db(conn, "SELECT FROM router_states WHERE booted_at IS NOT NULL")
        if is_running:
            await register(conn, "a", **{"port": 1, **change})
            await until(lambda: on.fleet.get("a") is not before)
            await on.worker("a")
            assert on.rebooted == told
    if not is_running:
        await register(conn, "a", **{"port": 1, **change})
        async with fleet_on(conninfo, net) as on:
            await on.worker("a")
            assert on.rebooted == told
    async with fleet_on(conninfo, net) as on:
        await on.worker("a")
        assert on.rebooted == []


# ---- a dry run


async def test_in_a_dry_run_lanes_are_open_and_nobody_is_dialled(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    router = net.add("a")
    await register(conn, "a")
    async with fleet_on(conninfo, net, settings_of(relay_dry_run=True)) as on:
        await until(lambda: on.fleet.open_lanes() == {"dry run/a": MAX_AT_ONCE})
        assert on.fleet.dry_run
        worker = on.fleet.get("a")
        assert worker is not None
        async with worker.holding(frozenset({"ip"})):
            assert on.fleet.open_lanes() == {"dry run/a": MAX_AT_ONCE - 1}
        with pytest.raises(AssertionError):
            await worker.use(ping)
        assert not await on.fleet.circuit_open(conn, "a")
        async with fleet_on(conninfo, net, settings_of(relay_dry_run=True)) as other:
            await until(other.fleet._leased.is_set)
            assert other.fleet.get("a") is None
    assert router.dialled == 0


# ---- crowds


async def test_a_crash_in_one_worker_is_its_own(conn: TrioConnection, conninfo: str) -> None:
    net = Net()
    net.add("a", "broken")
    net.add("b")
    await register(conn, "a")
    await register(conn, "b")
    with capture_logs() as logs:
        async with fleet_on(conninfo, net) as on:
            await (await on.worker("b")).use(ping)
            net.routers["a"].mood = "well"
            await (await on.worker("a")).use(ping)
    failed = [line["router"] for line in logs if line["event"] == "router.worker_failed"]
    assert set(failed) == {"a"}
