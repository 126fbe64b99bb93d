import pytest

from opendesk.rental.lifecycle import (
    HOST_TIMED_OUT,
    SAYS_NOTHING,
    Badge,
    Caller,
    Ending,
    EndReason,
    Reliability,
    badge,
    decide_expiry,
    decide_pending,
    decide_timeout,
    reliability_change,
)
from tests.rental.endings import CLIENT, PLATFORM, SESSION, START, at, end


def test_a_new_host_is_trusted() -> None:
    assert (Reliability().score, Reliability().badge) == (100, Badge.NOVO)


def test_a_session_done_adds_one() -> None:
    assert Reliability(50, 7, 6, 1).after(reliability_change(decide_expiry(SESSION))) == Reliability(51, 8, 7, 1)
    assert Reliability(50).after(reliability_change(end(SESSION, Caller.CLIENT))) == Reliability(51, 1, 1, 0)


def test_a_session_failed_by_the_host_takes_two() -> None:
    assert Reliability(50, 7, 6, 1).after(reliability_change(end(SESSION, Caller.HOST))) == Reliability(48, 8, 6, 2)


def test_a_time_out_takes_ten_once_however_many_sessions_it_took() -> None:
    record = Reliability(50, 7, 6, 1).after(HOST_TIMED_OUT)
    for _ in range(3):
        record = record.after(reliability_change(decide_timeout(SESSION, at(30))))
    record = record.after(reliability_change(decide_pending(EndReason.HOST_TIMEOUT, at(30))))
    assert record == Reliability(40, 11, 6, 5)


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
    assert Reliability(50, 7, 6, 1).after(SAYS_NOTHING) == Reliability(50, 7, 6, 1)


def test_a_score_stays_within_0_and_100() -> None:
    assert Reliability(100).after(reliability_change(decide_expiry(SESSION))).score == 100
    assert Reliability(1).after(reliability_change(end(SESSION, Caller.HOST))).score == 0
    assert Reliability(9).after(HOST_TIMED_OUT).score == 0


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
    assert Reliability(100, total, completed, total - completed).badge == shown
