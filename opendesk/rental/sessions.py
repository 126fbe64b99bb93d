"""Sessions: created and started in one statement each, ended in two; many can be closed by one.

Every statement locks in the same order: PCs, sessions, hosts, wallets, each by id. What a snapshot can't see (a row that another
transaction is just inserting) is decided by the partial unique indexes `sessions_one_live_per_*`.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from attrs import frozen
import psycopg

from opendesk.errors import Forbidden, OpenDeskError, RateLimited
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import violated
from opendesk.rental.closing import Closing, Snapshot
from opendesk.rental.errors import (
    InsufficientFunds,
    InvalidStatus,
    OwnPc,
    PcBusy,
    PcNotFound,
    PcOffline,
    RefundTooLarge,
    SessionExists,
    SessionNotFound,
)
from opendesk.rental.lifecycle import EndReason, Status, minutes_used
from opendesk.rental.settlement import FailureReason
from opendesk.rental.shapes import Tx
from opendesk.rental.wallets import ESCROW, FEES, RETAINED, refusal

# Reservations of one client in the last hour that were never started, before the next is refused (contracts/rental-http.md).
NEVER_STARTED_LIMIT: Final = 3

_COLUMNS = """
    s.id, s.pc_id, s.host_id, s.client_user_id, s.status, s.minutes_purchased, s.minutes_used, s.price_total, s.currency,
    s.platform_fee_rate, s.penalty_rate, s.start_at, s.end_at, s.ended_at, s.end_reason, s.failure_reason, s.claimed_failure_reason,
    s.proportional, s.platform_fee, s.host_payout, s.penalty, s.client_credit, s.retained, s.created_at, now() AS now
"""
_LIVE = "status IN ('PENDING', 'ACTIVE')"

CREATE = f"""
    WITH pc AS MATERIALIZED (
        SELECT id, host_id, status, price_per_hour, currency, deleted_at FROM pcs WHERE id = %(pc_id)s FOR UPDATE
    ), facts AS MATERIALIZED (
        SELECT pc.*, opendesk.price(pc.price_per_hour, %(minutes)s) AS price, wallet.id AS wallet_id, wallet.balance,
               host.user_id = %(client)s AS own,
               EXISTS (SELECT FROM sessions WHERE pc_id = pc.id AND {_LIVE}) AS reserved,
               EXISTS (SELECT FROM sessions WHERE client_user_id = %(client)s AND {_LIVE}) AS renting,
               (SELECT created_at FROM sessions
                 WHERE client_user_id = %(client)s AND end_reason IN ('CANCELLED', 'NEVER_STARTED')
                 ORDER BY created_at DESC OFFSET {NEVER_STARTED_LIMIT - 1} LIMIT 1) + interval '1 hour' AS barred_until
          FROM pc JOIN hosts host ON host.id = pc.host_id JOIN accounts wallet ON wallet.user_id = %(client)s
    ), verdict AS MATERIALIZED (
        SELECT *, CASE WHEN deleted_at IS NOT NULL THEN 'PC_NOT_FOUND'
                       WHEN status = 'BUSY' THEN 'PC_BUSY'
                       WHEN status = 'OFFLINE' THEN 'PC_OFFLINE'
                       WHEN reserved THEN 'PC_BUSY'
                       WHEN renting THEN 'SESSION_EXISTS'
                       WHEN own THEN 'OWN_PC'
                       WHEN barred_until > now() THEN 'RATE_LIMITED'
                       WHEN balance < price THEN 'INSUFFICIENT_FUNDS'
                       ELSE 'OK' END AS verdict
          FROM facts
    ), s AS (
        INSERT INTO sessions (pc_id, host_id, client_user_id, minutes_purchased, price_per_hour, price_total, currency,
                              platform_fee_rate, penalty_rate)
        SELECT id, host_id, %(client)s, %(minutes)s, price_per_hour, price, currency, %(fee_rate)s, %(penalty_rate)s
          FROM verdict WHERE verdict = 'OK'
        RETURNING *
    ), hold AS (
        INSERT INTO transfers (kind, session_id) SELECT 'HOLD', id FROM s WHERE price_total > 0 RETURNING id, session_id
    ), legs AS (
        INSERT INTO entries (transfer_id, account_id, amount, reason)
        SELECT hold.id, leg.account_id, leg.amount, 'SESSION_HOLD'
          FROM hold, verdict, LATERAL (VALUES (wallet_id, -price), ({ESCROW}, price)) AS leg (account_id, amount)
    )
    SELECT verdict, extract(epoch FROM barred_until - now())::float8 AS barred_s, {_COLUMNS}
      FROM verdict LEFT JOIN s ON true
"""

START = f"""
    WITH asked AS MATERIALIZED (
        SELECT pc_id, client_user_id, status FROM sessions WHERE id = %(id)s
    ), pc AS MATERIALIZED (
        SELECT id, status FROM pcs WHERE id = (SELECT pc_id FROM asked) FOR UPDATE
    ), s AS (
        UPDATE sessions SET status = 'ACTIVE', start_at = now(), end_at = now() + minutes_purchased * interval '1 minute'
          FROM pc
         WHERE sessions.id = %(id)s AND sessions.status = 'PENDING' AND pc.status = 'ONLINE'
           AND (sessions.client_user_id = %(caller)s OR %(admin)s)
        RETURNING sessions.*
    ), taken AS (
        UPDATE pcs SET status = 'BUSY' FROM s WHERE pcs.id = s.pc_id
    )
    SELECT CASE WHEN s.id IS NOT NULL THEN 'OK'
                WHEN asked.client_user_id <> %(caller)s AND NOT %(admin)s THEN 'FORBIDDEN'
                WHEN asked.status <> 'PENDING' THEN 'INVALID_STATUS'
                WHEN pc.status = 'BUSY' THEN 'PC_BUSY'
                WHEN pc.status = 'OFFLINE' THEN 'PC_OFFLINE'
                ELSE 'INVALID_STATUS' END AS verdict, 0::float8 AS barred_s, {_COLUMNS}
      FROM asked LEFT JOIN pc ON true LEFT JOIN s ON true
"""

# What settlement needs to know, read without a lock: price and rates are frozen, and `CLOSE` is guarded by the status.
_SNAPSHOT = """
    SELECT s.id, s.pc_id, s.client_user_id, s.status, s.minutes_purchased, s.price_total, s.platform_fee_rate, s.penalty_rate,
           s.created_at, s.start_at, s.end_at, h.user_id AS host_user_id, h.id AS host_id, p.network_provider, b.last_seen_at, now() AS now
      FROM sessions s JOIN hosts h ON h.id = s.host_id JOIN pcs p ON p.id = s.pc_id LEFT JOIN pc_beats b ON b.pc_id = s.pc_id
"""
SNAPSHOT = f"{_SNAPSHOT} WHERE s.id = %(id)s"
_DUE = f"{_SNAPSHOT} WHERE s.status = 'ACTIVE' AND s.end_at <= now() AND s.id <> ALL (%(but)s) ORDER BY s.end_at LIMIT %(limit)s"
_STALE = f"""{_SNAPSHOT} WHERE s.status = 'PENDING' AND s.created_at <= now() - %(pending_timeout_ms)s * interval '1 millisecond'
    AND s.id <> ALL (%(but)s) ORDER BY s.created_at LIMIT %(limit)s"""
_ON_PCS = f"{_SNAPSHOT} WHERE s.pc_id = ANY (%(pc_ids)s) AND s.{_LIVE}"
_NEXT_DUE = """
    SELECT extract(epoch FROM least(
        (SELECT min(end_at) FROM sessions WHERE status = 'ACTIVE'),
        (SELECT min(created_at) FROM sessions WHERE status = 'PENDING') + %(pending_timeout_ms)s * interval '1 millisecond') - now())::float8
"""

CLOSE = f"""
    WITH closing AS MATERIALIZED (
        SELECT * FROM unnest(
            %(id)s::uuid[], %(was)s::text[], %(status)s::text[], %(ended_at)s::timestamptz[], %(minutes_used)s::int[], %(end_reason)s::text[],
            %(failure_reason)s::text[], %(claimed)s::text[], %(proportional)s::bigint[], %(platform_fee)s::bigint[], %(host_payout)s::bigint[],
            %(penalty)s::bigint[], %(client_credit)s::bigint[], %(retained)s::bigint[], %(gone)s::bool[], %(score)s::int[], %(completed)s::int[],
            %(dropped)s::int[]
        ) AS c (id, was, status, ended_at, minutes_used, end_reason, failure_reason, claimed, proportional, platform_fee, host_payout,
                penalty, client_credit, retained, gone, score, completed, dropped)
    ), pc AS MATERIALIZED (
        SELECT id FROM pcs WHERE id = ANY (%(pc_id)s::uuid[]) ORDER BY id FOR UPDATE
    ), s AS (
        UPDATE sessions SET status = c.status, ended_at = c.ended_at, minutes_used = c.minutes_used, end_reason = c.end_reason,
                            failure_reason = c.failure_reason, claimed_failure_reason = c.claimed, proportional = c.proportional,
                            platform_fee = c.platform_fee, host_payout = c.host_payout, penalty = c.penalty,
                            client_credit = c.client_credit, retained = c.retained
          FROM closing c, pc
         WHERE sessions.id = c.id AND sessions.status = c.was AND pc.id = sessions.pc_id
        RETURNING sessions.*, c.was, c.gone, c.score, c.completed, c.dropped
    ), freed AS (
        UPDATE pcs SET status = CASE WHEN s.gone OR pcs.taken_off THEN 'OFFLINE' ELSE 'ONLINE' END
          FROM s WHERE pcs.id = s.pc_id AND (s.was = 'ACTIVE' OR s.gone)
    ), host AS MATERIALIZED (
        SELECT id FROM hosts WHERE id IN (SELECT host_id FROM s WHERE completed + dropped > 0) ORDER BY id FOR NO KEY UPDATE
    ), rated AS (
        UPDATE hosts SET reliability_score = greatest(0, least(100, reliability_score + r.score)),
                         sessions_completed = sessions_completed + r.completed, sessions_dropped = sessions_dropped + r.dropped,
                         last_drop_at = coalesce(r.last_drop_at, hosts.last_drop_at)
          FROM host, (SELECT host_id, sum(score) AS score, sum(completed) AS completed, sum(dropped) AS dropped,
                             max(ended_at) FILTER (WHERE dropped > 0) AS last_drop_at
                        FROM s GROUP BY host_id) AS r
         WHERE hosts.id = host.id AND hosts.id = r.host_id
    ), closed AS (
        INSERT INTO transfers (kind, session_id)
        SELECT CASE was WHEN 'PENDING' THEN 'RELEASE' ELSE 'SETTLEMENT' END, id FROM s WHERE price_total > 0
        RETURNING id, session_id
    ), legs AS (
        INSERT INTO entries (transfer_id, account_id, amount, reason)
        SELECT closed.id, leg.account_id, leg.amount, leg.reason
          FROM closed JOIN s ON s.id = closed.session_id
               JOIN hosts ON hosts.id = s.host_id
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
    SELECT {_COLUMNS} FROM s
"""

_GET = (
    f"SELECT {_COLUMNS}, h.user_id AS host_user_id FROM sessions s JOIN hosts h ON h.id = s.host_id WHERE s.id = %(id)s"
)
_FILTERS = """s.id < %(before)s AND (%(status)s::text IS NULL OR s.status = %(status)s)
    AND (%(pc_id)s::uuid IS NULL OR s.pc_id = %(pc_id)s)"""
# Two index scans of a page each, not one over everything: no session has its client as its host.
_LIST_OWN = f"""
    SELECT * FROM (
        (SELECT {_COLUMNS} FROM sessions s WHERE s.client_user_id = %(user_id)s AND {_FILTERS} ORDER BY s.id DESC LIMIT %(wanted)s)
        UNION ALL
        (SELECT {_COLUMNS} FROM sessions s WHERE s.host_id = %(host_id)s AND {_FILTERS} ORDER BY s.id DESC LIMIT %(wanted)s)
    ) AS own ORDER BY id DESC LIMIT %(wanted)s
"""
_LIST_ALL = f"SELECT {_COLUMNS} FROM sessions s WHERE {_FILTERS} ORDER BY s.id DESC LIMIT %(wanted)s"

_REFUND = f"""
    WITH s AS (
        UPDATE sessions SET refunded = refunded + %(amount)s WHERE id = %(id)s AND retained IS NOT NULL RETURNING id, client_user_id
    ), t AS (
        INSERT INTO transfers (kind, session_id, made_by) SELECT 'REFUND', id, %(made_by)s FROM s RETURNING id, session_id, created_at
    ), e AS (
        INSERT INTO entries (transfer_id, account_id, amount, reason)
        SELECT t.id, leg.account_id, leg.amount, %(reason)s
          FROM t JOIN s ON s.id = t.session_id JOIN accounts wallet ON wallet.user_id = s.client_user_id,
               LATERAL (VALUES ({RETAINED}, -%(amount)s::bigint), (wallet.id, %(amount)s::bigint)) AS leg (account_id, amount)
        RETURNING id, account_id, amount, reason
    )
    SELECT e.id, a.user_id, 'CREDIT' AS type, e.amount, e.reason, t.session_id, t.created_at
      FROM e JOIN accounts a ON a.id = e.account_id CROSS JOIN t WHERE a.id >= 100
"""


@frozen
class SettlementShape:
    """Who got what, as the wire shows it."""

    total: int
    proportional: int
    platform_fee: int
    host_payout: int
    penalty: int
    unused: int
    client_credit: int
    retained: int
    currency: str


@frozen
class Session:
    """A session as the wire shows it."""

    id: UUID
    pc_id: UUID
    host_id: UUID
    client_user_id: UUID
    status: Status
    minutes_purchased: int
    minutes_used: int
    price_total: int
    currency: str
    platform_fee_rate: Decimal
    penalty_rate: Decimal
    start_at: datetime | None
    end_at: datetime | None
    ended_at: datetime | None
    end_reason: EndReason | None
    failure_reason: FailureReason | None
    claimed_failure_reason: FailureReason | None
    settlement: SettlementShape | None
    created_at: datetime


_REFUSALS: Final[dict[str, type[OpenDeskError]]] = {
    "PC_NOT_FOUND": PcNotFound,
    "PC_BUSY": PcBusy,
    "PC_OFFLINE": PcOffline,
    "SESSION_EXISTS": SessionExists,
    "OWN_PC": OwnPc,
    "INSUFFICIENT_FUNDS": InsufficientFunds,
    "FORBIDDEN": Forbidden,
    "INVALID_STATUS": InvalidStatus,
}


def _session(  # the row as it is stored; the settlement is one thing, and the minutes of a live one run
    *,
    now: datetime,
    proportional: int | None,
    platform_fee: int | None,
    host_payout: int | None,
    penalty: int | None,
    client_credit: int | None,
    retained: int | None,
    **row: Any,
) -> Session:
    used = row.pop("minutes_used")
    if used is None:
        start_at = row["start_at"]
        used = 0 if start_at is None else minutes_used(start_at, now, row["minutes_purchased"])
    settlement = None
    if proportional is not None:
        settlement = SettlementShape(
            row["price_total"],
            proportional,
            platform_fee or 0,
            host_payout or 0,
            penalty or 0,
            row["price_total"] - proportional,
            client_credit or 0,
            retained or 0,
            row["currency"],
        )
    return Session(minutes_used=used, settlement=settlement, **row)


def _judged(*, verdict: str, barred_s: float | None, id: UUID | None, **row: Any) -> Session | OpenDeskError:  # noqa: A002  # the column
    if id is not None:
        return _session(id=id, **row)
    if verdict == "RATE_LIMITED":
        return RateLimited(
            "three reservations in the last hour were never started", retry_after_s=int(barred_s or 0) + 1
        )
    return _REFUSALS[verdict]()


async def _decided(conn: TrioConnection, query: str, values: dict[str, Any]) -> Session | None:
    outcome = await conn.fetch_one(query, values, row=_judged)
    if isinstance(outcome, OpenDeskError):
        raise outcome
    return outcome


async def create(
    conn: TrioConnection, client: UUID, pc_id: UUID, minutes: int, *, fee_rate: Decimal, penalty_rate: Decimal
) -> Session:
    """Reserve a PC and hold the whole price. Raise what the contract's rule 1 refuses."""
    values = {"client": client, "pc_id": pc_id, "minutes": minutes, "fee_rate": fee_rate, "penalty_rate": penalty_rate}
    try:
        session = await _decided(conn, CREATE, values)
    except psycopg.errors.UniqueViolation as error:
        raise (SessionExists if violated(error) == "sessions_one_live_per_client" else PcBusy) from None
    except psycopg.errors.CheckViolation as error:
        raise refusal(error) from None
    if session is None:
        raise PcNotFound
    return session


async def start(conn: TrioConnection, session_id: UUID, caller: UUID, *, admin: bool) -> Session:
    """PENDING → ACTIVE, and the PC BUSY. Raise SessionNotFound, Forbidden, InvalidStatus, PcBusy, PcOffline."""
    session = await _decided(conn, START, {"id": session_id, "caller": caller, "admin": admin})
    if session is None:
        raise SessionNotFound
    return session


async def snapshot(conn: TrioConnection, session_id: UUID) -> Snapshot:
    """Raise SessionNotFound."""
    found = await conn.fetch_one(SNAPSHOT, {"id": session_id}, row=Snapshot)
    if found is None:
        raise SessionNotFound
    return found


async def close(conn: TrioConnection, closings: Sequence[Closing]) -> list[Session]:
    """Write what was decided and move the money; those that someone else closed first are left out."""
    return await conn.fetch(CLOSE, close_values(closings), row=_session)


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


async def next_due_in_s(conn: TrioConnection, *, pending_timeout_ms: int) -> float | None:
    """Seconds until the next session expires or gives up its reservation (negative: overdue); None: there is none."""
    row = await conn.fetch_one(_NEXT_DUE, {"pending_timeout_ms": pending_timeout_ms})
    return None if row is None else row[0]


async def get(conn: TrioConnection, session_id: UUID, *, caller: UUID, admin: bool) -> Session:
    """Raise SessionNotFound, or Forbidden when the caller is neither its client nor its host."""

    def permitted(*, host_user_id: UUID, **row: Any) -> Session | None:
        return _session(**row) if admin or caller in (row["client_user_id"], host_user_id) else None

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
    return await conn.fetch(_LIST_ALL if admin else _LIST_OWN, values, row=_session)


async def refund(conn: TrioConnection, session_id: UUID, amount: int, reason: str, *, made_by: UUID) -> Tx:
    """Give back of what was retained. Raise SessionNotFound, InvalidStatus, RefundTooLarge."""
    values = {"id": session_id, "amount": amount, "reason": reason, "made_by": made_by}
    try:
        tx = await conn.fetch_one(_REFUND, values, row=Tx)
    except psycopg.errors.CheckViolation as error:
        if violated(error) == "sessions_refund_from_retained":
            raise RefundTooLarge from None
        raise
    if tx is None:
        await snapshot(conn, session_id)
        raise InvalidStatus("only a session that is over has something to refund")
    return tx
