"""The books: what the database itself refuses, whoever asks, and that `ledger verify` finds what was done behind its back."""

from uuid import UUID

import psycopg
from psycopg.errors import CheckViolation, ForeignKeyViolation, NotNullViolation, RestrictViolation, UniqueViolation
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import violated
from opendesk.postgres.pool import Pool
from opendesk.rental import ledger, sessions
from opendesk.rental.ledger import MAX_SHOWN, Check
from opendesk.rental.lifecycle import Caller
from opendesk.rental.sessions import Session
from opendesk.rental.wallets import ESCROW, EXTERNAL, FEES, RETAINED
from tests.rental.builders import (
    MINUTE,
    Stage,
    add_client,
    add_host,
    assert_books_are_right,
    balance,
    cancel,
    credit,
    debit,
    end,
    rent,
    reserve,
    set_stage,
)


async def account_of(conn: TrioConnection, user: UUID) -> int:
    row = await conn.fetch_one("SELECT id FROM accounts WHERE user_id = %s", (user,))
    assert row is not None
    account: int = row[0]
    return account


# One statement, so that the transfer and its entries are of one transaction.
_POST = """
    WITH t AS (INSERT INTO transfers (kind) VALUES ('CREDIT') RETURNING id)
    INSERT INTO entries (transfer_id, account_id, amount, reason)
    SELECT t.id, leg.account_id, leg.amount, 'TEST'
      FROM t, unnest(%(accounts)s::bigint[], %(amounts)s::bigint[]) AS leg (account_id, amount)
"""


async def post(conn: TrioConnection, *legs: tuple[int, int]) -> None:
    await conn.run(_POST, {"accounts": [leg[0] for leg in legs], "amounts": [leg[1] for leg in legs]})


# ---- what the database refuses


@pytest.mark.usefixtures("books")
class TestRefusals:
    async def test_a_transfer_that_does_not_sum_to_zero(self, conn: TrioConnection, stage: Stage) -> None:
        wallet = await account_of(conn, stage.client)
        for legs in (((wallet, 5), (EXTERNAL, -4)), ((wallet, 5),), ((ESCROW, 5), (FEES, 5))):
            with pytest.raises(CheckViolation) as caught:
                await post(conn, *legs)
            assert violated(caught.value) == "transfer_sums_to_zero"

    async def test_one_unbalanced_transfer_among_balanced_ones(self, conn: TrioConnection, stage: Stage) -> None:
        """That the statement's entries sum to zero in all is not enough."""
        wallet = await account_of(conn, stage.client)
        query = """
            WITH t AS (INSERT INTO transfers (kind) VALUES ('CREDIT'), ('CREDIT') RETURNING id), n AS (SELECT id, row_number() OVER () FROM t)
            INSERT INTO entries (transfer_id, account_id, amount, reason)
            SELECT id, %(wallet)s, CASE row_number WHEN 1 THEN 5 ELSE -5 END, 'TEST' FROM n
        """
        with pytest.raises(CheckViolation) as caught:
            await conn.run(query, {"wallet": wallet})
        assert violated(caught.value) == "transfer_sums_to_zero"

    async def test_a_wallet_below_zero(self, conn: TrioConnection, stage: Stage) -> None:
        with pytest.raises(CheckViolation) as caught:
            await post(conn, (await account_of(conn, stage.client), -10_001), (EXTERNAL, 10_001))
        assert violated(caught.value) == "wallet_not_negative"
        assert await balance(conn, stage.client) == 10_000

    async def test_an_entry_of_nothing(self, conn: TrioConnection, stage: Stage) -> None:
        with pytest.raises(CheckViolation):
            await post(conn, (await account_of(conn, stage.client), 0), (EXTERNAL, 0))

    async def test_two_entries_of_one_transfer_on_one_account(self, conn: TrioConnection, stage: Stage) -> None:
        wallet = await account_of(conn, stage.client)
        with pytest.raises(UniqueViolation):
            await post(conn, (wallet, 5), (wallet, 5), (EXTERNAL, -10))

    async def test_an_entry_on_an_account_that_is_not_there(self, conn: TrioConnection) -> None:
        with pytest.raises(ForeignKeyViolation):
            await post(conn, (10**6, 5), (EXTERNAL, -5))

    async def test_more_than_a_balance_can_hold(self, conn: TrioConnection, stage: Stage) -> None:
        with pytest.raises(psycopg.errors.NumericValueOutOfRange):
            await post(conn, (await account_of(conn, stage.client), 2**63 - 1), (EXTERNAL, -(2**63 - 1)))

    @pytest.mark.parametrize("table", ["entries", "transfers"])
    @pytest.mark.parametrize("query", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
    async def test_what_is_written_changed_deleted_or_truncated(
        self, conn: TrioConnection, stage: Stage, table: str, query: str
    ) -> None:
        change = {"entries": "amount = amount + 1", "transfers": "kind = 'DEBIT'"}[table]
        with pytest.raises(RestrictViolation, match="never changed or deleted"):
            await conn.run(query.format(table, change))

    async def test_an_entry_written_over_by_an_upsert(self, conn: TrioConnection, stage: Stage) -> None:
        query = """INSERT INTO entries SELECT * FROM entries ON CONFLICT (transfer_id, account_id) DO UPDATE SET amount = 7"""
        with pytest.raises(RestrictViolation):
            await conn.run(query)

    async def test_a_balance_changed_directly(self, conn: TrioConnection, stage: Stage) -> None:
        for change in ("balance = balance + 1", "balance = 0", "balance = NULL", "balance = balance"):
            with pytest.raises((RestrictViolation, CheckViolation)):
                await conn.run(f"UPDATE accounts SET {change} WHERE user_id = %s", (stage.client,))

    async def test_an_account_that_starts_with_money(self, conn: TrioConnection) -> None:
        user = await add_client(conn, money=0)
        with pytest.raises(RestrictViolation, match="starts at zero"):
            await conn.run("INSERT INTO accounts (kind, user_id, balance) VALUES ('WALLET', %s, 5)", (user,))

    async def test_a_second_wallet(self, conn: TrioConnection, stage: Stage) -> None:
        with pytest.raises(UniqueViolation):
            await conn.run("INSERT INTO accounts (kind, user_id, balance) VALUES ('WALLET', %s, 0)", (stage.client,))

    async def test_a_wallet_of_nobody_or_without_a_balance(self, conn: TrioConnection, stage: Stage) -> None:
        for values in ("('WALLET', NULL, 0)", "('WALLET', uuid7(), NULL)", "('FEES', NULL, 0)", "('FEES', NULL, NULL)"):
            with pytest.raises(CheckViolation):
                await conn.run(f"INSERT INTO accounts (kind, user_id, balance) VALUES {values}")

    async def test_an_account_deleted(self, conn: TrioConnection) -> None:
        user = await add_client(conn, money=0)
        with pytest.raises(RestrictViolation):
            await conn.run("DELETE FROM accounts WHERE user_id = %s", (user,))

    async def test_accounts_truncated(self, conn: TrioConnection, stage: Stage) -> None:
        with pytest.raises((RestrictViolation, psycopg.errors.FeatureNotSupported)):
            await conn.run("TRUNCATE accounts CASCADE")
        with pytest.raises((RestrictViolation, psycopg.errors.FeatureNotSupported)):
            await conn.run("TRUNCATE accounts")

    async def test_entries_added_to_an_old_transfer(self, conn: TrioConnection, stage: Stage) -> None:
        wallet = await account_of(conn, stage.client)
        query = """INSERT INTO entries (transfer_id, account_id, amount, reason)
                   SELECT id, leg.account, leg.amount, 'MORE' FROM transfers, (VALUES (%s::bigint, -5), (%s, 5)) AS leg (account, amount)"""
        with pytest.raises(CheckViolation) as caught:
            await conn.run(query, (FEES, RETAINED))
        assert violated(caught.value) == "transfer_is_final"
        assert await balance(conn, stage.client) == 10_000
        assert wallet

    async def test_a_transfer_dated_back_or_ahead(self, conn: TrioConnection, stage: Stage) -> None:
        for when in ("now() - interval '1 day'", "now() + interval '1 day'"):
            query = _POST.replace("(kind) VALUES ('CREDIT')", f"(kind, created_at) VALUES ('CREDIT', {when})")
            with pytest.raises(CheckViolation):
                await conn.run(query, {"accounts": [FEES, RETAINED], "amounts": [1, -1]})

    async def test_a_transfer_of_a_session_without_the_session(self, conn: TrioConnection) -> None:
        for kind in ("HOLD", "RELEASE", "SETTLEMENT", "REFUND"):
            with pytest.raises(CheckViolation):
                await conn.run("INSERT INTO transfers (kind) VALUES (%s)", (kind,))


async def put_into(conn: TrioConnection, stage: Stage, status: str) -> Session:
    if status == "PENDING":
        return await reserve(conn, stage)
    if status == "FAILED":
        return await cancel(conn, (await reserve(conn, stage)).id)
    session = await rent(conn, stage, 60, used=29.5 * MINUTE)
    return session if status == "ACTIVE" else await end(conn, session.id, Caller.CLIENT)


STEPS = {("PENDING", "ACTIVE"), ("PENDING", "FAILED"), ("ACTIVE", "ENDED"), ("ACTIVE", "FAILED")}
STATUSES = ("PENDING", "ACTIVE", "ENDED", "FAILED")
NO_STEPS = [(was, to) for was in STATUSES for to in STATUSES if was != to and (was, to) not in STEPS]


@pytest.mark.usefixtures("books")
class TestSessionsThemselves:
    @pytest.mark.parametrize(("was", "to"), NO_STEPS)
    async def test_a_step_that_does_not_exist(self, conn: TrioConnection, stage: Stage, was: str, to: str) -> None:
        session = await put_into(conn, stage, was)
        with pytest.raises(CheckViolation) as caught:
            await conn.run("UPDATE sessions SET status = %s WHERE id = %s", (to, session.id))
        assert violated(caught.value) == "sessions_step"

    async def test_a_second_settlement(self, conn: TrioConnection, stage: Stage) -> None:
        session = await put_into(conn, stage, "ENDED")
        for kind in ("SETTLEMENT", "RELEASE"):
            with pytest.raises(UniqueViolation) as caught:
                await conn.run("INSERT INTO transfers (kind, session_id) VALUES (%s, %s)", (kind, session.id))
            assert violated(caught.value) == "transfers_one_close"

    async def test_a_second_hold(self, conn: TrioConnection, stage: Stage) -> None:
        session = await put_into(conn, stage, "PENDING")
        with pytest.raises(UniqueViolation) as caught:
            await conn.run("INSERT INTO transfers (kind, session_id) VALUES ('HOLD', %s)", (session.id,))
        assert violated(caught.value) == "transfers_one_hold"

    async def test_a_session_with_money_deleted(self, conn: TrioConnection, stage: Stage) -> None:
        await put_into(conn, stage, "PENDING")
        with pytest.raises(ForeignKeyViolation):
            await conn.run("DELETE FROM sessions")

    @pytest.mark.parametrize(
        "change",
        [
            "host_payout = host_payout + 1",
            "host_payout = host_payout + 1, retained = retained - 1",
            "retained = NULL",
            "minutes_used = 61",
            "ended_at = NULL",
            "price_total = price_total + 1",
            "refunded = retained + 1",
            "refunded = -1",
            "end_reason = 'HOST_TIMEOUT'",
            "failure_reason = 'HOST'",
            "client_user_id = uuid7()",
        ],
    )
    async def test_a_session_that_is_over_changed(self, conn: TrioConnection, stage: Stage, change: str) -> None:
        await put_into(conn, stage, "ENDED")
        with pytest.raises(psycopg.errors.IntegrityError):
            await conn.run(f"UPDATE sessions SET {change}")

    @pytest.mark.parametrize("status", ["PENDING", "ACTIVE"])
    @pytest.mark.parametrize(
        "change",
        [
            "price_total = 0",
            "platform_fee_rate = 0",
            "penalty_rate = 1",
            "currency = 'EUR'",
            "minutes_purchased = 240",
            "refunded = 1",
        ],
    )
    async def test_the_terms_of_a_session_changed(
        self, conn: TrioConnection, stage: Stage, status: str, change: str
    ) -> None:
        await put_into(conn, stage, status)
        with pytest.raises(psycopg.errors.IntegrityError):
            await conn.run(f"UPDATE sessions SET {change}")

    async def test_a_session_ended_without_a_settlement(self, conn: TrioConnection, stage: Stage) -> None:
        await put_into(conn, stage, "ACTIVE")
        for change in ("", ", ended_at = now(), end_reason = 'COMPLETED', failure_reason = 'NONE', minutes_used = 1"):
            with pytest.raises((CheckViolation, NotNullViolation)):
                await conn.run(f"UPDATE sessions SET status = 'ENDED'{change}")

    async def test_a_settlement_that_does_not_add_up(self, conn: TrioConnection, stage: Stage) -> None:
        await put_into(conn, stage, "ACTIVE")
        query = """UPDATE sessions SET status = 'ENDED', ended_at = now(), end_reason = 'COMPLETED', failure_reason = 'NONE', minutes_used = 1,
                          proportional = 0, platform_fee = 0, host_payout = 2401, penalty = 0, client_credit = 0, retained = 0"""
        with pytest.raises(CheckViolation):
            await conn.run(query)


# ---- what `ledger verify` finds

SUMS, ENTRIES, ALL, BALANCES, BELOW, WALLETS, HELD, PAID, ADDS_UP = ledger._CHECKS


async def tamper(conn: TrioConnection, query: str) -> None:
    """As a superuser can, behind the back of all that refuses."""
    async with conn.transaction():
        await conn.run("SET LOCAL session_replication_role = replica")
        await conn.run(query)


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
    await tamper(conn, query)
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
    await tamper(conn, "UPDATE sessions SET retained = retained + 1 WHERE status = 'ENDED'")
    assert await found(conn) == {PAID: 1, ADDS_UP: 1}


async def test_a_settlement_with_holes_is_found(conn: TrioConnection) -> None:
    await settled(conn)
    await conn.run("ALTER TABLE sessions DROP CONSTRAINT sessions_live_or_settled")
    await tamper(conn, "UPDATE sessions SET retained = NULL WHERE status = 'ENDED'")
    assert await found(conn) == {PAID: 1, ADDS_UP: 1}


async def test_a_wallet_without_a_balance_is_found(conn: TrioConnection, stage: Stage) -> None:
    await conn.run("ALTER TABLE accounts DROP CONSTRAINT accounts_wallet_has_owner_and_balance")
    await tamper(conn, f"UPDATE accounts SET balance = NULL WHERE user_id = '{stage.client}'")
    assert await found(conn) == {BALANCES: 1}


async def test_all_faults_are_counted_and_the_first_are_shown(conn: TrioConnection) -> None:
    for _ in range(MAX_SHOWN + 5):
        await add_client(conn, money=7)
    await tamper(conn, "UPDATE accounts SET balance = 8 WHERE kind = 'WALLET'")
    (check,) = [check for check in (await ledger.verify(conn)).checks if check.faults]
    assert (check.faults, len(check.shown)) == (MAX_SHOWN + 5, MAX_SHOWN)
    assert {(fault.expected, fault.found) for fault in check.shown} == {(7, 8)}


async def test_a_fault_says_whose_it_is(conn: TrioConnection, stage: Stage) -> None:
    await tamper(conn, f"UPDATE accounts SET balance = 1 WHERE user_id = '{stage.client}'")
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
