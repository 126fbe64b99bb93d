"""Jobs as they are told, counted, tried again by an operator, and forgotten."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from attrs import frozen

from opendesk.network.jobs.shapes import JobView, State
from opendesk.network.jobs.table import BATCH, CHANNEL, DONE_CHANNEL, IDS_A_NOTE
from opendesk.postgres.driver import TrioConnection

# Told at once; a page for people.
LIST_LIMIT: Final = 1_000

# A count that is higher than this is told as this: it takes 20 ms, and is bad enough.
COUNT_AT_MOST: Final = 100_000

# Of a job that is done, an operator may want to know for a few days what it was; a dead letter may be found after a long leave.
DONE_KEPT_DAYS: Final = 7
DEAD_KEPT_DAYS: Final = 180
# Nobody need come back to what a daemon has left in a lane that nothing depends on.
LEFT_KEPT_DAYS: Final = 1
# Deleted by one statement, some 20 ms; and in one go, so that somebody who was away for long is done with it, and nobody else waits.
_FORGET_BATCH: Final = 1_000
_FORGET_BATCHES: Final = 100

_VIEW: Final = (
    "id, type, lane, key, state, attempts, outcomes, run_at, last_error, result, trace_id, created_at, finished_at"
)
_GET: Final = f"SELECT {_VIEW} FROM jobs WHERE id = ANY (%(ids)s)"

# Ids are in the order of time. The condition is an index's for each state alone, so that dead letters are found among a million that are done.
_LIST: Final = """
    SELECT {view} FROM jobs
     WHERE {state} AND (%(lane)s::text IS NULL OR lane = %(lane)s) ORDER BY {order} DESC LIMIT %(limit)s
"""
_LIST_BY_STATE: Final[dict[State | None, str]] = {
    None: _LIST.format(view=_VIEW, state="true", order="id"),
    "due": _LIST.format(view=_VIEW, state="state = 'due'", order="id"),
    "running": _LIST.format(view=_VIEW, state="state = 'running'", order="id"),
    "done": _LIST.format(view=_VIEW, state="state = 'done'", order="finished_at"),
    "dead": _LIST.format(view=_VIEW, state="state = 'dead'", order="finished_at"),
}

# In its old place: before what came later to its key. With all its attempts.
_REPLAY: Final = f"""
    WITH back AS (
        UPDATE jobs SET state = 'due', attempts = 0, run_at = now(), finished_at = NULL, result = NULL
         WHERE id = %(id)s AND state = 'dead' RETURNING lane
    )
    SELECT pg_notify('{CHANNEL}', json_agg(lane)::text) FROM back HAVING count(*) > 0
"""
_DISCARD: Final = f"""
    WITH gone AS (
        UPDATE jobs SET state = 'dead', finished_at = now(), last_error = %(why)s
         WHERE id = %(id)s AND state = 'due' RETURNING id, lane
    ), told AS (SELECT pg_notify('{CHANNEL}', json_agg(lane)::text) FROM gone HAVING count(*) > 0)
    SELECT pg_notify('{DONE_CHANNEL}', gone.id::text), (SELECT count(*) FROM told) FROM gone
"""
# Those that run as well: what comes of them nobody waits for any more, and due again they would be nobody's.
_DISCARD_LANE: Final = f"""
    WITH gone AS (
        UPDATE jobs SET state = 'dead', finished_at = clock_timestamp(), last_error = %(why)s, leased_by = NULL, leased_until = NULL
         WHERE id = ANY (ARRAY(SELECT id FROM jobs WHERE lane = %(lane)s AND state IN ('due', 'running') LIMIT {BATCH} FOR UPDATE))
     RETURNING id
    ), told AS (
        SELECT pg_notify('{DONE_CHANNEL}', string_agg(id::text, ' '))
          FROM (SELECT id, row_number() OVER () / {IDS_A_NOTE} AS part FROM gone) AS parts GROUP BY part
    )
    SELECT count(*), (SELECT count(*) FROM told) FROM gone
"""

_FORGET: Final = """
    DELETE FROM jobs WHERE id IN (
        SELECT id FROM jobs WHERE state = %(state)s AND finished_at < now() - %(days)s * interval '1 day'
         ORDER BY finished_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
"""

_FORGET_LEFT: Final = """
    DELETE FROM jobs WHERE id IN (
        SELECT id FROM jobs
         WHERE state = 'due' AND starts_with(lane, %(lanes)s) AND run_at < now() - %(days)s * interval '1 day'
         LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
"""

_COUNT: Final = "SELECT count(*) AS n FROM (SELECT FROM jobs WHERE state = '{state}' LIMIT %(most)s) AS found"
_NUMBERS: Final = f"""
    SELECT waiting.due, waiting.scheduled, running.n AS running, done.n AS done, dead.n AS dead, waiting.oldest_due_s
      FROM (SELECT count(*) FILTER (WHERE run_at <= now()) AS due, count(*) FILTER (WHERE run_at > now()) AS scheduled,
                   greatest(0, coalesce(extract(epoch FROM now() - min(run_at)), 0))::float8 AS oldest_due_s
              FROM (SELECT run_at FROM jobs WHERE state = 'due' LIMIT %(most)s) AS found) AS waiting,
           ({_COUNT.format(state="running")}) AS running, ({_COUNT.format(state="done")}) AS done, ({_COUNT.format(state="dead")}) AS dead
"""


@frozen
class Numbers:
    """How many there are, up to COUNT_AT_MOST of each kind: due now, due later, and so on; how long the oldest has been due."""

    due: int
    scheduled: int
    running: int
    done: int
    dead: int
    oldest_due_s: float


async def get(conn: TrioConnection, job_id: UUID) -> JobView | None:
    return await conn.fetch_one(_GET, {"ids": [job_id]}, row=JobView)


async def get_many(conn: TrioConnection, job_ids: Sequence[UUID]) -> list[JobView]:
    """Those that there are, in no order."""
    return await conn.fetch(_GET, {"ids": list(job_ids)}, row=JobView)


async def list_jobs(
    conn: TrioConnection, *, state: State | None = None, lane: str | None = None, limit: int = 100
) -> list[JobView]:
    """The newest first; of those that are over, what ended last."""
    return await conn.fetch(_LIST_BY_STATE[state], {"lane": lane, "limit": min(limit, LIST_LIMIT)}, row=JobView)


async def replay(conn: TrioConnection, job_id: UUID) -> bool:
    """Have a dead one tried again, as often as a new one; False if it isn't dead."""
    return await conn.run(_REPLAY, {"id": job_id}) == 1


async def discard(conn: TrioConnection, job_id: UUID, *, why: str = "discarded") -> bool:
    """Make one that waits a dead letter, which holds up nobody; False if it doesn't wait: one that runs can't be stopped."""
    return await conn.run(_DISCARD, {"id": job_id, "why": why}) == 1


async def discard_lane(conn: TrioConnection, lane: str, *, why: str) -> int:
    """Make all of a lane that isn't over dead letters; how many."""
    total = 0
    while True:
        row = await conn.fetch_one(_DISCARD_LANE, {"lane": lane, "why": why})
        assert row is not None
        count = int(row[0])
        total += count
        if count < BATCH:
            return total


async def forget_old(
    conn: TrioConnection, *, done_kept_days: float = DONE_KEPT_DAYS, dead_kept_days: float = DEAD_KEPT_DAYS
) -> int:
    """Delete what has been over for long enough, in small batches; how many. What is left over comes with the next time."""
    done = await _forget(conn, _FORGET, {"state": "done", "days": done_kept_days})
    return done + await _forget(conn, _FORGET, {"state": "dead", "days": dead_kept_days})


async def forget_left(conn: TrioConnection, lanes: str, *, kept_days: float = LEFT_KEPT_DAYS) -> int:
    """Delete what should have been done for as long in lanes that begin like this, and wasn't: for those of which that is as well."""
    return await _forget(conn, _FORGET_LEFT, {"lanes": lanes, "days": kept_days})


async def _forget(conn: TrioConnection, statement: str, values: dict[str, object]) -> int:
    deleted = 0
    for _ in range(_FORGET_BATCHES):
        batch = await conn.run(statement, {**values, "limit": _FORGET_BATCH})
        deleted += batch
        if batch < _FORGET_BATCH:
            break
    return deleted


async def numbers(conn: TrioConnection) -> Numbers:
    found = await conn.fetch_one(_NUMBERS, {"most": COUNT_AT_MOST}, row=Numbers)
    assert found is not None
    return found
