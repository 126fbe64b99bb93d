"""Which jobs are not to be tried again: what they were to open, nobody has any more."""

from typing import Final
from uuid import UUID

from opendesk.network.hotspots import grants
from opendesk.network.hotspots.work import Kind, Work
from opendesk.postgres.driver import TrioConnection

_DEAD: Final = """
    SELECT type, lane, payload FROM jobs
     WHERE id = %(id)s AND state = 'dead' AND type = ANY (%(types)s) FOR UPDATE
"""


async def why_not(conn: TrioConnection, job: UUID) -> str | None:
    """Of a dead job that was to open an order's way: that there is nothing left to open. In the transaction that replays it."""
    found = await conn.fetch_one(_DEAD, {"id": job, "types": [Kind.AUTHORIZE, Kind.RESYNC]})
    if found is None:
        return None
    work = Work.read(*found)
    live = await grants.live(conn, work.router, work.places[:1], dry_run=work.dry_run)
    if any(row.pedido_id == work.pedido_id and row.place == work.places[0] for row in live):
        return None
    at = f"{work.places[0].ip} {work.places[0].mac}"
    return f"order {work.pedido_id} has no access at {at} any more: its time is over, or it was revoked or moved"
