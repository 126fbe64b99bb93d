from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from opendesk.rental.money import MAX_RATE_DECIMALS, exact_rate, half_even, price, share

unhurried = settings(deadline=None)
rates = st.fractions(min_value=0, max_value=1)


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [
        (1, 2, 0),
        (3, 2, 2),
        (5, 2, 2),
        (7, 2, 4),
        (-1, 2, 0),
        (-3, 2, -2),
        (-5, 2, -2),
        (1, 3, 0),
        (2, 3, 1),
        (49, 100, 0),
        (51, 100, 1),
        (151, 100, 2),
        (0, 7, 0),
        (14, 7, 2),
        (10**40 + 5, 10, 10**39),
        (10**40 + 15, 10, 10**39 + 2),
    ],
)
def test_half_even_takes_the_nearest_and_a_tie_to_the_even(numerator: int, denominator: int, rounded: int) -> None:
    assert half_even(numerator, denominator) == rounded


@unhurried
@given(st.integers(), st.integers(min_value=1))
def test_half_even_is_what_fractions_round_to(numerator: int, denominator: int) -> None:
    assert half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@pytest.mark.parametrize("denominator", [0, -1])
def test_half_even_refuses_a_denominator_below_one(denominator: int) -> None:
    with pytest.raises(ValueError, match="above 0"):
        half_even(1, denominator)


@pytest.mark.parametrize(
    ("price_per_hour", "minutes", "total"),
    [
        (2000, 60, 2000),
        (2400, 15, 600),
        (10_000_000, 240, 40_000_000),
        (0, 240, 0),
        (1, 1, 1),  # 0.02 would round to nothing
        (30, 1, 1),  # a tie to the even 0, but only a free PC is free
        (90, 1, 2),
        (150, 1, 2),
        (210, 1, 4),
        (100, 1, 2),
        (1, 240, 4),
    ],
)
def test_price_is_by_the_minute_half_even_and_at_least_one(price_per_hour: int, minutes: int, total: int) -> None:
    assert price(price_per_hour, minutes) == total


@unhurried
@given(st.integers(1, 10_000_000), st.integers(1, 240))
def test_price_is_within_half_a_unit_of_the_exact_one_unless_that_is_less_than_one(per_hour: int, minutes: int) -> None:
    exact = Fraction(per_hour * minutes, 60)
    assert price(per_hour, minutes) == max(1, round(exact))
    assert price(per_hour, minutes) <= price(per_hour, minutes + 1)


@pytest.mark.parametrize(("price_per_hour", "minutes"), [(-1, 60), (100, 0), (100, -1), (0, 0)])
def test_price_refuses_what_makes_no_sense(price_per_hour: int, minutes: int) -> None:
    with pytest.raises(ValueError, match="or more"):
        price(price_per_hour, minutes)


@pytest.mark.parametrize(
    ("price_per_hour", "minutes"), [(100.0, 60), (100, 60.0), (True, 60), (100, True), ("100", 60)]
)
def test_price_refuses_anything_but_integers(price_per_hour: int, minutes: int) -> None:
    with pytest.raises(TypeError, match="must be an integer"):
        price(price_per_hour, minutes)


@unhurried
@given(st.integers(0, 10**15), rates)
def test_a_share_is_half_even_and_between_nothing_and_all(amount: int, rate: Fraction) -> None:
    assert share(amount, rate) == round(amount * rate)
    assert 0 <= share(amount, rate) <= amount


@pytest.mark.parametrize("rate", [Fraction(1, 10), Decimal("0.1"), Decimal("0.1000")])
def test_fractions_and_decimals_are_the_same_rate(rate: Fraction | Decimal) -> None:
    assert exact_rate(rate) == Fraction(1, 10)


def test_the_ends_of_the_range_are_rates() -> None:
    assert [exact_rate(rate) for rate in (0, 1, Decimal(0), Decimal(1), Decimal("0E+999999"))] == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("rate", [0.1, 1.0, "0.1", None, True])
def test_a_float_is_no_rate(rate: Fraction) -> None:
    with pytest.raises(TypeError, match="a Fraction or a Decimal"):
        exact_rate(rate)


@pytest.mark.parametrize(
    "rate",
    [
        *[Fraction(-1, 10**30), Fraction(10**30 + 1, 10**30), -1, 2],
        *map(Decimal, ["-0.1", "1.1", "NaN", "sNaN", "Infinity", "-Infinity", "1E+999999", "1E-999999"]),
    ],
)
def test_a_rate_outside_0_to_1_is_refused_at_once(rate: Fraction | Decimal | int) -> None:
    with pytest.raises(ValueError, match="a decimal from 0 to 1"):
        exact_rate(rate)


def test_a_decimal_may_have_as_many_places_as_its_arithmetic_gives() -> None:
    third = Decimal(1) / 3
    assert exact_rate(third) == Fraction(int("3" * MAX_RATE_DECIMALS), 10**MAX_RATE_DECIMALS)
