"""Sessions: created and started in one statement each, ended in two; many can be closed by one.

Every statement locks in the same order: PCs, sessions, hosts, wallets, each by id.
"""

from opendesk.rental.sessions.booking import CREATE, START, create, start
from opendesk.rental.sessions.live import (
    CLOSE,
    SNAPSHOT,
    close,
    close_values,
    due,
    never_started,
    next_due_in_s,
    on_pcs,
    snapshot,
)
from opendesk.rental.sessions.reading import get, list_some
from opendesk.rental.sessions.refunds import refund
from opendesk.rental.sessions.shape import Session, SettlementShape

__all__ = [
    "CLOSE",
    "CREATE",
    "SNAPSHOT",
    "START",
    "Session",
    "SettlementShape",
    "close",
    "close_values",
    "create",
    "due",
    "get",
    "list_some",
    "never_started",
    "next_due_in_s",
    "on_pcs",
    "refund",
    "snapshot",
    "start",
]
