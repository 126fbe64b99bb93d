"""What becomes of sessions, told by the database: at once by NOTIFY, and by a slow look at it should that get lost."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

import structlog
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.stream import states
from opendesk.stream.relay import Relay
from opendesk.supervise import every

log = structlog.get_logger()

# A notification is as good as never lost, but for those while the connection was away: after that there is a look at once.
LOOK_EVERY_S: Final = 5.0
# After the database was away.
RETRY_S: Final = 1.0


async def follow_sessions(relay: Relay, connect: Callable[[], Awaitable[TrioConnection]]) -> None:
    """Both at once: a look may have to wait for a connection, and nobody is to be deaf for so long; nor blind while nobody can listen."""

    async def look() -> None:
        await relay.look_again(list(relay.rooms))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(every, LOOK_EVERY_S, look)
        while True:
            await _listen(relay, connect)
            await trio.sleep(RETRY_S)


async def _listen(relay: Relay, connect: Callable[[], Awaitable[TrioConnection]]) -> None:
    """Until the database is away."""
    async with trio.open_nursery() as looking:
        try:
            async with await connect() as conn:
                await conn.run(f"LISTEN {states.CHANNEL}")
                looking.start_soon(relay.look_again, list(relay.rooms))  # at what nobody heard
                await _hear(conn, relay)
        except AWAY as error:
            log.warning("relay.not_listening", error=repr(error))
        looking.cancel_scope.cancel()


async def _hear(conn: TrioConnection, relay: Relay) -> None:
    async with aclosing(conn.notifies()) as notifications:
        async for notification in notifications:
            if (told := states.told(notification.payload)) is not None:
                relay.session_is(*told)
