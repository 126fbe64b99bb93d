"""Live sessions: found when something is to happen to them, closed in one write, however many."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from opendesk.postgres.driver import TrioConnection
from opendesk.rental.closing import Closing, Snapshot
from opendesk.rental.errors import SessionNotFound
from opendesk.rental.sessions.shape import COLUMNS, LIVE, Session, session
from opendesk.rental.wallets import ESCROW, FEES, RETAINED

# What settlement needs to know, read without a lock: price and rates are frozen, and `CLOSE` is guarded by the status.
_SNAPSHOT = """
    SELECT s.id, s.pc_id, s.client_user_id, s.status, s.minutes_purchased, s.price_total, s.platform_fee_rate, s.penalty_rate,
           s.created_at, s.start_at, s.end_at, h.user_id AS host_user_id, h.id AS host_id, b.last_seen_at, now() AS now,
           CASE WHEN s.stream_by_relay THEN 'RELAY' ELSE p.network_provider END AS network_provider,
           e.host_down_since, e.client_up_since, e.last_byte_at, e.client_left_at
      FROM sessions s JOIN hosts h ON h.id = s.host_id JOIN pcs p ON p.id = s.pc_id LEFT JOIN pc_beats b ON b.pc_id = s.pc_id
           CROSS JOIN LATERAL (
               -- A host that is up at one relay is up; a client that is up at one is. A byte was passed on even if its relay is gone.
               SELECT CASE WHEN NOT bool_or(alive AND host_down_since IS NULL) THEN max(host_down_since) FILTER (WHERE alive) END,
                      coalesce(min(client_up_since) FILTER (WHERE up), max(client_up_since) FILTER (WHERE alive)),
                      max(last_byte_at),
                      CASE WHEN NOT bool_or(up) THEN max(client_left_at) FILTER (WHERE alive) END
                 FROM (SELECT r.*, alive, alive AND client_up_since IS NOT NULL AND client_left_at IS NULL AS up
                         FROM stream_presence r,
                              -- A relay that is alive says every 5 s what it sees.
                              LATERAL (SELECT r.seen_at > now() - interval '15 seconds') AS a (alive)
                        WHERE r.session_id = s.id) AS seen
           ) AS e (host_down_since, client_up_since, last_byte_at, client_left_at)
"""
SNAPSHOT = f"{_SNAPSHOT} WHERE s.id = %(id)s"
_DUE = f"{_SNAPSHOT} WHERE s.status = 'ACTIVE' AND s.end_at <= now() AND s.id <> ALL (%(but)s) ORDER BY s.end_at LIMIT %(limit)s"
_STALE = f"""{_SNAPSHOT} WHERE s.status = 'PENDING' AND s.created_at <= now() - %(pending_timeout_ms)s * interval '1 millisecond'
    AND s.id <> ALL (%(but)s) ORDER BY s.created_at LIMIT %(limit)s"""
_ON_PCS = f"{_SNAPSHOT} WHERE s.pc_id = ANY (%(pc_ids)s) AND s.{LIVE}"
_NEXT_DUE = """
    SELECT extract(epoch FROM least(
        (SELECT min(end_at) FROM sessions WHERE status = 'ACTIVE' AND id <> ALL (%(but)s)),
        (SELECT min(created_at) FROM sessions WHERE status = 'PENDING' AND id <> ALL (%(but)s))
            + %(pending_timeout_ms)s * interval '1 millisecond') - now())::float8
"""

# Written so that it stays linear: the planner thinks that a CTE gives one row, and joins two of them row by row. So a closing carries its
# PC and the id of its transfer, and hosts are summed up before they are locked.
CLOSE = f"""
    WITH closing AS MATERIALIZED (
        SELECT c.*, opendesk.uuid7() AS transfer_id
          FROM unnest(
            %(id)s::uuid[], %(pc_id)s::uuid[], %(was)s::text[], %(status)s::text[], %(ended_at)s::timestamptz[], %(minutes_used)s::int[],
            %(end_reason)s::text[], %(failure_reason)s::text[], %(claimed)s::text[], %(proportional)s::bigint[], %(platform_fee)s::bigint[],
            %(host_payout)s::bigint[], %(penalty)s::bigint[], %(client_credit)s::bigint[], %(retained)s::bigint[], %(gone)s::bool[],
            %(score)s::int[], %(completed)s::int[], %(dropped)s::int[]
        ) AS c (id, pc_id, was, status, ended_at, minutes_used, end_reason, failure_reason, claimed, proportional, platform_fee, host_payout,
                penalty, client_credit, retained, gone, score, completed, dropped)
               JOIN pcs ON pcs.id = c.pc_id
         ORDER BY pcs.id FOR UPDATE OF pcs
    ), s AS (
        UPDATE sessions SET status = c.status, ended_at = c.ended_at, minutes_used = c.minutes_used, end_reason = c.end_reason,
                            failure_reason = c.failure_reason, claimed_failure_reason = c.claimed, proportional = c.proportional,
                            platform_fee = c.platform_fee, host_payout = c.host_payout, penalty = c.penalty,
                            client_credit = c.client_credit, retained = c.retained
          FROM closing c
         WHERE sessions.id = c.id AND sessions.status = c.was AND sessions.pc_id = c.pc_id
           AND (SELECT count(*) FROM closing) > 0  -- all PCs are locked before the first session is written
        RETURNING sessions.*, c.was, c.gone, c.score, c.completed, c.dropped, c.transfer_id
    ), freed AS (
        UPDATE pcs SET status = CASE WHEN s.gone OR pcs.taken_off THEN 'OFFLINE' ELSE 'ONLINE' END
          FROM s WHERE pcs.id = s.pc_id AND (s.was = 'ACTIVE' OR s.gone)
    ), host AS MATERIALIZED (
        SELECT hosts.id, r.score, r.completed, r.dropped, r.last_drop_at
          FROM (SELECT host_id, sum(score) AS score, sum(completed) AS completed, sum(dropped) AS dropped,
                       max(ended_at) FILTER (WHERE dropped > 0) AS last_drop_at
                  FROM s GROUP BY host_id HAVING sum(completed + dropped) > 0) AS r
               JOIN hosts ON hosts.id = r.host_id
         ORDER BY hosts.id FOR NO KEY UPDATE OF hosts
    ), rated AS (
        UPDATE hosts SET reliability_score = greatest(0, least(100, reliability_score + host.score)),
                         sessions_completed = sessions_completed + host.completed, sessions_dropped = sessions_dropped + host.dropped,
                         last_drop_at = coalesce(host.last_drop_at, hosts.last_drop_at)
          FROM host WHERE hosts.id = host.id
    ), closed AS (
        INSERT INTO transfers (id, kind, session_id)
        SELECT transfer_id, CASE was WHEN 'PENDING' THEN 'RELEASE' ELSE 'SETTLEMENT' END, id FROM s WHERE price_total > 0
    ), legs AS (
        INSERT INTO entries (transfer_id, account_id, amount, reason)
        SELECT s.transfer_id, leg.account_id, leg.amount, leg.reason
          FROM s JOIN hosts ON hosts.id = s.host_id
               JOIN accounts host_wallet ON host_wallet.user_id = hosts.user_id
               JOIN accounts client_wallet ON client_wallet.user_id = s.client_user_id,
               LATERAL (VALUES ({ESCROW}, -s.price_total, 'SESSION_CLOSED'),
                               ({FEES}, s.platform_fee, 'PLATFORM_FEE'),
                               ({RETAINED}, s.retained, 'SESSION_RETAINED'),
                               (host_wallet.id, s.host_payout, 'SESSION_PAYOUT'),
                               (client_wallet.id, s.client_credit, CASE s.was WHEN 'PENDING' THEN 'SESSION_REFUND' ELSE 'SESSION_CREDIT' END)
                       ) AS leg (account_id, amount, reason)
         WHERE leg.amount <> 0
    )
    SELECT {COLUMNS} FROM s
"""


async def snapshot(conn: TrioConnection, session_id: UUID) -> Snapshot:
    """Raise SessionNotFound."""
    found = await conn.fetch_one(SNAPSHOT, {"id": session_id}, row=Snapshot)
    if found is None:
        raise SessionNotFound
    return found


async def close(conn: TrioConnection, closings: Sequence[Closing]) -> list[Session]:
    """Write what was decided and move the money; those that someone else closed first are left out."""
    return await conn.fetch(CLOSE, close_values(closings), row=session)


def close_values(closings: Sequence[Closing]) -> dict[str, list[Any]]:
    """The parameters of `CLOSE`: one array a column."""
    own = (
        "status",
        "ended_at",
        "minutes_used",
        "end_reason",
        "failure_reason",
        "claimed",
        "gone",
        "score",
        "completed",
        "dropped",
    )
    settled = ("proportional", "platform_fee", "host_payout", "penalty", "client_credit", "retained")
    return {
        "id": [c.session.id for c in closings],
        "pc_id": [c.session.pc_id for c in closings],
        "was": [c.session.status for c in closings],
        **{name: [getattr(c, name) for c in closings] for name in own},
        **{name: [getattr(c.settlement, name) for c in closings] for name in settled},
    }


async def due(conn: TrioConnection, *, limit: int, but: Sequence[UUID] = ()) -> list[Snapshot]:
    """ACTIVE sessions past their end, the longest first."""
    return await conn.fetch(_DUE, {"limit": limit, "but": list(but)}, row=Snapshot)


async def never_started(
    conn: TrioConnection, *, pending_timeout_ms: int, limit: int, but: Sequence[UUID] = ()
) -> list[Snapshot]:
    values = {"pending_timeout_ms": pending_timeout_ms, "limit": limit, "but": list(but)}
    return await conn.fetch(_STALE, values, row=Snapshot)


async def on_pcs(conn: TrioConnection, pc_ids: Sequence[UUID]) -> list[Snapshot]:
    """The live sessions of these PCs: at most one each."""
    return await conn.fetch(_ON_PCS, {"pc_ids": list(pc_ids)}, row=Snapshot)


async def next_due_in_s(conn: TrioConnection, *, pending_timeout_ms: int, but: Sequence[UUID] = ()) -> float | None:
    """Seconds until the next session expires or gives up its reservation (negative: overdue); None: there is none."""
    row = await conn.fetch_one(_NEXT_DUE, {"pending_timeout_ms": pending_timeout_ms, "but": list(but)})
    return None if row is None else row[0]
