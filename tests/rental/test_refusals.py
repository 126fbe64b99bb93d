"""What the database itself refuses, whoever asks: books that don't balance, and sessions that are changed behind their back."""

import psycopg
from psycopg.errors import CheckViolation, ForeignKeyViolation, NotNullViolation, RestrictViolation, UniqueViolation
import pytest

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import violated
from opendesk.rental.lifecycle import Caller
from opendesk.rental.sessions import Session
from opendesk.rental.wallets import ESCROW, EXTERNAL, FEES, RETAINED
from tests.rental.builders import (
    MINUTE,
    POST_TRANSFER,
    Stage,
    account_of,
    add_client,
    balance,
    cancel,
    end,
    post,
    rent,
    reserve,
)


@pytest.mark.books
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
            query = POST_TRANSFER.replace("(kind) VALUES ('CREDIT')", f"(kind, created_at) VALUES ('CREDIT', {when})")
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


@pytest.mark.books
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
