"""Taking a router away, with all that waits for it and all that it is to give."""

from typing import Final

from attrs import frozen

from opendesk.network.hotspots import grants
from opendesk.network.jobs import discard_lane
from opendesk.network.routers import registry
from opendesk.network.routers.lanes import lane_of
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.retry import retrying

WHY: Final = "the router was removed"


@frozen
class Removed:
    """How many jobs are dead letters now, and how many grants ended."""

    jobs: int
    grants: int


async def remove(
    conn: TrioConnection, router_id: str, *, is_known_besides: bool, host: str | None = None, dry_run: bool = False
) -> Removed:
    """Raise RouterNotFound, also if it isn't dialled at `host`, where that is told.

    One that MIKROTIK_NODES names as well is still there: then only its row goes.
    """

    async def once() -> Removed:
        async with conn.transaction():
            await registry.remove(conn, router_id, host=host, dry_run=dry_run)
            if is_known_besides:
                return Removed(0, 0)
            lanes = {lane_of(router_id, dry_run=realm) for realm in (dry_run, True)}
            jobs = [await discard_lane(conn, lane, why=WHY) for lane in sorted(lanes)]
            return Removed(sum(jobs), await grants.remove(conn, router_id, dry_run=dry_run))

    return await retrying(once)
