"""A user, a host, a PC or a transfer of the ledger, for whoever asks why: how each is, and what was last."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from attrs import frozen

from opendesk.postgres.driver import TrioConnection
from opendesk.rental.sessions.story import EntryView

# What was last of each: whoever wants more has its ids.
LAST: Final = 20

_USER: Final = """
    SELECT u.id, u.email, u.username, u.role, u.created_at, u.banned_at, h.id AS host_id, a.balance, b.currency
      FROM users u LEFT JOIN hosts h ON h.user_id = u.id LEFT JOIN accounts a ON a.user_id = u.id LEFT JOIN books b ON true
     WHERE {which}
"""
# Each by its own index.
_USER_BY_ID: Final = _USER.format(which="u.id = %(word)s")
_USERS_BY_NAME: Final = (
    _USER.format(which="lower(u.email) = lower(%(word)s)"),
    _USER.format(which="lower(u.username) = lower(%(word)s)"),
)
_HOST: Final = """
    SELECT h.id, h.user_id, h.display_name AS name, h.reliability_score AS reliability, h.sessions_completed AS completed,
           h.sessions_dropped AS dropped, h.last_drop_at, h.created_at, b.last_seen_at AS seen_at
      FROM hosts h LEFT JOIN host_beats b ON b.host_id = h.id WHERE h.id = %(id)s
"""
_PC: Final = """
    SELECT p.id, p.host_id, p.name, p.status, p.taken_off, p.price_per_hour, p.currency, p.created_at, p.deleted_at, b.last_seen_at AS seen_at
      FROM pcs p LEFT JOIN pc_beats b ON b.pc_id = p.id WHERE {which} ORDER BY p.id DESC LIMIT %(limit)s
"""
_PC_BY_ID: Final = _PC.format(which="p.id = %(id)s")
_PCS_OF_HOST: Final = _PC.format(which="p.host_id = %(id)s AND p.deleted_at IS NULL")
_SESSIONS: Final = """
    SELECT s.id, s.status, s.created_at, s.ended_at, s.end_reason, s.price_total, s.currency
      FROM sessions s WHERE s.{column} = %(id)s ORDER BY s.id DESC LIMIT %(limit)s
"""
_SESSIONS_OF: Final = {column: _SESSIONS.format(column=column) for column in ("client_user_id", "host_id", "pc_id")}
_TRANSFER: Final = """
    SELECT t.id, t.kind, t.session_id, t.made_by, t.created_at, b.currency FROM transfers t LEFT JOIN books b ON true WHERE t.id = %(id)s
"""
_ENTRY: Final = """
    SELECT t.kind AS transfer, t.created_at, t.made_by, a.kind AS account, a.user_id, e.amount, e.reason
      FROM entries e JOIN transfers t ON t.id = e.transfer_id JOIN accounts a ON a.id = e.account_id
"""
_OF_TRANSFER: Final = f"{_ENTRY} WHERE e.transfer_id = %(id)s ORDER BY e.amount, a.id LIMIT %(limit)s"
_OF_WALLET: Final = f"""
    {_ENTRY} WHERE e.account_id >= 100 AND e.account_id = (SELECT id FROM accounts WHERE user_id = %(id)s) ORDER BY e.id DESC LIMIT %(limit)s
"""


@frozen(kw_only=True)
class UserView:
    """`balance` in minor units; None for who has no wallet."""

    id: UUID
    email: str
    username: str
    role: str
    created_at: datetime
    banned_at: datetime | None
    host_id: UUID | None
    balance: int | None
    currency: str | None


@frozen(kw_only=True)
class HostView:
    id: UUID
    user_id: UUID
    name: str
    reliability: int
    completed: int
    dropped: int
    last_drop_at: datetime | None
    created_at: datetime
    seen_at: datetime | None


@frozen(kw_only=True)
class PcView:
    id: UUID
    host_id: UUID
    name: str
    status: str
    taken_off: bool
    price_per_hour: int
    currency: str
    created_at: datetime
    deleted_at: datetime | None
    seen_at: datetime | None


@frozen(kw_only=True)
class SessionView:
    id: UUID
    status: str
    created_at: datetime
    ended_at: datetime | None
    end_reason: str | None
    price_total: int
    currency: str


@frozen(kw_only=True)
class TransferView:
    id: UUID
    kind: str
    session_id: UUID | None
    made_by: UUID | None
    created_at: datetime
    currency: str | None


@frozen(kw_only=True)
class UserStory:
    """`entries` are the wallet's last, the newest first, as all here is."""

    user: UserView
    sessions: Sequence[SessionView]
    entries: Sequence[EntryView]


@frozen(kw_only=True)
class HostStory:
    host: HostView
    pcs: Sequence[PcView]
    sessions: Sequence[SessionView]


@frozen(kw_only=True)
class PcStory:
    pc: PcView
    sessions: Sequence[SessionView]


@frozen(kw_only=True)
class TransferStory:
    transfer: TransferView
    entries: Sequence[EntryView]


Story = UserStory | HostStory | PcStory | TransferStory


async def find(conn: TrioConnection, word: str) -> list[Story]:
    """By an id; a user also by e-mail or name. For operators: whoever may read the database may read this."""
    wanted = as_uuid(word)
    statements: list[tuple[str, str | UUID]] = [(statement, word) for statement in _USERS_BY_NAME]
    if wanted is not None:
        statements.insert(0, (_USER_BY_ID, wanted))
    found: list[Story | None] = [await _user(conn, statements)]
    if wanted is not None:
        found += [await _host(conn, wanted), await _pc(conn, wanted), await _transfer(conn, wanted)]
    return [story for story in found if story is not None]


def as_uuid(word: str) -> UUID | None:
    try:
        return UUID(word)
    except ValueError:
        return None


async def _user(conn: TrioConnection, statements: Sequence[tuple[str, str | UUID]]) -> UserStory | None:
    for statement, word in statements:
        if (user := await conn.fetch_one(statement, {"word": word}, row=UserView)) is not None:
            entries = await conn.fetch(_OF_WALLET, {"id": user.id, "limit": LAST}, row=EntryView)
            return UserStory(user=user, sessions=await _sessions(conn, "client_user_id", user.id), entries=entries)
    return None


async def _host(conn: TrioConnection, host_id: UUID) -> HostStory | None:
    host = await conn.fetch_one(_HOST, {"id": host_id}, row=HostView)
    if host is None:
        return None
    pcs = await conn.fetch(_PCS_OF_HOST, {"id": host_id, "limit": LAST}, row=PcView)
    return HostStory(host=host, pcs=pcs, sessions=await _sessions(conn, "host_id", host_id))


async def _pc(conn: TrioConnection, pc_id: UUID) -> PcStory | None:
    pc = await conn.fetch_one(_PC_BY_ID, {"id": pc_id, "limit": 1}, row=PcView)
    return None if pc is None else PcStory(pc=pc, sessions=await _sessions(conn, "pc_id", pc_id))


async def _transfer(conn: TrioConnection, transfer_id: UUID) -> TransferStory | None:
    transfer = await conn.fetch_one(_TRANSFER, {"id": transfer_id}, row=TransferView)
    if transfer is None:
        return None
    entries = await conn.fetch(_OF_TRANSFER, {"id": transfer_id, "limit": LAST}, row=EntryView)
    return TransferStory(transfer=transfer, entries=entries)


async def _sessions(conn: TrioConnection, column: str, wanted: UUID) -> list[SessionView]:
    return await conn.fetch(_SESSIONS_OF[column], {"id": wanted, "limit": LAST}, row=SessionView)
