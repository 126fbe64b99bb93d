"""What one of several daemons does at a time: it holds a lease of the database's, which ends by itself where the daemon does."""

import math
from typing import Final
from uuid import UUID

from attrs import define, field
import structlog
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.supervise import alive

log = structlog.get_logger()

# How long nobody does the work after the daemon that did it was killed.
LEASE_S: Final = 10.0
# Two tries to renew may fail before it is over.
RENEW_S: Final = 3.0
# Of the lease's end, before which a holder takes it for over: the database counts from when it was asked, or later.
MARGIN_S: Final = 1.0
# At a stop the others are told, if the database is there to tell them.
GIVE_UP_S: Final = 0.5

# One that goes on for longer than any is given is of a time before the clock was set back.
_TAKE: Final = """
    INSERT INTO leases AS l (name, held_by, until)
    VALUES (%(name)s, %(node)s, clock_timestamp() + %(lease_s)s * interval '1 second')
        ON CONFLICT (name) DO UPDATE SET held_by = excluded.held_by, until = excluded.until
     WHERE l.held_by = excluded.held_by OR l.until <= clock_timestamp()
           OR l.until > clock_timestamp() + 2 * %(lease_s)s * interval '1 second'
"""
_GIVE_UP: Final = "DELETE FROM leases WHERE name = %(name)s AND held_by = %(node)s"


async def take(conn: TrioConnection, name: str, node: UUID, lease_s: float = LEASE_S) -> bool:
    """Take it if it is free, or renew it if it is ours."""
    return await conn.run(_TAKE, {"name": name, "node": node, "lease_s": lease_s}) == 1


async def give_up(conn: TrioConnection, name: str, node: UUID) -> None:
    await conn.run(_GIVE_UP, {"name": name, "node": node})


@define(eq=False)
class Lease:
    """One that this daemon would like to hold. `keep` is a task for as long as that is so."""

    _pool: Pool
    _name: str
    _node: UUID
    _until_s: float = -math.inf
    _taken: trio.Event = field(factory=trio.Event)

    def is_held(self) -> bool:
        return trio.current_time() < self._until_s

    async def held(self) -> None:
        """Wait until it is ours."""
        while not self.is_held():
            await self._taken.wait()

    async def keep(self) -> None:
        try:
            while True:
                alive("lease", wait_s=RENEW_S)
                await self._renew()
                await trio.sleep(RENEW_S)
        finally:
            await self._let_go()

    async def _renew(self) -> None:
        asked_s, had = trio.current_time(), self.is_held()
        try:
            with trio.fail_after(LEASE_S):
                async with self._pool.connection() as conn:
                    is_ours = await take(conn, self._name, self._node)
        except (*AWAY, trio.TooSlowError) as error:
            log.warning("lease.not_renewed", name=self._name, error=repr(error))
            return
        self._until_s = asked_s + LEASE_S - MARGIN_S if is_ours else -math.inf
        if is_ours:
            self._taken.set()
            self._taken = trio.Event()
        if is_ours != had:
            log.info("lease.taken" if is_ours else "lease.lost", name=self._name)

    async def _let_go(self) -> None:
        if not self.is_held():
            return
        self._until_s = -math.inf
        try:
            with trio.fail_after(GIVE_UP_S) as scope:
                scope.shield = True
                async with self._pool.connection() as conn:
                    await give_up(conn, self._name, self._node)
        except (*AWAY, trio.TooSlowError) as error:
            log.info("lease.left", name=self._name, error=repr(error))  # it ends by itself
