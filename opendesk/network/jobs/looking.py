"""Jobs as they are told, counted, tried again by an operator, and forgotten."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from attrs import frozen

from opendesk.network.jobs.shapes import JobView, State
from opendesk.network.jobs.table import CHANNEL, DONE_CHANNEL
from opendesk.postgres.driver import TrioConnection

# Told at once; a page for people.
LIST_LIMIT: Final = 1_000

# A count that is higher than this is told as this: it takes 20 ms, and is bad enough.
COUNT_AT_MOST: Final = 100_000

# Of a job that is done, an operator may want to know for a few days what it was; a dead letter may be found after a long leave.
DONE_KEPT_DAYS: Final = 7
DEAD_KEPT_DAYS: Final = 180
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

_FORGET: Final = """
    DELETE FROM jobs WHERE id IN (
        SELECT id FROM jobs WHERE state = %(state)s AND finished_at < now() - %(days)s * interval '1 day'
         ORDER BY finished_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
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


async def forget_old(
    conn: TrioConnection, *, done_kept_days: float = DONE_KEPT_DAYS, dead_kept_days: float = DEAD_KEPT_DAYS
) -> int:
    """Delete what has been over for long enough, in small batches; how many. What is left over comes with the next time."""
    deleted = 0
    for state, days in (("done", done_kept_days), ("dead", dead_kept_days)):
        for _ in range(_FORGET_BATCHES):
            batch = await conn.run(_FORGET, {"state": state, "days": days, "limit": _FORGET_BATCH})
            deleted += batch
            if batch < _FORGET_BATCH:
                break
    return deleted


async def numbers(conn: TrioConnection) -> Numbers:
    found = await conn.fetch_one(_NUMBERS, {"most": COUNT_AT_MOST}, row=Numbers)
    assert found is not None
    return found
