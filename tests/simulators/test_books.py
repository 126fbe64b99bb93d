"""A day's sums come out, and a centavo that is missing anywhere is found."""

from collections.abc import Callable
from fractions import Fraction

from attrs import asdict, evolve
from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.rental.settlement import FailureReason, settle
from opendesk.simulators.books import Books, HostLine, Movement, Totals, checks, client_line, host_line
from opendesk.simulators.views import SessionView, SettlementView

FEE, PENALTY = Fraction(1, 10), Fraction(3, 10)
TOP_UP, PAYOUT, REFUND = 5000, 700, 120


def session(price: int, minutes: int, used: int, reason: FailureReason) -> SessionView:
    paid = asdict(settle(price, minutes, used, FEE, PENALTY, reason))
    settlement = SettlementView(**{a: paid[a] for a in SettlementView.__annotations__})
    return SessionView("s", "p", "h", "c", "ENDED", minutes, used, price, "COMPLETED", str(reason), None, settlement)


def day(*sessions: SessionView, refunded: int = 0) -> Books:
    """One client, one host; as the API and the ledger tell them when all is well."""
    paid = [s.settlement for s in sessions if s.settlement]
    price, earned, credit = (sum(getattr(p, name) for p in paid) for name in ("total", "host_payout", "client_credit"))
    movements = [Movement(TOP_UP, "TOP_UP"), *(Movement(-s.price, "SESSION_HOLD") for s in sessions)]
    movements += [Movement(credit, "SESSION_CREDIT"), Movement(refunded, "GOODWILL")]
    client = client_line("ana", wallet=sum(m.amount for m in movements), movements=movements, sessions=len(sessions))
    out = min(PAYOUT, earned)
    host = host_line(
        "aurora",
        wallet=earned - out,
        movements=[Movement(earned, "SESSION_PAYOUT"), Movement(-out, "PAYOUT")],
        sessions=sessions,
        pcs=1,
        score=100,
        badge="NOVO",
    )
    totals = Totals(
        topped_up=TOP_UP,
        paid_out=out,
        client_wallets=TOP_UP - price + credit + refunded,
        host_wallets=earned - out,
        escrow=0,
        fees=sum(p.platform_fee for p in paid),
        retained=sum(p.retained for p in paid) - refunded,
        entries=0,
    )
    return Books((client,), (host,), totals)


FULL = session(1000, 60, 60, FailureReason.NONE)
LEFT = session(2400, 60, 15, FailureReason.CLIENT)
DROPPED = session(1200, 90, 37, FailureReason.HOST)
DAY = (FULL, LEFT, DROPPED)


@given(
    st.lists(
        st.builds(session, st.integers(0, 10**6), st.just(60), st.integers(0, 60), st.sampled_from(FailureReason)),
        max_size=8,
    )
)
def test_a_day_that_went_well_adds_up(sessions: list[SessionView]) -> None:
    assert [check for check in checks(day(*sessions), sessions) if not check.ok] == []


def test_a_refund_out_of_what_was_retained_adds_up() -> None:
    assert all(check.ok for check in checks(day(*DAY, refunded=REFUND), DAY))


def with_totals(name: str) -> Callable[[Books], Books]:
    return lambda books: evolve(books, totals=evolve(books.totals, **{name: getattr(books.totals, name) + 1}))


def with_client(name: str) -> Callable[[Books], Books]:
    return lambda books: evolve(
        books, clients=(evolve(books.clients[0], **{name: getattr(books.clients[0], name) - 1}),)
    )


def with_host(name: str) -> Callable[[Books], Books]:
    return lambda books: evolve(books, hosts=(evolve(books.hosts[0], **{name: getattr(books.hosts[0], name) + 1}),))


@pytest.mark.parametrize(
    "spoil",
    [
        *map(with_totals, Totals.__annotations__),
        *map(with_client, ("topped_up", "paid", "returned", "refunded", "wallet")),
        *map(with_host, ("earned", "paid_out", "wallet")),
    ],
)
def test_a_centavo_that_is_not_where_it_should_be_is_found(spoil: Callable[[Books], Books]) -> None:
    assert not all(check.ok for check in checks(spoil(day(*DAY)), DAY))


def test_a_session_that_is_not_settled_is_found() -> None:
    live = evolve(FULL, status="ACTIVE", settlement=None)
    assert not all(check.ok for check in checks(day(*DAY), (*DAY, live)))


def test_a_movement_that_no_line_knows_is_found() -> None:
    books = day(*DAY)
    strange = client_line(
        "ana", wallet=TOP_UP + 5, movements=[Movement(TOP_UP, "TOP_UP"), Movement(5, "?")], sessions=0
    )
    assert not all(check.ok for check in checks(evolve(books, clients=(strange,)), DAY))


def test_a_host_is_told_what_its_faults_cost_and_how_long_it_was_used() -> None:
    host: HostLine = day(*DAY).hosts[0]
    assert DROPPED.settlement is not None
    assert (host.sessions, host.minutes, host.penalties) == (3, 60 + 15 + 37, DROPPED.settlement.penalty)
