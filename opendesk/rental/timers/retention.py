"""What is kept no longer: stored answers of idempotency keys, log-in attempts."""

from typing import Final

import structlog
import trio

from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.rental import users
from opendesk.supervise import alive
from opendesk.web import idempotency

log = structlog.get_logger()

# Both are small rows that nobody reads once they are too old: what is left over for ten minutes costs nothing.
PERIOD_S: Final = 600.0


async def retention(pool: Pool) -> None:
    while True:
        alive(wait_s=PERIOD_S)
        try:
            async with pool.connection() as conn:
                keys = await idempotency.forget_old_keys(conn)
                attempts = await users.forget_old_attempts(conn)
            log.debug("retention.done", stored_answers=keys, login_attempts=attempts)
        except AWAY as error:
            log.warning("retention.database_away", error=repr(error))
        await trio.sleep(PERIOD_S)
