"""Percentiles of any number of times, in a bounded memory."""

import math

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.simulators.latencies import CLASSES, CLASSES_A_DOUBLING, LONGEST_NS, SHORTEST_NS, Latencies

WIDTH = 2 ** (1 / CLASSES_A_DOUBLING)


def noted(times_ns: list[int]) -> Latencies:
    latencies = Latencies()
    for time_ns in times_ns:
        latencies.note(time_ns)
    return latencies


@given(st.lists(st.integers(SHORTEST_NS, LONGEST_NS), min_size=1), st.floats(0, 100))
def test_a_percentile_is_that_of_the_sorted_times_and_a_class_over_it_at_most(times: list[int], percent: float) -> None:
    told = noted(times).percentile_ms(percent)
    exact = sorted(times)[max(math.ceil(len(times) * percent / 100), 1) - 1] / 1e6
    assert told is not None
    assert exact * (1 - 1e-9) <= told <= exact * WIDTH * (1 + 1e-9)


def test_of_no_times_there_is_no_percentile() -> None:
    assert Latencies().percentile_ms(50) is None


@pytest.mark.parametrize("odd", [-5, 0, 1, LONGEST_NS * 1000])
def test_times_out_of_range_are_told_as_the_nearest(odd: int) -> None:
    told = noted([odd]).percentile_ms(50)
    assert told == (SHORTEST_NS if odd < SHORTEST_NS else LONGEST_NS) / 1e6


def test_a_million_times_take_as_much_memory_as_one() -> None:
    latencies = noted(list(range(0, 10**12, 10**8)))
    assert (latencies.count, len(latencies._counts)) == (10_000, CLASSES)
