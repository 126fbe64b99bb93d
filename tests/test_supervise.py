from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from opendesk.supervise import GaveUp, every, keep_running, lag_canary


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
