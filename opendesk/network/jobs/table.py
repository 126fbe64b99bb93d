"""The jobs in PostgreSQL: added in the caller's transaction, claimed and finished in batches, in order within a key.

A claim gives a lease and a fence. A lease that ended is taken back; an outcome is written only by who has the last fence, so that of two
who worked on one job, since the first was thought dead, only the second is heard.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec
from psycopg.errors import UniqueViolation
from psycopg.pq import TransactionStatus
import structlog

from opendesk.network.jobs.claiming import CLAIM
from opendesk.network.jobs.shapes import Added, Crowded, Ended, Found, Job, NewJob, Retries, as_json
from opendesk.postgres.driver import TrioConnection

log = structlog.get_logger()

# Told a transaction: the lanes that have something new, as a JSON array, and the jobs of which an attempt ended. An empty one: look at all.
CHANNEL: Final = "opendesk_jobs"
DONE_CHANNEL: Final = "opendesk_jobs_done"

# A notification holds 7,999 bytes: 200 ids with a blank each. Lanes are told up to half of that.
IDS_A_NOTE: Final = 200
_LANES_BYTES: Final = 4_000

# Nobody need be woken for what is due later than a runner's next look at all (runner.LOOK_S), and then some.
_SOON: Final = "interval '15 seconds'"

# Jobs added, claimed or finished by one statement: tens of milliseconds of the server's time.
BATCH: Final = 1_000

# A claim that met another on one key is tried again; the second time it sees what that one took.
_CLAIM_TRIES: Final = 3

# The last of a crowd of jobs that wait for one key would be done in minutes: whoever asks is better told. What may join one of them still does.
MOST_OF_A_KEY: Final = 200

# Claims that met others each time are tried again as if something fell due then.
_MET_OTHERS_S: Final = 0.05

# What is looked for by its id is known for running by its lease, and for due by having none and no end (constraints of the table say that this is
# the same). Were it by `state`, the server might go through the indexes of all that is due or runs instead: they look small when it counts.

# Only one transaction at a time adds to a key, so that the order of `seq` is the order of commits, and no two of the same kind are added
# at once where the second is to join the first. All keys in one order, so that nobody waits in a circle.
_LOCK_KEYS: Final = """
    SELECT pg_advisory_xact_lock(number)
      FROM (SELECT DISTINCT hashtextextended(lane || E'\\n' || key, 0) AS number
              FROM unnest(%(lane)s::text[], %(key)s::text[]) AS k (lane, key) ORDER BY 1) AS keys
"""

# Who repeats joins the last one of its key if that is unfinished and does the same. Who brings news joins one that still waits: its look
# comes after our commit, since the row is ours until then, and a claim passes over it. What was claimed a moment ago is no longer due, or
# locked; it may have looked. One that waits although a later one runs is not joined: a repeat would take that for the last.
# What failed before and waits for its next try would keep the new one waiting, too: it is tried now. Who repeats it uses up its attempts; the news
# gives it all of them anew; for somebody else's work it is a try more, or others would have it dead in seconds.
_ADD: Final = f"""
    WITH given AS MATERIALIZED (
        SELECT g.*, coalesce(last.id, waiting.id) AS joined, coalesce(last.outcomes, waiting.outcomes) AS outcomes,
               waiting.id IS NOT NULL AS waits, waiting.id IS NOT NULL AND (g.joins AND waiting.dedupe = g.dedupe) IS NOT TRUE AS is_news
          FROM ROWS FROM (json_to_recordset(%(jobs)s::json) AS (type text, lane text, key text, payload jsonb, run_at timestamptz, dedupe text,
                                                                joins bool, within jsonb, bounded bool, trace_id text))
               WITH ORDINALITY AS g (type, lane, key, payload, run_at, dedupe, joins, within, bounded, trace_id, n)
               LEFT JOIN LATERAL (
                   SELECT j.id, j.outcomes, j.dedupe FROM jobs j
                    WHERE j.lane = g.lane AND j.key = g.key AND j.state IN ('due', 'running') ORDER BY j.seq DESC LIMIT 1
               ) AS last ON g.joins AND last.dedupe = g.dedupe
               LEFT JOIN LATERAL (
                   SELECT j.id, j.outcomes, j.dedupe FROM jobs j
                    WHERE last.id IS NULL AND g.run_at IS NULL AND j.lane = g.lane AND j.key = g.key AND j.state IN ('due', 'running')
                      AND j.leased_until IS NULL AND (j.run_at <= now() OR j.fence > 0) AND j.type = g.type AND j.payload @> g.within
                      AND NOT EXISTS (SELECT FROM jobs r WHERE r.lane = j.lane AND r.key = j.key AND r.state = 'running' AND r.seq > j.seq OFFSET 0)
                    ORDER BY j.seq DESC LIMIT 1 FOR UPDATE SKIP LOCKED
               ) AS waiting ON true
    ), counted AS MATERIALIZED (
        SELECT g.*, NOT g.bounded OR others.n + row_number() OVER (PARTITION BY g.lane, g.key ORDER BY g.n) <= {MOST_OF_A_KEY} AS has_room
          FROM given g CROSS JOIN LATERAL (
                   SELECT count(*) AS n
                     FROM (SELECT FROM jobs j
                            WHERE g.bounded AND j.lane = g.lane AND j.key = g.key AND j.state IN ('due', 'running') LIMIT {MOST_OF_A_KEY}
                          ) AS found
               ) AS others
         WHERE g.joined IS NULL
    ), fresh AS MATERIALIZED (
        SELECT g.*, uuid7() AS id FROM counted g WHERE has_room ORDER BY n
    ), made AS (
        INSERT INTO jobs (id, type, lane, key, payload, run_at, dedupe, trace_id)
        SELECT id, type, lane, key, payload, coalesce(run_at, now()), dedupe, trace_id FROM fresh ORDER BY n
    ), wanted AS MATERIALIZED (
        SELECT id, bool_or(is_news) AS is_news, bool_or(is_repeat) AS is_repeat, (array_agg(dedupe ORDER BY n DESC) FILTER (WHERE is_news))[1] AS dedupe
          FROM (SELECT failed.id, false AS is_news, g.joined IS NOT DISTINCT FROM failed.id AS is_repeat, NULL AS dedupe, g.n
                  FROM given g
                       CROSS JOIN LATERAL (
                           SELECT j.id FROM jobs j
                            WHERE j.lane = g.lane AND j.key = g.key AND j.state IN ('due', 'running') AND j.fence > 0 AND j.run_at > now()
                           OFFSET 0
                       ) AS failed
                 WHERE g.run_at IS NULL
                UNION ALL
                SELECT joined, true, true, dedupe, n FROM given WHERE is_news) AS each
         GROUP BY id
    ), hurried AS (
        UPDATE jobs SET run_at = least(jobs.run_at, now()),
                        attempts = CASE WHEN wanted.is_news THEN 0 WHEN wanted.is_repeat THEN attempts ELSE greatest(0, attempts - 1) END,
                        dedupe = coalesce(wanted.dedupe, jobs.dedupe)
          FROM wanted
         WHERE jobs.id = ANY (ARRAY(SELECT id FROM wanted)) AND jobs.id = wanted.id AND jobs.leased_until IS NULL AND jobs.finished_at IS NULL
           AND (jobs.run_at > now() OR wanted.is_news AND (jobs.attempts > 0 OR jobs.dedupe IS DISTINCT FROM wanted.dedupe))
     RETURNING jobs.lane
    ), told AS (
        SELECT pg_notify('{CHANNEL}', CASE WHEN octet_length(lanes) > {_LANES_BYTES} THEN '' ELSE lanes END)
          FROM (SELECT json_agg(DISTINCT lane)::text AS lanes
                  FROM (SELECT lane FROM fresh WHERE run_at IS NULL OR run_at < now() + {_SOON} UNION ALL SELECT lane FROM hurried
                        UNION ALL SELECT lane FROM given WHERE waits) AS soon  -- a claim may have passed over it
               ) AS all_of_them
         WHERE lanes IS NOT NULL
    )
    SELECT coalesce(g.joined, f.id), g.joined IS NOT NULL, coalesce(g.outcomes, 0), (SELECT count(*) FROM told)
      FROM given g LEFT JOIN fresh f USING (n) ORDER BY n
"""

_FINISH: Final = f"""
    WITH given AS MATERIALIZED (
        SELECT * FROM json_to_recordset(%(outcomes)s::json)
                      AS g (id uuid, fence bigint, state text, error text, result text, after_s float8, counts bool)
    ), ended AS (
        UPDATE jobs SET state = g.state, leased_by = NULL, leased_until = NULL, outcomes = outcomes + 1,
                        attempts = attempts - CASE WHEN g.counts THEN 0 ELSE 1 END,
                        run_at = CASE WHEN g.state = 'due' THEN clock_timestamp() + g.after_s * interval '1 second' ELSE run_at END,
                        last_error = coalesce(g.error, last_error), result = g.result::jsonb,
                        finished_at = CASE WHEN g.state <> 'due' THEN clock_timestamp() END
          FROM given g
         WHERE jobs.id = ANY (ARRAY(SELECT id FROM given)) AND jobs.id = g.id AND jobs.fence = g.fence AND jobs.leased_until IS NOT NULL
     RETURNING jobs.id
    ), told AS (
        SELECT pg_notify('{DONE_CHANNEL}', string_agg(id::text, ' '))
          FROM (SELECT id, row_number() OVER () / {IDS_A_NOTE} AS part FROM ended) AS parts GROUP BY part
    )
    SELECT id, (SELECT count(*) FROM told) FROM ended
"""

_RENEW: Final = """
    UPDATE jobs SET leased_until = clock_timestamp() + %(ttl_s)s * interval '1 second'
      FROM unnest(%(id)s::uuid[], %(fence)s::bigint[]) AS mine (id, fence)
     WHERE jobs.id = ANY (%(id)s) AND jobs.id = mine.id AND jobs.fence = mine.fence AND jobs.leased_until IS NOT NULL RETURNING jobs.id
"""

_TELL_LANES: Final = f"""
    told AS (SELECT pg_notify('{CHANNEL}', CASE WHEN octet_length(lanes) > {_LANES_BYTES} THEN '' ELSE lanes END)
               FROM (SELECT json_agg(DISTINCT lane)::text AS lanes FROM back) AS all_of_them WHERE lanes IS NOT NULL)
"""
_GIVE_BACK: Final = f"""
    WITH back AS (
        UPDATE jobs SET state = 'due', attempts = attempts - 1, leased_by = NULL, leased_until = NULL
         WHERE state = 'running' AND leased_by = %(node)s RETURNING lane
    ), {_TELL_LANES}
    SELECT count(*), (SELECT count(*) FROM told) FROM back
"""

# How it ended nobody knows, but the attempt was one: a job that kills its daemon each time must come to an end, too. Of a type that we have
# patience with not before its time.
_TAKE_BACK: Final = f"""
    WITH lost AS MATERIALIZED (
        SELECT id, attempts < %(max_attempts)s OR coalesce(created_at > now() - patience_s * interval '1 second', false) AS has_more
          FROM jobs LEFT JOIN unnest(%(types)s::text[], %(patience_s)s::float8[]) AS patient (type, patience_s) USING (type)
         WHERE state = 'running' AND leased_until < now() LIMIT %(limit)s FOR UPDATE OF jobs SKIP LOCKED
    ), back AS (
        UPDATE jobs SET state = CASE WHEN has_more THEN 'due' ELSE 'dead' END,
                        finished_at = CASE WHEN has_more THEN NULL ELSE clock_timestamp() END,
                        leased_by = NULL, leased_until = NULL, outcomes = outcomes + 1,
                        last_error = 'the daemon that worked on it was gone: its lease ended'
          FROM lost WHERE jobs.id = lost.id RETURNING lane
    ), {_TELL_LANES}
    SELECT count(*), (SELECT count(*) FROM told) FROM back
"""

_CANCEL: Final = """
    UPDATE jobs SET state = 'done', finished_at = now(), result = jsonb_build_object('cancelled', %(why)s::text)
     WHERE id = ANY (ARRAY(SELECT found.id FROM unnest(%(lanes)s::text[], %(keys)s::text[]) AS asked (lane, key)
                                  CROSS JOIN LATERAL (
                                      SELECT j.id FROM jobs j
                                       WHERE j.lane = asked.lane AND j.key = asked.key AND j.state IN ('due', 'running') OFFSET 0
                                  ) AS found))
       AND leased_until IS NULL AND finished_at IS NULL
"""


async def add(conn: TrioConnection, job: NewJob) -> UUID:
    """Add it in the caller's transaction, or join one that does the same: see NewJob."""
    (added,) = await add_many(conn, [job])
    return added.id


async def add_many(conn: TrioConnection, jobs: Sequence[NewJob]) -> list[Added]:
    """The same for several, in their order; of those that are alike in one call, each joins only what was there before.

    Their keys are locked until the transaction ends. Outside of one, it is a transaction of its own. Raises ValueError for a payload
    that is too large, or for more than a batch; Crowded, which must end the caller's transaction.
    """
    if len(jobs) > BATCH:
        raise ValueError(f"{len(jobs)} jobs are more than one statement takes ({BATCH})")
    if conn.pgconn.transaction_status == TransactionStatus.IDLE:
        async with conn.transaction():
            return await _add(conn, jobs)
    return await _add(conn, jobs)


async def _add(conn: TrioConnection, jobs: Sequence[NewJob]) -> list[Added]:
    await conn.run(_LOCK_KEYS, {"lane": [job.lane for job in jobs], "key": [job.key for job in jobs]})
    rows = await conn.fetch(_ADD, {"jobs": msgspec.json.encode([_written(job) for job in jobs]).decode()})
    if crowded := {(job.lane, job.key) for job, row in zip(jobs, rows, strict=True) if row[0] is None}:
        raise Crowded(crowded)
    return [Added(id=row[0], joined=row[1], outcomes=row[2]) for row in rows]


def _written(job: NewJob) -> dict[str, object]:
    """As one JSON, which takes a third of the time of as many arrays with JSON in them."""
    names = ("type", "lane", "key", "run_at", "dedupe", "joins", "bounded", "trace_id")
    within = None if job.within is None else msgspec.Raw(as_json(job.within).encode())
    payload = msgspec.Raw(as_json(job.payload).encode())
    return {**{name: getattr(job, name) for name in names}, "payload": payload, "within": within}


async def claim(
    conn: TrioConnection, node: UUID, open_lanes: Mapping[str, int], *, limit: int, ttl_s: float
) -> list[Job]:
    """What `look` takes."""
    return list((await look(conn, node, open_lanes, limit=limit, ttl_s=ttl_s)).jobs)


async def look(conn: TrioConnection, node: UUID, open_lanes: Mapping[str, int], *, limit: int, ttl_s: float) -> Found:
    """Take what is due in these lanes, as many of each as it has room for, in the order in which they fell due.

    Of one key only the first, and none while one of it is running. Not in a transaction.
    """
    values = {
        "lanes": list(open_lanes),
        "rooms": list(open_lanes.values()),
        "limit": min(limit, BATCH),
        "node": node,
        "ttl_s": ttl_s,
    }
    for _ in range(_CLAIM_TRIES):
        try:
            rows = await conn.fetch(CLAIM, values)
        except UniqueViolation:  # an earlier job of a key fell due while another daemon was just claiming a later one
            log.debug("jobs.claim_met_another")
        else:
            jobs = [Job(*columns) for *columns, _ in rows if columns[0] is not None]
            return Found(jobs, {row[3]: row[-1] for row in rows if row[0] is None})
    return Found([], dict.fromkeys(open_lanes, _MET_OTHERS_S))


async def finish(conn: TrioConnection, outcomes: Sequence[Ended]) -> set[UUID]:
    """Write what became of attempts; the ids of those that were still their writer's to finish."""
    values = {"outcomes": msgspec.json.encode(outcomes).decode()}  # in half the time of seven arrays
    return {row[0] for row in await conn.fetch(_FINISH, values)}


async def cancel(conn: TrioConnection, keys: Sequence[tuple[str, str]], *, why: str) -> int:
    """What waits for these lanes and keys has nothing left to do, and is done; how many. What runs finds out for itself."""
    values = {"lanes": [lane for lane, _ in keys], "keys": [key for _, key in keys], "why": why}
    return await conn.run(_CANCEL, values)


async def renew(conn: TrioConnection, jobs: Sequence[Job], *, ttl_s: float) -> set[UUID]:
    """Make their leases last `ttl_s` from now; the ids of those that are still ours."""
    values = {"id": [job.id for job in jobs], "fence": [job.fence for job in jobs], "ttl_s": ttl_s}
    return {row[0] for row in await conn.fetch(_RENEW, values)}


async def give_back(conn: TrioConnection, node: UUID) -> int:
    """All that a node has and won't finish, what it doesn't know to have claimed included: due at once, as if it had not been begun."""
    row = await conn.fetch_one(_GIVE_BACK, {"node": node})
    assert row is not None
    return int(row[0])


async def take_back(conn: TrioConnection, retries: Retries) -> int:
    """Make what daemons left behind that are gone (their leases ended) due again, or dead if it was the last attempt."""
    patience = retries.patience_s
    row = await conn.fetch_one(
        _TAKE_BACK,
        {
            "limit": BATCH,
            "max_attempts": retries.max_attempts,
            "types": list(patience),
            "patience_s": list(patience.values()),
        },
    )
    assert row is not None
    return int(row[0])
