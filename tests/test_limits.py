from collections import defaultdict
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.limits import Window, counted_as

# Eighths of a second are exact as floats, so that the edges of windows are met exactly.
steps = st.integers(0, 16).map(lambda n: n / 8)


def at_times(gaps: list[float]) -> list[float]:
    return list(accumulate(gaps))


# Attempts in a window


@given(st.integers(1, 5), st.sampled_from([0.5, 1.0, 2.5]), st.lists(st.tuples(steps, st.sampled_from("abc"))))
def test_no_key_gets_more_than_its_limit_in_any_span(
    limit: int, window_s: float, asked: list[tuple[float, str]]
) -> None:
    window = Window(limit, window_s)
    through: dict[str, list[float]] = defaultdict(list)
    for now_s, (_, key) in zip(at_times([gap for gap, _ in asked]), asked, strict=True):
        in_span = [t for t in through[key] if now_s - t < window_s]
        taken = window.take(key, now_s)
        assert taken == (len(in_span) < limit)
        if taken:
            through[key].append(now_s)
    for times in through.values():
        assert all(sum(0 <= t - start < window_s for t in times) <= limit for start in times)


@given(st.integers(1, 4), st.integers(1, 8), st.lists(st.tuples(steps, st.integers(0, 30)), max_size=100))
def test_the_table_never_grows_over_its_bound(limit: int, remembered: int, asked: list[tuple[float, int]]) -> None:
    window = Window(limit, 2.0, remembered=remembered)
    for now_s, (_, key) in zip(at_times([gap for gap, _ in asked]), asked, strict=True):
        window.take(key, now_s)
        assert window.size == sum(window._count.values()) <= max(limit, remembered)
        assert all(0 < count <= limit for count in window._count.values())


@given(st.integers(1, 3), st.lists(st.tuples(steps, st.integers(0, 5)), max_size=60))
def test_nobody_is_refused_for_attempts_of_others(limit: int, asked: list[tuple[float, int]]) -> None:
    """Whatever a full table forgets, who is refused has had their own limit within the window."""
    window = Window(limit, 2.0, remembered=4)
    through: dict[int, list[float]] = defaultdict(list)
    for now_s, (_, key) in zip(at_times([gap for gap, _ in asked]), asked, strict=True):
        if window.take(key, now_s):
            through[key].append(now_s)
        else:
            assert sum(now_s - t < 2.0 for t in through[key]) >= limit


def test_the_contracts_limit() -> None:
    window = Window(24, 10.0)
    assert [window.take("192.0.2.1", i / 8) for i in range(30)] == [True] * 24 + [False] * 6
    assert window.take("192.0.2.2", 3.0)


def test_a_right_comes_back_when_its_attempt_is_a_window_old() -> None:
    window = Window(2, 10.0)
    assert [window.take("a", now_s) for now_s in (0.0, 4.0, 9.875, 10.0, 13.875, 14.0)] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]


def test_who_keeps_trying_gets_in_as_soon_as_who_waits() -> None:
    window = Window(1, 10.0)
    assert [now_s for now_s in range(31) if window.take("a", float(now_s))] == [0, 10, 20, 30]


def test_a_refused_attempt_is_not_remembered() -> None:
    window = Window(1, 10.0)
    for _ in range(100):
        window.take("a", 0.0)
    assert window.size == 1


def test_the_oldest_attempt_goes_for_a_new_one_of_another_key() -> None:
    window = Window(1, 10.0, remembered=2)
    assert [window.take(key, now_s) for now_s, key in enumerate("abc")] == [True, True, True]
    assert window.size == 2
    assert not window.take("b", 3.0)
    assert window.take("a", 3.0)


def test_the_oldest_may_be_of_the_same_key() -> None:
    window = Window(2, 10.0, remembered=2)
    assert [window.take(key, 0.0) for key in "abaa"] == [True, True, True, True]
    assert window.size == 2
    assert window._count == {"a": 2}


def test_a_limit_above_the_bound_holds_all_the_same() -> None:
    window = Window(10, 1.0, remembered=3)
    assert sum(window.take("a", 0.0) for _ in range(20)) == 10


def test_a_quiet_table_is_empty_again() -> None:
    window = Window(3, 1.0)
    for key in "abc":
        window.take(key, 0.0)
    window.take("d", 1.0)
    assert window._count == {"d": 1}


@pytest.mark.parametrize(("limit", "window_s"), [(0, 1.0), (-1, 1.0), (1, 0.0), (1, -1.0), (1, float("nan"))])
def test_a_limit_of_nothing_is_a_mistake(limit: int, window_s: float) -> None:
    with pytest.raises(ValueError, match="must be > 0"):
        Window(limit, window_s)


@given(st.integers(1, 3), st.lists(st.tuples(steps, st.integers(0, 3), st.booleans()), max_size=60))
def test_it_is_full_where_nothing_more_is_taken(limit: int, asked: list[tuple[float, int, bool]]) -> None:
    window = Window(limit, 2.0, remembered=4)
    for now_s, (_, key, takes) in zip(at_times([gap for gap, _, _ in asked]), asked, strict=True):
        size = window.size
        full = window.is_full(key, now_s)
        assert window.size <= size
        if takes:
            assert window.take(key, now_s) is not full


# Whose attempts they are


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("unix", "unix"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_of_ipv6_a_subscriber_is_counted_not_an_address(address: str, key: str) -> None:
    assert counted_as(address) == key
