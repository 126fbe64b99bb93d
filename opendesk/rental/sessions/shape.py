"""A session as the wire shows it, and the columns that it is read from."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from attrs import frozen

from opendesk.rental.lifecycle import EndReason, Status, minutes_used
from opendesk.rental.settlement import FailureReason

COLUMNS: Final = """
    s.id, s.pc_id, s.host_id, s.client_user_id, s.status, s.minutes_purchased, s.minutes_used, s.price_total, s.currency,
    s.platform_fee_rate, s.penalty_rate, s.start_at, s.end_at, s.ended_at, s.end_reason, s.failure_reason, s.claimed_failure_reason,
    s.proportional, s.platform_fee, s.host_payout, s.penalty, s.client_credit, s.retained, s.created_at, now() AS now
"""
LIVE: Final = "status IN ('PENDING', 'ACTIVE')"


@frozen
class SettlementShape:
    """Who got what, as the wire shows it."""

    total: int
    proportional: int
    platform_fee: int
    host_payout: int
    penalty: int
    unused: int
    client_credit: int
    retained: int
    currency: str


@frozen
class Session:
    """A session as the wire shows it."""

    id: UUID
    pc_id: UUID
    host_id: UUID
    client_user_id: UUID
    status: Status
    minutes_purchased: int
    minutes_used: int
    price_total: int
    currency: str
    platform_fee_rate: Decimal
    penalty_rate: Decimal
    start_at: datetime | None
    end_at: datetime | None
    ended_at: datetime | None
    end_reason: EndReason | None
    failure_reason: FailureReason | None
    claimed_failure_reason: FailureReason | None
    settlement: SettlementShape | None
    created_at: datetime


def session(  # the row as it is stored; the settlement is one thing, and the minutes of a live one run
    *,
    now: datetime,
    proportional: int | None,
    platform_fee: int | None,
    host_payout: int | None,
    penalty: int | None,
    client_credit: int | None,
    retained: int | None,
    **row: Any,
) -> Session:
    used = row.pop("minutes_used")
    if used is None:
        start_at = row["start_at"]
        used = 0 if start_at is None else minutes_used(start_at, now, row["minutes_purchased"])
    settlement = None
    if proportional is not None:
        settlement = SettlementShape(
            row["price_total"],
            proportional,
            platform_fee or 0,
            host_payout or 0,
            penalty or 0,
            row["price_total"] - proportional,
            client_credit or 0,
            retained or 0,
            row["currency"],
        )
    return Session(minutes_used=used, settlement=settlement, **row)
