"""The proof of the books, made now and then while somebody watches: it reads everything, so it isn't made for each page."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from attrs import define, evolve, field
import psycopg
import structlog
import trio

from opendesk.console.sections.ledger import LedgerFacts
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.rental import ledger
from opendesk.rental.ledger import Verification

log = structlog.get_logger()

# A minute's work of a large ledger is a fifth of that.
PERIOD_S: Final = 300.0
# A ledger that takes longer is proven by `opendesk ledger verify`, at night.
LIMIT_S: Final = 30.0
# After one that was broken off, or found no database.
AGAIN_S: Final = 30.0


@define(eq=False)
class Proving:
    """`prove` is called while somebody watches and it `is_due`; one proof at a time. `tell` hears of each."""

    _pool: Pool
    _now: Callable[[], datetime]
    _tell: Callable[[Verification], None]
    facts: LedgerFacts = field(factory=LedgerFacts, init=False)
    _due_s: float = field(default=float("-inf"), init=False)

    @property
    def is_due(self) -> bool:
        return not self.facts.is_checking and trio.current_time() >= self._due_s

    async def prove(self) -> None:
        self.facts = evolve(self.facts, is_checking=True)
        fault: str | None = "the last proof was broken off"
        again_s = AGAIN_S
        try:
            fault, again_s = await self._prove()
        finally:
            self.facts = evolve(self.facts, fault=fault, is_checking=False)
            self._due_s = trio.current_time() + again_s

    async def _prove(self) -> tuple[str | None, float]:
        """What was wrong with it, and how long until the next is worth it."""
        try:
            with trio.fail_after(LIMIT_S):
                async with self._pool.connection() as conn:
                    found = await ledger.verify(conn)
        except (trio.TooSlowError, psycopg.errors.QueryCanceled):  # the latter of one statement that took too long
            return "the proof takes too long for a page: opendesk ledger verify makes it", PERIOD_S
        except AWAY as error:
            log.debug("console.not_proven", error=repr(error))
            return "the database is away", AGAIN_S
        except Exception:  # what can't be read is told on the page, and ends nothing
            log.exception("console.proof_failed")
            return "the proof failed: the log says why", PERIOD_S
        self.facts = evolve(self.facts, found=found, checked_at=self._now())
        self._tell(found)
        return None, PERIOD_S
