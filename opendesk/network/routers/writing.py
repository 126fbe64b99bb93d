"""How routers are, written for other daemons: those that changed, together, once a second."""

from collections.abc import Mapping
from functools import partial
from typing import Final
from uuid import UUID

from attrs import define, field
import psycopg
import structlog
import trio

from opendesk.network.routers import states
from opendesk.network.routers.health import Health
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying
from opendesk.supervise import every

log = structlog.get_logger()

# States that changed are written once in that time.
WRITE_EVERY_S: Final = 1.0
# For one write of them: some hundred rows at most in a second, and the next tries again.
WRITE_S: Final = 5.0


@define(eq=False)
class StateWriter:
    """Of the routers that `node` drives. What can't be written now is written with the next."""

    _pool: Pool
    _node: UUID
    _changed: dict[str, Health] = field(init=False, factory=dict)  # by router, of which there are so many

    def note(self, router_id: str, health: Health) -> None:
        self._changed[router_id] = health

    async def run(self) -> None:
        await every(WRITE_EVERY_S, self._write)

    async def write_last(self, limit_s: float) -> None:
        """At a stop. Whatever comes of it, leases are given up after it."""
        try:
            with trio.move_on_after(limit_s):
                await self._write()
        except Exception:
            log.exception("fleet.states_lost", routers=len(self._changed))

    async def _write(self) -> None:
        healths, self._changed = self._changed, {}
        if not healths:
            return
        try:
            with trio.fail_after(WRITE_S):
                await self._written(healths)
        except (*AWAY, trio.TooSlowError) as error:
            self._changed = healths | self._changed
            log.warning("fleet.states_not_written", routers=len(healths), error=repr(error))
        except trio.Cancelled:  # `write_last` tries once more
            self._changed = healths | self._changed
            raise

    async def _written(self, healths: Mapping[str, Health]) -> None:
        try:
            await retrying(partial(self._write_all, healths))
        except AWAY:
            raise
        except psycopg.Error:  # one that the database refuses must not hold up the others
            log.exception("fleet.states_refused", routers=sorted(healths))
            if len(healths) > 1:
                for router_id, health in healths.items():
                    await self._written({router_id: health})

    async def _write_all(self, healths: Mapping[str, Health]) -> None:
        async with self._pool.connection() as conn:
            await states.write(conn, self._node, healths, trio.current_time())
