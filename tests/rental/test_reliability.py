"""What an end says of the host. That scores stay within 0..100 is the database's part: test_ending, test_host_timeout."""

import pytest

from opendesk.rental.lifecycle import Caller, Ending, EndReason, decide_expiry, decide_pending, decide_timeout
from opendesk.rental.reliability import HOST_TIMED_OUT, SAYS_NOTHING, ReliabilityChange, badge, reliability_change
from tests.rental.endings import CLIENT, PLATFORM, SESSION, START, at, end

DONE = ReliabilityChange(score=1, completed=1)


def test_a_session_done_adds_one() -> None:
    assert reliability_change(decide_expiry(SESSION)) == reliability_change(end(SESSION, Caller.CLIENT)) == DONE


def test_a_session_failed_by_the_host_takes_two() -> None:
    assert reliability_change(end(SESSION, Caller.HOST)) == ReliabilityChange(score=-2, dropped=1)


def test_a_time_out_takes_ten_by_itself_and_nothing_for_each_session() -> None:
    assert ReliabilityChange(score=-10) == HOST_TIMED_OUT
    lost = [decide_timeout(SESSION, at(30)), decide_pending(EndReason.HOST_TIMEOUT, at(30))]
    assert [reliability_change(one) for one in lost] == [ReliabilityChange(dropped=1)] * 2


@pytest.mark.parametrize(
    "ending",
    [
        end(SESSION, Caller.CLIENT, CLIENT),
        end(SESSION, Caller.ADMIN, PLATFORM),
        decide_pending(EndReason.CANCELLED, START),
        decide_pending(EndReason.NEVER_STARTED, START),
    ],
)
def test_what_others_failed_says_nothing_of_the_host(ending: Ending) -> None:
    assert reliability_change(ending) == SAYS_NOTHING


@pytest.mark.parametrize(
    ("total", "completed", "shown"),
    [
        (0, 0, "NOVO"),
        (4, 0, "NOVO"),
        (4, 4, "NOVO"),
        (5, 5, "CONFIAVEL"),
        (5, 4, "INSTAVEL"),
        (10, 9, "CONFIAVEL"),
        (10, 8, "INSTAVEL"),
        (19, 17, "INSTAVEL"),
        (20, 18, "CONFIAVEL"),
        (1000, 899, "INSTAVEL"),
        (1000, 900, "CONFIAVEL"),
    ],
)
def test_badge(total: int, completed: int, shown: str) -> None:
    assert badge(total, completed) == shown
