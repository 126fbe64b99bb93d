"""Which lanes are looked at, and when."""

import pytest
import trio
from trio.testing import MockClock

from opendesk.network.jobs import lookout
from opendesk.network.jobs.lookout import Lookout

OPEN = {"a": 3, "b": 1}


def looked_at() -> Lookout:
    """One that has had its first look."""
    made = Lookout()
    assert made.take(OPEN) == OPEN
    return made


async def test_lanes_that_were_told_of_are_looked_at_once() -> None:
    made = looked_at()
    made.tell(["a", "closed"])
    await made.wait()
    assert made.take(OPEN) == {"a": 3}
    assert made.take(OPEN | {"closed": 1}) == {}


async def test_without_room_a_lane_is_not_looked_at() -> None:
    made = looked_at()
    made.tell_all()
    assert made.take({"a": 0, "b": -1}) == {}


async def test_a_lane_is_looked_at_when_its_next_job_falls_due(autojump_clock: MockClock) -> None:
    made = looked_at()
    made.falls_due({"a": 7.0, "b": 3.0})
    begun_s = trio.current_time()
    await made.wait()
    assert (trio.current_time() - begun_s, made.take(OPEN)) == (3.0, {"b": 1})
    await made.wait()
    assert (trio.current_time() - begun_s, made.take(OPEN)) == (7.0, {"a": 3})
    with trio.move_on_after(1000) as limit:
        await made.wait()
    assert limit.cancelled_caught


async def test_what_has_fallen_due_already_is_not_asked_for_again_and_again(autojump_clock: MockClock) -> None:
    made = looked_at()
    made.falls_due({"a": -1.0})
    begun_s = trio.current_time()
    await made.wait()
    assert trio.current_time() - begun_s == lookout.SHORTEST_WAIT_S


async def test_news_wakes_who_waits_for_a_later_time(autojump_clock: MockClock) -> None:
    made = looked_at()
    made.falls_due({"a": 60.0})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.wait)
        await trio.testing.wait_all_tasks_blocked()
        made.tell(["b"])
    assert (trio.current_time() < 60, made.take(OPEN)) == (True, {"b": 1})


async def test_more_lanes_than_are_worth_remembering_are_a_look_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "MAX_TOLD", 5)
    made = looked_at()
    for number in range(10):
        made.tell([f"{number}"])
    assert len(made._told) <= 5
    assert made.take(OPEN) == OPEN
