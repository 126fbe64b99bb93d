"""What a client's program keeps of the API's answers. Amounts are in minor units."""

from typing import Any, Final

from attrs import frozen

LIVE: Final = ("PENDING", "ACTIVE")


@frozen
class PcView:
    """A PC on offer."""

    id: str
    host_id: str
    name: str
    price_per_hour: int
    status: str

    @classmethod
    def of(cls, pc: dict[str, Any]) -> "PcView":
        return cls(pc["id"], pc["hostId"], pc["name"], pc["pricePerHour"], pc["status"])


@frozen
class SettlementView:
    """Who got what of one session's price."""

    total: int
    platform_fee: int
    host_payout: int
    penalty: int
    unused: int
    client_credit: int
    retained: int

    @classmethod
    def of(cls, settlement: dict[str, Any]) -> "SettlementView":
        return cls(
            total=settlement["total"],
            platform_fee=settlement["platformFee"],
            host_payout=settlement["hostPayout"],
            penalty=settlement["penalty"],
            unused=settlement["unused"],
            client_credit=settlement["clientCredit"],
            retained=settlement["retained"],
        )


@frozen
class SessionView:
    """A session as its client, its host or an admin sees it."""

    id: str
    pc_id: str
    host_id: str
    client_id: str
    status: str
    minutes_purchased: int
    minutes_used: int
    price: int
    end_reason: str | None
    failure_reason: str | None
    claimed: str | None
    settlement: SettlementView | None

    @classmethod
    def of(cls, session: dict[str, Any]) -> "SessionView":
        settlement = session["settlement"]
        return cls(
            id=session["id"],
            pc_id=session["pcId"],
            host_id=session["hostId"],
            client_id=session["clientUserId"],
            status=session["status"],
            minutes_purchased=session["minutesPurchased"],
            minutes_used=session["minutesUsed"],
            price=session["priceTotal"],
            end_reason=session["endReason"],
            failure_reason=session["failureReason"],
            claimed=session["claimedFailureReason"],
            settlement=None if settlement is None else SettlementView.of(settlement),
        )

    @property
    def is_over(self) -> bool:
        return self.status not in LIVE
