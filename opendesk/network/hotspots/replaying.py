"""Jobs that are tried again have what they were to open, if it failed with them; what nobody has any more is not tried again."""

from typing import Final
from uuid import UUID

from opendesk.network.hotspots import grants
from opendesk.network.hotspots.ends import end_of
from opendesk.network.hotspots.grants import COLUMNS, GrantRow
from opendesk.network.hotspots.work import Kind, Work
from opendesk.network.jobs import looking, table
from opendesk.postgres.driver import TrioConnection

_DEAD: Final = """
    SELECT dedupe, type, lane, payload FROM jobs
     WHERE id = %(id)s AND state = 'dead' AND type = ANY (%(types)s) FOR UPDATE
"""
# Of what this device had of the order the last, if it ended with the job that was to open its way, and here.
_REVIVE: Final = f"""
    UPDATE hotspot_grants g SET ended_at = NULL, end_reason = NULL
     WHERE g.id = (SELECT o.id FROM hotspot_grants o
                    WHERE o.router_id = %(router)s AND o.pedido_id = %(pedido)s AND o.mac = %(mac)s::macaddr AND o.dry_run = %(dry_run)s
                    ORDER BY o.ended_at IS NULL DESC, o.created_at DESC, o.id DESC LIMIT 1)
       AND g.end_reason = 'failed' AND g.ip = %(ip)s::inet
 RETURNING {COLUMNS}
"""


class NotReplayed(Exception):
    """Why a job isn't tried again."""


async def replay(conn: TrioConnection, job: UUID) -> None:
    """Have a dead job tried again, with what it was to open. Raise NotReplayed."""
    async with conn.transaction():
        if (why := await bring_back(conn, job)) is not None:
            raise NotReplayed(f"job {job} is not tried again: {why}")
        if await looking.replay(conn, job):
            return
        view = await looking.get(conn, job)
    raise NotReplayed(f"there is no job {job}" if view is None else f"job {job} is {view.state}: nothing was changed")


async def bring_back(conn: TrioConnection, job: UUID) -> str | None:
    """Of a dead job that was to open an order's way: why there is nothing left to open. In the transaction that replays it."""
    found = await conn.fetch_one(_DEAD, {"id": job, "types": [Kind.AUTHORIZE, Kind.RESYNC]})
    if found is None:
        return None
    asked, *of_job = found
    work = Work.read(*of_job)
    at = f"{work.places[0].ip} {work.places[0].mac}"
    live = await _live(conn, work)
    if any(_is_other_time(row, work.kind, asked) for row in live):
        return f"order {work.pedido_id} has other time at {at} than this job was to open: authorize it anew"
    if live or await _is_revived(conn, work):
        return None
    return f"order {work.pedido_id} has no access at {at} any more: its time is over, or it was revoked or moved"


async def _live(conn: TrioConnection, work: Work) -> list[GrantRow]:
    live = await grants.live(conn, work.router, work.places[:1], dry_run=work.dry_run)
    return [row for row in live if row.pedido_id == work.pedido_id and row.place == work.places[0]]


def _is_other_time(row: GrantRow, kind: Kind, asked: str | None) -> bool:
    """The grant was given more, this job failed to open that, and it has again what it had before; or it was given more since."""
    told = f"{kind} {row.same}"
    return asked is not None and asked != told and asked.startswith(f"{kind} {row.id} ")


async def _is_revived(conn: TrioConnection, work: Work) -> bool:
    """Its end stands again with it."""
    (place,) = work.places[:1]
    order = {"router": work.router, "pedido": work.pedido_id, "ip": place.ip, "mac": place.mac, "dry_run": work.dry_run}
    revived = await conn.fetch_one(_REVIVE, order, row=GrantRow)
    if revived is None:
        return False
    end = end_of(revived, dry_run=work.dry_run)
    if end is not None:
        await table.add_many(conn, [end])
    return True
