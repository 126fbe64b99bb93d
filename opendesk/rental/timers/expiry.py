"""Sessions that ran their time, and reservations that were never started: ended when they are due, in batches."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
import math
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
from opendesk.rental.closing import Closing, Snapshot
from opendesk.rental.sessions import Session
from opendesk.rental.timers.periods import BATCH, SHORT_WAIT, Periods, timed
from opendesk.supervise import alive

log = structlog.get_logger()

# Sessions that can't be closed (a fault of ours: each is logged) are passed over, up to this many, and tried again after the interval.
MAX_BAD: Final = 1_000

# Something came due while we looked when the next would be.
SHORTEST_WAIT_S: Final = 0.05

# A session lasts a minute at least, so that one started on another daemon is seen before its end.
LONGEST_LOOK_AHEAD_S: Final = 30.0

# After the database was away.
RETRY_S: Final = 1.0

Decide = Callable[[Snapshot], Closing]
Find = Callable[[TrioConnection, Sequence[UUID]], Awaitable[list[Snapshot]]]


@define
class Expiry:
    """`run` is a service of the daemon. `listening_since` tells from when a host's silence is its own (HostTimeout)."""

    _pool: Pool
    _periods: Periods
    _metrics: Metrics
    _listening_since: Callable[[datetime], datetime]
    _passed_over: list[UUID] = field(factory=list)  # sessions that couldn't be closed
    _tried_again_s: float = -math.inf  # when they last got another chance

    async def run(self) -> None:
        while True:
            alive(wait_s=LONGEST_LOOK_AHEAD_S)
            try:
                with timed(self._metrics, "expiry"):
                    await self.expire_due()
                    wait_s = await self.until_next()
            except AWAY as error:
                log.warning("expiry.database_away", error=repr(error))
                wait_s = RETRY_S
            await trio.sleep(wait_s)

    async def expire_due(self) -> int:
        """End what ran its time and give up what was never started. How many."""
        if trio.current_time() - self._tried_again_s >= self._periods.expiration_s:
            self._tried_again_s = trio.current_time()
            self._passed_over.clear()
        return await self._work_off(_due, self._expire) + await self._work_off(self._stale, closing.give_up)

    def _expire(self, session: Snapshot) -> Closing:
        return closing.expire(
            session,
            heartbeat_timeout=self._periods.host_timeout,
            listening_since=self._listening_since(session.now),
        )

    async def _stale(self, conn: TrioConnection, but: Sequence[UUID]) -> list[Snapshot]:
        pending_timeout_ms = self._periods.pending_timeout_ms
        return await sessions.never_started(conn, pending_timeout_ms=pending_timeout_ms, limit=BATCH, but=but)

    async def until_next(self) -> float:
        """Seconds to wait before it is worth to look again."""
        pending_timeout_ms = self._periods.pending_timeout_ms
        async with self._pool.connection() as conn:
            due_s = await sessions.next_due_in_s(conn, pending_timeout_ms=pending_timeout_ms, but=self._passed_over)
        look_s = min(self._periods.expiration_s, LONGEST_LOOK_AHEAD_S, pending_timeout_ms / 1000)
        if due_s is None or len(self._passed_over) >= MAX_BAD:
            return look_s
        return min(look_s, max(due_s, SHORTEST_WAIT_S))

    async def _work_off(self, find: Find, decide: Decide) -> int:
        done = 0
        while len(self._passed_over) < MAX_BAD:
            alive()
            async with self._pool.connection() as conn:
                found = await find(conn, self._passed_over)
                closed, failed = await close_all(conn, found, decide)
            done += len(closed)
            self._passed_over += failed
            telling.ended(self._metrics, closed, by="expiry")
            if len(found) < BATCH:
                break
        return done


async def _due(conn: TrioConnection, but: Sequence[UUID]) -> list[Snapshot]:
    return await sessions.due(conn, limit=BATCH, but=but)


async def close_all(
    conn: TrioConnection, found: Sequence[Snapshot], decide: Decide
) -> tuple[list[Session], list[UUID]]:
    """Close what was found in one statement. What was closed, and what couldn't be: those hold up none of the others."""
    closings, bad = _decide_all(found, decide)
    try:
        return await retrying(lambda: sessions.close(conn, closings)) if closings else [], bad
    except psycopg.errors.QueryCanceled:
        log.warning("sessions.batch_stuck", sessions=len(closings))
    except AWAY:
        raise
    except Exception:
        log.exception("sessions.batch_failed", sessions=len(closings))
    done = list[Session]()
    for one in closings:
        try:
            done += await _close_alone(conn, one)
        except psycopg.errors.LockNotAvailable:
            log.warning("sessions.locked", session=str(one.session.id))
            bad.append(one.session.id)
        except AWAY:
            raise
        except Exception:
            log.exception("sessions.close_failed", session=str(one.session.id))
            bad.append(one.session.id)
    return done, bad


async def _close_alone(conn: TrioConnection, one: Closing) -> list[Session]:
    async with conn.transaction():
        await conn.run(SHORT_WAIT)
        return await sessions.close(conn, [one])


def _decide_all(found: Iterable[Snapshot], decide: Decide) -> tuple[list[Closing], list[UUID]]:
    closings, bad = list[Closing](), list[UUID]()
    for session in found:
        try:
            closings.append(decide(session))
        except (ValueError, TypeError, ArithmeticError, AssertionError):
            log.exception("sessions.undecidable", session=str(session.id))
            bad.append(session.id)
    return closings, bad
