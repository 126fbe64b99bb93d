"""Which daemons are alive: each says so of itself in the database, so that all know whose relay a session can be sent to."""

from typing import Final
from uuid import UUID

from attrs import define
import structlog
import trio

from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.supervise import every

log = structlog.get_logger()

# Callers of a daemon that was killed are sent elsewhere after ALIVE_S at the latest. It leaves out two beats before that, so that one that
# waited for a busy database makes nobody move.
BEAT_S: Final = 5.0
ALIVE_S: Final = 15.0

# At a stop. A mute database isn't waited for: it takes ALIVE_S then, as if the daemon had been killed.
LEAVE_S: Final = 1.0

# A dead one is no other than one that was forgotten. Kept a while for those who look into what happened.
FORGET_AFTER_S: Final = 3600.0

_BEAT = """
    WITH forgotten AS (
        DELETE FROM relay_nodes WHERE alive_until < now() - %(forget_after_s)s * interval '1 second' AND id <> %(id)s
    )
    INSERT INTO relay_nodes (id, alive_until) VALUES (%(id)s, now() + %(alive_s)s * interval '1 second')
        ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until
"""

_LEAVE = "UPDATE relay_nodes SET alive_until = now() WHERE id = %(id)s"


@define
class Nodes:
    """`run` is a service of the daemon. `own` is this daemon's id, new with each start."""

    _pool: Pool
    own: UUID
    _is_leaving: bool = False

    async def run(self) -> None:
        await every(BEAT_S, self._tick)

    async def beat(self) -> None:
        """Say that this daemon is alive, and forget who has long been dead."""
        async with self._pool.connection() as conn:
            await conn.run(_BEAT, {"id": self.own, "alive_s": ALIVE_S, "forget_after_s": FORGET_AFTER_S})

    async def leave(self) -> None:
        """From now on callers are sent elsewhere. It is finished also when all else has been cancelled."""
        self._is_leaving = True
        with trio.move_on_after(LEAVE_S, shield=True) as limit:
            try:
                async with self._pool.connection() as conn:
                    await conn.run(_LEAVE, {"id": self.own})
            except AWAY as error:
                log.warning("nodes.left_without_a_word", error=repr(error))
        if limit.cancelled_caught:
            log.warning("nodes.left_without_a_word", error=f"no answer in {LEAVE_S} s")

    async def _tick(self) -> None:
        if self._is_leaving:
            return
        try:
            await self.beat()
        except AWAY as error:
            log.warning("nodes.database_away", error=repr(error))
