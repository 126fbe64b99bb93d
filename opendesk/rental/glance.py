"""What goes on in the rental, at a glance: for people who watch. Every statement is bounded, whatever the tables hold."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from attrs import frozen

from opendesk.postgres.driver import TrioConnection

# Counted at most; more is told as this. Five thousand sessions take some 3 ms.
COUNT_AT_MOST: Final = 20_000
# Of one day, 30 ms.
DAY_AT_MOST: Final = 50_000
# Whatever ended today was made after this: the longest session has four hours, and one that is never started less.
_MADE_WITHIN: Final = timedelta(days=2)
_TIME_SHIFT: Final = 80

_LIVE: Final = """
    SELECT count(*) FILTER (WHERE status = 'PENDING') AS pending, count(*) FILTER (WHERE status = 'ACTIVE') AS active
      FROM (SELECT status FROM sessions WHERE status IN ('PENDING', 'ACTIVE') LIMIT %(most)s) AS live
"""
_SESSIONS: Final = """
    SELECT s.id, s.status, p.name AS pc, h.display_name AS host, u.username AS client, s.minutes_purchased, s.price_total, s.created_at,
           s.start_at, s.end_at, s.stream_by_relay AS by_relay, coalesce(s.end_at < now() - interval '30 seconds', false) AS is_overdue
      FROM (SELECT * FROM sessions WHERE status IN ('PENDING', 'ACTIVE') ORDER BY end_at NULLS LAST, id LIMIT %(limit)s) AS s
           JOIN pcs p ON p.id = s.pc_id JOIN hosts h ON h.id = s.host_id JOIN users u ON u.id = s.client_user_id
     ORDER BY is_overdue DESC, s.status, s.end_at, s.id
"""
_ENDED: Final = """
    SELECT end_reason, count(*) AS sessions, sum(host_payout)::bigint AS host_payout, sum(platform_fee)::bigint AS platform_fee,
           sum(retained - refunded)::bigint AS retained, sum(client_credit + refunded)::bigint AS client_credit
      FROM (SELECT end_reason, host_payout, platform_fee, retained, refunded, client_credit FROM sessions
             WHERE id >= %(since)s AND ended_at >= date_trunc('day', now(), 'UTC') ORDER BY id DESC LIMIT %(most)s) AS ended
     GROUP BY end_reason
"""
_PLACES: Final = """
    SELECT (SELECT count(*) FROM (SELECT FROM hosts LIMIT %(most)s) AS h) AS hosts,
           (SELECT count(*) FROM (SELECT FROM host_beats WHERE last_seen_at > now() - %(fresh_s)s * interval '1 second' LIMIT %(most)s) AS b)
               AS hosts_online,
           count(*) FILTER (WHERE status = 'ONLINE' AND is_heard) AS online, count(*) FILTER (WHERE status = 'BUSY') AS busy, count(*) AS pcs
      FROM (SELECT p.status, b.last_seen_at > now() - %(fresh_s)s * interval '1 second' AS is_heard
              FROM pcs p LEFT JOIN host_beats b ON b.host_id = p.host_id WHERE p.deleted_at IS NULL LIMIT %(most)s) AS p
"""
# Those with a session that nothing is heard of first, then those that were heard of last.
_HOSTS: Final = """
    SELECT h.id, h.display_name AS name, h.reliability_score AS reliability, h.sessions_completed AS completed, h.sessions_dropped AS dropped,
           b.last_seen_at AS seen_at, b.last_seen_at > now() - %(fresh_s)s * interval '1 second' AS is_fresh, coalesce(l.live, 0) AS live,
           (SELECT count(*) FROM pcs p WHERE p.host_id = h.id AND p.deleted_at IS NULL) AS pcs
      FROM (SELECT host_id, last_seen_at FROM host_beats ORDER BY last_seen_at DESC LIMIT %(most)s) AS b
           JOIN hosts h ON h.id = b.host_id
           LEFT JOIN (SELECT host_id, count(*) AS live FROM (SELECT host_id FROM sessions WHERE status IN ('PENDING', 'ACTIVE') LIMIT %(most)s)
                          AS s GROUP BY host_id) AS l ON l.host_id = h.id
     ORDER BY (b.last_seen_at <= now() - %(fresh_s)s * interval '1 second' AND coalesce(l.live, 0) > 0) DESC, is_fresh DESC, h.reliability_score, h.id
     LIMIT %(limit)s
"""


@frozen(kw_only=True)
class Live:
    pending: int
    active: int


@frozen(kw_only=True)
class LiveSession:
    """Names are the users' own words."""

    id: UUID
    status: str
    pc: str
    host: str
    client: str
    minutes_purchased: int
    price_total: int
    created_at: datetime
    start_at: datetime | None
    end_at: datetime | None
    by_relay: bool
    is_overdue: bool


@frozen(kw_only=True)
class Ended:
    """What ended today (UTC) for one reason. Amounts in minor units, refunds taken into account."""

    end_reason: str
    sessions: int
    host_payout: int
    platform_fee: int
    retained: int
    client_credit: int


@frozen(kw_only=True)
class Places:
    """A PC is `online` when it may be rented: its host is heard."""

    hosts: int
    hosts_online: int
    online: int
    busy: int
    pcs: int


@frozen(kw_only=True)
class HostSeen:
    id: UUID
    name: str
    reliability: int
    completed: int
    dropped: int
    seen_at: datetime
    is_fresh: bool
    live: int
    pcs: int


async def live(conn: TrioConnection) -> Live:
    found = await conn.fetch_one(_LIVE, {"most": COUNT_AT_MOST}, row=Live)
    assert found is not None
    return found


async def live_sessions(conn: TrioConnection, limit: int) -> Sequence[LiveSession]:
    """Those that are over time first, then those that end next."""
    return await conn.fetch(_SESSIONS, {"limit": limit}, row=LiveSession)


async def ended_today(conn: TrioConnection, now: datetime) -> Mapping[str, Ended]:
    """By reason; of those made last where there are more than DAY_AT_MOST."""
    since = UUID(int=int((now - _MADE_WITHIN).timestamp() * 1000) << _TIME_SHIFT)
    rows = await conn.fetch(_ENDED, {"since": since, "most": DAY_AT_MOST}, row=Ended)
    return {row.end_reason: row for row in rows}


async def places(conn: TrioConnection, fresh_s: float) -> Places:
    found = await conn.fetch_one(_PLACES, {"most": COUNT_AT_MOST, "fresh_s": fresh_s}, row=Places)
    assert found is not None
    return found


async def hosts_seen(conn: TrioConnection, fresh_s: float, limit: int) -> Sequence[HostSeen]:
    return await conn.fetch(_HOSTS, {"most": COUNT_AT_MOST, "fresh_s": fresh_s, "limit": limit}, row=HostSeen)
