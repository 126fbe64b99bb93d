"""How long a router says it is up, and what that says."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.routers.uptime import LONGEST_S, SLACK_S, has_rebooted, parse_uptime

DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2d20h12m20s", 245_540), ("1w2d", 777_600), ("5s", 5), ("0s", 0), ("1h", 3600), ("3w4d5h6m7s", 2_178_367)],
)
def test_it_is_read_as_it_is_printed(text: str, seconds: int) -> None:
    assert parse_uptime(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "never", "12", "-5s", "1h ", "5x", "9" * 5000 + "s", "１s", "1s1s", "1s2h", "999999w", "5215w", "1w" * 9, "1\n"],
)  # fmt: skip
def test_what_is_none_is_none(text: str) -> None:
    assert parse_uptime(text) is None


@given(st.text("0123456789wdhms", max_size=40) | st.text(max_size=20))
def test_whatever_is_told_is_a_time_that_can_be_or_none(text: str) -> None:
    uptime_s = parse_uptime(text)
    assert uptime_s is None or 0 <= uptime_s <= LONGEST_S


@given(st.floats(0, 1e7), st.floats(0, 1e6), st.floats(-SLACK_S, SLACK_S))
def test_one_that_stayed_up_has_not_rebooted(before_s: float, since_s: float, skew_s: float) -> None:
    uptime_s = max(0.0, before_s + since_s - skew_s * 0.99)
    assert not has_rebooted(expected_s=before_s + since_s, since_s=since_s, uptime_s=uptime_s)


@given(st.floats(60, 1e7), st.floats(0, DAY_S), st.floats(0, 1))
def test_one_that_booted_in_between_has(before_s: float, since_s: float, part: float) -> None:
    assume_up_s = since_s * part * 0.9
    expected_s = before_s + since_s + 200
    assert has_rebooted(expected_s=expected_s, since_s=since_s, uptime_s=assume_up_s)


def test_a_clock_that_goes_wrong_is_no_reboot() -> None:
    """A minute in a day."""
    assert not has_rebooted(expected_s=11 * DAY_S, since_s=DAY_S, uptime_s=11 * DAY_S - 60)
