"""Reserving a PC and starting: one statement each, which finds out by itself what speaks against it.

What a snapshot can't see (a row that another transaction is just inserting) is decided by the unique indexes `sessions_one_live_per_*`.
"""

from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import psycopg

from opendesk.errors import Forbidden, OpenDeskError, RateLimited
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import violated
from opendesk.rental.errors import (
    InsufficientFunds,
    InvalidStatus,
    OwnPc,
    PcBusy,
    PcNotFound,
    PcOffline,
    SessionExists,
    SessionNotFound,
)
from opendesk.rental.lifecycle import Status
from opendesk.rental.sessions.live import snapshot
from opendesk.rental.sessions.shape import COLUMNS, LIVE, Session, session
from opendesk.rental.wallets import ESCROW, refusal

# Reservations of one client in the last hour that were never started, before the next is refused (contracts/rental-http.md).
NEVER_STARTED_LIMIT: Final = 3

CREATE = f"""
    WITH pc AS MATERIALIZED (
        SELECT id, host_id, status, price_per_hour, currency, deleted_at FROM pcs WHERE id = %(pc_id)s FOR UPDATE
    ), facts AS MATERIALIZED (
        SELECT pc.*, opendesk.price(pc.price_per_hour, %(minutes)s) AS price, wallet.id AS wallet_id, wallet.balance,
               host.user_id = %(client)s AS own,
               EXISTS (SELECT FROM sessions WHERE pc_id = pc.id AND {LIVE}) AS reserved,
               EXISTS (SELECT FROM sessions WHERE client_user_id = %(client)s AND {LIVE}) AS renting,
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
    SELECT verdict, extract(epoch FROM barred_until - now())::float8 AS barred_s, {COLUMNS}
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
                ELSE 'INVALID_STATUS' END AS verdict, {COLUMNS}
      FROM asked LEFT JOIN pc ON true LEFT JOIN s ON true
"""

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


def _judged(*, verdict: str, barred_s: float | None = None, id: UUID | None, **row: Any) -> Session | OpenDeskError:  # noqa: A002  # the column
    if id is not None:
        return session(id=id, **row)
    if verdict == "RATE_LIMITED":
        return RateLimited(
            f"{NEVER_STARTED_LIMIT} reservations in the last hour were never started",
            retry_after_s=int(barred_s or 0) + 1,
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
        made = await _created(conn, values)
    except psycopg.errors.UniqueViolation as error:
        raise (SessionExists if violated(error) == "sessions_one_live_per_client" else PcBusy) from None
    except psycopg.errors.CheckViolation as error:
        raise refusal(error) from None
    if made is None:
        raise PcNotFound
    return made


async def _created(conn: TrioConnection, values: dict[str, Any]) -> Session | None:
    try:
        return await _decided(conn, CREATE, values)
    except (PcBusy, SessionExists, InsufficientFunds):
        # The statement may have waited for the PC, while what it saw beside it grew old: such a refusal is looked at twice.
        return await _decided(conn, CREATE, values)


async def start(conn: TrioConnection, session_id: UUID, caller: UUID, *, admin: bool) -> Session:
    """PENDING → ACTIVE, and the PC BUSY. Raise SessionNotFound, Forbidden, InvalidStatus, PcBusy, PcOffline."""
    try:
        made = await _decided(conn, START, {"id": session_id, "caller": caller, "admin": admin})
    except (PcBusy, PcOffline):
        # The statement saw the session as it was before waiting for the PC: another start may have taken it meanwhile, or a close.
        if (await snapshot(conn, session_id)).status != Status.PENDING:
            raise InvalidStatus from None
        raise
    if made is None:
        raise SessionNotFound
    return made
