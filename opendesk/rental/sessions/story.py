"""A session and every entry of the ledger that is about it, for whoever asks why."""

from datetime import datetime
from typing import Final
from uuid import UUID

from attrs import frozen

from opendesk.postgres.driver import TrioConnection
from opendesk.rental.sessions.shape import COLUMNS, Session, session

# A hold and a settlement have four at most; the rest are refunds, and nobody gives a hundred of them.
MOST_ENTRIES: Final = 200

_GET: Final = f"SELECT {COLUMNS} FROM sessions s WHERE s.id = %(id)s"
_ENTRIES: Final = """
    SELECT t.kind AS transfer, t.created_at, t.made_by, a.kind AS account, a.user_id, e.amount, e.reason
      FROM transfers t JOIN entries e ON e.transfer_id = t.id JOIN accounts a ON a.id = e.account_id
     WHERE t.session_id = %(id)s ORDER BY t.id, e.amount, a.id LIMIT %(limit)s
"""


@frozen(kw_only=True)
class EntryView:
    """One entry, with the transfer that it is of. Amounts in minor units, signed as the account sees them."""

    transfer: str
    created_at: datetime
    made_by: UUID | None
    account: str
    user_id: UUID | None
    amount: int
    reason: str


@frozen
class Story:
    session: Session
    entries: tuple[EntryView, ...]
    is_cut: bool


async def find(conn: TrioConnection, session_id: UUID) -> Story | None:
    """For operators: whoever may read the database may read this."""
    found = await conn.fetch_one(_GET, {"id": session_id}, row=session)
    if found is None:
        return None
    entries = await conn.fetch(_ENTRIES, {"id": session_id, "limit": MOST_ENTRIES + 1}, row=EntryView)
    return Story(found, tuple(entries[:MOST_ENTRIES]), is_cut=len(entries) > MOST_ENTRIES)
