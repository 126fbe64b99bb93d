"""`ledger verify`: it proves the books, and finds what was done behind the back of all that refuses."""

from uuid import UUID

import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import ledger, sessions
from opendesk.rental.ledger import MAX_SHOWN, Check
from opendesk.rental.lifecycle import Caller
from opendesk.rental.sessions import Session
from opendesk.rental.wallets import ESCROW, EXTERNAL
from tests.rental.builders import (
    MINUTE,
    Stage,
    add_client,
    add_host,
    assert_books_are_right,
    behind_triggers,
    cancel,
    credit,
    debit,
    end,
    post,
    rent,
    reserve,
    set_stage,
)

SUMS, ENTRIES, ALL, BALANCES, BELOW, WALLETS, HELD, PAID, ADDS_UP = ledger._CHECKS


async def found(conn: TrioConnection) -> dict[str, int]:
    """The checks that speak against the books, and how many faults each counts."""
    return {check.states: check.faults for check in (await ledger.verify(conn)).checks if check.faults}


async def settled(conn: TrioConnection) -> tuple[Stage, Session]:
    """10 go to the platform, 90 to the host, 100 are retained; and another session is under way."""
    stage = await set_stage(conn, price=200)
    ended = await end(conn, (await rent(conn, stage, 60, used=29.5 * MINUTE)).id, Caller.CLIENT)
    await reserve(conn, await set_stage(conn, price=200))
    return stage, ended


async def test_books_without_anything_are_right(conn: TrioConnection) -> None:
    verification = await ledger.verify(conn)
    assert verification.ok
    assert (verification.wallets, verification.transfers, verification.entries, verification.sessions) == (0, 0, 0, 0)


async def test_right_books_are_counted(conn: TrioConnection) -> None:
    await settled(conn)
    verification = await ledger.verify(conn)
    assert verification.ok
    assert [check.faults for check in verification.checks] == [0] * 9
    assert (verification.wallets, verification.transfers, verification.entries, verification.sessions) == (4, 5, 12, 2)
    assert verification.in_wallets == 20_000 - 200 - 200 + 90


TAMPERED = {
    "an entry raised": ("UPDATE entries SET amount = amount + 1 WHERE reason = 'SESSION_PAYOUT'", {SUMS: 1, ALL: 1, BALANCES: 1, PAID: 1}),
    "a shared account's entry raised": ("UPDATE entries SET amount = amount + 1 WHERE reason = 'PLATFORM_FEE'", {SUMS: 1, ALL: 1, PAID: 1}),
    "an entry deleted": ("DELETE FROM entries WHERE reason = 'SESSION_RETAINED'", {SUMS: 1, ALL: 1, PAID: 1}),
    "a transfer's entries deleted": (
        "DELETE FROM entries USING transfers t WHERE t.id = transfer_id AND kind = 'SETTLEMENT'",
        {ENTRIES: 1, BALANCES: 1, HELD: 1, PAID: 3},
    ),
    "a settlement deleted": (
        "WITH gone AS (DELETE FROM transfers WHERE kind = 'SETTLEMENT' RETURNING id) DELETE FROM entries WHERE transfer_id IN (SELECT id FROM gone)",
        {BALANCES: 1, HELD: 1, PAID: 3},
    ),
    "a transfer without entries": ("INSERT INTO transfers (kind) VALUES ('CREDIT')", {ENTRIES: 1}),
    "a balance raised": ("UPDATE accounts SET balance = balance + 1 WHERE kind = 'WALLET'", {BALANCES: 4}),
    "a wallet lost": (
        "DELETE FROM accounts WHERE user_id = (SELECT user_id FROM hosts WHERE sessions_completed = 0)", {WALLETS: 1}),
    "a live session's price raised": ("UPDATE sessions SET price_total = price_total + 1 WHERE status = 'PENDING'", {HELD: 1, PAID: 1}),
    "a session ended by hand": (
        """UPDATE sessions SET status = 'FAILED', ended_at = now(), end_reason = 'CANCELLED', failure_reason = 'NONE', minutes_used = 0,
                  proportional = 0, platform_fee = 0, host_payout = 0, penalty = 0, client_credit = price_total, retained = 0
            WHERE status = 'PENDING'""",
        {HELD: 1, PAID: 1},
    ),
    "a session brought back": (
        """UPDATE sessions SET status = 'PENDING', ended_at = NULL, end_reason = NULL, failure_reason = NULL, retained = NULL
            WHERE status = 'ENDED'""",
        {HELD: 1, PAID: 1},
    ),
    "a settlement changed": (
        "UPDATE sessions SET host_payout = host_payout + 5, retained = retained - 5 WHERE status = 'ENDED'", {PAID: 2}),
    "a refund that nobody got": ("UPDATE sessions SET refunded = 7 WHERE status = 'ENDED'", {PAID: 2}),
    "a session deleted": ("DELETE FROM sessions WHERE status = 'PENDING'", {HELD: 1}),
    "a hold taken from its session": (
        """UPDATE transfers SET kind = 'DEBIT', session_id = NULL
            WHERE session_id = (SELECT id FROM sessions WHERE status = 'PENDING')""",
        {HELD: 2, PAID: 1},
    ),
    "a payout on another's wallet": (
        """UPDATE entries SET account_id = (SELECT max(id) FROM accounts) WHERE reason = 'SESSION_PAYOUT'""", {BALANCES: 2, PAID: 1}),
    "a hold paid by another": (
        """UPDATE entries SET account_id = (SELECT min(id) FROM accounts WHERE kind = 'WALLET') WHERE reason = 'SESSION_HOLD' AND amount < 0
            AND transfer_id = (SELECT t.id FROM transfers t JOIN sessions s ON s.id = t.session_id WHERE s.status = 'PENDING')""",
        {BALANCES: 2, PAID: 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
async def test_tampered_books_are_found_out(conn: TrioConnection, how: str) -> None:
    await settled(conn)
    query, wrong = TAMPERED[how]
    await behind_triggers(conn, query)
    assert await found(conn) == wrong


async def test_what_rests_in_the_escrow_for_no_session_is_found(conn: TrioConnection, stage: Stage) -> None:
    """No rule of the database's is broken by it."""
    await post(conn, (ESCROW, 5), (EXTERNAL, -5))
    (check,) = [check for check in (await ledger.verify(conn)).checks if check.faults]
    assert (check.states, check.faults) == (HELD, 1)
    assert [(fault.what, fault.expected, fault.found) for fault in check.shown] == [("no session", 0, 5)]


async def test_a_wallet_below_zero_is_found(conn: TrioConnection, stage: Stage) -> None:
    await conn.run("ALTER TABLE accounts DROP CONSTRAINT wallet_not_negative")
    await debit(conn, stage.client, 10_001)
    assert await found(conn) == {BELOW: 1}


async def test_a_settlement_that_does_not_add_up_is_found(conn: TrioConnection) -> None:
    await settled(conn)
    await conn.run("ALTER TABLE sessions DROP CONSTRAINT sessions_live_or_settled")
    await behind_triggers(conn, "UPDATE sessions SET retained = retained + 1 WHERE status = 'ENDED'")
    assert await found(conn) == {PAID: 1, ADDS_UP: 1}


async def test_a_settlement_with_holes_is_found(conn: TrioConnection) -> None:
    await settled(conn)
    await conn.run("ALTER TABLE sessions DROP CONSTRAINT sessions_live_or_settled")
    await behind_triggers(conn, "UPDATE sessions SET retained = NULL WHERE status = 'ENDED'")
    assert await found(conn) == {PAID: 1, ADDS_UP: 1}


async def test_a_wallet_without_a_balance_is_found(conn: TrioConnection, stage: Stage) -> None:
    await conn.run("ALTER TABLE accounts DROP CONSTRAINT accounts_wallet_has_owner_and_balance")
    await behind_triggers(conn, f"UPDATE accounts SET balance = NULL WHERE user_id = '{stage.client}'")
    assert await found(conn) == {BALANCES: 1}


async def test_all_faults_are_counted_and_the_first_are_shown(conn: TrioConnection) -> None:
    for _ in range(MAX_SHOWN + 5):
        await add_client(conn, money=7)
    await behind_triggers(conn, "UPDATE accounts SET balance = 8 WHERE kind = 'WALLET'")
    (check,) = [check for check in (await ledger.verify(conn)).checks if check.faults]
    assert (check.faults, len(check.shown)) == (MAX_SHOWN + 5, MAX_SHOWN)
    assert {(fault.expected, fault.found) for fault in check.shown} == {(7, 8)}


async def test_a_fault_says_whose_it_is(conn: TrioConnection, stage: Stage) -> None:
    await behind_triggers(conn, f"UPDATE accounts SET balance = 1 WHERE user_id = '{stage.client}'")
    checks: list[Check] = [check for check in (await ledger.verify(conn)).checks if check.faults]
    assert [fault.what for check in checks for fault in check.shown] == [f"wallet of user {stage.client}"]


async def test_refunds_payouts_and_free_sessions_leave_the_books_right(conn: TrioConnection, stage: Stage) -> None:
    ended = await end(conn, (await rent(conn, stage, 60, used=29.5 * MINUTE)).id, Caller.CLIENT)
    await sessions.refund(conn, ended.id, 400, "GOODWILL", made_by=stage.host.user)
    await debit(conn, stage.host.user, 1080)
    free = await set_stage(conn, price=0, money=0)
    await end(conn, (await rent(conn, free)).id, Caller.HOST)
    await cancel(conn, (await reserve(conn, free)).id)
    await assert_books_are_right(conn)


async def test_it_verifies_one_moment_while_money_moves(conn: TrioConnection, pool: Pool) -> None:
    """Its checks are statements of their own: they would not agree if each looked at its own moment."""
    clients = [await add_client(conn, money=1000) for _ in range(4)]
    host = await add_host(conn)
    verified = trio.Event()

    async def move(user: UUID) -> None:
        async with pool.connection() as own:
            while not verified.is_set():
                await credit(own, user, 3)
                await debit(own, user, 3)

    async with trio.open_nursery() as nursery:
        for user in (*clients, host.user):
            nursery.start_soon(move, user)
        for _ in range(20):
            await assert_books_are_right(conn)
        verified.set()


async def test_verifying_changes_nothing_and_leaves_the_connection_as_it_was(
    conn: TrioConnection, stage: Stage
) -> None:
    await assert_books_are_right(conn)
    await credit(conn, stage.client, 1)
    assert await conn.fetch_one("SHOW transaction_isolation") == ("read committed",)
