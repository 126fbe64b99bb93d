"""The statement that claims: it takes what is due in open lanes, and tells when the next is.

Of one key only the first, and none while one of it is running; whatever waits in a lane costs other lanes nothing.
"""

from typing import Final

# Looked at by a claim in the order in which they fell due, before it goes by keys: more than may wait for one of them.
WINDOW: Final = 256
# Keys of a lane that a claim goes through when those don't fill its room: some milliseconds of the server's time.
_KEYS_WALKED: Final = 1_000

# Of jobs that are due, each has a probe or two of an index: OFFSET 0 keeps them that, made a join it would read all that waits in all lanes.
# Where many wait for few keys, most of them can't be taken, so that after a window of them it goes from key to key: a crowd costs as much as
# one. The second half is only begun where the first left room.
CLAIM: Final = f"""
    WITH open AS MATERIALIZED (
        SELECT * FROM unnest(%(lanes)s::text[], %(rooms)s::int[]) AS open (lane, room)
    ), picked AS MATERIALIZED (
        SELECT next.id
          FROM open CROSS JOIN LATERAL (
                   SELECT locked.id
                     FROM (SELECT j.id
                             FROM (SELECT id, lane, key, seq FROM jobs
                                    WHERE jobs.lane = open.lane AND state = 'due' AND run_at <= now()
                                    ORDER BY run_at, seq LIMIT {WINDOW}) AS j
                            WHERE NOT EXISTS (SELECT FROM jobs r WHERE r.lane = j.lane AND r.key = j.key AND r.state = 'running' OFFSET 0)
                              -- One that is not due yet holds up nobody, but for one that was begun: that one came first.
                              AND NOT EXISTS (SELECT FROM jobs e
                                               WHERE e.lane = j.lane AND e.key = j.key AND e.state IN ('due', 'running') AND e.seq < j.seq
                                                 AND (e.run_at <= now() OR e.fence > 0) OFFSET 0)
                           UNION ALL
                           SELECT walked.id
                             FROM (SELECT run_at, seq FROM jobs
                                    WHERE jobs.lane = open.lane AND state = 'due' AND run_at <= now()
                                    ORDER BY run_at, seq OFFSET {WINDOW} - 1 LIMIT 1) AS edge
                                  CROSS JOIN LATERAL (
                                      WITH RECURSIVE walk (key, n) AS (
                                          (SELECT k.key, 1 FROM jobs k
                                            WHERE k.lane = open.lane AND k.state IN ('due', 'running') ORDER BY k.key LIMIT 1)
                                          UNION ALL
                                          SELECT (SELECT k.key FROM jobs k
                                                   WHERE k.lane = open.lane AND k.key > walk.key AND k.state IN ('due', 'running')
                                                   ORDER BY k.key LIMIT 1), n + 1
                                            FROM walk WHERE walk.key IS NOT NULL AND n < {_KEYS_WALKED}
                                      )
                                      SELECT head.id
                                        FROM walk CROSS JOIN LATERAL (
                                                 SELECT h.id, h.state, h.run_at, h.seq FROM jobs h
                                                  WHERE h.lane = open.lane AND h.key = walk.key AND h.state IN ('due', 'running')
                                                    AND (h.run_at <= now() OR h.fence > 0)
                                                  ORDER BY h.seq LIMIT 1
                                             ) AS head
                                       WHERE head.state = 'due' AND head.run_at <= now() AND (head.run_at, head.seq) > (edge.run_at, edge.seq)
                                         AND NOT EXISTS (SELECT FROM jobs r
                                                          WHERE r.lane = open.lane AND r.key = walk.key AND r.state = 'running' OFFSET 0)
                                  ) AS walked
                          ) AS head
                          CROSS JOIN LATERAL (
                              SELECT jobs.id FROM jobs
                               WHERE jobs.id = head.id AND leased_until IS NULL AND finished_at IS NULL AND run_at <= now()  -- due: see table.py
                                 FOR UPDATE SKIP LOCKED
                          ) AS locked
                    LIMIT open.room
               ) AS next
         LIMIT %(limit)s
    ), taken AS (
        UPDATE jobs SET state = 'running', attempts = attempts + 1, fence = fence + 1,
                        leased_by = %(node)s, leased_until = clock_timestamp() + %(ttl_s)s * interval '1 second'
          FROM picked WHERE jobs.id = picked.id
     RETURNING jobs.id, fence, type, jobs.lane, key, payload, attempts, run_at, trace_id, outcomes,
               extract(epoch FROM clock_timestamp() - created_at)::float8 AS age_s
    )
    SELECT *, NULL::float8 AS next_s FROM taken
    UNION ALL
    -- What falls due later, as of the same moment.
    SELECT NULL, NULL, NULL, open.lane, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
           extract(epoch FROM next.run_at - clock_timestamp())::float8
      FROM open CROSS JOIN LATERAL (
               SELECT j.run_at FROM jobs j WHERE j.lane = open.lane AND j.state = 'due' AND j.run_at > now() ORDER BY j.run_at LIMIT 1
           ) AS next
"""
