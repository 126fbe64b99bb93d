from collections.abc import Awaitable, Callable
import math

import pytest
from structlog.testing import capture_logs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from opendesk.supervise import ALLOWANCE_S, LOOK_COUNTS_S, GaveUp, LifeSigns, alive, every, keep_running, lag_canary


def failing(times_s: list[float], failures: int, error: type[Exception] = OSError) -> Callable[[], Awaitable[None]]:
    async def service() -> None:
        await trio.lowlevel.checkpoint()
        times_s.append(trio.current_time())
        if len(times_s) <= failures:
            raise error(str(len(times_s)))

    return service


async def test_ticks_keep_their_pace(autojump_clock: MockClock) -> None:
    ticks_s: list[float] = []

    async def tick() -> None:
        ticks_s.append(trio.current_time())
        await trio.sleep(3)

    with trio.move_on_after(35):
        await every(10, tick)
    assert ticks_s == [0, 10, 20, 30]


async def test_a_slow_tick_is_followed_by_one_and_not_by_those_it_missed(autojump_clock: MockClock) -> None:
    ticks_s: list[float] = []

    async def tick() -> None:
        ticks_s.append(trio.current_time())
        await trio.sleep(47 if len(ticks_s) == 1 else 0)

    with trio.move_on_after(70):
        await every(10, tick)
    assert ticks_s == [0, 47, 57, 67]


async def test_a_service_that_returns_is_not_started_again(autojump_clock: MockClock) -> None:
    starts_s: list[float] = []
    await keep_running("done", failing(starts_s, failures=0))
    assert starts_s == [0]


async def test_a_failed_service_is_started_again_after_growing_pauses(autojump_clock: MockClock) -> None:
    starts_s: list[float] = []
    restarted: list[str] = []
    with capture_logs() as logs:
        await keep_running(
            "shaky", failing(starts_s, 4), first_pause_s=1, longest_pause_s=3, on_restart=restarted.append
        )
    assert starts_s == [0, 1, 3, 6, 9]
    assert restarted == ["shaky"] * 4
    assert [(entry["event"], entry["restart_in_s"], entry["failures"]) for entry in logs] == [
        ("service.failed", 1, 1),
        ("service.failed", 2, 2),
        ("service.failed", 3, 3),
        ("service.failed", 3, 4),
    ]
    assert all(entry["exc_info"] and entry["log_level"] == "error" for entry in logs)


async def test_what_the_daemon_can_do_without_is_tried_for_good(autojump_clock: MockClock) -> None:
    starts_s: list[float] = []
    with capture_logs() as logs:
        await keep_running("page", failing(starts_s, 20), max_restarts=3, first_pause_s=1, gives_up=False)
    assert len(starts_s) == 21
    assert {entry["event"] for entry in logs} == {"service.failed"}


async def test_too_many_failures_end_the_daemon_with_the_last_one(autojump_clock: MockClock) -> None:
    starts_s: list[float] = []
    with (
        capture_logs() as logs,
        pytest.raises(GaveUp, match=r"broken failed 4 times within 300 s, at last with OSError\('4'\)") as ended,
    ):
        await keep_running("broken", failing(starts_s, 100), max_restarts=3, first_pause_s=1)
    assert isinstance(ended.value.__cause__, OSError)
    assert len(starts_s) == 4
    assert (logs[-1]["event"], logs[-1]["log_level"], logs[-1]["service"]) == ("service.gave_up", "critical", "broken")
    assert isinstance(logs[-1]["exc_info"], OSError)


async def test_a_daemon_that_gives_up_at_each_start_is_never_left_down_by_systemd(autojump_clock: MockClock) -> None:
    """Which does so after five starts within ten seconds (StartLimitBurst=, StartLimitIntervalSec=)."""
    with capture_logs(), pytest.raises(GaveUp):
        await keep_running("broken", failing([], 100))
    assert 2.5 < trio.current_time() < 10


async def test_failures_far_apart_are_forgiven(autojump_clock: MockClock) -> None:
    starts_s: list[float] = []

    async def service() -> None:
        starts_s.append(trio.current_time())
        await trio.sleep(60)
        if len(starts_s) < 20:
            raise OSError

    await keep_running("now and then", service, max_restarts=1, within_s=50, first_pause_s=1)
    assert starts_s == [61 * n for n in range(20)]


async def test_a_group_of_exceptions_is_a_failure_too(autojump_clock: MockClock) -> None:
    runs = 0

    async def service() -> None:
        nonlocal runs
        runs += 1
        async with trio.open_nursery() as nursery:
            if runs == 1:
                nursery.start_soon(failing([], 1))

    await keep_running("grouped", service)
    assert runs == 2


async def test_cancellation_goes_through(autojump_clock: MockClock) -> None:
    with capture_logs() as logs, trio.move_on_after(5) as scope:
        await keep_running("forever", trio.sleep_forever)
    assert scope.cancelled_caught
    assert logs == []


async def test_cancellation_goes_through_during_a_pause(autojump_clock: MockClock) -> None:
    starts_s: list[float] = []
    with trio.move_on_after(5) as scope:
        await keep_running("failing", failing(starts_s, 100), first_pause_s=10, longest_pause_s=10)
    assert scope.cancelled_caught
    assert starts_s == [0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_being_told_to_quit_is_no_failure(autojump_clock: MockClock, error: type[BaseException]) -> None:
    async def service() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    with capture_logs() as logs, pytest.raises(error):
        await keep_running("quitting", service)
    assert logs == []


async def test_a_loop_that_is_on_time_is_not_logged(autojump_clock: MockClock) -> None:
    lates_s: list[float] = []
    with capture_logs() as logs, trio.move_on_after(0.99):
        await lag_canary(0.1, 0.05, observe=lates_s.append)
    assert lates_s == [0] * 9
    assert logs == []


async def test_a_loop_that_lags_is_logged_and_measured(mock_clock: MockClock) -> None:
    lates_s: list[float] = []
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: lag_canary(1, 0.25, observe=lates_s.append))
            await wait_all_tasks_blocked()
            mock_clock.jump(3)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert lates_s == [2]
    assert [(entry["event"], entry["late_ms"], entry["times"]) for entry in logs] == [("loop.lagging", 2000, 1)]


async def test_lag_is_logged_now_and_then_with_the_worst_of_it(mock_clock: MockClock) -> None:
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: lag_canary(1, 0.25, log_every_s=10))
            for jump_s in (2, 5, 3, 1, 1, 1):
                await wait_all_tasks_blocked()
                mock_clock.jump(jump_s)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert [(entry["late_ms"], entry["times"]) for entry in logs] == [(1000, 1), (4000, 2)]


async def silent_after(signs: LifeSigns, seconds: float) -> list[str]:
    """Who is, with a look every five seconds."""
    for _ in range(int(seconds / 5)):
        signs.silent(trio.current_time())
        await trio.sleep(5)
    return signs.silent(trio.current_time())


async def looking(service: Callable[[], Awaitable[None]], seconds: float) -> list[str]:
    signs = LifeSigns()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: keep_running("tested", service, signs=signs))
        found = await silent_after(signs, seconds)
        nursery.cancel_scope.cancel()
    assert signs.known == set()
    return found


async def test_a_service_that_ticks_is_alive_however_long_its_period(autojump_clock: MockClock) -> None:
    async def tick() -> None:
        await trio.sleep(ALLOWANCE_S / 2)

    assert await looking(lambda: every(3 * ALLOWANCE_S, tick), 10 * ALLOWANCE_S) == []


async def test_a_service_that_hangs_in_its_first_step_is_found_by_its_allowance(autojump_clock: MockClock) -> None:
    assert await looking(trio.sleep_forever, ALLOWANCE_S - 10) == []
    assert await looking(trio.sleep_forever, ALLOWANCE_S + 10) == ["tested (start)"]


async def test_one_loop_of_a_service_does_not_speak_for_another_one(autojump_clock: MockClock) -> None:
    async def well() -> None:
        await trio.lowlevel.checkpoint()

    async def hangs() -> None:
        await trio.sleep_forever()

    async def service() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(every, 1, well)
            nursery.start_soon(every, 1, hangs)

    assert await looking(service, 2 * ALLOWANCE_S) == ["tested (hangs)"]


async def test_who_waits_for_something_may_be_silent_until_it_comes(autojump_clock: MockClock) -> None:
    async def service() -> None:
        alive(wait_s=math.inf)
        await trio.sleep(2 * ALLOWANCE_S)
        alive()
        await trio.sleep_forever()

    assert await looking(service, 2 * ALLOWANCE_S + 10) == []
    assert await looking(service, 3 * ALLOWANCE_S + 10) == ["tested (loop)"]


async def test_of_a_service_that_is_started_again_nothing_is_expected_meanwhile(autojump_clock: MockClock) -> None:
    async def service() -> None:
        alive("part")
        raise OSError

    signs = LifeSigns()
    with capture_logs(), trio.move_on_after(2 * ALLOWANCE_S):
        await keep_running("shaky", service, signs=signs, first_pause_s=1000, longest_pause_s=1000)
    assert signs.known == set()


async def test_a_tick_that_ends_is_expected_no_more(autojump_clock: MockClock) -> None:
    signs = LifeSigns()

    async def tick() -> None:
        await trio.sleep(1)

    async def service() -> None:
        with trio.move_on_after(10):
            await every(1, tick)
        assert signs.known == set()
        alive("other")

    await keep_running("tested", service, signs=signs)


def test_nobody_is_blamed_for_a_process_that_stood_still() -> None:
    signs = LifeSigns()
    assert signs.silent(0.0) == []
    signs.given("service", "loop", 0.0)
    assert signs.silent(10 * ALLOWANCE_S) == []
    looks = int(ALLOWANCE_S / LOOK_COUNTS_S)
    later_s = [10 * ALLOWANCE_S + LOOK_COUNTS_S * (look + 1) for look in range(looks)]
    assert [signs.silent(at_s) for at_s in later_s][-1] == ["service (loop)"]


async def test_outside_of_services_a_sign_means_nothing() -> None:
    alive()
    alive("part", wait_s=math.inf)
    await trio.lowlevel.checkpoint()
