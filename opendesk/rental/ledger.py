"""The proof of the books: from the rows alone, nothing the program says of itself is believed."""

from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from opendesk.postgres.driver import TrioConnection
from opendesk.rental.wallets import ESCROW, FEES, RETAINED

# Findings shown of each check; how many there are in all is always told.
MAX_SHOWN: Final = 20

# Each gives (what, expected, found) of the rows that are wrong; none, if the books are right.
_CHECKS: Final[Mapping[str, str]] = {
    "every transfer sums to zero": """
        SELECT 'transfer ' || transfer_id, 0::numeric, sum(amount) FROM entries GROUP BY transfer_id HAVING sum(amount) <> 0
    """,
    "every transfer has entries": """
        SELECT 'transfer ' || id, 2::numeric, 0::numeric FROM transfers t WHERE NOT EXISTS (SELECT FROM entries WHERE transfer_id = t.id)
    """,
    "everything sums to zero": """
        SELECT 'all entries', 0::numeric, sum(amount) FROM entries HAVING sum(amount) <> 0
    """,
    "every balance is the sum of its entries": """
        SELECT 'wallet of user ' || user_id, coalesce(total, 0), coalesce(balance, 0)::numeric
          FROM accounts LEFT JOIN (SELECT account_id, sum(amount) AS total FROM entries GROUP BY account_id) AS e ON account_id = id
         WHERE kind = 'WALLET' AND balance IS DISTINCT FROM coalesce(total, 0)
    """,
    "no wallet is below zero": """
        SELECT 'wallet of user ' || user_id, 0::numeric, balance::numeric FROM accounts WHERE balance < 0
    """,
    "every user has a wallet": """
        SELECT 'user ' || id, 1::numeric, 0::numeric FROM users u WHERE NOT EXISTS (SELECT FROM accounts WHERE user_id = u.id)
    """,
    "the escrow holds the price of every live session, and nothing of one that is over": f"""
        SELECT coalesce('session ' || coalesce(s.id, h.session_id), 'no session'), CASE WHEN s.status IN ('PENDING', 'ACTIVE') THEN s.price_total ELSE 0 END::numeric,
               coalesce(held, 0)
          FROM sessions s
               FULL JOIN (SELECT t.session_id, sum(e.amount) AS held FROM entries e JOIN transfers t ON t.id = e.transfer_id
                           WHERE e.account_id = {ESCROW} GROUP BY t.session_id) AS h ON h.session_id = s.id
         WHERE coalesce(held, 0) <> CASE WHEN s.status IN ('PENDING', 'ACTIVE') THEN s.price_total ELSE 0 END
    """,
    "every session was paid for, and every settlement was paid, as it is written": f"""
        SELECT 'session ' || s.id || ' ' || paid.what, paid.due::numeric, coalesce(sum(e.amount), 0)
          FROM sessions s JOIN hosts h ON h.id = s.host_id
               CROSS JOIN LATERAL (VALUES
                   ('platform fee', {FEES}::bigint, coalesce(s.platform_fee, 0)),
                   ('retained', {RETAINED}::bigint, coalesce(s.retained, 0) - s.refunded),
                   ('host payout', (SELECT id FROM accounts WHERE user_id = h.user_id), coalesce(s.host_payout, 0)),
                   ('client', (SELECT id FROM accounts WHERE user_id = s.client_user_id),
                              coalesce(s.client_credit, 0) + s.refunded - s.price_total)
               ) AS paid (what, account_id, due)
               LEFT JOIN transfers t ON t.session_id = s.id AND t.kind IN ('HOLD', 'RELEASE', 'SETTLEMENT', 'REFUND')
               LEFT JOIN entries e ON e.transfer_id = t.id AND e.account_id = paid.account_id
         GROUP BY s.id, paid.what, paid.due HAVING coalesce(sum(e.amount), 0) <> paid.due
    """,
    "every settlement adds up to its price": """
        SELECT 'session ' || id, price_total::numeric,
               (coalesce(platform_fee, 0) + coalesce(host_payout, 0) + coalesce(client_credit, 0) + coalesce(retained, 0))::numeric
          FROM sessions WHERE status IN ('ENDED', 'FAILED')
           AND platform_fee + host_payout + client_credit + retained IS DISTINCT FROM price_total
    """,
}
_COUNTS = """
    SELECT (SELECT count(*) FROM accounts WHERE kind = 'WALLET'), (SELECT count(*) FROM transfers), (SELECT count(*) FROM entries),
           (SELECT count(*) FROM sessions), (SELECT coalesce(sum(balance), 0)::bigint FROM accounts)
"""


@frozen
class Fault:
    """A row that is wrong. Amounts in minor units."""

    what: str
    expected: int
    found: int


@frozen
class Check:
    """One statement about the books, and what speaks against it."""

    states: str
    faults: int
    shown: tuple[Fault, ...]


@frozen
class Verification:
    wallets: int
    transfers: int
    entries: int
    sessions: int
    in_wallets: int
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.faults == 0 for check in self.checks)


async def verify(conn: TrioConnection) -> Verification:
    """Look at one snapshot, so that it may run while the daemon serves. It reads everything: minutes with a large ledger."""
    async with conn.transaction():
        await conn.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await conn.run("SET LOCAL statement_timeout = 0")
        counts = await conn.fetch_one(_COUNTS)
        assert counts is not None
        checks = tuple([await _check(conn, states, query) for states, query in _CHECKS.items()])
    wallets, transfers, entries, sessions, in_wallets = counts
    return Verification(wallets, transfers, entries, sessions, in_wallets, checks)


async def _check(conn: TrioConnection, states: str, query: str) -> Check:
    bounded: Any = f"SELECT *, count(*) OVER () FROM ({query}) AS wrong LIMIT {MAX_SHOWN}"
    rows = await conn.fetch(bounded)
    shown = tuple(Fault(what, int(expected), int(found)) for what, expected, found, _ in rows)
    return Check(states, rows[0][3] if rows else 0, shown)
