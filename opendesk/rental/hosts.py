"""Hosts: those who offer PCs, and how far they can be relied upon."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from attrs import frozen

from opendesk.postgres.driver import TrioConnection
from opendesk.rental.reliability import Badge, badge

_HOST = """
    SELECT h.id, h.user_id, h.display_name, h.reliability_score, h.sessions_completed, h.sessions_dropped, h.last_drop_at,
           b.last_seen_at, h.created_at
      FROM hosts h LEFT JOIN host_beats b ON b.host_id = h.id
"""
_BY_ID = f"{_HOST} WHERE h.id = %(id)s"
_BY_USER = f"{_HOST} WHERE h.user_id = %(user_id)s"
_LIST = f"{_HOST} WHERE h.id < %(before)s ORDER BY h.id DESC LIMIT %(wanted)s"
_ADD = """
    WITH promoted AS (
        UPDATE users SET role = 'HOST' WHERE id = %(user_id)s AND role = 'CLIENT'
    )
    INSERT INTO hosts (user_id, display_name)
    SELECT id, coalesce(display_name, username) FROM users WHERE id = %(user_id)s
        ON CONFLICT (user_id) DO NOTHING
"""


@frozen
class Host:
    """A host's public profile."""

    id: UUID
    user_id: UUID
    display_name: str
    reliability_score: int
    reliability_badge: Badge
    sessions_total: int
    sessions_completed: int
    sessions_dropped: int
    last_drop_at: datetime | None
    last_seen_at: datetime | None
    created_at: datetime


def _host(  # the row as it is stored; total and badge follow from it
    *, sessions_completed: int, sessions_dropped: int, **row: object
) -> Host:
    total = sessions_completed + sessions_dropped
    return Host(
        reliability_badge=badge(total, sessions_completed),
        sessions_total=total,
        sessions_completed=sessions_completed,
        sessions_dropped=sessions_dropped,
        **row,  # type: ignore[arg-type]  # the columns of _HOST
    )


async def by_id(conn: TrioConnection, host_id: UUID) -> Host | None:
    return await conn.fetch_one(_BY_ID, {"id": host_id}, row=_host)


async def by_user(conn: TrioConnection, user_id: UUID) -> Host | None:
    return await conn.fetch_one(_BY_USER, {"user_id": user_id}, row=_host)


async def list_all(conn: TrioConnection, *, before: UUID, wanted: int) -> Sequence[Host]:
    return await conn.fetch(_LIST, {"before": before, "wanted": wanted}, row=_host)


async def add(conn: TrioConnection, user_id: UUID) -> bool:
    """Make a user a host; False if they were one already."""
    return await conn.run(_ADD, {"user_id": user_id}) == 1
