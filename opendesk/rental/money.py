"""Money is an integer of minor units (centavos); rates are exact; the only rounding there is, is half-even."""

from decimal import Decimal
from fractions import Fraction
from typing import Final

MINUTES_AN_HOUR: Final = 60

# As many as Decimal keeps by default: every rate that Decimal arithmetic gives fits, while a rate of
# "1E-999999999" can't make an integer of a billion digits.
MAX_RATE_DECIMALS: Final = 28

_RATE_IS: Final = f"a rate is a decimal from 0 to 1 with at most {MAX_RATE_DECIMALS} decimals, such as 0.1 for 10 %"


def require_int(name: str, value: object) -> None:
    """TypeError unless it is an integer: a float has lost centavos already, and True is not an amount."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")


def half_even(numerator: int, denominator: int) -> int:
    """The quotient to the nearest integer, a tie to the even one; exact. ValueError unless denominator > 0."""
    if denominator <= 0:
        raise ValueError(f"a denominator must be above 0, not {denominator}")
    below, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and below % 2 == 1):
        return below + 1
    return below


def price(price_per_hour: int, minutes: int) -> int:
    """What `minutes` cost, in minor units: pricePerHour x minutes / 60, half-even, at least 1 unless the PC is free.

    ValueError for a price below 0 or less than one minute, TypeError for anything but integers.
    """
    require_int("price_per_hour", price_per_hour)
    require_int("minutes", minutes)
    if price_per_hour < 0:
        raise ValueError(f"price_per_hour must be 0 or more, not {price_per_hour}")
    if minutes < 1:
        raise ValueError(f"minutes must be 1 or more, not {minutes}")
    if price_per_hour == 0:
        return 0
    return max(1, half_even(price_per_hour * minutes, MINUTES_AN_HOUR))


def share(amount: int, rate: Fraction) -> int:
    """That part of an amount, half-even. With a rate of 0 to 1 never more than the amount, nor less than nothing."""
    return half_even(amount * rate.numerator, rate.denominator)


def exact_rate(rate: Fraction | Decimal | int) -> Fraction:
    """The same rate as a fraction. TypeError for a float or a text, ValueError outside of 0 to 1."""
    if isinstance(rate, Decimal):
        _require_short(rate)
    elif isinstance(rate, bool) or not isinstance(rate, Fraction | int):
        raise TypeError(f"a rate must be a Fraction or a Decimal, not {type(rate).__name__}")
    if not 0 <= rate <= 1:
        raise ValueError(f"{_RATE_IS}; not {rate}")
    return Fraction(rate)


def _require_short(rate: Decimal) -> None:
    # as_tuple() gives a letter for the exponent of NaN and the infinities.
    exponent = rate.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -MAX_RATE_DECIMALS:
        raise ValueError(f"{_RATE_IS}; not {rate}")
