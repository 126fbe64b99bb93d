"""What the database tells of jobs: which lanes have new ones, and of which an attempt ended."""

from collections.abc import Awaitable, Callable
import json

from psycopg import Notify

from opendesk.network.jobs.lookout import Lookout
from opendesk.network.jobs.table import CHANNEL, DONE_CHANNEL
from opendesk.network.jobs.waiting import Waiters
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.listening import listen


async def hear(connect: Callable[[], Awaitable[TrioConnection]], lookout: Lookout, waiters: Waiters) -> None:
    """Until cancelled. What was told while nobody listened is looked for as soon as somebody does again."""

    def begun() -> None:
        lookout.tell_all()
        waiters.look_at_all()

    def heard(notification: Notify) -> None:
        _pass_on(notification, lookout, waiters)

    await listen(connect, [CHANNEL, DONE_CHANNEL], who="jobs", begun=begun, heard=heard)


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
