"""A million events that were taken long ago, and what it takes to see that some are among them."""

from collections.abc import Sequence
from functools import partial
import random
import time
from typing import Final
from uuid import uuid4

import trio

from opendesk import database as ours
from opendesk.network.events.figures import EventFigures
from opendesk.network.events.inbox import Inbox
from opendesk.network.figures import NetworkFigures
from opendesk.network.routers.fleet import Fleet
from opendesk.ops.audit import Audit
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.settings import load
from scripts.benchmarks.events_made import known
from scripts.benchmarks.people import settle_down
from scripts.benchmarks.servers import Database, database

_SEED_AT_ONCE: Final = 100_000
# Of each round; the first is the warm-up: statements are prepared then.
_BATCHES: Final = 20
# Always the same ones are drawn.
_DRAW: Final = random.Random(6)  # noqa: S311  # no secret
_CONNECTIONS: Final = 2

# As the inbox leaves them when their jobs are done, with all their details.
_SEED: Final = """
    INSERT INTO events (id_hash, dry_run, received_at, validated_at, routed_at, executed_at, acked_at, ok, event_id, type, source, trace_id,
                        router_id, pedido_id, ip, mac, body, result, outcome, ack_lane)
    SELECT sha256(convert_to('known-' || n, 'UTF8')), false, at, at, at, at, at, true, 'known-' || n, 'RELEASE_REQUESTED', 'backend', 'known-' || n,
           'known-' || n %% 100, 'order ' || n, '10.0.0.0'::inet + n, ('02:00:00:' || regexp_replace(to_hex(n + 16777216), '^1(..)(..)(..)$', '\\1:\\2:\\3'))::macaddr,
           repeat('-', 250), jsonb_build_object('online', true, 'changed', true, 'jobId', gen_random_uuid(), 'dryRun', false),
           jsonb_build_object('online', true, 'changed', true, 'steps', jsonb_build_array(), 'dryRun', false), '/acks'
      FROM generate_series(%(first)s::int, %(last)s::int) AS n,
           LATERAL (SELECT now() - n * interval '10 seconds' AS at) AS long_ago
"""
_ACKED_AGAIN: Final = "SELECT count(*) FROM jobs"


async def recognized_ms(count: int, duplicates: int, rounds: int) -> list[float]:
    """Of each batch. Raise RuntimeError if one wasn't known, or isn't acked again."""
    async with database() as base:
        async with base.connection() as conn:
            await _seed(conn, count)
        found = await _recognized(base, count, duplicates, rounds)
        async with base.connection() as conn:
            again = await conn.fetch_one(_ACKED_AGAIN)
    if again is None or not again[0]:
        raise RuntimeError("no ACK was written for an event that is known")
    return found


async def _seed(conn: TrioConnection, count: int) -> None:
    for first in range(0, count, _SEED_AT_ONCE):
        await conn.run(_SEED, {"first": first, "last": min(first + _SEED_AT_ONCE, count) - 1})
    await settle_down(conn)


async def _recognized(base: Database, count: int, duplicates: int, rounds: int) -> list[float]:
    pool = Pool(base.as_served, size=_CONNECTIONS)
    inbox = _inbox(base, pool)
    try:
        took_s = [await _take(inbox, _batch(count, duplicates)) for _ in range(_BATCHES * (rounds + 1))]
    finally:
        await pool.aclose()
    return [each * 1000 for each in took_s[_BATCHES:]]


def _inbox(base: Database, pool: Pool) -> Inbox:
    """As the daemon has it, but that no router is ever asked."""
    settings, metrics = load({"OPENDESK_DATA_DIR": "/nowhere"}), Metrics()
    fleet = Fleet(pool, partial(ours.connect, base.conninfo), settings, uuid4())
    return Inbox(pool, fleet, Audit(NetworkFigures(metrics).audited), EventFigures(metrics), acks=True)


def _batch(count: int, duplicates: int) -> Sequence[bytes]:
    return [known(number) for number in _DRAW.sample(range(count), duplicates)]


async def _take(inbox: Inbox, batch: Sequence[bytes]) -> float:
    begun_s = time.perf_counter()
    taken = await inbox.take(batch, "backend")
    took_s = time.perf_counter() - begun_s
    if taken.new or taken.again != len(batch):
        raise RuntimeError(f"{taken.again} of {len(batch)} known events were known")
    await trio.lowlevel.checkpoint()
    return took_s
