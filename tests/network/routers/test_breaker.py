"""Closed, open, one probe, closed: whatever happens, in whatever order."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from opendesk.network.routers.breaker import Breaker

LIMIT, RECOVERY_S = 5, 60.0
CLOSED = Breaker(limit=LIMIT, recovery_s=RECOVERY_S)


def opened(at_s: float = 0.0) -> Breaker:
    breaker = CLOSED
    for _ in range(LIMIT):
        breaker = breaker.failed(at_s)
    return breaker


def test_it_begins_closed() -> None:
    assert CLOSED.is_closed
    assert CLOSED.may_try(0)


def test_it_opens_at_the_limit_and_not_before() -> None:
    breaker = CLOSED
    for _ in range(LIMIT - 1):
        breaker = breaker.failed(10)
        assert breaker.is_closed
    assert breaker.failed(10).open_until_s == 70


def test_only_failures_in_a_row_count() -> None:
    breaker = CLOSED
    for _ in range(3 * LIMIT):
        for _ in range(LIMIT - 1):
            breaker = breaker.failed(0)
        breaker = breaker.succeeded()
    assert breaker == CLOSED


def test_one_may_probe_when_its_time_is_over() -> None:
    breaker = opened()
    assert not breaker.may_try(59.9)
    assert breaker.may_try(60)
    assert not breaker.begin_probe(60).may_try(1000)


def test_a_probe_that_fails_opens_it_again() -> None:
    breaker = opened().begin_probe(60).failed(65)
    assert breaker.open_until_s == 125
    assert not breaker.may_try(124.9)
    assert breaker.may_try(125)


def test_a_probe_that_succeeds_closes_it() -> None:
    assert opened().begin_probe(60).succeeded() == CLOSED


def test_a_probe_that_was_given_up_leaves_room_for_another() -> None:
    assert opened().begin_probe(60).abandoned().may_try(60)


def test_what_fails_late_says_nothing_new() -> None:
    assert opened(0).failed(30).open_until_s == 60


def test_a_success_is_no_new_value_where_there_was_no_failure() -> None:
    assert CLOSED.succeeded() is CLOSED


class Breaking(RuleBasedStateMachine):
    """Against the rule in words: it opens when `limit` calls in a row failed, and lets one through a `recovery_s`."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker, self.now_s = CLOSED, 0.0
        self.in_a_row, self.opened_s, self.probes = 0, None, 0

    @rule(s=st.floats(0, 200))
    def wait(self, s: float) -> None:
        self.now_s += s

    @precondition(lambda self: self.breaker.is_closed)
    @rule()
    def fail(self) -> None:
        self.breaker = self.breaker.failed(self.now_s)
        self.in_a_row += 1
        assert self.breaker.is_closed == (self.in_a_row < LIMIT)

    @rule()
    def succeed(self) -> None:
        self.breaker = self.breaker.succeeded()
        self.in_a_row, self.probes = 0, 0
        assert self.breaker == CLOSED

    @precondition(lambda self: not self.breaker.is_closed and self.breaker.may_try(self.now_s))
    @rule()
    def probe(self) -> None:
        self.breaker = self.breaker.begin_probe(self.now_s)
        assert not self.breaker.may_try(self.now_s + 10 * RECOVERY_S)

    @precondition(lambda self: self.breaker.probing)
    @rule()
    def probe_fails(self) -> None:
        self.breaker = self.breaker.failed(self.now_s)
        assert not self.breaker.may_try(self.now_s + RECOVERY_S - 1)
        assert self.breaker.may_try(self.now_s + RECOVERY_S)

    @invariant()
    def all_or_one_may_try(self) -> None:
        breaker = self.breaker
        assert breaker.is_closed or not breaker.may_try(self.now_s) or not breaker.probing
        assert not breaker.probing or not breaker.is_closed


TestBreaking = Breaking.TestCase


@given(st.lists(st.floats(0, 1e6), min_size=LIMIT, max_size=30))
def test_however_often_it_fails_it_may_be_tried_again(moments: list[float]) -> None:
    breaker = CLOSED
    for now_s in sorted(moments):
        breaker = breaker.failed(now_s)
    assert breaker.may_try(max(moments) + RECOVERY_S)
