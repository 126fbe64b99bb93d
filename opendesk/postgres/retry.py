"""Running a unit of work again when the database asks for it."""

from collections.abc import Awaitable, Callable
import random
from typing import TypeVar

from psycopg.errors import DeadlockDetected, SerializationFailure
import structlog
import trio

log = structlog.get_logger()
T = TypeVar("T")

# Accounts are locked in one order, so a deadlock is rare and a second one after a pause rarer; a unit that fails five
# times in a row is better told to its caller than tried on while others wait.
ATTEMPTS = 5
# The pause before the second attempt, in seconds: a few times what a transaction takes. It doubles each time, so that
# five attempts pause for 0.3 s at most.
FIRST_PAUSE_S = 0.01


async def retrying(
    unit: Callable[[], Awaitable[T]],
    *,
    attempts: int = ATTEMPTS,
    sleep: Callable[[float], Awaitable[None]] = trio.sleep,
    jitter: Callable[[], float] = random.random,
) -> T:
    """Await `unit()` until no deadlock or serialization failure stops it, `attempts` times at most.

    A unit is a whole transaction: it is rolled back before it is run again. Each pause is drawn by `jitter` (0…1)
    between half and all of its length, so that two units that met don't meet again. Raises the last failure.
    """
    for attempt in range(1, attempts):
        try:
            return await unit()
        except (SerializationFailure, DeadlockDetected) as exc:
            log.info("postgres.retried", attempt=attempt, reason=exc.sqlstate)
        await sleep(FIRST_PAUSE_S * 2 ** (attempt - 1) * (1 + jitter()))
    return await unit()
