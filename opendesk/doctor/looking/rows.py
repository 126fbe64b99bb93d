"""What the database says of itself, and of the work in it. All of it is bounded: a table of millions must not keep a doctor."""

from typing import Any, Final

from psycopg import errors as e

from opendesk.doctor.judging.database import LONG_TRANSACTION_S, Database
from opendesk.doctor.judging.work import Events, Jobs
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.migrate import MigrationError, pending

# Counted no further.
_MOST: Final = 100_000
_LANES: Final = 5

_SERVER: Final = """
    SELECT current_setting('server_version_num')::int AS version, current_setting('max_connections')::int AS max_connections,
           (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS is_superuser,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
           (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = 'opendesk' AND c.relkind IN ('r', 'p') AND NOT has_table_privilege(c.oid, 'SELECT')) AS unreadable
"""
_TRANSACTIONS: Final = """
    SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
      FROM pg_stat_activity
     WHERE datname = current_database() AND backend_type = 'client backend'
       AND xact_start < clock_timestamp() - %(long_s)s * interval '1 second'
"""
_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
_JOBS: Final = """
    WITH due AS (
        SELECT lane, run_at FROM jobs WHERE state = 'due' AND run_at <= clock_timestamp() AND type <> 'ACK_EVENT' LIMIT %(most)s
    ), running AS (
        SELECT leased_until FROM jobs WHERE state = 'running' LIMIT %(most)s
    ), late AS (
        SELECT lane FROM due GROUP BY lane ORDER BY min(run_at), lane LIMIT %(lanes)s
    )
    SELECT (SELECT count(*) FROM due) AS due,
           (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(run_at)), 0)::float8 FROM due) AS oldest_due_s,
           (SELECT count(*) FROM (SELECT FROM jobs WHERE state = 'dead' LIMIT %(most)s) AS d) AS dead,
           (SELECT count(*) FROM running WHERE leased_until < clock_timestamp() - interval '2 minutes') AS stuck,
           (SELECT coalesce(array_agg(lane), '{}') FROM late) AS late_lanes
"""
_EVENTS: Final = """
    WITH waiting AS (
        SELECT received_at FROM events WHERE ok IS NULL ORDER BY received_at LIMIT %(most)s
    ), acks AS (
        SELECT created_at, last_error FROM jobs WHERE state IN ('due', 'running') AND type = 'ACK_EVENT' LIMIT %(most)s
    )
    SELECT (SELECT count(*) FROM waiting) AS waiting,
           (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(received_at)), 0)::float8 FROM waiting) AS oldest_waiting_s,
           (SELECT count(*) FROM acks) AS acks_waiting,
           (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 FROM acks) AS oldest_ack_s,
           (SELECT last_error FROM acks WHERE last_error IS NOT NULL ORDER BY created_at LIMIT 1) AS ack_error
"""


async def database(conn: TrioConnection, *, is_external: bool) -> Database:
    server: dict[str, Any] | None = await conn.fetch_one(_SERVER, row=dict)
    long = await conn.fetch_one(_TRANSACTIONS, {"long_s": LONG_TRANSACTION_S})
    assert server is not None
    assert long is not None
    missing, fault = await _migrations(conn)
    return Database(
        **server,
        missing=missing,
        fault=fault,
        is_external=is_external,
        long_transactions=long[0],
        longest_transaction_s=long[1],
    )


async def _migrations(conn: TrioConnection) -> tuple[list[str], str | None]:
    try:
        return await pending(conn), None
    except MigrationError as error:
        return [], str(error)
    except e.InsufficientPrivilege:
        return [], "its role may not read which migrations it has"


async def now(conn: TrioConnection) -> float:
    row = await conn.fetch_one(_NOW)
    assert row is not None
    return float(row[0])


async def jobs(conn: TrioConnection) -> Jobs:
    found = await conn.fetch_one(_JOBS, {"most": _MOST, "lanes": _LANES}, row=Jobs)
    assert found is not None
    return found


async def events(conn: TrioConnection) -> Events:
    found = await conn.fetch_one(_EVENTS, {"most": _MOST}, row=Events)
    assert found is not None
    return found
