"""Looks at what became of sessions: one at a time, for all that were asked for meanwhile."""

from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

from attrs import define, field
import structlog
import trio

from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.stream import states

log = structlog.get_logger()

# Waiting for the turn and for a connection included. The next look is no later than `follow.LOOK_EVERY_S`.
LOOK_S: Final = 5.0


@define(eq=False)
class Looks:
    """A thousand sockets that come back at once ask a thousand times, but take one connection of `pool` from those who share it.

    `tell` is called with each session's id and status.
    """

    _pool: Pool
    _tell: Callable[[UUID, str], None]
    _wanted: set[UUID] = field(factory=set)
    _turn: trio.Lock = field(factory=trio.Lock)

    async def look_at(self, sessions: Iterable[UUID]) -> None:
        """Until they were looked at, by whomever; nothing is told if there are none, or the database is away."""
        self._wanted.update(sessions)
        try:
            with trio.fail_after(LOOK_S):
                async with self._turn:
                    await self._look()
        except (*AWAY, trio.TooSlowError) as error:
            log.warning("relay.sessions_unknown", error=repr(error))

    async def _look(self) -> None:
        asked = list(self._wanted)
        if not asked:
            return  # who had the turn before us looked at ours, too, and began after we had asked
        self._wanted.clear()
        try:
            async with self._pool.connection() as conn:
                found = await states.statuses(conn, asked)
        except BaseException:
            self._wanted.update(asked)  # others wait for some of them
            raise
        for session, status in found.items():
            self._tell(session, status)
