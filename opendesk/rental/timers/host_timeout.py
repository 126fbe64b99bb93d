"""Hosts that fell silent: who is judged gone, and what that does to their PCs and sessions."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from attrs import define, field
import psycopg
import structlog
import trio

from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying
from opendesk.rental import closing, sessions, telling
from opendesk.rental.heartbeats import Heartbeats
from opendesk.rental.liveness import ClockWatch, SilentPc, Verdict, Watch, judge
from opendesk.rental.reliability import HOST_TIMED_OUT
from opendesk.rental.sessions import Session
from opendesk.rental.timers.periods import BATCH, SHORT_WAIT, Periods, timed
from opendesk.supervise import alive

log = structlog.get_logger()

# Of the shortest time-out. Hosts beat several times within one, so that they never look silent for a pause below this.
TOO_LATE: Final = 0.25

# PCs looked at by one check; the longest silent first, so that what is over it comes with the next check.
MAX_SILENT: Final = 20_000

# A PC that is OFFLINE is watched, too, while a client waits at it, and when a session's end took it off because its host seemed gone: that
# is still to be judged, unless the host was found silent since the PC was last heard.
_WATCHED = """
    FROM pcs p JOIN hosts h ON h.id = p.host_id LEFT JOIN pc_beats b ON b.pc_id = p.id
   WHERE p.deleted_at IS NULL
     AND (p.status <> 'OFFLINE'
          OR NOT p.taken_off AND b.last_seen_at > coalesce(h.timed_out_at, '-infinity')
          OR p.id IN (SELECT pc_id FROM sessions WHERE status = 'PENDING'))
"""
_SILENT = f"""
    SELECT p.id AS pc_id, p.host_id, b.last_seen_at,
           EXISTS (SELECT FROM sessions s WHERE s.pc_id = p.id AND s.status = 'ACTIVE') AS has_active_session
    {_WATCHED}
       AND (b.last_seen_at IS NULL OR b.last_seen_at < now() - %(timeout_s)s * interval '1 second'
            OR b.last_seen_at > now())   -- told by a clock that was set back since
     ORDER BY b.last_seen_at NULLS FIRST LIMIT %(limit)s
"""
_BEATING = f"SELECT now(), count(*) {_WATCHED}"

# The locks come first: create, start and end wait for them, and what is read after them sees all that was written before. A PC that
# somebody works on just now comes with the next check: one transaction that hangs must not keep all others from being judged.
_LOCK = "SELECT id FROM pcs WHERE id = ANY (%(pc_ids)s) ORDER BY id FOR UPDATE SKIP LOCKED"

# Whoever beat since they were judged is spared.
_STILL_SILENT = f"""
    WITH watched AS (SELECT p.id, p.host_id, b.last_seen_at {_WATCHED})
    SELECT p.id, p.host_id
      FROM unnest(%(pc_id)s::uuid[], %(seen)s::timestamptz[], %(in_session)s::bool[]) AS judged (pc_id, last_seen_at, in_session)
           JOIN watched p ON p.id = judged.pc_id
     WHERE p.id = ANY (%(locked)s) AND p.last_seen_at IS NOT DISTINCT FROM judged.last_seen_at
       -- A session that started meanwhile has the longer time-out.
       AND (judged.in_session OR NOT EXISTS (SELECT FROM sessions s WHERE s.pc_id = p.id AND s.status = 'ACTIVE'))
"""
_OFFLINE = "UPDATE pcs SET status = 'OFFLINE' WHERE id = ANY (%(pc_ids)s)"

# All of them by id, before any is written: those that are lowered here, and those whose sessions are closed next.
_LOCK_HOSTS = "SELECT FROM hosts WHERE id = ANY (%(host_ids)s) ORDER BY id FOR NO KEY UPDATE"

# Once a silence, however many PCs, checks and daemons it takes: not again before the host was heard.
_LOWER = f"""
    UPDATE hosts SET timed_out_at = now(), reliability_score = greatest(0, reliability_score + {HOST_TIMED_OUT.score})
     WHERE id = ANY (%(host_ids)s)
       AND (timed_out_at IS NULL OR timed_out_at < (SELECT last_seen_at FROM host_beats b WHERE b.host_id = hosts.id))
"""


@define
class HostTimeout:
    """`run` is a service of the daemon."""

    _pool: Pool
    _periods: Periods
    _heartbeats: Heartbeats
    _metrics: Metrics
    _watch: Watch | None = None
    _clock: ClockWatch = field(factory=ClockWatch)

    def listening_since(self, now: datetime) -> datetime:
        """From when a host's silence is its own: not before the first look, nor before the one after heartbeats were lost."""
        return now if self._watch is None or self._heartbeats.lost else self._watch.listening_since

    def lagged(self, late_s: float) -> None:
        """The loop woke this late. One that stood still heard nobody, and each host's silence looks longer by as much."""
        if late_s > self._periods.shortest_timeout.total_seconds() * TOO_LATE:
            self._heartbeats.lost = True

    async def run(self) -> None:
        due_s = trio.current_time()
        while True:
            alive(wait_s=self._periods.host_check_s)
            try:
                with timed(self._metrics, "host_timeout"):
                    await self.check()
            except AWAY as error:
                log.warning("host_timeout.database_away", error=repr(error))
                self._heartbeats.lost = True
            due_s = max(due_s + self._periods.host_check_s, trio.current_time())
            await trio.sleep_until(due_s)

    async def check(self) -> Verdict:
        """Judge who is silent, and take the PCs of those who are gone off."""
        await self._heartbeats.flush()
        now, beating, silent = await self._look()
        timeout, active = self._periods.host_timeout, self._periods.host_timeout_active
        watch = self._watch or Watch(grace_from=now)
        verdict = judge(watch, beating, silent, now=now, timeout=timeout, timeout_active=active)
        self._watch = verdict.watch
        if verdict.alarm:
            log.error("hosts.mass_silence", fallen=verdict.fallen, beating=verdict.were_beating)
        await self._take_off(verdict.timed_out)
        return verdict

    async def _look(self) -> tuple[datetime, int, list[SilentPc]]:
        async with self._pool.connection() as conn:
            asked_s = trio.current_time()
            row = await conn.fetch_one(_BEATING)
            answered_s = trio.current_time()
            values = {"timeout_s": self._periods.shortest_timeout.total_seconds(), "limit": MAX_SILENT}
            silent = await conn.fetch(_SILENT, values, row=SilentPc)
        assert row is not None
        now, beating = row
        every = timedelta(seconds=self._periods.host_check_s)
        self._clock, was_away = self._clock.look(now, asked_s=asked_s, answered_s=answered_s, every=every)
        if self._watch is not None and (was_away or self._heartbeats.lost):
            log.warning("hosts.grace", reason="this daemon was away, or could not write heartbeats")
            self._watch = self._watch.returned(now)
        self._heartbeats.lost = False
        return now, beating, silent

    async def _take_off(self, gone: Sequence[SilentPc]) -> None:
        lowered = set[UUID]()
        for start in range(0, len(gone), BATCH):
            alive(wait_s=self._periods.host_check_s)
            batch = gone[start : start + BATCH]
            try:
                await self._take_off_batch(batch, lowered)
            except psycopg.errors.QueryCanceled:
                log.warning("host_timeout.batch_stuck", pcs=len(batch))
                await self._one_by_one(batch, lowered)
            except AWAY:
                raise
            except Exception:
                log.exception("host_timeout.batch_failed", pcs=len(batch))
                await self._one_by_one(batch, lowered)

    async def _one_by_one(self, batch: Sequence[SilentPc], lowered: set[UUID]) -> None:
        for pc in batch:
            try:
                await self._take_off_batch([pc], lowered, patient=False)
            except psycopg.errors.LockNotAvailable:
                log.warning("host_timeout.pc_locked", pc=str(pc.pc_id))
            except AWAY:
                raise
            except Exception:
                log.exception("host_timeout.pc_failed", pc=str(pc.pc_id))

    async def _take_off_batch(self, batch: Sequence[SilentPc], lowered: set[UUID], *, patient: bool = True) -> None:
        async def once() -> tuple[list[Session], set[UUID]]:
            async with self._pool.connection() as conn, conn.transaction():
                if not patient:
                    await conn.run(SHORT_WAIT)
                return await time_out(conn, batch, lowered)

        closed, hosts = await retrying(once)
        lowered |= hosts
        telling.ended(self._metrics, closed, by="host_timeout")
        for host in sorted(hosts)[: telling.NAMED_MAX]:
            log.info("host.timed_out", host=str(host))
        log.info("hosts.timed_out", hosts=len(hosts), pcs=len(batch), sessions=len(closed))


async def time_out(
    conn: TrioConnection, batch: Sequence[SilentPc], lowered: AbstractSet[UUID]
) -> tuple[list[Session], set[UUID]]:
    """In a transaction. The sessions closed, and the hosts whose reliability was lowered, other than those that were before."""
    locked = [row[0] for row in await conn.fetch(_LOCK, {"pc_ids": [pc.pc_id for pc in batch]})]
    judged = {
        "pc_id": [pc.pc_id for pc in batch],
        "seen": [pc.last_seen_at for pc in batch],
        "in_session": [pc.has_active_session for pc in batch],
        "locked": locked,
    }
    rows = await conn.fetch(_STILL_SILENT, judged)
    pc_ids, hosts = [row[0] for row in rows], {row[1] for row in rows} - lowered
    if not pc_ids:
        return [], set()
    found = await sessions.on_pcs(conn, pc_ids)
    await conn.run(_LOCK_HOSTS, {"host_ids": [row[1] for row in rows]})
    await conn.run(_LOWER, {"host_ids": list(hosts)})
    closed = await sessions.close(conn, [closing.time_out(s) for s in found]) if found else []
    await conn.run(_OFFLINE, {"pc_ids": pc_ids})
    return closed, hosts
