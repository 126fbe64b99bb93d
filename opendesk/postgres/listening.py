"""What the database tells by NOTIFY, for as long as anybody wants to hear it."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

from psycopg import Notify
import structlog
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY

log = structlog.get_logger()

# After the database was away.
RETRY_S: Final = 1.0


async def listen(
    connect: Callable[[], Awaitable[TrioConnection]],
    channels: Sequence[str],
    *,
    who: str,
    begun: Callable[[], None],
    heard: Callable[[Notify], None],
) -> None:
    """Until cancelled, on a connection of its own. `begun` is called each time that it listens: what was told before, nobody heard.

    `channels` are names of ours, never a caller's; `who` is for the log.
    """
    while True:
        try:
            async with await connect() as conn:
                for channel in channels:
                    await conn.run(f"LISTEN {channel}")
                begun()
                async with aclosing(conn.notifies()) as notifications:
                    async for notification in notifications:
                        heard(notification)
        except AWAY as error:
            log.warning("postgres.not_listening", who=who, error=repr(error))
        await trio.sleep(RETRY_S)
