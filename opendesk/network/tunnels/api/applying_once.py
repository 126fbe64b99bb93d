"""One at a time sets a router up, whichever daemon was asked."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from opendesk.errors import OpenDeskError
from opendesk.postgres.driver import TrioConnection

_LOCK: Final = "SELECT pg_try_advisory_lock(hashtextextended(%(what)s, 0))"


class ApplyInProgress(OpenDeskError):
    """The router is being set up already."""

    status, code = 409, "APPLY_IN_PROGRESS"


@asynccontextmanager
async def alone(connect: Callable[[], Awaitable[TrioConnection]], router_id: str) -> AsyncIterator[None]:
    """Raise ApplyInProgress. The lock goes with its connection, also when this daemon dies."""
    async with await connect() as conn:
        found = await conn.fetch_one(_LOCK, {"what": f"opendesk: setting up router {router_id}"})
        if found is None or not found[0]:
            raise ApplyInProgress(f"router {router_id} is being set up already")
        yield
