"""Giving back of what was retained."""

from uuid import UUID

import psycopg

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import violated
from opendesk.rental.errors import InvalidStatus, RefundTooLarge
from opendesk.rental.sessions.live import snapshot
from opendesk.rental.shapes import Tx
from opendesk.rental.wallets import RETAINED

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
