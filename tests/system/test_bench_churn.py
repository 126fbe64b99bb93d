"""What the benchmarks of churn and of noticing reckon with."""

import pytest

from scripts.benchmarks.churn import grown
from scripts.benchmarks.churn_hour import HOUR, hour
from scripts.benchmarks.churn_memory import rollup, slope, spread
from scripts.benchmarks.noticing import STALLED_BAR_S, UNIT, watchdog_s
from scripts.benchmarks.sizes import FULL, QUICK

ROLLUP = """\
5581ba16f000-7ffd0f1fe000 ---p 00000000 00:00 0                          [rollup]
Rss:               95688 kB
Pss:               90410 kB
Anonymous:         71024 kB
"""


def test_sizes_of_a_process_are_told_in_bytes() -> None:
    assert rollup(ROLLUP) == {"Rss": 95_688 * 1024, "Pss": 90_410 * 1024, "Anonymous": 71_024 * 1024}


def test_the_spread_is_a_part_of_the_middle_value() -> None:
    assert spread([100, 101, 99, 100]) == pytest.approx(0.02)
    assert spread([7]) == 0


def test_the_slope_is_from_one_value_to_the_next() -> None:
    assert slope([10, 12, 14]) == pytest.approx(2)
    assert slope([5, 5, 5]) == 0
    assert slope([5]) == 0


def test_only_types_that_clearly_became_more_are_told_and_the_most_first() -> None:
    before = {"dict": 1000, "list": 500, "Session": 3}
    after = {"dict": 1040, "list": 700, "Session": 3, "Room": 400}
    assert grown(before, after) == [("Room", 400), ("list", 200)]


def test_a_quick_hour_has_some_of_everything_but_of_what_takes_long() -> None:
    assert hour(FULL) == HOUR
    quick = hour(QUICK)
    assert (quick.ended, quick.killed, quick.expired, quick.flaps, quick.silent) == (1, 1, 1, 1, 0)


def test_the_unit_s_watchdog_leaves_a_stalled_loop_no_longer_than_the_bar() -> None:
    assert 0 < watchdog_s(UNIT.read_text()) <= STALLED_BAR_S


def test_a_unit_without_a_watchdog_is_said() -> None:
    with pytest.raises(RuntimeError, match="no WatchdogSec"):
        watchdog_s("[Service]\nType=notify\n")
