"""The clock of a fast day, on Trio's virtual one."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from opendesk.simulators.fast_clock import LONGEST_DAY_MIN, STEP_MIN, DayTooLong, FastClock, clock_face

OPENS, CLOSES = 480, 540


class Turned:
    """Remembers by how much it was told to turn."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    async def __call__(self, minutes: int) -> None:
        self.steps.append(minutes)


def sleeper(clock: FastClock, told: list[str], name: str, *minutes: int) -> Callable[[], Awaitable[None]]:
    async def act() -> None:
        told.append(f"{name} {clock.minute}")
        for minute in minutes:
            await clock.until(minute)
            told.append(f"{name} {clock.minute}")

    return act


async def test_a_day_takes_its_seconds_and_every_minute_of_it_is_turned(autojump_clock: MockClock) -> None:
    turned = Turned()
    clock = FastClock(OPENS, turned, 0.1)
    began_s = trio.current_time()
    await clock.run(CLOSES)
    assert (clock.minute, sum(turned.steps), max(turned.steps)) == (CLOSES, CLOSES - OPENS, STEP_MIN)
    assert trio.current_time() - began_s == pytest.approx(6.0)


async def test_an_actor_wakes_at_its_very_minute(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    clock, told = FastClock(OPENS, Turned(), 0.1), list[str]()
    clock.play(nursery, sleeper(clock, told, "ana", 483, 497), at=481)
    await clock.run(CLOSES)
    assert told == ["ana 481", "ana 483", "ana 497"]


async def test_actors_act_in_the_order_in_which_they_began_to_wait(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    clock, told = FastClock(OPENS, Turned(), 0.0), list[str]()
    names = [f"n{n}" for n in range(20)]
    for name in names:
        clock.play(nursery, sleeper(clock, told, name, 500), at=OPENS)
    await clock.run(CLOSES)
    assert told == [f"{name} 480" for name in names] + [f"{name} 500" for name in names]


async def test_the_clock_stands_still_while_an_actor_acts(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    clock, seen = FastClock(OPENS, Turned(), 0.1), list[int]()

    async def slow() -> None:
        seen.append(clock.minute)
        await trio.sleep(1000)
        seen.append(clock.minute)

    clock.play(nursery, slow, at=490)
    await clock.run(CLOSES)
    assert seen == [490, 490]


async def test_a_late_day_makes_up_for_it(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    clock = FastClock(OPENS, Turned(), 0.1)
    clock.play(nursery, partial(trio.sleep, 2), at=OPENS)
    began_s = trio.current_time()
    await clock.run(CLOSES)
    assert trio.current_time() - began_s == pytest.approx(6.0)


async def test_an_actor_may_start_another(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    clock, told = FastClock(OPENS, Turned(), 0.0), list[str]()

    async def first() -> None:
        clock.play(nursery, sleeper(clock, told, "second"), at=clock.minute + 7)

    clock.play(nursery, first, at=485)
    await clock.run(CLOSES)
    assert told == ["second 492"]


async def test_a_day_goes_on_until_everybody_has_finished(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    clock, told = FastClock(OPENS, Turned(), 0.0), list[str]()
    clock.play(nursery, sleeper(clock, told, "late", CLOSES + 33), at=OPENS)
    await clock.run(CLOSES)
    assert (told[-1], clock.minute) == (f"late {CLOSES + 33}", CLOSES + 33)


async def test_a_day_without_end_is_a_fault(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        clock = FastClock(OPENS, Turned(), 0.0)
        clock.play(nursery, sleeper(clock, [], "ever", LONGEST_DAY_MIN + 10), at=OPENS)
        with pytest.raises(DayTooLong):
            await clock.run(CLOSES)
        nursery.cancel_scope.cancel()


async def test_what_goes_wrong_with_an_actor_ends_the_day(autojump_clock: MockClock) -> None:
    async def stumble() -> None:
        raise KeyError("stone")

    with pytest.RaisesGroup(KeyError):
        async with trio.open_nursery() as nursery:
            clock = FastClock(OPENS, Turned(), 0.1)
            clock.play(nursery, stumble, at=490)
            await clock.run(CLOSES)


def test_a_clock_face_goes_on_after_midnight() -> None:
    assert [clock_face(minute) for minute in (0, 485, 1439, 1440, 1505)] == [
        "00:00",
        "08:05",
        "23:59",
        "00:00",
        "01:05",
    ]
