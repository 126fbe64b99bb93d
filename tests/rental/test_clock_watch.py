from attrs import evolve
import pytest

from opendesk.rental.liveness import (
    MAX_CLOCK_JUMP,
    MAX_LATENESS,
    ClockWatch,
)
from tests.rental.silence import EVERY, at


def look(clock: ClockWatch, database: float, daemon_s: float, *, took_s: float = 0.0) -> tuple[ClockWatch, bool]:
    return clock.look(at(database), asked_s=daemon_s - took_s / 2, answered_s=daemon_s + took_s / 2, every=EVERY)


JUMP_S, LATE_S = MAX_CLOCK_JUMP.total_seconds(), MAX_LATENESS.total_seconds()


def test_the_first_look_tells_nothing() -> None:
    clock, away = look(ClockWatch(), 0, 1000)
    assert not away
    assert clock == ClockWatch(zero_at=at(-1000), looked_at=at(0))


@pytest.mark.parametrize(
    ("jump_s", "away"), [(0, False), (JUMP_S, False), (-JUMP_S, False), (JUMP_S + 1, True), (-JUMP_S - 1, True)]
)
def test_a_jump_larger_than_the_limit_is_an_outage_of_our_own(jump_s: float, away: bool) -> None:  # noqa: FBT001 - parametrized
    clock, _ = look(ClockWatch(), 0, 1000)
    clock, seen = look(clock, 20 + jump_s, 1020)
    assert seen is away
    assert look(clock, 40 + jump_s, 1040)[1] is False


def test_slow_drift_never_adds_up_to_a_jump() -> None:
    clock = ClockWatch()
    for tick in range(100):
        clock, away = look(clock, tick * 31, tick * 30)
        assert not away


def test_a_daemon_whose_machine_slept_was_away() -> None:
    clock, _ = look(ClockWatch(), 0, 1000)
    assert look(clock, 3600, 1030)[1]


def test_a_look_that_comes_far_too_late_means_the_daemon_stood_still() -> None:
    clock, _ = look(ClockWatch(), 0, 1000)
    due = EVERY.total_seconds() + LATE_S
    assert not look(clock, due, 1000 + due)[1]
    assert look(clock, due + 1, 1001 + due)[1]


def test_a_slow_answer_is_no_jump_but_hides_none_for_good() -> None:
    clock, _ = look(ClockWatch(), 0, 1000)
    same, away = look(clock, 35, 1030, took_s=JUMP_S + 1)
    assert not away
    assert same == evolve(clock, looked_at=at(35))
    assert look(same, 60, 1060)[1] is False
    assert look(same, 66, 1060)[1] is True


def test_an_answer_as_slow_as_the_limit_still_tells() -> None:
    clock, _ = look(ClockWatch(), 0, 1000)
    assert look(clock, 26, 1020, took_s=JUMP_S)[1] is True


def test_a_slow_answer_that_comes_too_late_tells_it_too() -> None:
    clock, _ = look(ClockWatch(), 0, 1000)
    assert look(clock, 100, 1100, took_s=JUMP_S + 1)[1] is True


def test_the_clock_is_taken_from_the_middle_of_the_question() -> None:
    clock, _ = look(ClockWatch(), 0, 1000, took_s=2)
    assert clock.zero_at == at(-1000)
