"""What is told of an end."""

from typing import Any

from attrs import evolve
import pytest

from opendesk.simulators.endings import NotOver, told_end
from opendesk.simulators.happenings import Kind, money
from opendesk.simulators.views import SessionView, SettlementView

PAID = SettlementView(
    total=2400, platform_fee=60, host_payout=378, penalty=162, unused=1800, client_credit=1962, retained=0
)
SESSION = SessionView("s", "p", "h", "c", "FAILED", 60, 15, 2400, "HOST_TIMEOUT", "HOST", None, PAID)


@pytest.mark.parametrize(
    ("changes", "kind", "who"),
    [
        ({"end_reason": "COMPLETED"}, Kind.COMPLETED, "ana"),
        ({"end_reason": "ENDED_BY_CLIENT"}, Kind.LEFT, "ana"),
        ({"end_reason": "ENDED_BY_CLIENT", "claimed": "HOST"}, Kind.CLAIM_REJECTED, "ana"),
        ({"end_reason": "ENDED_BY_HOST"}, Kind.HOST_ENDED, "aurora"),
        ({"end_reason": "HOST_TIMEOUT"}, Kind.HOST_TIMED_OUT, "aurora"),
        ({"end_reason": "CANCELLED"}, Kind.CANCELLED, "ana"),
        ({"end_reason": "NEVER_STARTED"}, Kind.NEVER_STARTED, "ana"),
    ],
)
def test_each_end_has_its_words(changes: dict[str, Any], kind: Kind, who: str) -> None:
    told = told_end(evolve(SESSION, **changes), client="ana", host="aurora", pc="aurora-1")
    assert (told.kind, told.who) == (kind, who)


def test_a_timed_out_host_is_told_with_penalty_and_credit() -> None:
    told = told_end(SESSION, client="ana", host="aurora", pc="aurora-1")
    assert all(amount in told.text for amount in ("15 of 60", "3.78", "1.62", "19.62"))


def test_a_session_that_goes_on_has_no_end_to_tell() -> None:
    with pytest.raises(NotOver):
        told_end(evolve(SESSION, status="ACTIVE", settlement=None), client="ana", host="aurora", pc="aurora-1")


def test_an_end_that_no_story_has_is_a_fault() -> None:
    with pytest.raises(ValueError, match="ENDED_BY_ADMIN"):
        told_end(evolve(SESSION, end_reason="ENDED_BY_ADMIN"), client="ana", host="aurora", pc="aurora-1")


def test_money_is_told_in_whole_units_with_two_digits() -> None:
    assert [money(n) for n in (0, 5, 1234, -1234, 123456789)] == ["0.00", "0.05", "12.34", "-12.34", "1,234,567.89"]
