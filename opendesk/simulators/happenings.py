"""What happens on a day, as it is told to whoever watches."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from attrs import asdict, frozen

from opendesk.simulators.fast_clock import clock_face


class Kind(StrEnum):
    """What sort of thing happened."""

    TOPPED_UP = "TOPPED_UP"
    STARTED = "STARTED"
    REFUSED = "REFUSED"
    ALL_TAKEN = "ALL_TAKEN"
    ASKED_TWICE = "ASKED_TWICE"
    COMPLETED = "COMPLETED"
    LEFT = "LEFT"
    CANCELLED = "CANCELLED"
    NEVER_STARTED = "NEVER_STARTED"
    CLAIM_REJECTED = "CLAIM_REJECTED"
    REFUNDED = "REFUNDED"
    HOST_SILENT = "HOST_SILENT"
    HOST_TIMED_OUT = "HOST_TIMED_OUT"
    HOST_BACK = "HOST_BACK"
    HOST_ENDED = "HOST_ENDED"
    PAID_OUT = "PAID_OUT"
    PHONE_ONLINE = "PHONE_ONLINE"
    PHONE_OFF = "PHONE_OFF"
    PHONE_MOVED = "PHONE_MOVED"
    ORDER_REVOKED = "ORDER_REVOKED"
    ORDER_WAITS = "ORDER_WAITS"
    ROUTER_DEAD = "ROUTER_DEAD"
    ROUTER_BACK = "ROUTER_BACK"


# What goes as planned a hundred times a day. The rest is what these businesses must get right.
ORDINARY: Final = frozenset(
    {
        Kind.TOPPED_UP,
        Kind.STARTED,
        Kind.COMPLETED,
        Kind.LEFT,
        Kind.ALL_TAKEN,
        Kind.PAID_OUT,
        Kind.HOST_BACK,
        Kind.PHONE_ONLINE,
        Kind.PHONE_OFF,
    }
)


@frozen
class Happening:
    """`minute` is the day's. An amount is in minor units; `code` is what the API said."""

    minute: int
    kind: Kind
    text: str
    who: str
    pc: str | None = None
    amount: int | None = None
    code: str | None = None
    session_id: str | None = None

    @property
    def at(self) -> str:
        return clock_face(self.minute)

    def as_data(self) -> Mapping[str, Any]:
        return {"at": self.at, **asdict(self)}


def money(minor_units: int) -> str:
    """`1234` as `12.34`, and a thousand as `1,000.00`."""
    whole, rest = divmod(abs(minor_units), 100)
    return f"{'-' if minor_units < 0 else ''}{whole:,}.{rest:02}"
