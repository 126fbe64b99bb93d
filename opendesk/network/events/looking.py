"""Events as they are told: listed, found by what one knows of them, and counted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from attrs import frozen

from opendesk.network.events.types import hash_of
from opendesk.postgres.driver import TrioConnection

# `waiting`: not decided yet. `refused`: never tried. `failed`: a dead letter, which may be replayed.
State = Literal["waiting", "done", "refused", "failed"]
STATES: Final[tuple[State, ...]] = ("waiting", "done", "refused", "failed")

# Instead of an id that has control characters, or too many of any.
UNUSABLE: Final = "(unusable id)"

# Told at once; a page for people.
LIST_LIMIT: Final = 1_000
# A count that is higher is told as this: it takes some 100 ms, and the consumer stops fetching at as many.
COUNT_AT_MOST: Final = 100_000

_STATE: Final = "CASE WHEN e.ok IS NULL THEN 'waiting' WHEN e.ok THEN 'done' WHEN e.reason = 'failed' THEN 'failed' ELSE 'refused' END"
_VIEW: Final = f"""
    encode(e.id_hash, 'hex') AS id_hash, e.event_id, e.type, {_STATE} AS state, e.ok, e.reason, e.source, e.dry_run, e.received_at, e.validated_at,
    e.routed_at, e.executed_at, e.acked_at, e.ack_lane IS NOT NULL AS wants_ack, e.trace_id, e.router_id, e.pedido_id, host(e.ip) AS ip,
    upper(e.mac::text) AS mac, e.job_id, e.result, e.outcome, e.body, e.type IS NULL AS details_gone
"""
# The newest first, by an index that has those that wait, or failed, or all, in order.
_WAITING: Final = "FROM events e WHERE e.ok IS NULL"
_ONLY: Final = "AND (%(router)s::text IS NULL OR e.router_id = %(router)s) ORDER BY e.received_at DESC LIMIT %(limit)s"
_LIST: Final[dict[State | None, str]] = {
    None: f"SELECT {_VIEW} FROM events e WHERE e.type IS NOT NULL {_ONLY}",
    "waiting": f"SELECT {_VIEW} {_WAITING} {_ONLY}",
    "done": f"SELECT {_VIEW} FROM events e WHERE e.ok AND e.type IS NOT NULL {_ONLY}",
    "refused": f"SELECT {_VIEW} FROM events e WHERE NOT e.ok AND e.reason <> 'failed' {_ONLY}",
    "failed": f"SELECT {_VIEW} FROM events e WHERE NOT e.ok AND e.reason = 'failed' {_ONLY}",
}
_FIND: Final = f"SELECT {_VIEW} FROM events e WHERE e.id_hash = ANY (%(hashes)s) ORDER BY e.received_at LIMIT %(limit)s"
_OF_JOBS: Final = f"SELECT {_VIEW} FROM events e WHERE e.job_id = ANY (%(jobs)s) ORDER BY e.received_at LIMIT %(limit)s"
# The last of them, told as they came.
_OF_ORDERS: Final = f"""
    SELECT * FROM (SELECT {_VIEW} FROM events e WHERE e.pedido_id = ANY (%(orders)s) ORDER BY e.received_at DESC LIMIT %(limit)s) AS last
     ORDER BY received_at
"""
_OF_DEVICE: Final = f"""
    SELECT * FROM (SELECT {_VIEW} FROM events e WHERE e.mac = %(mac)s AND e.router_id = %(router)s
                    ORDER BY e.received_at DESC LIMIT %(limit)s) AS last
     ORDER BY received_at
"""
_OF_MAC: Final = f"""
    SELECT * FROM (SELECT {_VIEW} FROM events e WHERE e.mac = %(mac)s ORDER BY e.received_at DESC LIMIT %(limit)s) AS last
     ORDER BY received_at
"""
_COUNT: Final = f"SELECT count(*) FROM (SELECT {_WAITING} LIMIT %(most)s) AS found"


@frozen(kw_only=True)
class EventView:
    """An event as it is told. Of one whose details have been deleted by age, little more is known than that it was there.

    `event_id` is None for one that nobody can write down, too.
    """

    id_hash: str
    event_id: str | None
    type: str | None
    state: State
    ok: bool | None
    reason: str | None
    source: str | None
    dry_run: bool
    received_at: datetime
    validated_at: datetime | None
    routed_at: datetime | None
    executed_at: datetime | None
    acked_at: datetime | None
    wants_ack: bool
    trace_id: str | None
    router_id: str | None
    pedido_id: str | None
    ip: str | None
    mac: str | None
    job_id: UUID | None
    result: Any
    outcome: Any
    body: str | None
    details_gone: bool

    @property
    def name(self) -> str | None:
        """To be told by; None if it is gone."""
        return UNUSABLE if self.event_id is None and not self.details_gone else self.event_id


async def list_events(
    conn: TrioConnection, *, state: State | None = None, router: str | None = None, limit: int = 100
) -> list[EventView]:
    """The newest first. Those without details are only counted as old ones, and not in here."""
    return await conn.fetch(_LIST[state], {"router": router, "limit": min(limit, LIST_LIMIT)}, row=EventView)


async def find(conn: TrioConnection, event_id: str) -> list[EventView]:
    """By its id, however old it is: none, one, or another that was only pretended."""
    return await with_hashes(conn, [hash_of(event_id)])


async def with_hashes(conn: TrioConnection, hashes: Sequence[bytes]) -> list[EventView]:
    return await conn.fetch(_FIND, {"hashes": list(hashes), "limit": LIST_LIMIT}, row=EventView)


async def of_jobs(conn: TrioConnection, jobs: Sequence[UUID], *, limit: int) -> list[EventView]:
    """Those that these jobs do."""
    return await conn.fetch(_OF_JOBS, {"jobs": list(jobs), "limit": limit}, row=EventView)


async def of_orders(conn: TrioConnection, orders: Sequence[str], *, limit: int) -> list[EventView]:
    """The last of these orders, in the order of arrival."""
    return await conn.fetch(_OF_ORDERS, {"orders": list(orders), "limit": limit}, row=EventView)


async def of_device(conn: TrioConnection, router: str, mac: str, *, limit: int) -> list[EventView]:
    """The last about this MAC on this router, in the order of arrival."""
    return await conn.fetch(_OF_DEVICE, {"router": router, "mac": mac, "limit": limit}, row=EventView)


async def of_mac(conn: TrioConnection, mac: str, *, limit: int) -> list[EventView]:
    """The last about this MAC on any router, in the order of arrival."""
    return await conn.fetch(_OF_MAC, {"mac": mac, "limit": limit}, row=EventView)


async def count_waiting(conn: TrioConnection, *, most: int = COUNT_AT_MOST) -> int:
    """How many are not decided yet, up to `most`."""
    row = await conn.fetch_one(_COUNT, {"most": most})
    assert row is not None
    return int(row[0])
