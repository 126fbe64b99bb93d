"""What the database tells of jobs: which lanes have new ones, and of which an attempt ended."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
import json
from typing import Final

from psycopg import Notify
import structlog
import trio

from opendesk.network.jobs.lookout import Lookout
from opendesk.network.jobs.table import CHANNEL, DONE_CHANNEL
from opendesk.network.jobs.waiting import Waiters
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY

log = structlog.get_logger()

# After the database was away.
RETRY_S: Final = 1.0


async def hear(connect: Callable[[], Awaitable[TrioConnection]], lookout: Lookout, waiters: Waiters) -> None:
    """Until cancelled. What was told while nobody listened is looked for as soon as somebody does again."""
    while True:
        try:
            async with await connect() as conn:
                await conn.run(f"LISTEN {CHANNEL}")
                await conn.run(f"LISTEN {DONE_CHANNEL}")
                lookout.tell_all()
                waiters.look_at_all()
                async with aclosing(conn.notifies()) as notifications:
                    async for notification in notifications:
                        _pass_on(notification, lookout, waiters)
        except AWAY as error:
            log.warning("jobs.not_listening", error=repr(error))
        await trio.sleep(RETRY_S)


def _pass_on(notification: Notify, lookout: Lookout, waiters: Waiters) -> None:
    if notification.channel == DONE_CHANNEL:
        waiters.hear(notification.payload)
        return
    try:
        lanes = json.loads(notification.payload)
    except ValueError:  # too many lanes to be told
        lanes = None
    if isinstance(lanes, list) and all(isinstance(lane, str) for lane in lanes):
        lookout.tell(lanes)
    else:
        lookout.tell_all()
