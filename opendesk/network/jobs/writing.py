"""Outcomes of jobs, written in batches, and again until the database takes them."""

from collections.abc import Callable, Sequence
import math
import random
from typing import Final
from uuid import UUID

from attrs import define, field
import structlog
import trio

from opendesk.network.backoff import pause_s
from opendesk.network.jobs import table
from opendesk.network.jobs.holding import Held, Holding
from opendesk.network.jobs.shapes import Ended, told_of, unwritable
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying
from opendesk.supervise import alive

log = structlog.get_logger()

# For one write, waiting for a connection included: far over what a busy server takes.
WRITE_S: Final = 8.0
# While the database is away. The outcomes stay here: as many as there may be jobs at once, at most.
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0


@define
class Writing:
    """`run` writes what was handed in by `ended`; `told` is given the ids of what was written."""

    _pool: Pool
    _holding: Holding
    _told: Callable[[Sequence[Held]], None]
    _waiting: list[Held] = field(factory=list)
    _some: trio.Event = field(factory=trio.Event)

    def ended(self, held: Held) -> None:
        self._waiting.append(held)
        self._some.set()

    async def run(self) -> None:
        failures = 0
        while True:
            alive("writing", wait_s=math.inf)
            await self._some.wait()
            alive("writing")
            try:
                await self.write()
                failures = 0
            except (*AWAY, trio.TooSlowError) as error:
                failures += 1
                log.warning("jobs.not_written", jobs=len(self._waiting), error=repr(error))
                pause = pause_s(failures, first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S, jitter=random.random())  # noqa: S311 - no secret
                await trio.sleep(pause)

    async def write(self) -> bool:
        """A batch at most of what waits; whether there is more. Raises what is in AWAY, or TooSlowError: nothing is lost then."""
        batch = self._waiting[: table.BATCH]
        if batch:
            with trio.fail_after(WRITE_S):
                await self._write(batch)
        if not self._waiting:
            self._some = trio.Event()
        return bool(self._waiting)

    async def _write(self, batch: Sequence[Held]) -> None:
        try:
            written = await self._finish([_ended(held) for held in batch])
        except AWAY:
            raise
        except Exception:  # one that the database refuses must not hold up the others
            log.exception("jobs.outcomes_refused", jobs=len(batch))
            if len(batch) > 1:
                for held in batch:
                    await self._write([held])
                return
            written = await self._bury(batch[0])
        self._leave(batch, written)

    async def _bury(self, held: Held) -> set[UUID]:
        """Have it dead, with no more than that said. What can't be written at all is left to its lease, and dies of its attempts."""
        try:
            return await self._finish([unwritable(held.job, "the database refused it")])
        except AWAY:
            raise
        except Exception:
            log.exception("jobs.left_to_its_lease", **told_of(held.job))
            return set()

    async def _finish(self, outcomes: Sequence[Ended]) -> set[UUID]:
        async def once() -> set[UUID]:
            async with self._pool.connection() as conn:
                return await table.finish(conn, outcomes)

        return await retrying(once)

    def _leave(self, batch: Sequence[Held], written: set[UUID]) -> None:
        done = set(batch)
        self._waiting = [held for held in self._waiting if held not in done]
        for held in batch:
            if held.job.id not in written:
                log.warning("jobs.outcome_dropped", **told_of(held.job), reason="its lease was lost")
            self._holding.remove(held)
        self._told(batch)


def _ended(held: Held) -> Ended:
    assert held.ended is not None
    return held.ended
