"""Small helpers that make what the rental tests need: users with money, hosts, PCs that beat, sessions; and that move time by moving rows."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from attrs import frozen

from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import closing, heartbeats, ledger, pcs, sessions, users, wallets
from opendesk.rental.closing import Closing, Snapshot
from opendesk.rental.errors import InvalidStatus
from opendesk.rental.heartbeats import Beat, BeatAnswer, Heartbeats
from opendesk.rental.lifecycle import Caller, Status
from opendesk.rental.liveness import Watch
from opendesk.rental.pcs import PcOffer
from opendesk.rental.sessions import Session
from opendesk.rental.settlement import FailureReason
from opendesk.rental.shapes import Level, TxType
from opendesk.rental.timers import Expiry, HostTimeout, Periods
from opendesk.web.auth import Claims

FEE, PENALTY = Decimal("0.1"), Decimal("0.3")
TIMEOUT, TIMEOUT_ACTIVE = timedelta(seconds=60), timedelta(seconds=180)
PENDING_TIMEOUT = timedelta(minutes=15)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)

HASH = "no password fits this"


@frozen
class Host:
    """A host: the user, and the profile."""

    user: UUID
    id: UUID


@frozen
class Stage:
    """The least that a session needs."""

    host: Host
    pc: UUID
    client: UUID


# ---- people and PCs


async def add_user(conn: TrioConnection, *, role: str = "CLIENT", money: int = 0) -> users.Account:
    name = uuid4().hex[:30]
    account = await users.add(
        conn, email=f"{name}@example.org", username=name, display_name=None, role=role, password_hash=HASH
    )
    if money:
        await credit(conn, account.id, money)
    return account


async def add_client(conn: TrioConnection, *, money: int = 10_000) -> UUID:
    return (await add_user(conn, money=money)).id


async def add_host(conn: TrioConnection, *, money: int = 0) -> Host:
    account = await add_user(conn, role="HOST", money=money)
    assert account.host_id is not None
    return Host(account.id, account.host_id)


def offer(*, price: int = 2400, local_pc_id: str | None = None) -> PcOffer:
    return PcOffer(
        name="PC",
        level=Level.A,
        cpu="cpu",
        ram_gb=16,
        gpu="gpu",
        vram_gb=8,
        storage_type="SSD",
        internet_upload_mbps=100,
        price_per_hour=price,
        local_pc_id=local_pc_id,
    )


async def add_pc(conn: TrioConnection, host: Host, *, price: int = 2400, online: bool = True) -> UUID:
    pc, _ = await pcs.add(conn, host.id, offer(price=price), currency="BRL")
    if online:
        assert isinstance(await beat(conn, host, pc.id), BeatAnswer)
    return pc.id


async def set_stage(conn: TrioConnection, *, price: int = 2400, money: int = 10_000) -> Stage:
    host = await add_host(conn)
    return Stage(host, await add_pc(conn, host, price=price), await add_client(conn, money=money))


async def beat(
    conn: TrioConnection, host: Host, pc: UUID | None = None, said: str | None = None, *, version: int = 1
) -> BeatAnswer | Exception:
    (outcome,) = await heartbeats.write(conn, [Beat(Claims(host.user, version), host.id, pc, said)])
    return outcome


# ---- money


async def credit(conn: TrioConnection, user: UUID, amount: int) -> None:
    await wallets.move(conn, user, TxType.CREDIT, amount, "TOP_UP")


async def debit(conn: TrioConnection, user: UUID, amount: int) -> None:
    await wallets.move(conn, user, TxType.DEBIT, amount, "PAYOUT")


async def balance(conn: TrioConnection, user: UUID) -> int:
    return (await wallets.by_user(conn, user, currency="BRL")).balance


async def held_by(conn: TrioConnection, account: int) -> int:
    """Of one of the accounts that everybody pays into: the sum of its entries."""
    row = await conn.fetch_one("SELECT coalesce(sum(amount), 0)::bigint FROM entries WHERE account_id = %s", (account,))
    assert row is not None
    total: int = row[0]
    return total


async def account_of(conn: TrioConnection, user: UUID) -> int:
    row = await conn.fetch_one("SELECT id FROM accounts WHERE user_id = %s", (user,))
    assert row is not None
    account: int = row[0]
    return account


# One statement, so that the transfer and its entries are of one transaction.
POST_TRANSFER = """
    WITH t AS (INSERT INTO transfers (kind) VALUES ('CREDIT') RETURNING id)
    INSERT INTO entries (transfer_id, account_id, amount, reason)
    SELECT t.id, leg.account_id, leg.amount, 'TEST'
      FROM t, unnest(%(accounts)s::bigint[], %(amounts)s::bigint[]) AS leg (account_id, amount)
"""


async def post(conn: TrioConnection, *legs: tuple[int, int]) -> None:
    await conn.run(POST_TRANSFER, {"accounts": [leg[0] for leg in legs], "amounts": [leg[1] for leg in legs]})


async def assert_books_are_right(conn: TrioConnection) -> None:
    found = await ledger.verify(conn)
    assert found.ok, [(check.states, check.shown) for check in found.checks if check.faults]


# ---- sessions


async def reserve(
    conn: TrioConnection,
    stage: Stage,
    minutes: int = 60,
    *,
    client: UUID | None = None,
    fee: Decimal = FEE,
    penalty: Decimal = PENALTY,
) -> Session:
    return await sessions.create(conn, client or stage.client, stage.pc, minutes, fee_rate=fee, penalty_rate=penalty)


async def start(conn: TrioConnection, session: Session) -> Session:
    return await sessions.start(conn, session.id, session.client_user_id, admin=False)


async def rent(
    conn: TrioConnection,
    stage: Stage,
    minutes: int = 60,
    *,
    used: timedelta = timedelta(0),
    silent: timedelta = timedelta(0),
    fee: Decimal = FEE,
    penalty: Decimal = PENALTY,
) -> Session:
    """An ACTIVE session that has run for `used`, on a PC that beat `silent` ago."""
    session = await start(conn, await reserve(conn, stage, minutes, fee=fee, penalty=penalty))
    await age(conn, session.id, used)
    await last_seen(conn, stage.pc, silent)
    return session


async def close_one(conn: TrioConnection, decided: Closing) -> Session:
    """As the API does."""
    closed = await sessions.close(conn, [decided])
    if not closed:
        raise InvalidStatus
    return closed[0]


async def end(
    conn: TrioConnection,
    session_id: UUID,
    who: Caller,
    claim: FailureReason | None = None,
    *,
    listening_since: datetime | None = None,
) -> Session:
    found = await sessions.snapshot(conn, session_id)
    if found.status != Status.ACTIVE:
        raise InvalidStatus
    decided = closing.end(found, who, claim, heartbeat_timeout=TIMEOUT, listening_since=listening_since)
    return await close_one(conn, decided)


def expired(session: Snapshot) -> Closing:
    """As the timer decides."""
    return closing.expire(session, heartbeat_timeout=TIMEOUT, listening_since=None)


async def cancel(conn: TrioConnection, session_id: UUID) -> Session:
    found = await sessions.snapshot(conn, session_id)
    if found.status != Status.PENDING:
        raise InvalidStatus
    return await close_one(conn, closing.cancel(found))


async def see(conn: TrioConnection, session: Session) -> Session:
    """The session as its client sees it now."""
    return await sessions.get(conn, session.id, caller=session.client_user_id, admin=False)


async def status_of(conn: TrioConnection, session_id: UUID) -> Status:
    return Status((await sessions.snapshot(conn, session_id)).status)


async def refuse_writing(conn: TrioConnection, session: Session) -> None:
    """Make it a row that the database won't have changed, for a reason that nobody foresaw."""
    await conn.run(f"""
        CREATE FUNCTION bad() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF OLD.id = '{session.id}' THEN RAISE 'a bad row'; END IF; RETURN NEW; END $$
    """)
    await conn.run("CREATE TRIGGER bad BEFORE UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION bad()")


async def count_of(conn: TrioConnection, table: str) -> int:
    row = await conn.fetch_one(f"SELECT count(*) FROM {table}")
    assert row is not None
    count: int = row[0]
    return count


async def make_busy(conn: TrioConnection, pc: UUID) -> None:
    await conn.run("UPDATE pcs SET status = 'BUSY' WHERE id = %s", (pc,))


async def make_offline(conn: TrioConnection, stage: Stage) -> None:
    await beat(conn, stage.host, stage.pc, "OFFLINE")


# ---- time: rows are made older, the clock stays the database's


async def behind_triggers(conn: TrioConnection, query: str, values: Mapping[str, Any] | None = None) -> int:
    """As a superuser can, past all that refuses: rewrite what is over, or the books."""
    async with conn.transaction():
        await conn.run("SET LOCAL session_replication_role = replica")
        return await conn.run(query, values)


async def age(conn: TrioConnection, session_id: UUID, by: timedelta) -> None:
    """As if the session had been made, and started, that much earlier."""
    query = "UPDATE sessions SET created_at = created_at - %(by)s, start_at = start_at - %(by)s, end_at = end_at - %(by)s WHERE id = %(id)s"
    assert await behind_triggers(conn, query, {"by": by, "id": session_id}) == 1


async def last_seen(conn: TrioConnection, pc: UUID, ago: timedelta) -> None:
    """As if that was the PC's last beat."""
    query = """INSERT INTO pc_beats (pc_id, last_seen_at) VALUES (%(pc)s, now() - %(ago)s)
                   ON CONFLICT (pc_id) DO UPDATE SET last_seen_at = excluded.last_seen_at"""
    assert await conn.run(query, {"ago": ago, "pc": pc}) == 1


async def database_now(conn: TrioConnection) -> datetime:
    row = await conn.fetch_one("SELECT now()")
    assert row is not None
    now: datetime = row[0]
    return now


async def pc_status(conn: TrioConnection, pc: UUID) -> str:
    return str((await pcs.by_id(conn, pc)).status)


async def score(conn: TrioConnection, host: Host) -> tuple[int, int, int]:
    """Reliability, sessions completed, sessions dropped."""
    query = "SELECT reliability_score, sessions_completed, sessions_dropped FROM hosts WHERE id = %s"
    row = await conn.fetch_one(query, (host.id,))
    assert row is not None
    return row[0], row[1], row[2]


# ---- the daemon's parts


PERIODS = Periods(
    expiration_s=30.0,
    pending_timeout_ms=PENDING_TIMEOUT // timedelta(milliseconds=1),
    host_check_s=30.0,
    host_timeout=TIMEOUT,
    host_timeout_active=TIMEOUT_ACTIVE,
)


def make_expiry(
    pool: Pool, *, metrics: Metrics | None = None, listening_since: Callable[[datetime], datetime] | None = None
) -> Expiry:
    """Of a daemon that has been listening for long, if nothing else is said."""
    return Expiry(pool, PERIODS, metrics or Metrics(), listening_since or (lambda now: now - 24 * HOUR))


def make_host_timeout(pool: Pool, *, watch: Watch | None = None, hearing: Heartbeats | None = None) -> HostTimeout:
    metrics = Metrics()
    return HostTimeout(pool, PERIODS, hearing or Heartbeats(pool, metrics), metrics, watch)


async def listening(conn: TrioConnection) -> Watch:
    """A watch that has been at it for an hour: nobody has a second chance coming."""
    now = await database_now(conn)
    return Watch(grace_from=now - HOUR, checked_at=now - 30 * SECOND)
