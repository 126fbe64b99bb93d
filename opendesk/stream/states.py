"""What the relay reads of sessions: when somebody comes, and while a room is open."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from opendesk.postgres.driver import TrioConnection
from opendesk.stream.admission import SessionState

# The channel of migrations/0002_stream.sql; its payload is a session's id and its new status.
CHANNEL = "opendesk_sessions"

_STATES = """
    SELECT s.id, s.status, s.client_user_id, h.user_id AS host_user_id, s.stream_expires_at
      FROM sessions s JOIN hosts h ON h.id = s.host_id WHERE s.id = ANY (%(ids)s)
"""
_STATUSES = "SELECT id, status FROM sessions WHERE id = ANY (%(ids)s)"


async def states(conn: TrioConnection, ids: Sequence[UUID]) -> tuple[dict[UUID, SessionState], datetime]:
    """Those of them that there are, and the database's time."""
    found = await conn.fetch(_STATES, {"ids": list(ids)}, row=SessionState)
    row = await conn.fetch_one("SELECT now()")
    assert row is not None
    return {state.id: state for state in found}, row[0]


async def statuses(conn: TrioConnection, ids: Sequence[UUID]) -> dict[UUID, str]:
    return dict(await conn.fetch(_STATUSES, {"ids": list(ids)}))


def told(payload: str) -> tuple[UUID, str] | None:
    """What a notification says; None for what isn't ours."""
    text, _, status = payload.partition(" ")
    try:
        return UUID(text), status
    except ValueError:
        return None
