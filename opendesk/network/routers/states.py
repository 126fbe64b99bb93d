"""Who drives which router, and how each is, as the database knows it: for other daemons, for status, and for after a restart."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
import math
from typing import Final
from uuid import UUID

from attrs import frozen

from opendesk.network.routers.breaker import Breaker
from opendesk.network.routers.health import Health
from opendesk.network.routers.registry import CHANNEL
from opendesk.network.routers.uptime import LONGEST_S
from opendesk.postgres.driver import TrioConnection

# What a router that nobody knows any more was like is kept for a while, for those who put it back.
FORGET_AFTER_S: Final = 7 * 86_400.0

# No moment is further away, written or read: neither a calendar nor a clock has all that a number can say.
FURTHEST_S: Final = 2.0 * LONGEST_S


def _near(column: str) -> str:
    """Of a moment in a row: no further from now."""
    furthest = f"{FURTHEST_S:.0f} * interval '1 second'"
    return (
        f"CASE WHEN {column} IS NOT NULL THEN least(greatest({column}, clock_timestamp() - {furthest}),"
        f" clock_timestamp() + {furthest}) END"
    )


def _since(column: str) -> str:
    return f"extract(epoch FROM clock_timestamp() - {_near(column)})::float8"


# Rows are locked in the order of their ids everywhere. Times go in and out as seconds from now: each daemon has a clock of its own.
# A lease that another daemon holds is left alone; one that has ended is anybody's.
_LEASE: Final = f"""
    INSERT INTO router_states AS s (router_id, leased_by, leased_until)
    SELECT id, %(node)s, clock_timestamp() + %(ttl_s)s * interval '1 second' FROM unnest(%(ids)s::text[]) AS id ORDER BY id
        ON CONFLICT (router_id) DO UPDATE SET leased_by = excluded.leased_by, leased_until = excluded.leased_until
     WHERE s.leased_by = excluded.leased_by OR s.leased_until < clock_timestamp()
 RETURNING router_id, failures, resets, target, moved, refused, -{_since("s.open_until")} AS open_left_s, {_since("s.last_contact_at")} AS contact_ago_s,
           {_since("s.booted_at")} AS booted_ago_s, identity, version, last_error, {_since("s.last_error_at")} AS error_ago_s
"""
_GIVE_UP: Final = f"""
    WITH mine AS MATERIALIZED (
        SELECT router_id FROM router_states
         WHERE leased_by = %(node)s AND leased_until > clock_timestamp()
         ORDER BY router_id FOR UPDATE
    ), given_up AS (
        UPDATE router_states s SET leased_until = clock_timestamp() FROM mine WHERE s.router_id = mine.router_id RETURNING s.router_id
    )
    SELECT pg_notify('{CHANNEL}', '') FROM (SELECT count(*) AS n FROM given_up) AS counted WHERE n > 0
"""
_WRITE: Final = """
    WITH said AS MATERIALIZED (
        SELECT * FROM unnest(%(ids)s::text[], %(failures)s::int[], %(target)s::text[], %(moved)s::bool[], %(refused)s::bool[], %(open_left_s)s::float8[], %(contact_ago_s)s::float8[],
                             %(booted_ago_s)s::float8[], %(identity)s::text[], %(version)s::text[], %(error)s::text[],
                             %(error_ago_s)s::float8[])
               AS t (id, failures, target, moved, refused, open_left_s, contact_ago_s, booted_ago_s, identity, version, error, error_ago_s)
    ), mine AS MATERIALIZED (
        SELECT router_id FROM router_states WHERE router_id = ANY (%(ids)s) AND leased_by = %(node)s ORDER BY router_id FOR UPDATE
    )
    UPDATE router_states s
       SET failures = said.failures, target = said.target, moved = said.moved, refused = said.refused,
           open_until = clock_timestamp() + said.open_left_s * interval '1 second',
           last_contact_at = clock_timestamp() - said.contact_ago_s * interval '1 second',
           booted_at = clock_timestamp() - said.booted_ago_s * interval '1 second',
           identity = said.identity, version = said.version, last_error = said.error,
           last_error_at = clock_timestamp() - said.error_ago_s * interval '1 second'
      FROM said, mine WHERE s.router_id = said.id AND s.router_id = mine.router_id
"""
_READ: Final = f"""
    SELECT router_id, CASE WHEN leased_until > clock_timestamp() THEN leased_by END AS node, failures, {_near("open_until")} AS open_until,
           coalesce(open_until <= clock_timestamp(), false) AS is_due, {_near("last_contact_at")} AS last_contact_at,
           {_near("booted_at")} AS booted_at, identity, version, refused, last_error, {_near("last_error_at")} AS last_error_at, clock_timestamp() AS now
      FROM router_states WHERE router_id = ANY (%(ids)s)
"""
_CIRCUIT_OPEN: Final = "SELECT open_until IS NOT NULL FROM router_states WHERE router_id = %(id)s"
_RESET: Final = f"""
    WITH reset AS (
        UPDATE router_states SET failures = 0, open_until = NULL, resets = resets + 1 WHERE router_id = %(id)s RETURNING router_id
    )
    SELECT pg_notify('{CHANNEL}', '') FROM reset
"""
_FORGET: Final = """
    DELETE FROM router_states s
     WHERE leased_until < now() - %(after_s)s * interval '1 second' AND NOT EXISTS (SELECT FROM routers r WHERE r.id = s.router_id)
"""


@frozen(kw_only=True)
class Lease:
    """A router that is ours for now, and how it was when somebody last wrote of it."""

    router_id: str
    failures: int
    resets: int
    target: str | None
    moved: bool
    refused: bool
    open_left_s: float | None
    contact_ago_s: float | None
    booted_ago_s: float | None
    identity: str | None
    version: str | None
    last_error: str | None
    error_ago_s: float | None

    def health(self, fresh: Breaker, now_s: float) -> Health:
        """By this daemon's clock, with the limits of `fresh`."""
        breaker = Breaker(
            limit=fresh.limit,
            recovery_s=fresh.recovery_s,
            failures=self.failures,
            open_until_s=_plus(now_s, self.open_left_s),
        )
        return Health(
            breaker=breaker,
            contact_s=_minus(now_s, self.contact_ago_s),
            booted_s=_minus(now_s, self.booted_ago_s),
            target=self.target,
            moved=self.moved,
            refused=self.refused,
            identity=self.identity,
            version=self.version,
            error=self.last_error,
            error_s=_minus(now_s, self.error_ago_s),
        )


@frozen(kw_only=True)
class StoredState:
    """How a router was when the daemon that drives it, or drove it last, wrote of it. `node` is None where nobody does."""

    router_id: str
    node: UUID | None = None
    failures: int = 0
    open_until: datetime | None = None
    is_due: bool = False  # the time of the open circuit is over
    last_contact_at: datetime | None = None
    booted_at: datetime | None = None
    identity: str | None = None
    version: str | None = None
    refused: bool = False
    last_error: str | None = None
    last_error_at: datetime | None = None
    now: datetime | None = None  # when it was read


async def lease(conn: TrioConnection, node: UUID, ids: Collection[str], ttl_s: float) -> Sequence[Lease]:
    """Take what is free and renew what is ours; what isn't among the answers is another daemon's."""
    return await conn.fetch(_LEASE, {"node": node, "ids": list(ids), "ttl_s": ttl_s}, row=Lease)


async def give_up(conn: TrioConnection, node: UUID) -> None:
    """End our leases, so that others needn't wait for it, and tell them."""
    await conn.run(_GIVE_UP, {"node": node})


async def write(conn: TrioConnection, node: UUID, healths: Mapping[str, Health], now_s: float) -> int:
    """In one statement; what another daemon drives by now is left as it is."""
    told = list(healths.values())
    values = {
        "node": node,
        "ids": list(healths),
        "failures": [health.breaker.failures for health in told],
        "target": [health.target for health in told],
        "moved": [health.moved for health in told],
        "refused": [health.refused for health in told],
        "open_left_s": [_ago(now_s, health.breaker.open_until_s, sign=-1) for health in told],
        "contact_ago_s": [_ago(now_s, health.contact_s) for health in told],
        "booted_ago_s": [_ago(now_s, health.booted_s) for health in told],
        "identity": [health.identity for health in told],
        "version": [health.version for health in told],
        "error": [health.error for health in told],
        "error_ago_s": [_ago(now_s, health.error_s) for health in told],
    }
    return await conn.run(_WRITE, values)


async def read(conn: TrioConnection, ids: Collection[str]) -> dict[str, StoredState]:
    return {state.router_id: state for state in await conn.fetch(_READ, {"ids": list(ids)}, row=StoredState)}


async def circuit_open(conn: TrioConnection, router_id: str) -> bool:
    """Whether whoever drives it, or drove it last, has given it up for now."""
    row = await conn.fetch_one(_CIRCUIT_OPEN, {"id": router_id})
    return row is not None and bool(row[0])


async def reset(conn: TrioConnection, router_id: str) -> bool:
    """Close its circuit by hand; whoever drives it is told. False where nothing is known of it yet."""
    return await conn.run(_RESET, {"id": router_id}) == 1


async def forget_old(conn: TrioConnection) -> int:
    return await conn.run(_FORGET, {"after_s": FORGET_AFTER_S})


def _ago(now_s: float, moment_s: float | None, *, sign: int = 1) -> float | None:
    return None if moment_s is None else sign * within(now_s - moment_s)


def within(seconds: float) -> float:
    """No further than FURTHEST_S; what is no number at all is as far as can be."""
    return max(-FURTHEST_S, min(seconds, FURTHEST_S)) if not math.isnan(seconds) else FURTHEST_S


def _plus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
