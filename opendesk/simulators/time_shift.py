"""How time passes in a throw-away database faster than outside: whatever happened there becomes longer ago.

A session is bought in minutes, and a minute of the daemon's takes a minute. To turn its clock forward by ten is the same as to make
all that it reasons about ten minutes older: begins, ends and due times of sessions, how long their stream tokens admit, and the last heartbeats
of those who fell silent, what is granted behind hotspots, and when jobs are due. Heartbeats of hosts that are up stay as they are: such a host would have beaten all through those minutes, and will
beat in the next instant. What the relay saw of a room, it tells by ages, again and again, and knows of no turn. So turns are noted, and a trigger
puts what it tells at the time at which it was. Nothing else is touched. Who is billed for how long, who is judged gone and what is paid is the daemon's work alone, by its own rules.
The ledger stays as it is, so its entries keep the time that they were written.

The database lets nobody change a session that is over, but for a superuser, whom the embedded database has, and who turns triggers off.
"""

from collections.abc import Sequence
from typing import Final

from attrs import frozen
import trio

from opendesk.network.jobs.table import CHANNEL
from opendesk.postgres.pool import Pool

# A daemon that is well notices within its intervals; one just started lets hosts be for a full time-out first.
NOTICED_WITHIN_S: Final = 30.0
_LOOK_S: Final = 0.01

# Noted before anybody streams. An `INSERT … ON CONFLICT DO UPDATE`, as the relay writes, goes by what this trigger made of its row.
_PREPARE: Final = """
    CREATE TABLE turns (turned_at timestamptz NOT NULL, by interval NOT NULL);
    CREATE FUNCTION turned(at timestamptz) RETURNS timestamptz LANGUAGE sql AS
        'SELECT at - coalesce(sum(by), interval ''0'') FROM turns WHERE turned_at >= at';
    CREATE FUNCTION tell_presence_turned() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.host_down_since := turned(NEW.host_down_since);
        NEW.client_up_since := turned(NEW.client_up_since);
        NEW.last_byte_at := turned(NEW.last_byte_at);
        NEW.client_left_at := turned(NEW.client_left_at);
        RETURN NEW;
    END
    $$;
    CREATE TRIGGER told_turned BEFORE INSERT ON stream_presence FOR EACH ROW EXECUTE FUNCTION tell_presence_turned();
"""
# What a relay tells is written wholly before a turn or wholly after it.
_ALONE: Final = "LOCK TABLE stream_presence IN SHARE ROW EXCLUSIVE MODE"
_PAST_TRIGGERS: Final = "SET LOCAL session_replication_role = replica"
_TURN: Final = """
    WITH later AS (
        SELECT %(minutes)s * interval '1 minute' AS by
    ), of_sessions AS (
        UPDATE sessions SET created_at = created_at - by, start_at = start_at - by, end_at = end_at - by, ended_at = ended_at - by,
                            stream_expires_at = stream_expires_at - by
          FROM later
    ), noted AS (
        INSERT INTO turns SELECT now(), by FROM later
    ), of_rooms AS (
        UPDATE stream_presence SET host_down_since = host_down_since - by, client_up_since = client_up_since - by,
                                   last_byte_at = last_byte_at - by, client_left_at = client_left_at - by
          FROM later
    )
    UPDATE pc_beats SET last_seen_at = last_seen_at - by FROM later WHERE pc_id = ANY (%(silent)s::uuid[])
"""
# What has begun keeps its length, and so does what hasn't: only times of day are turned.
_TURN_GRANTS: Final = """
    UPDATE hotspot_grants
       SET created_at = created_at - by, begun_at = begun_at - by, until = until - by, opening_at = opening_at - by,
           observed_at = observed_at - by, ended_at = ended_at - by
      FROM (SELECT %(minutes)s * interval '1 minute' AS by) AS later
"""
# Whoever waits for a job to fall due reckons by a clock of its own, and is told to look again.
_TURN_JOBS: Final = f"""
    WITH turned AS (
        UPDATE jobs SET run_at = run_at - %(minutes)s * interval '1 minute' WHERE state = 'due' RETURNING id
    )
    SELECT pg_notify('{CHANNEL}', '') FROM turned HAVING count(*) > 0
"""
_UNNOTICED: Final = """
    SELECT EXISTS (SELECT FROM sessions WHERE status = 'ACTIVE' AND end_at <= now())
        OR EXISTS (SELECT FROM sessions WHERE status = 'PENDING' AND created_at <= now() - %(pending_timeout_ms)s * interval '1 millisecond')
        OR EXISTS (SELECT FROM pcs WHERE id = ANY (%(silent)s::uuid[]) AND status <> 'OFFLINE')
        OR EXISTS (SELECT FROM hotspot_grants WHERE ended_at IS NULL AND until <= now() AND (opening_at IS NOT NULL OR observed_at IS NOT NULL))
        OR EXISTS (SELECT FROM jobs WHERE type = 'END_GRANT' AND (state = 'running' OR (state = 'due' AND run_at <= now())))
"""


class DaemonBehind(Exception):
    """The daemon didn't see in time that something was due."""


@frozen
class TimeShift:
    """Only for a database that is thrown away. `pending_timeout_ms` is its daemon's SESSION_PENDING_TIMEOUT_MS."""

    _pool: Pool
    _pending_timeout_ms: int

    async def prepare(self) -> None:
        """Once, before anything is turned."""
        async with self._pool.connection() as conn:
            await conn.execute(_PREPARE)

    async def forward(self, minutes: int, *, silent: Sequence[str] = ()) -> None:
        """Make it so many minutes later; `silent` are the PCs whose hosts don't beat. Raise DaemonBehind.

        It returns when the daemon has seen what that made due: sessions and reservations that ran out, hosts that are gone, access whose time is over.
        """
        async with self._pool.connection() as conn, conn.transaction():
            await conn.run(_ALONE)
            await conn.run(_PAST_TRIGGERS)
            await conn.run(_TURN, {"minutes": minutes, "silent": list(silent)})
            await conn.run(_TURN_GRANTS, {"minutes": minutes})
            await conn.run(_TURN_JOBS, {"minutes": minutes})
        await self._until_noticed(silent)

    async def _until_noticed(self, silent: Sequence[str]) -> None:
        values = {"pending_timeout_ms": self._pending_timeout_ms, "silent": list(silent)}
        with trio.move_on_after(NOTICED_WITHIN_S):
            while await self._unnoticed(values):  # noqa: ASYNC110 - another process, which tells nobody
                await trio.sleep(_LOOK_S)
            return
        raise DaemonBehind(f"something has been due for {NOTICED_WITHIN_S:g} s")

    async def _unnoticed(self, values: dict[str, object]) -> bool:
        async with self._pool.connection() as conn:
            row = await conn.fetch_one(_UNNOTICED, values)
        return row is not None and bool(row[0])
