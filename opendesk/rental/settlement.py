"""Who gets what of one session's price. docs/settlement.md has the rule, its table and the reasons."""

from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from attrs import asdict, frozen

from opendesk.rental.money import exact_rate, half_even, price, require_int, share


class FailureReason(StrEnum):
    """Whose fault an end was. Only a fault of the host changes who gets the money."""

    NONE = "NONE"
    HOST = "HOST"
    CLIENT = "CLIENT"
    PLATFORM = "PLATFORM"


class UnbalancedError(ArithmeticError):
    """A settlement doesn't add up. A fault in the program: no money may move by it."""


@frozen
class Settlement:
    """Amounts in minor units. UnbalancedError unless every unit of the total goes to exactly one of four places.

    The total is cut twice. First by time: `total = proportional + unused`, and `proportional = platform_fee + host_payout + penalty`.
    Then what the host doesn't get, by fault: `unused + penalty = client_credit + retained`.
    """

    total: int
    proportional: int
    platform_fee: int
    host_payout: int
    penalty: int
    unused: int
    client_credit: int
    retained: int

    def __attrs_post_init__(self) -> None:
        # Raised, not asserted: `python -O` drops asserts, and this is the last look before money moves.
        if min(asdict(self).values()) < 0:
            raise UnbalancedError(f"an amount is negative: {self}")
        if self.platform_fee + self.host_payout + self.client_credit + self.retained != self.total:
            raise UnbalancedError(f"the four payments are not the total: {self}")
        if self.proportional + self.unused != self.total:
            raise UnbalancedError(f"the used and the unused part are not the total: {self}")
        if self.platform_fee + self.host_payout + self.penalty != self.proportional:
            raise UnbalancedError(f"fee, host and penalty are not the used part: {self}")


def calculate_settlement(  # noqa: PLR0917 - the contract's signature
    minutes_purchased: int,
    minutes_used: int,
    price_per_hour: int,
    platform_fee_rate: Fraction | Decimal,
    penalty_rate: Fraction | Decimal,
    failure_reason: FailureReason,
) -> Settlement:
    """Settle a session at the price that `price_per_hour` (minor units) makes of the minutes purchased.

    Rates are exact, 0 to 1 (0.1 = 10 %); `minutes_used` is clamped to 0..minutes_purchased.
    ValueError for arguments out of range, TypeError for a float anywhere.
    """
    total = price(price_per_hour, minutes_purchased)
    return settle(total, minutes_purchased, minutes_used, platform_fee_rate, penalty_rate, failure_reason)


def settle(  # noqa: PLR0917 - the same arguments in the same order as above
    total: int,
    minutes_purchased: int,
    minutes_used: int,
    platform_fee_rate: Fraction | Decimal,
    penalty_rate: Fraction | Decimal,
    failure_reason: FailureReason,
) -> Settlement:
    """Settle a session whose price and rates were frozen when it was made; otherwise as `calculate_settlement`.

    Each product is rounded half-even once; all else is what is left over, so no unit is made or lost.
    """
    _require_sane(total, minutes_purchased, minutes_used)
    fee_rate, exact_penalty_rate = exact_rate(platform_fee_rate), exact_rate(penalty_rate)
    by_host = FailureReason(failure_reason) is FailureReason.HOST

    used = min(max(minutes_used, 0), minutes_purchased)
    proportional = half_even(total * used, minutes_purchased)
    unused = total - proportional
    fee = share(proportional, fee_rate)
    base = proportional - fee
    penalty = share(base, exact_penalty_rate) if by_host else 0
    return Settlement(
        total=total,
        proportional=proportional,
        platform_fee=fee,
        host_payout=base - penalty,
        penalty=penalty,
        unused=unused,
        client_credit=unused + penalty if by_host else 0,
        retained=0 if by_host else unused,
    )


def refund(total: int) -> Settlement:
    """A session that never ran: all of it goes back to the client. ValueError for a total below 0."""
    _require_sane(total, minutes_purchased=1, minutes_used=0)
    return Settlement(
        total=total,
        proportional=0,
        platform_fee=0,
        host_payout=0,
        penalty=0,
        unused=total,
        client_credit=total,
        retained=0,
    )


def _require_sane(total: int, minutes_purchased: int, minutes_used: int) -> None:
    require_int("total", total)
    require_int("minutes_purchased", minutes_purchased)
    require_int("minutes_used", minutes_used)
    if total < 0:
        raise ValueError(f"total must be 0 or more, not {total}")
    if minutes_purchased < 1:
        raise ValueError(f"minutes_purchased must be 1 or more, not {minutes_purchased}")
