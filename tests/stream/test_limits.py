from itertools import accumulate
from math import ceil

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.stream.limits import Rate

# Eighths of a second are exact as floats, so that the edges of windows are met exactly.
steps = st.integers(0, 16).map(lambda n: n / 8)


def at_times(gaps: list[float]) -> list[float]:
    return list(accumulate(gaps))


# Amounts a second

amounts = st.lists(st.tuples(steps, st.integers(0, 12)))


@given(st.integers(1, 20), amounts, st.integers(0, 24).map(lambda n: n / 8))
def test_in_any_span_at_most_one_second_more_than_the_limit_goes_through(
    limit: int, asked: list[tuple[float, int]], span_s: float
) -> None:
    rate = Rate(limit)
    times = at_times([gap for gap, _ in asked])
    through = [(t, n) for t, (_, n) in zip(times, asked, strict=True) if rate.take(n, t)]
    for start, _ in through:
        assert sum(n for t, n in through if start <= t <= start + span_s) <= limit * (ceil(span_s) + 1)


@given(amounts)
def test_who_keeps_to_the_limit_in_every_second_is_never_refused(asked: list[tuple[float, int]]) -> None:
    times = at_times([gap for gap, _ in asked])
    amount_at = list(zip(times, [n for _, n in asked], strict=True))
    most = max((sum(n for t, n in amount_at if start <= t < start + 1) for start in times), default=0)
    rate = Rate(max(most, 1))
    assert all(rate.take(n, t) for t, n in amount_at)


def test_the_first_message_over_the_limit_is_told() -> None:
    rate = Rate(700)
    assert [rate.take(1, i / 1024) for i in range(701)] == [True] * 700 + [False]


def test_a_second_later_the_limit_is_whole_again() -> None:
    rate = Rate(10)
    assert rate.take(10, 5.0)
    assert not rate.take(1, 5.875)
    assert rate.take(10, 6.0)


def test_a_window_begins_with_what_comes_first_after_a_pause() -> None:
    rate = Rate(10)
    assert rate.take(1, 0.0)
    assert rate.take(9, 7.5)
    assert not rate.take(2, 8.25)
    assert rate.take(1, 8.25)


def test_an_amount_above_the_limit_never_goes_through() -> None:
    rate = Rate(10)
    assert not rate.take(11, 0.0)
    assert rate.take(10, 0.0)


def test_a_rate_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="must be > 0"):
        Rate(0)
