"""`expiry`: many sessions that are due at one moment, and what people who use the API notice of it."""

from collections.abc import Sequence
from datetime import datetime
import time
from typing import Final

from attrs import frozen
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.rental import ledger
from scripts.benchmarks.driving import Done, Work, drive
from scripts.benchmarks.measure import middle, percentile
from scripts.benchmarks.people import PRICE_PER_HOUR, Renter, add_hosts, add_renters, add_users, settle_down, top_up
from scripts.benchmarks.report import Report, less_is_better, more_is_better
from scripts.benchmarks.servers import Database, Served, database, serving
from scripts.benchmarks.sizes import Size

DUE: Final = 20_000
ROWS_BAR: Final = 2_000.0
P99_BAR_MS: Final = 250.0
_ROUNDS_AT_MOST: Final = 3  # each leaves its sessions behind
_PCS_A_HOST: Final = 10

# What the API is asked meanwhile.
_REQUESTS_A_SECOND: Final = 50.0
_CONNECTIONS: Final = 16
# Between the preparing and the moment: the load has begun by then.
_LEAD_S: Final = 4.0
# Working off, at a fifth of what it should be.
_PATIENCE_S: Final = 60.0
_LOOK_S: Final = 0.01

# As create and start would have left them, an hour ago but for a moment.
_RUNNING: Final = """
    WITH rented AS MATERIALIZED (
        SELECT opendesk.uuid7() AS session, opendesk.uuid7() AS transfer, r.client, p.id AS pc, p.host_id, p.price_per_hour, a.id AS wallet
          FROM unnest(%(clients)s::uuid[], %(pcs)s::uuid[]) AS r (client, pc)
               JOIN pcs p ON p.id = r.pc JOIN accounts a ON a.user_id = r.client
    ), made AS (
        INSERT INTO sessions (id, pc_id, host_id, client_user_id, status, minutes_purchased, price_per_hour, price_total, currency,
                              platform_fee_rate, penalty_rate, created_at, start_at, end_at)
        SELECT session, pc, host_id, client, 'ACTIVE', 60, price_per_hour, price_per_hour, 'BRL', 0.1, 0.3,
               %(due)s - interval '1 hour', %(due)s - interval '1 hour', %(due)s
          FROM rented
    ), hold AS (
        INSERT INTO transfers (id, kind, session_id) SELECT transfer, 'HOLD', session FROM rented
    ), taken AS (
        UPDATE pcs SET status = 'BUSY' FROM rented WHERE pcs.id = rented.pc
    )
    INSERT INTO entries (transfer_id, account_id, amount, reason)
    SELECT transfer, leg.account, leg.amount, 'SESSION_HOLD'
      FROM rented, LATERAL (VALUES (wallet, -price_per_hour), (1, price_per_hour)) AS leg (account, amount)
"""
_POSTPONE: Final = "UPDATE sessions SET start_at = %(due)s - interval '1 hour', end_at = %(due)s WHERE end_at = %(before)s AND status = 'ACTIVE'"
_LEFT: Final = """
    SELECT EXISTS (SELECT FROM sessions WHERE status = 'ACTIVE' AND end_at <= %(due)s),
           extract(epoch FROM clock_timestamp() - %(due)s)::float8
"""
_LATER: Final = "SELECT now() + %(seconds)s * interval '1 second'"
# Due sessions that were put in from outside are seen by the next look: here within a second, as one started here would be.
_ENVIRON: Final = {"SESSION_EXPIRATION_INTERVAL_MS": "1000"}


@frozen
class Worked:
    rows_a_second: float
    p99_ms: float


async def measure(size: Size) -> Report:
    """Raise RuntimeError if the books don't balance afterwards."""
    count = size.count(DUE)
    async with database() as base, base.connection() as conn:
        people = await add_renters(conn, "mixed", _CONNECTIONS)
        async with serving(base, environ=_ENVIRON) as server:
            work = Work("mixed", people, _CONNECTIONS, 1.0, rate=_REQUESTS_A_SECOND)
            await drive(server, work)
            rounds = [
                await _round(base, server, people, await _prepare(conn, f"due{number}-", count), count)
                for number in range(min(size.rounds, _ROUNDS_AT_MOST))
            ]
        verified = await ledger.verify(conn)
    if not verified.ok:
        raise RuntimeError(f"the books don't balance: {[check for check in verified.checks if check.faults]}")
    return Report(
        "expiry",
        [
            more_is_better(
                f"{count} sessions due at once, worked off",
                "sessions/s",
                middle([done.rows_a_second for done in rounds]),
                ROWS_BAR,
                "bar",
                bar=1.0,
            ),
            less_is_better(
                f"p99 of the API meanwhile, {_REQUESTS_A_SECOND:g} requests or rentals a second",
                "ms",
                middle([done.p99_ms for done in rounds]),
                P99_BAR_MS,
                "bar",
                bar=1.0,
            ),
        ],
        [f"the ledger was verified afterwards: {verified.entries} entries, {verified.sessions} sessions, no fault"],
    )


async def _round(base: Database, server: Served, people: Sequence[Renter], due: datetime, count: int) -> Worked:
    found: list[tuple[float, float]] = []

    async def watch() -> None:
        async with base.connection() as other:
            found.append(await _until_done(other, due))

    seconds = _LEAD_S + count / ROWS_BAR * 1.5
    loads: list[Done] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        work = Work("mixed", people, _CONNECTIONS, seconds, rate=_REQUESTS_A_SECOND)
        loads.append(await drive(server, work))
    begun_s, took_s = found[0]
    meanwhile = [took for at_s, took in loads[0].samples if begun_s <= at_s <= begun_s + took_s]
    return Worked(count / took_s, percentile(meanwhile) * 1000)


async def _prepare(conn: TrioConnection, name: str, count: int) -> datetime:
    """When they are due, as the database tells the time."""
    hosts = await add_hosts(conn, f"{name}host", max(1, count // _PCS_A_HOST), pcs=_PCS_A_HOST)
    clients = await add_users(conn, name, count)
    await top_up(conn, clients, PRICE_PER_HOUR)
    far = await _in(conn, 3600.0)
    await conn.run(_RUNNING, {"clients": clients, "pcs": [host.pc for host in hosts][:count], "due": far})
    await settle_down(conn)
    due = await _in(conn, _LEAD_S)
    await conn.run(_POSTPONE, {"due": due, "before": far})
    return due


async def _in(conn: TrioConnection, seconds: float) -> datetime:
    row = await conn.fetch_one(_LATER, {"seconds": seconds})
    assert row is not None
    moment: datetime = row[0]
    return moment


async def _until_done(conn: TrioConnection, due: datetime) -> tuple[float, float]:
    """When they fell due, of the monotonic clock, and the seconds from then until none was left."""
    with trio.fail_after(_PATIENCE_S):
        while True:
            row = await conn.fetch_one(_LEFT, {"due": due})
            assert row is not None
            left, since_s = row
            if since_s > 0 and not left:
                return time.monotonic() - since_s, since_s
            await trio.sleep(_LOOK_S)
