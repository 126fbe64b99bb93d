"""Changes of the registry, told by the database."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

import structlog
import trio

from opendesk.network.routers.registry import CHANNEL
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY

log = structlog.get_logger()

# After the database was away.
RETRY_S: Final = 1.0


async def follow(listen: Callable[[], Awaitable[TrioConnection]], look_again: Callable[[], None]) -> None:
    """Until cancelled. What was told while nobody listened is looked for as soon as somebody does again."""
    while True:
        try:
            async with await listen() as conn:
                await conn.run(f"LISTEN {CHANNEL}")
                look_again()
                async with aclosing(conn.notifies()) as notifications:
                    async for _ in notifications:
                        look_again()
        except AWAY as error:
            log.warning("fleet.not_listening", error=repr(error))
        await trio.sleep(RETRY_S)
