"""Heartbeats: gathered, written in batches, and answered when they are written.

A beat waits for its batch, so that its 200 means that it is kept, and the batch says who is who: token, host and PC are checked by the same
statement. The first beat after a quiet spell is written at once; then there is one write an interval, however many hosts beat.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from itertools import zip_longest
import math
from typing import Final
from uuid import UUID

from attrs import define, field, frozen
import structlog
import trio

from opendesk.errors import DatabaseUnavailable, Forbidden, OpenDeskError, Overloaded, Unauthenticated
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying
from opendesk.rental.errors import HostNotFound, PcNotFound
from opendesk.rental.lifecycle import Status
from opendesk.supervise import alive
from opendesk.web.auth import Claims
from opendesk.web.problems import DATABASE_RETRY_S

log = structlog.get_logger()

# Two writes a second at most (issue: part 6).
BATCH_INTERVAL_S: Final = 0.5

# For one write, waiting for a connection included: far over what a busy server takes, and short enough for a host to be told.
WRITE_S: Final = 8.0

# Beats in one statement: some 100 ms of the server's time. As many as may wait, so that none waits for a second write.
BATCH_SIZE: Final = 5_000

# Each waits on a connection of its own, so that more than these never come through the door (web/http/limits.py).
MAX_WAITING: Final = 5_000

# Told of a beat that would turn a PC which somebody holds at this moment.
SAY_AGAIN: Final = "somebody works on the PC just now; say it again"

# Whether what a beat says changes its PC.
_TURNS = """CASE b.said WHEN 'OFFLINE' THEN NOT p.taken_off OR p.status = 'ONLINE'
                        WHEN 'ONLINE' THEN p.taken_off OR p.status = 'OFFLINE'
                        ELSE NOT p.taken_off AND p.status = 'OFFLINE' END"""
_WRITE = f"""
    WITH beat AS MATERIALIZED (
        SELECT b.n, b.host_id, b.pc_id, b.said, u.id IS NOT NULL AS known, h.id IS NOT NULL AS host_found,
               coalesce(h.id IS NOT NULL AND (h.user_id = u.id OR u.role = 'ADMIN'), false) AS permitted
          FROM unnest(%(user_id)s::uuid[], %(version)s::int[], %(host_id)s::uuid[], %(pc_id)s::uuid[], %(said)s::text[])
               WITH ORDINALITY AS b (user_id, version, host_id, pc_id, said, n)
               LEFT JOIN users u ON u.id = b.user_id AND u.token_version = b.version AND u.banned_at IS NULL
               LEFT JOIN hosts h ON h.id = b.host_id
    ), spoken_for AS MATERIALIZED (
        -- Of several beats for one PC the last that says ONLINE or OFFLINE counts, as it would one by one.
        SELECT DISTINCT ON (p.id) p.id, p.host_id, b.said, {_TURNS} AS turns
          FROM beat b JOIN pcs p ON p.host_id = b.host_id AND p.deleted_at IS NULL AND (b.pc_id IS NULL OR b.pc_id = p.id)
         WHERE b.permitted
         ORDER BY p.id, b.said IN ('ONLINE', 'OFFLINE') DESC NULLS LAST, b.n DESC
    ), seen_host AS (
        INSERT INTO host_beats (host_id, last_seen_at)
        SELECT DISTINCT host_id, now() FROM beat b
         WHERE permitted AND (pc_id IS NULL OR EXISTS (SELECT FROM spoken_for p WHERE p.id = b.pc_id AND p.host_id = b.host_id))
         ORDER BY host_id
            ON CONFLICT (host_id) DO UPDATE SET last_seen_at = excluded.last_seen_at
    ), seen_pc AS (
        INSERT INTO pc_beats (pc_id, last_seen_at) SELECT id, now() FROM spoken_for ORDER BY id
            ON CONFLICT (pc_id) DO UPDATE SET last_seen_at = excluded.last_seen_at
    ), turned AS MATERIALIZED (
        -- What counts is the PC as it is when its lock is ours: another daemon may just have taken it off, or deleted it. One that
        -- somebody else holds is never waited for: it would hold up everybody's beats.
        SELECT p.id, b.said FROM pcs p JOIN spoken_for b ON b.id = p.id
         WHERE p.deleted_at IS NULL AND {_TURNS}
         ORDER BY p.id FOR UPDATE OF p SKIP LOCKED
    ), missed AS (
        SELECT id, host_id FROM spoken_for s
         WHERE turns AND said IN ('ONLINE', 'OFFLINE') AND NOT EXISTS (SELECT FROM turned WHERE turned.id = s.id)
    ), changed AS (
        UPDATE pcs SET taken_off = coalesce(t.said = 'OFFLINE', false),
                       status = CASE WHEN pcs.status = 'BUSY' THEN 'BUSY' WHEN t.said = 'OFFLINE' THEN 'OFFLINE' ELSE 'ONLINE' END
          FROM turned t WHERE pcs.id = t.id
    )
    SELECT b.n, b.known, b.host_found, b.permitted,
           b.pc_id IS NULL OR EXISTS (SELECT FROM spoken_for p WHERE p.id = b.pc_id AND p.host_id = b.host_id) AS pc_found,
           b.said IN ('ONLINE', 'OFFLINE')
           AND EXISTS (SELECT FROM missed m WHERE m.host_id = b.host_id AND (b.pc_id IS NULL OR b.pc_id = m.id)) AS missed, now() AS now
      FROM beat b
"""
_SESSIONS = """
    SELECT host_id, id, pc_id, status, end_at FROM sessions
     WHERE host_id = ANY (%(host_id)s) AND status IN ('PENDING', 'ACTIVE')
"""


@frozen
class Beat:
    """Host `host_id` speaks for `pc_id`, or for all of its PCs; `said` is the status it sent, if any."""

    claims: Claims
    host_id: UUID
    pc_id: UUID | None
    said: str | None


@frozen
class LiveSession:
    id: UUID
    pc_id: UUID
    status: Status
    end_at: datetime | None


@frozen
class BeatAnswer:
    ok: bool
    last_seen_at: datetime
    sessions: tuple[LiveSession, ...]


@define(eq=False)
class _Waiting:
    beat: Beat
    done: trio.Event = field(factory=trio.Event)
    outcome: BeatAnswer | Exception | None = None


@define
class Heartbeats:
    """`beat` is called by requests, `run` by the daemon."""

    _pool: Pool
    _metrics: Metrics
    lost: bool = False  # a batch could not be written since the time-out check last looked
    _waiting: list[_Waiting] = field(factory=list)
    _writing: trio.Lock = field(factory=trio.Lock)
    _some: trio.Event = field(factory=trio.Event)
    _next_write_s: float = 0.0

    async def beat(self, beat: Beat) -> BeatAnswer:
        """Raise what the batch found wrong with it, or that the batch couldn't be written."""
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(retry_after_s=5)
        waiting = _Waiting(beat)
        self._waiting.append(waiting)
        self._metrics.heartbeat_taken()
        self._some.set()
        await waiting.done.wait()
        if isinstance(waiting.outcome, BeatAnswer):
            return waiting.outcome
        assert waiting.outcome is not None
        raise waiting.outcome

    async def run(self) -> None:
        while True:
            alive(wait_s=math.inf)
            await self._some.wait()
            alive()
            await self.flush()

    async def flush(self) -> None:
        """Write what waits, a batch at most, when it is time. The time-out check calls it too, to judge nobody whose beat is here."""
        async with self._writing:
            await trio.sleep_until(self._next_write_s)
            batch, self._waiting = self._waiting[:BATCH_SIZE], self._waiting[BATCH_SIZE:]
            if not self._waiting and self._some.is_set():  # never one that `run` still waits on
                self._some = trio.Event()
            if batch:
                self._next_write_s = trio.current_time() + BATCH_INTERVAL_S
                await self._write(batch)

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        outcomes: Sequence[BeatAnswer | Exception] = []
        try:
            with trio.fail_after(WRITE_S):
                outcomes = await self._written([w.beat for w in batch])
        except (*AWAY, trio.TooSlowError) as error:
            log.warning("heartbeats.not_written", beats=len(batch), error=repr(error))
        except Exception:  # one batch that we have a fault with must not end the heartbeats of all
            log.exception("heartbeats.failed", beats=len(batch))
        finally:
            self.lost = self.lost or not outcomes
            for waiting, outcome in zip_longest(batch, outcomes):
                waiting.outcome = outcome or DatabaseUnavailable(retry_after_s=DATABASE_RETRY_S)
                waiting.done.set()

    async def _written(self, beats: Sequence[Beat]) -> list[BeatAnswer | Exception]:
        async def once() -> list[BeatAnswer | Exception]:
            async with self._pool.connection() as conn:
                return await write(conn, beats)

        outcomes = await retrying(once)
        self._metrics.heartbeats_written(len(beats))
        return outcomes


async def write(conn: TrioConnection, beats: Sequence[Beat]) -> list[BeatAnswer | Exception]:
    """Write beats in one statement; what is to be told of each, in their order.

    Beats that say the same count once, so that a host that beats a thousand times in a batch costs no more than one that beats once.
    """
    distinct = _distinct(beats)
    values = {
        "user_id": [b.claims.user_id for b in distinct],
        "version": [b.claims.version for b in distinct],
        "host_id": [b.host_id for b in distinct],
        "pc_id": [b.pc_id for b in distinct],
        "said": [b.said for b in distinct],
    }
    rows = await conn.fetch(_WRITE, values)
    sessions = await _live_sessions(conn, {b.host_id for b in distinct})
    told: dict[Beat, BeatAnswer | OpenDeskError] = {}
    for n, known, host_found, permitted, pc_found, missed, now in rows:
        beat = distinct[n - 1]
        refusal = _refusal(known=known, host_found=host_found, permitted=permitted, pc_found=pc_found, missed=missed)
        told[beat] = refusal or BeatAnswer(ok=True, last_seen_at=now, sessions=sessions.get(beat.host_id, ()))
    return [told[beat] for beat in beats]


def _distinct(beats: Sequence[Beat]) -> list[Beat]:
    """Each once, in the order in which they last came: of two that contradict each other the later one counts."""
    return list(reversed(dict.fromkeys(reversed(beats))))


async def _live_sessions(conn: TrioConnection, host_ids: AbstractSet[UUID]) -> dict[UUID, tuple[LiveSession, ...]]:
    found: dict[UUID, list[LiveSession]] = {}
    for host_id, *columns in await conn.fetch(_SESSIONS, {"host_id": list(host_ids)}):
        found.setdefault(host_id, []).append(LiveSession(*columns))
    return {host_id: tuple(live) for host_id, live in found.items()}


def _refusal(*, known: bool, host_found: bool, permitted: bool, pc_found: bool, missed: bool) -> OpenDeskError | None:
    if not known:
        return Unauthenticated()
    if not host_found:
        return HostNotFound()
    if not permitted:
        return Forbidden()
    if not pc_found:
        return PcNotFound()
    return Overloaded(SAY_AGAIN, retry_after_s=1) if missed else None
