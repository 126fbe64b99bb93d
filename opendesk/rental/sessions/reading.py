"""Sessions as their client, their host and admins see them."""

from typing import Any
from uuid import UUID

from opendesk.errors import Forbidden
from opendesk.postgres.driver import TrioConnection
from opendesk.rental.errors import SessionNotFound
from opendesk.rental.sessions.shape import COLUMNS, Session, session

_GET = (
    f"SELECT {COLUMNS}, h.user_id AS host_user_id FROM sessions s JOIN hosts h ON h.id = s.host_id WHERE s.id = %(id)s"
)
_FILTERS = """s.id < %(before)s AND (%(status)s::text IS NULL OR s.status = %(status)s)
    AND (%(pc_id)s::uuid IS NULL OR s.pc_id = %(pc_id)s)"""
# Two index scans of a page each, not one over everything: no session has its client as its host.
_LIST_OWN = f"""
    SELECT * FROM (
        (SELECT {COLUMNS} FROM sessions s WHERE s.client_user_id = %(user_id)s AND {_FILTERS} ORDER BY s.id DESC LIMIT %(wanted)s)
        UNION ALL
        (SELECT {COLUMNS} FROM sessions s WHERE s.host_id = %(host_id)s AND {_FILTERS} ORDER BY s.id DESC LIMIT %(wanted)s)
    ) AS own ORDER BY id DESC LIMIT %(wanted)s
"""
_LIST_ALL = f"SELECT {COLUMNS} FROM sessions s WHERE {_FILTERS} ORDER BY s.id DESC LIMIT %(wanted)s"


async def get(conn: TrioConnection, session_id: UUID, *, caller: UUID, admin: bool) -> Session:
    """Raise SessionNotFound, or Forbidden when the caller is neither its client nor its host."""

    def permitted(*, host_user_id: UUID, **row: Any) -> Session | None:
        return session(**row) if admin or caller in (row["client_user_id"], host_user_id) else None

    row = await conn.fetch(_GET, {"id": session_id}, row=permitted)
    if not row:
        raise SessionNotFound
    if row[0] is None:
        raise Forbidden
    return row[0]


async def list_some(
    conn: TrioConnection,
    *,
    user_id: UUID,
    host_id: UUID | None,
    admin: bool,
    before: UUID,
    wanted: int,
    status: str | None = None,
    pc_id: UUID | None = None,
) -> list[Session]:
    """A client's and host's own; an admin's are all."""
    values = {
        "user_id": user_id,
        "host_id": host_id,
        "before": before,
        "wanted": wanted,
        "status": status,
        "pc_id": pc_id,
    }
    return await conn.fetch(_LIST_ALL if admin else _LIST_OWN, values, row=session)
