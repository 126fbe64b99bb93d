"""One router's worker: its connection, its circuit, and those who want something of the router."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypothesis import given, settings
from hypothesis import strategies as st
import psycopg
import pytest
from structlog.testing import capture_logs
import trio
import trio.lowlevel
from trio.testing import MockClock

from opendesk.network.routeros.errors import TimedOut, Trap
from opendesk.network.routeros.session import Command, Result
from opendesk.network.routers.errors import CircuitOpen, RouterUnavailable
from opendesk.network.routers.link import Api
from opendesk.network.routers.worker import DIAL_TIMEOUTS, LOOK_EVERY_S, MAX_AT_ONCE, Worker
from tests.network.routers.fake_routers import (
    LIMIT,
    PING,
    RECOVERY_S,
    TIMEOUT_S,
    FakeRouter,
    Heard,
    spec_of,
    worker_of,
)


async def ping(api: Api) -> Result:
    return await api.run(PING)


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Worker]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        yield worker
        nursery.cancel_scope.cancel()


async def fail_until_open(worker: Worker) -> None:
    while worker.health.breaker.is_closed:
        with pytest.raises(RouterUnavailable):
            await worker.use(ping)


# ---- one connection


async def test_many_uses_share_one_connection(autojump_clock: MockClock) -> None:
    router = FakeRouter(latency_s=0.05)
    async with running(worker_of(router)) as worker:
        async with trio.open_nursery() as nursery:
            for _ in range(MAX_AT_ONCE):
                nursery.start_soon(worker.use, ping)
        await trio.sleep(600)
        await worker.use(ping)
    assert router.dialled == 1
    assert router.open == []


async def test_it_connects_before_anybody_asks(autojump_clock: MockClock) -> None:
    router = FakeRouter(latency_s=1)
    async with running(worker_of(router)) as worker:
        await trio.sleep(3)
        assert worker.is_connected
        assert worker.health.identity == "fake"
        assert worker.health.version == "7.16 (stable)"


async def test_who_comes_while_it_connects_waits_for_that(autojump_clock: MockClock) -> None:
    router = FakeRouter(latency_s=2)
    async with running(worker_of(router)) as worker:
        assert await worker.use(ping) == Result()
    assert router.dialled == 1


async def test_a_connection_that_is_lost_is_made_anew(autojump_clock: MockClock) -> None:
    router = FakeRouter()
    async with running(worker_of(router)) as worker:
        await trio.sleep(100)
        for _ in range(3):
            router.hang_up()
            await trio.sleep(100)
            assert worker.is_connected
    assert router.dialled == 4
    assert router.most_open == 1


async def test_who_comes_just_when_it_was_lost_gets_the_next(autojump_clock: MockClock) -> None:
    router = FakeRouter()
    async with running(worker_of(router)) as worker:
        await trio.sleep(100)
        router.hang_up()
        while worker.is_connected:  # it tells nobody
            await trio.lowlevel.checkpoint()
        assert await worker.use(ping) == Result()


async def test_one_that_hangs_up_at_once_is_not_dialled_without_end(autojump_clock: MockClock) -> None:
    router = FakeRouter()

    async def flap() -> None:
        while True:
            router.hang_up()
            await trio.sleep(0.01)

    async with running(worker_of(router)) as worker, trio.open_nursery() as nursery:
        nursery.start_soon(flap)
        await trio.sleep(600)
        assert router.dialled < 600
        nursery.cancel_scope.cancel()
        assert worker.spec.id == "r1"


async def test_an_idle_connection_is_looked_at(autojump_clock: MockClock) -> None:
    router = FakeRouter()
    async with running(worker_of(router)) as worker:
        await trio.sleep(1)
        before = len(router.commands)
        await trio.sleep(10 * LOOK_EVERY_S)
        assert len(router.commands) - before == pytest.approx(20, abs=2)
        assert worker.health.contact_s is not None
        assert trio.current_time() - worker.health.contact_s <= LOOK_EVERY_S


async def test_an_idle_router_that_falls_silent_is_noticed(autojump_clock: MockClock) -> None:
    router = FakeRouter()
    async with running(worker_of(router)) as worker:
        await trio.sleep(1)
        router.mood = "silent"
        await trio.sleep(300)
        assert not worker.is_connected
        assert not worker.health.breaker.is_closed


# ---- its circuit


@pytest.mark.parametrize("mood", ["refusing", "deaf", "silent", "lockout"])
async def test_a_router_that_can_not_be_used_opens_its_circuit(autojump_clock: MockClock, mood: str) -> None:
    router, heard = FakeRouter(mood), Heard()
    async with running(worker_of(router, heard)) as worker:
        assert worker.room == MAX_AT_ONCE
        await fail_until_open(worker)
        assert worker.health.breaker.failures == LIMIT
        assert worker.room == 0
        with pytest.raises(CircuitOpen):
            await worker.use(ping)
    assert heard.changed
    assert router.most_open <= 1


async def test_one_probe_a_recovery_time(autojump_clock: MockClock) -> None:
    router = FakeRouter("refusing")
    async with running(worker_of(router)) as worker:
        await fail_until_open(worker)
        before = router.dialled
        await trio.sleep(10.9 * RECOVERY_S)
        assert router.dialled - before == 10


async def test_a_probe_that_goes_well_closes_it_and_says_so(autojump_clock: MockClock) -> None:
    router, heard = FakeRouter("refusing"), Heard()
    async with running(worker_of(router, heard)) as worker:
        await fail_until_open(worker)
        router.mood = "well"
        assert heard.opened == []
        await trio.sleep(1.1 * RECOVERY_S)
        assert heard.opened == ["r1"]
        assert worker.room == MAX_AT_ONCE
        assert await worker.use(ping) == Result()


async def test_a_circuit_closed_by_hand_is_tried_at_once(autojump_clock: MockClock) -> None:
    router, heard = FakeRouter("refusing"), Heard()
    async with running(worker_of(router, heard)) as worker:
        await fail_until_open(worker)
        router.mood = "well"
        worker.close_circuit()
        assert heard.opened == ["r1"]
        assert await worker.use(ping) == Result()


async def test_a_black_hole_loses_its_connection_with_its_circuit(autojump_clock: MockClock) -> None:
    router = FakeRouter()
    async with running(worker_of(router)) as worker:
        await worker.use(ping)
        router.mood = "silent"
        await fail_until_open(worker)
        await trio.sleep(1)
        assert not worker.is_connected
        assert router.open == []


async def test_a_trap_is_an_answer(autojump_clock: MockClock) -> None:
    async def refused(api: Api) -> Result:
        return await api.run(Command("/trapped"))

    async with running(worker_of(FakeRouter())) as worker:
        for _ in range(3 * LIMIT):
            with pytest.raises(Trap):
                await worker.use(refused)
        assert worker.health.breaker.failures == 0


async def test_what_its_user_gets_wrong_is_no_failure_of_the_router(autojump_clock: MockClock) -> None:
    async def wrong(_api: Api) -> None:
        raise ZeroDivisionError

    async with running(worker_of(FakeRouter())) as worker:
        for _ in range(3 * LIMIT):
            with pytest.raises(ZeroDivisionError):
                await worker.use(wrong)
        assert worker.health.breaker.failures == 0


async def test_a_lost_connection_is_one_failure_for_all_in_its_midst(autojump_clock: MockClock) -> None:
    router = FakeRouter()
    told: list[Exception] = []

    async def use() -> None:
        try:
            await worker.use(ping)
        except RouterUnavailable as error:
            told.append(error)

    async with running(worker_of(router)) as worker:
        await worker.use(ping)
        router.latency_s = 1
        async with trio.open_nursery() as nursery:
            for _ in range(MAX_AT_ONCE):
                nursery.start_soon(use)
            await trio.sleep(0.5)
            router.latency_s = 0
            router.hang_up()
        assert len(told) == MAX_AT_ONCE
        assert worker.health.breaker.is_closed
        assert await worker.use(ping) == Result()


async def test_a_slow_moment_is_one_failure_for_all_in_its_midst(autojump_clock: MockClock) -> None:
    router = FakeRouter()

    async def use() -> None:
        with pytest.raises(RouterUnavailable):
            await worker.use(ping)

    async with running(worker_of(router)) as worker:
        await worker.use(ping)
        router.mood = "silent"
        async with trio.open_nursery() as nursery:
            for number in range(MAX_AT_ONCE):
                nursery.start_soon(use)
                await trio.sleep(number / 10)
        assert worker.health.breaker.failures == 1
        router.mood = "well"
        assert await worker.use(ping) == Result()
        assert router.dialled == 1


async def test_what_an_old_connection_owes_says_nothing_of_a_router_that_is_well(autojump_clock: MockClock) -> None:
    router = FakeRouter()

    async def answered_late(_api: Api) -> None:
        await trio.sleep(50)
        raise TimedOut("no answer within 50 s")

    async def use() -> None:
        with pytest.raises(RouterUnavailable):
            await worker.use(answered_late)

    async with running(worker_of(router)) as worker, trio.open_nursery() as nursery:
        await worker.use(ping)
        nursery.start_soon(use)
        await trio.sleep(10)
        router.hang_up()
        await trio.sleep(10)
        assert worker.is_connected
        assert router.dialled == 2
        await trio.sleep(40)
        assert worker.health.breaker.failures == 0


async def test_a_router_without_credentials_is_never_dialled(autojump_clock: MockClock) -> None:
    router = FakeRouter()
    async with running(worker_of(router, spec=spec_of(fault="RELAY_MASTER_KEY is not set"))) as worker:
        with pytest.raises(RouterUnavailable, match="RELAY_MASTER_KEY is not set"):
            await worker.use(ping)
        await fail_until_open(worker)
    assert router.dialled == 0


async def test_a_driver_that_never_comes_back_from_dialling_is_given_up(autojump_clock: MockClock) -> None:
    router = FakeRouter(latency_s=1e9)
    async with running(worker_of(router)) as worker:
        with trio.fail_after(DIAL_TIMEOUTS * TIMEOUT_S + 1), pytest.raises(RouterUnavailable):
            await worker.use(ping)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["well", "refusing", "silent", "deaf"]), st.floats(1, 200)), max_size=8))
def test_whatever_happened_it_comes_back(moods: list[tuple[str, float]]) -> None:
    async def happen() -> None:
        router = FakeRouter()
        async with running(worker_of(router)) as worker:
            for mood, seconds in moods:
                router.mood = mood
                await trio.sleep(seconds)
            router.mood = "well"
            await trio.sleep(2 * RECOVERY_S + DIAL_TIMEOUTS * TIMEOUT_S)
            assert await worker.use(ping) == Result()
            assert worker.room == MAX_AT_ONCE
        assert router.most_open <= 1

    trio.run(happen, clock=MockClock(autojump_threshold=0))


# ---- reboots


async def test_a_reboot_is_told(autojump_clock: MockClock) -> None:
    router, heard = FakeRouter(), Heard()
    async with running(worker_of(router, heard)):
        await trio.sleep(100)
        assert heard.rebooted == []
        router.reboot()
        await trio.sleep(5)
        assert heard.rebooted == ["r1"]
        await trio.sleep(300)
    assert heard.rebooted == ["r1"]


async def test_a_reboot_that_could_not_be_told_is_told_at_the_next_look(autojump_clock: MockClock) -> None:
    router, heard, tries = FakeRouter(), Heard(), []
    hooks = heard.hooks()

    async def away_at_first(router_id: str) -> None:
        tries.append(router_id)
        if len(tries) < 3:
            raise psycopg.OperationalError("the database is away")

    hooks.rebooted = away_at_first
    worker = worker_of(router)
    worker._hooks = hooks
    async with running(worker):
        await trio.sleep(100)
        router.reboot()
        await trio.sleep(20 * LOOK_EVERY_S)
    assert tries == ["r1"] * 3


# ---- faults of our own


async def test_a_fault_of_ours_is_logged_and_does_not_end_it(autojump_clock: MockClock) -> None:
    router = FakeRouter("broken")
    with capture_logs() as logs:
        async with running(worker_of(router)) as worker:
            await trio.sleep(10)
            router.mood = "well"
            await trio.sleep(60)
            assert await worker.use(ping) == Result()
    assert {line["event"] for line in logs if line["log_level"] == "error"} == {"router.worker_failed"}


async def test_who_waits_when_it_fails_is_told(autojump_clock: MockClock) -> None:
    with capture_logs():
        async with running(worker_of(FakeRouter("broken"))) as worker:
            with trio.fail_after(10), pytest.raises(RouterUnavailable):
                await worker.use(ping)


# ---- its end


async def test_when_it_is_stopped_nothing_more_is_sent(autojump_clock: MockClock) -> None:
    router = FakeRouter()
    told: list[Exception] = []

    async def use_for_long(api: Api) -> None:
        while True:
            await ping(api)
            await trio.sleep(1)

    async def use() -> None:
        try:
            await worker.use(use_for_long)
        except RouterUnavailable as error:
            told.append(error)

    async with running(worker_of(router)) as worker:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            await trio.sleep(10)
            worker.stop()
            sent = len(router.commands)
        assert len(told) == 1
        assert len(router.commands) == sent
        assert worker.room == 0
        with pytest.raises(RouterUnavailable):
            await worker.use(ping)


async def test_a_cancelled_use_is_cancelled(autojump_clock: MockClock) -> None:
    async with running(worker_of(FakeRouter(latency_s=1))) as worker:
        with trio.move_on_after(0.5) as scope:
            await worker.use(ping)
        assert scope.cancelled_caught


# ---- its room


async def test_who_holds_a_place_takes_room_and_the_lane_opens_again(autojump_clock: MockClock) -> None:
    heard = Heard()
    worker = worker_of(FakeRouter(), heard)

    async def hold(number: int) -> None:
        async with worker.holding(frozenset({f"ip:10.0.0.{number}"})):
            await trio.sleep(number)

    async with trio.open_nursery() as nursery:
        for number in range(1, MAX_AT_ONCE + 1):
            nursery.start_soon(hold, number)
        await trio.sleep(0.5)
        assert worker.room == 0
        assert heard.opened == []
    assert worker.room == MAX_AT_ONCE
    assert heard.opened == ["r1"]


def test_no_secret_is_in_its_repr() -> None:
    assert "geheim" not in repr(worker_of(FakeRouter()))


async def test_black_holes_delay_nobody_else(autojump_clock: MockClock) -> None:
    routers = [FakeRouter("silent" if number % 3 == 0 else "well", latency_s=0.05) for number in range(99)]
    workers = [worker_of(router, spec=spec_of(f"r{number}")) for number, router in enumerate(routers)]
    took: list[float] = []

    async def use(worker: Worker) -> None:
        began_s = trio.current_time()
        await worker.use(ping)
        took.append(trio.current_time() - began_s)

    async def suffer(worker: Worker) -> None:
        while True:
            with pytest.raises((RouterUnavailable, CircuitOpen)):
                await worker.use(ping)
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        for worker in workers:
            nursery.start_soon(worker.run)
        for router, worker in zip(routers, workers, strict=True):
            if router.mood == "silent":
                nursery.start_soon(suffer, worker)
        await trio.sleep(1)
        async with trio.open_nursery() as uses:
            for router, worker in zip(routers, workers, strict=True):
                if router.mood == "well":
                    uses.start_soon(use, worker)
        nursery.cancel_scope.cancel()
    assert len(took) == 66
    assert max(took) == pytest.approx(0.05)
