"""Asking a database that may hang, for a page that somebody waits for."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from opendesk.errors import DatabaseUnavailable
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.web.problems import DATABASE_RETRY_S

T = TypeVar("T")

# A statement that is merely cancelled is given seconds to stop: so its connection is hung up on, just before the time is over.
_HANG_UP_S: Final = 0.1


async def hurried(pool: Pool, limit_s: float, ask: Callable[[TrioConnection], Awaitable[T]]) -> T:
    """What `ask` finds. Raise DatabaseUnavailable when that takes longer or the connection is lost, or what AWAY has when there is none."""
    found: list[T] = []
    failed: Exception | None = None
    with trio.move_on_after(limit_s) as limit:
        async with pool.connection() as conn, trio.open_nursery() as nursery:
            nursery.start_soon(_hang_up, conn, limit.deadline)
            try:
                found.append(await ask(conn))
            except Exception as error:  # noqa: BLE001 - raised below: a nursery would wrap it
                failed = error
            nursery.cancel_scope.cancel()
    if failed is not None and not isinstance(failed, AWAY):
        raise failed
    if not found:
        raise DatabaseUnavailable("The database did not answer in time.", retry_after_s=DATABASE_RETRY_S) from failed
    return found[0]


async def _hang_up(conn: TrioConnection, at_s: float) -> None:
    await trio.sleep_until(at_s - _HANG_UP_S)
    conn.drop()
