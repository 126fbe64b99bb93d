"""What becomes of sessions, told by the database: at once by NOTIFY, and by a slow look at it should that get lost."""

from collections.abc import Awaitable, Callable
from typing import Final

from psycopg import Notify
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.listening import listen
from opendesk.stream import states
from opendesk.stream.relay import Relay
from opendesk.supervise import every

# A notification is as good as never lost, but for those while the connection was away: after that there is a look at once.
LOOK_EVERY_S: Final = 5.0


async def follow_sessions(relay: Relay, connect: Callable[[], Awaitable[TrioConnection]]) -> None:
    """Both at once: a look may have to wait for a connection, and nobody is to be deaf for so long; nor blind while nobody can listen."""

    async def look() -> None:
        await relay.look_again(list(relay.rooms))

    def heard(notification: Notify) -> None:
        if (told := states.told(notification.payload)) is not None:
            relay.session_is(*told)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(every, LOOK_EVERY_S, look)
        await listen(connect, [states.CHANNEL], who="relay", begun=lambda: nursery.start_soon(look), heard=heard)
