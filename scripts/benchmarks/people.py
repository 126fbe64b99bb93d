"""Who takes part: users, hosts, PCs and money, put in by a few statements instead of thousands of calls."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from attrs import asdict, frozen

from opendesk.postgres.driver import TrioConnection
from opendesk.web.auth import Tokens

# Signs the tokens of a benchmark's users; nobody else has a database with them.
JWT_SECRET: Final = "benchmarks-only-benchmarks-only-benchmarks"  # noqa: S105  # not a secret
_TOKENS: Final = Tokens(JWT_SECRET.encode(), timedelta(days=1))

# Minor units. Enough that nobody runs out of it, far from what a sum of wallets overflows.
PRICE_PER_HOUR: Final = 600
MONEY: Final = 10_000_000_000

_USERS = """
    WITH made AS (
        INSERT INTO users (email, username, role, password_hash)
        SELECT %(name)s || n || '@example.org', %(name)s || n, %(role)s, '-' FROM generate_series(1, %(count)s) AS n
        RETURNING id
    ), wallets AS (
        INSERT INTO accounts (kind, user_id, balance) SELECT 'WALLET', id, 0 FROM made
    )
    SELECT id FROM made
"""
_HOSTS = """
    WITH host AS (
        INSERT INTO hosts (user_id, display_name) SELECT id, 'Host' FROM unnest(%(users)s::uuid[]) AS u (id) RETURNING id, user_id
    ), pc AS (
        INSERT INTO pcs (host_id, name, level, cpu, ram_gb, gpu, vram_gb, storage_type, internet_upload_mbps, price_per_hour, currency, status)
        SELECT host.id, 'PC', 'A', 'Ryzen 7', 32, 'RTX 4070', 12, 'SSD', 100, %(price)s, 'BRL', 'ONLINE'
          FROM host, generate_series(1, %(pcs)s)
        RETURNING id, host_id
    ), host_seen AS (
        INSERT INTO host_beats (host_id, last_seen_at) SELECT id, now() FROM host
    ), pc_seen AS (
        INSERT INTO pc_beats (pc_id, last_seen_at) SELECT id, now() FROM pc
    )
    SELECT host.user_id, host.id, pc.id FROM host JOIN pc ON pc.host_id = host.id
"""
_TOP_UP = """
    WITH topped AS MATERIALIZED (
        SELECT id AS wallet, opendesk.uuid7() AS transfer FROM accounts WHERE user_id = ANY (%(users)s)
    ), made AS (
        INSERT INTO transfers (id, kind) SELECT transfer, 'CREDIT' FROM topped
    )
    INSERT INTO entries (transfer_id, account_id, amount, reason)
    SELECT transfer, leg.account, leg.amount, 'BENCHMARK'
      FROM topped, LATERAL (VALUES (wallet, %(amount)s::bigint), (4, -%(amount)s::bigint)) AS leg (account, amount)
"""


@frozen
class Host:
    """A host with one of its PCs."""

    user: UUID
    host: UUID
    pc: UUID


@frozen
class Renter:
    """A client with money, and a PC that only this client rents."""

    user: UUID
    pc: UUID


async def add_users(conn: TrioConnection, name: str, count: int, *, role: str = "CLIENT") -> list[UUID]:
    rows = await conn.fetch(_USERS, {"name": name, "count": count, "role": role})
    return [row[0] for row in rows]


async def add_hosts(conn: TrioConnection, name: str, count: int, *, pcs: int = 1) -> list[Host]:
    users = await add_users(conn, name, count, role="HOST")
    return await _host_rows(conn, users, pcs)


async def _host_rows(conn: TrioConnection, users: list[UUID], pcs: int) -> list[Host]:
    rows = await conn.fetch(_HOSTS, {"users": users, "pcs": pcs, "price": PRICE_PER_HOUR})
    return [Host(*row) for row in rows]


async def add_renters(conn: TrioConnection, name: str, count: int) -> list[Renter]:
    """Each with a host and a PC of its own, so that they only meet where everybody meets."""
    hosts = await add_hosts(conn, f"{name}-host", count)
    users = await add_users(conn, name, count)
    await conn.run(_TOP_UP, {"users": users, "amount": MONEY})
    await settle_down(conn)
    return [Renter(user, host.pc) for user, host in zip(users, hosts, strict=True)]


async def top_up(conn: TrioConnection, users: list[UUID], amount: int) -> None:
    await conn.run(_TOP_UP, {"users": users, "amount": amount})


async def settle_down(conn: TrioConnection) -> None:
    """What autovacuum would do within its next minute, and not in the middle of a round.

    Statements that were prepared while the tables were empty have plans for empty tables until then.
    """
    await conn.run("VACUUM ANALYZE")


def token(user: UUID, role: str = "CLIENT") -> str:
    return _TOKENS.issue(user, role, 1, now=datetime.now(UTC))


def for_load(person: Host | Renter) -> dict[str, Any]:
    """As the load generator wants it."""
    role = "HOST" if isinstance(person, Host) else "CLIENT"
    return {**{name: str(value) for name, value in asdict(person).items()}, "token": token(person.user, role)}
