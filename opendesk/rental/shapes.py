"""Shapes of the wire that several nouns share."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from attrs import frozen
from msgspec import Meta

# Long enough for what people write there, short enough that a list of them stays a page.
Text = Annotated[str, Meta(min_length=1, max_length=200)]
# RFC 1035 names have 253 characters, an IPv6 address with a zone and a port fewer.
HostName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=261,
        pattern=r"^[A-Za-z0-9._:%\[\]-]+$",
        title="a host name or address",
        examples=["203.0.113.7"],
    ),
]
Port = Annotated[int, Meta(ge=1, le=65535, examples=[5004])]
Tags = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=50)], ...], Meta(max_length=30)]

# A trillion: far over any wallet's, far under what 64 bits of sums hold.
Amount = Annotated[int, Meta(ge=1, le=1_000_000_000_000, description="minor units", examples=[2400])]


class Role(StrEnum):
    """What a user is to all of the service. A host may rent too."""

    CLIENT = "CLIENT"
    HOST = "HOST"
    ADMIN = "ADMIN"


class Level(StrEnum):
    A = "A"
    B = "B"
    C = "C"


class PcStatus(StrEnum):
    ONLINE = "ONLINE"
    BUSY = "BUSY"
    OFFLINE = "OFFLINE"


class TxType(StrEnum):
    CREDIT = "CREDIT"
    DEBIT = "DEBIT"


@frozen
class Wallet:
    user_id: UUID
    balance: int
    currency: str


@frozen
class Tx:
    """One movement of a wallet. The amount is positive; the type says which way."""

    id: UUID
    user_id: UUID
    type: TxType
    amount: int
    reason: str
    session_id: UUID | None
    created_at: datetime
