"""Wallets: double entry. The database keeps the balances (migrations/0001_rental.sql); this says what is moved, and reads."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import psycopg

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import violated
from opendesk.rental.errors import InsufficientFunds, SessionNotFound, UserNotFound
from opendesk.rental.shapes import Tx, TxType, Wallet

# The accounts that everybody pays into, by their fixed ids.
ESCROW: Final = 1
FEES: Final = 2
RETAINED: Final = 3
EXTERNAL: Final = 4

# The first to ask settles it. A row that another daemon is just inserting is seen by the second look.
_KEEP_CURRENCY = """
    WITH made AS (INSERT INTO books (currency) VALUES (%(currency)s) ON CONFLICT DO NOTHING RETURNING currency)
    SELECT currency FROM made UNION ALL SELECT currency FROM books LIMIT 1
"""
_WALLET = "SELECT user_id, balance, %(currency)s AS currency FROM accounts WHERE user_id = %(user_id)s"

_TX_COLUMNS = """
    e.id, a.user_id, CASE WHEN e.amount > 0 THEN 'CREDIT' ELSE 'DEBIT' END AS type, abs(e.amount) AS amount, e.reason,
    t.session_id, t.created_at
"""
_LIST = f"""
    SELECT {_TX_COLUMNS}
      FROM accounts a JOIN entries e ON e.account_id = a.id JOIN transfers t ON t.id = e.transfer_id
     WHERE a.user_id = %(user_id)s AND e.account_id >= 100 AND e.id < %(before)s
     ORDER BY e.id DESC LIMIT %(wanted)s
"""
# Money comes from outside (a top-up) or goes there (a payout): `amount` is signed as the wallet sees it.
_MOVE = f"""
    WITH t AS (
        INSERT INTO transfers (kind, session_id, made_by)
        SELECT %(kind)s, %(session_id)s, %(made_by)s FROM accounts WHERE user_id = %(user_id)s
        RETURNING id, session_id, created_at
    ), e AS (
        INSERT INTO entries (transfer_id, account_id, amount, reason)
        SELECT t.id, leg.account_id, leg.amount, %(reason)s
          FROM t, LATERAL (SELECT id, %(amount)s::bigint FROM accounts WHERE user_id = %(user_id)s
                           UNION ALL SELECT {EXTERNAL}, -%(amount)s::bigint) AS leg (account_id, amount)
        RETURNING id, account_id, amount, reason
    )
    SELECT {_TX_COLUMNS} FROM e JOIN accounts a ON a.id = e.account_id CROSS JOIN t WHERE a.id >= 100
"""


class CurrencyDiffers(Exception):
    """The money in this database is in another currency."""


async def keep_currency(conn: TrioConnection, currency: str) -> None:
    """Remember what all amounts are in. Raise CurrencyDiffers when they are in something else already."""
    values = {"currency": currency}
    row = await conn.fetch_one(_KEEP_CURRENCY, values) or await conn.fetch_one(_KEEP_CURRENCY, values)
    assert row is not None
    if row[0] != currency:
        raise CurrencyDiffers(
            f"the money in this database is in {row[0]}, and CURRENCY is {currency}: set CURRENCY={row[0]}"
        )


async def by_user(conn: TrioConnection, user_id: UUID, *, currency: str) -> Wallet:
    """Raise UserNotFound."""
    wallet = await conn.fetch_one(_WALLET, {"user_id": user_id, "currency": currency}, row=Wallet)
    if wallet is None:
        raise UserNotFound
    return wallet


async def transactions(conn: TrioConnection, user_id: UUID, *, before: UUID, wanted: int) -> Sequence[Tx]:
    return await conn.fetch(_LIST, {"user_id": user_id, "before": before, "wanted": wanted}, row=Tx)


async def move(
    conn: TrioConnection,
    user_id: UUID,
    kind: TxType,
    amount: int,
    reason: str,
    *,
    session_id: UUID | None = None,
    made_by: UUID | None = None,
) -> Tx:
    """Credit or debit a wallet from outside. Raise UserNotFound, SessionNotFound, InsufficientFunds."""
    values = {
        "user_id": user_id,
        "kind": kind,
        "amount": amount if kind is TxType.CREDIT else -amount,
        "reason": reason,
        "session_id": session_id,
        "made_by": made_by,
    }
    try:
        tx = await conn.fetch_one(_MOVE, values, row=Tx)
    except psycopg.errors.CheckViolation as error:
        raise refusal(error) from None
    except psycopg.errors.ForeignKeyViolation:
        raise SessionNotFound from None
    if tx is None:
        raise UserNotFound
    return tx


def refusal(error: psycopg.errors.CheckViolation) -> Exception:
    """What a violated rule of the ledger means; the error itself when it is a fault of ours."""
    return InsufficientFunds() if violated(error) == "wallet_not_negative" else error
