from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from itertools import product
from pathlib import Path
import re
import subprocess
import sys

from attrs import asdict, evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from opendesk.rental.money import price
from opendesk.rental.settlement import (
    FailureReason,
    Settlement,
    UnbalancedError,
    calculate_settlement,
    refund,
    settle,
)

NONE, HOST, CLIENT, PLATFORM = FailureReason
TENTH, THREE_TENTHS = Fraction(1, 10), Fraction(3, 10)
DOC = Path(__file__).parents[2] / "docs" / "settlement.md"

# Purchased, used, price an hour, fee, penalty, reason: total, fee, host, credit, retained.
CONTRACT = [
    ((60, 30, 2000, "0.1", "0.3", NONE), (2000, 100, 900, 0, 1000)),
    ((60, 15, 2400, "0.1", "0.3", HOST), (2400, 60, 378, 1962, 0)),
    ((60, 90, 1000, "0", "0.1", CLIENT), (1000, 0, 1000, 0, 0)),
    ((60, 0, 1000, "0.1", "0.3", HOST), (1000, 0, 0, 1000, 0)),
]
Row = tuple[int, int, int, str, str, FailureReason]

unhurried = settings(deadline=None, max_examples=200)
totals = st.integers(0, 10**12)
rates = st.fractions(min_value=0, max_value=1) | st.sampled_from([Fraction(0), Fraction(1), TENTH, THREE_TENTHS])
minutes = st.integers(1, 240)
reasons = st.sampled_from(FailureReason)


def paid(settlement: Settlement) -> tuple[int, int, int, int, int]:
    s = settlement
    return s.total, s.platform_fee, s.host_payout, s.client_credit, s.retained


def calculated(row: Row) -> Settlement:
    purchased, used, per_hour, fee, penalty, reason = row
    return calculate_settlement(purchased, used, per_hour, Decimal(fee), Decimal(penalty), reason)


@pytest.mark.parametrize(("row", "amounts"), CONTRACT)
def test_contract_table(row: Row, amounts: tuple[int, ...]) -> None:
    assert paid(calculated(row)) == amounts


def documented() -> list[list[str]]:
    table = DOC.read_text(encoding="utf-8").partition("| purchased |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


@pytest.mark.parametrize("cells", documented(), ids=lambda cells: "-".join(cells[:6]))
def test_documented_table_is_what_the_code_answers(cells: list[str]) -> None:
    purchased, used, per_hour = map(int, cells[:3])
    fee, penalty = (Fraction(cell.removesuffix(" %")) / 100 for cell in cells[3:5])
    settlement = calculate_settlement(purchased, used, per_hour, fee, penalty, FailureReason(cells[5]))
    total, platform, host, credit, retained = cells[6:]
    parts = re.fullmatch(r"(\d+) \(= (\d+) unused \+ (\d+) penalty\)", credit)
    assert paid(settlement) == tuple(map(int, (total, platform, host, parts[1] if parts else credit, retained)))
    if parts:
        assert (settlement.unused, settlement.penalty) == (int(parts[2]), int(parts[3]))


def test_documented_table_has_the_contract_s_rows_first() -> None:
    rows = documented()
    assert len(rows) > len(CONTRACT)
    for cells, (row, _) in zip(rows, CONTRACT, strict=False):
        assert (int(cells[0]), int(cells[1]), int(cells[2]), cells[5]) == (*row[:3], row[5])


def test_all_parts_of_one_are_told() -> None:
    settlement = calculate_settlement(60, 15, 2400, TENTH, THREE_TENTHS, HOST)
    assert asdict(settlement) == {
        "total": 2400,
        "proportional": 600,
        "platform_fee": 60,
        "host_payout": 378,
        "penalty": 162,
        "unused": 1800,
        "client_credit": 1962,
        "retained": 0,
    }


def by_decimal(
    total: int, used: tuple[int, int], fee_rate: str, penalty_rate: str, reason: FailureReason
) -> Settlement:
    """The same rule once more, by another arithmetic: decimals with a hundred digits."""
    rounded = Context(prec=100, rounding=ROUND_HALF_EVEN)
    minutes_used, purchased = used
    in_range = max(0, min(minutes_used, purchased))
    proportional = int(rounded.to_integral_value(rounded.divide(Decimal(total * in_range), purchased)))
    fee = int(rounded.to_integral_value(proportional * Decimal(fee_rate)))
    base = proportional - fee
    penalty = int(rounded.to_integral_value(base * Decimal(penalty_rate))) if reason == "HOST" else 0
    host = base - penalty
    credit = total - fee - host if reason == "HOST" else 0
    return Settlement(
        total=total,
        proportional=proportional,
        platform_fee=fee,
        host_payout=host,
        penalty=penalty,
        unused=total - proportional,
        client_credit=credit,
        retained=total - fee - host - credit,
    )


@pytest.mark.parametrize("per_hour", [1, 1999, 10_000_000])
def test_every_session_up_to_an_hour_settles_by_the_rule(per_hour: int) -> None:
    for purchased in range(1, 61):
        total = price(per_hour, purchased)
        for used, reason in product(range(-1, purchased + 2), FailureReason):
            expected = by_decimal(total, (used, purchased), "0.1", "0.3", reason)
            assert calculate_settlement(purchased, used, per_hour, TENTH, THREE_TENTHS, reason) == expected


def test_the_smallest_amounts_are_conserved_at_every_rate() -> None:
    steps = ["0", "0.1", "0.25", "0.5", "0.75", "0.9", "1"]
    for total, purchased, fee, penalty, reason in product(range(6), range(1, 5), steps, steps, FailureReason):
        for used in range(purchased + 1):
            expected = by_decimal(total, (used, purchased), fee, penalty, reason)
            assert settle(total, purchased, used, Decimal(fee), Decimal(penalty), reason) == expected


@frozen
class Case:
    """A session to settle, all but the reason."""

    total: int
    purchased: int
    used: int
    fee: Fraction
    penalty: Fraction

    def settle(self, reason: FailureReason) -> Settlement:
        return settle(self.total, self.purchased, self.used, self.fee, self.penalty, reason)

    def used_longer(self, minutes: int) -> "Case":
        return evolve(self, used=self.used + minutes)


cases = st.builds(Case, totals, minutes, st.integers(-10, 300), rates, rates)


@unhurried
@given(cases, reasons)
def test_every_unit_goes_to_one_of_four_and_none_is_owed(case: Case, reason: FailureReason) -> None:
    s = case.settle(reason)
    assert s.total == case.total
    assert s.host_payout + s.platform_fee + s.client_credit + s.retained == case.total
    assert min(asdict(s).values()) >= 0


@unhurried
@given(cases, reasons)
def test_each_product_is_within_half_a_unit(case: Case, reason: FailureReason) -> None:
    s = case.settle(reason)
    used = Fraction(min(max(case.used, 0), case.purchased), case.purchased)
    penalty_rate = case.penalty if reason is HOST else Fraction(0)
    half = Fraction(1, 2)
    assert -half <= s.proportional - case.total * used <= half
    assert -half <= s.platform_fee - s.proportional * case.fee <= half
    assert -half <= s.penalty - (s.proportional - s.platform_fee) * penalty_rate <= half


@unhurried
@given(cases, reasons, st.integers(1, 3))
def test_more_minutes_never_pay_the_host_less_nor_the_client_more(
    case: Case, reason: FailureReason, longer: int
) -> None:
    before, after = case.settle(reason), case.used_longer(longer).settle(reason)
    assert before.proportional <= after.proportional
    assert before.platform_fee <= after.platform_fee
    assert before.host_payout <= after.host_payout
    assert before.client_credit >= after.client_credit
    assert before.retained >= after.retained


@unhurried
@given(cases, st.integers(0, 240))
def test_host_is_never_better_off_for_its_own_fault(case: Case, longer: int) -> None:
    failed = case.settle(HOST)
    for reason in (NONE, CLIENT, PLATFORM):
        assert failed.host_payout <= case.used_longer(longer).settle(reason).host_payout


@unhurried
@given(cases)
def test_client_is_never_worse_off_for_the_host_s_fault(case: Case) -> None:
    failed = case.settle(HOST)
    assert failed.client_credit == failed.unused + failed.penalty
    assert failed.retained == 0
    for reason in (NONE, CLIENT, PLATFORM):
        other = case.settle(reason)
        assert other.client_credit == 0 <= failed.client_credit
        assert other.platform_fee == failed.platform_fee


@unhurried
@given(cases, rates)
def test_all_faults_but_the_host_s_settle_alike_whatever_the_penalty(case: Case, other_penalty: Fraction) -> None:
    settled = {case.settle(reason) for reason in (NONE, CLIENT, PLATFORM)}
    assert settled == {evolve(case, penalty=other_penalty).settle(NONE)}


@unhurried
@given(cases, reasons, st.integers(0, 10_000_000))
def test_a_frozen_price_settles_as_the_price_it_was_made_of(case: Case, reason: FailureReason, per_hour: int) -> None:
    frozen_price = evolve(case, total=price(per_hour, case.purchased))
    fresh = calculate_settlement(case.purchased, case.used, per_hour, case.fee, case.penalty, reason)
    assert fresh == frozen_price.settle(reason)


def test_minutes_beyond_what_was_purchased_cost_nothing() -> None:
    assert settle(1000, 60, 10**9, TENTH, TENTH, NONE) == settle(1000, 60, 60, TENTH, TENTH, NONE)
    assert settle(1000, 60, -5, TENTH, TENTH, HOST) == settle(1000, 60, 0, TENTH, TENTH, HOST)


def test_decimals_are_as_exact_as_fractions() -> None:
    for used in range(61):
        by_fraction = settle(1999, 60, used, TENTH, THREE_TENTHS, HOST)
        assert by_fraction == settle(1999, 60, used, Decimal("0.1"), Decimal("0.30"), HOST)


def test_a_reason_may_come_as_its_text() -> None:
    assert settle(1000, 60, 30, TENTH, TENTH, "HOST") == settle(1000, 60, 30, TENTH, TENTH, HOST)  # type: ignore[arg-type]  # as rows have it


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 0, 1000, TENTH, TENTH, NONE),
        (-1, 0, 1000, TENTH, TENTH, NONE),
        (60, 30, -1, TENTH, TENTH, NONE),
        (60, 30, 1000, Fraction(11, 10), TENTH, NONE),
        (60, 30, 1000, TENTH, Decimal("-0.1"), NONE),
        (60, 30, 1000, TENTH, Decimal("NaN"), HOST),
        (60, 30, 1000, TENTH, TENTH, "HARDWARE"),
        (60, 30, 1000, TENTH, TENTH, None),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: tuple[int, int, int, Fraction, Fraction, FailureReason],
) -> None:
    with pytest.raises(ValueError, match=r"or more|from 0 to 1|is not a valid FailureReason"):
        calculate_settlement(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        (60.0, 30, 1000, TENTH, TENTH, NONE),
        (60, 30.0, 1000, TENTH, TENTH, NONE),
        (60, 30, 1000.0, TENTH, TENTH, NONE),
        (60, 30, 1000, 0.1, TENTH, NONE),
        (60, 30, 1000, TENTH, 0.3, NONE),
        (60, 30, 1000, "0.1", TENTH, NONE),
        (True, 1, 1000, TENTH, TENTH, NONE),
    ],
)
def test_a_float_anywhere_is_refused(arguments: tuple[int, int, int, Fraction, Fraction, FailureReason]) -> None:
    with pytest.raises(TypeError, match="must be"):
        calculate_settlement(*arguments)


@pytest.mark.parametrize(
    ("total", "purchased", "error", "complaint"),
    [
        (-1, 60, ValueError, "total must be 0 or more"),
        (10, 0, ValueError, "minutes_purchased must be 1 or more"),
        (1.0, 60, TypeError, "total must be an integer"),
    ],
)
def test_a_frozen_price_that_makes_no_sense_is_refused(
    total: int, purchased: int, error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        settle(total, purchased, 0, TENTH, TENTH, NONE)


GOOD = settle(2400, 60, 15, TENTH, THREE_TENTHS, HOST)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"host_payout": 379}, "not the total"),
        ({"retained": 1}, "not the total"),
        ({"total": 2401}, "not the total"),
        ({"proportional": 601}, "used and the unused"),
        ({"unused": 1799}, "used and the unused"),
        ({"penalty": 161}, "not the used part"),
        ({"platform_fee": 61, "client_credit": 1961}, "not the used part"),
        ({"retained": -1, "client_credit": 1963}, "negative"),
        ({"host_payout": -1, "client_credit": 2341}, "negative"),
    ],
)
def test_a_settlement_that_does_not_add_up_cannot_be_made(changes: dict[str, int], complaint: str) -> None:
    with pytest.raises(UnbalancedError, match=complaint):
        evolve(GOOD, **changes)


def test_it_cannot_be_made_without_asserts_either() -> None:
    code = "from opendesk.rental.settlement import Settlement; Settlement(2, 1, 0, 1, 0, 1, 0, 0)"
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "UnbalancedError" in done.stderr


def test_a_session_that_never_ran_is_paid_back_whole() -> None:
    settlement = refund(1500)
    assert paid(settlement) == (1500, 0, 0, 1500, 0)
    assert (settlement.proportional, settlement.penalty, settlement.unused) == (0, 0, 1500)
    assert paid(refund(0)) == (0, 0, 0, 0, 0)


def test_there_is_no_refund_of_less_than_nothing() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        refund(-1)
    with pytest.raises(TypeError, match="integer"):
        refund(1.5)  # type: ignore[arg-type]  # the fault under test
