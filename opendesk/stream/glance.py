"""What goes on in the relay, at a glance: this daemon's rooms from memory, the others' from what they wrote."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from attrs import frozen

from opendesk.postgres.driver import TrioConnection
from opendesk.stream.relay import Relay
from opendesk.stream.room import Room

# More sessions than ours the others together hardly have.
COUNT_AT_MOST: Final = 20_000

# A room is told of every few seconds while it is there: what is older closed, or its daemon died.
_ELSEWHERE: Final = """
    SELECT count(*) AS rooms, count(DISTINCT node) AS nodes FROM (
        SELECT p.node FROM stream_presence p JOIN relay_nodes n ON n.id = p.node
         WHERE n.alive_until > now() AND p.node <> %(own)s AND p.seen_at > now() - interval '60 seconds' LIMIT %(most)s) AS others
"""


@frozen(kw_only=True)
class Elsewhere:
    """Rooms of other daemons on the same database."""

    rooms: int
    nodes: int


@frozen(kw_only=True)
class RoomSeen:
    """Rates are the host's, of the last 5 s or so, and None in the first. `queued` bytes wait for the slowest client."""

    session: UUID
    is_active: bool
    has_host: bool
    clients: int
    messages_per_s: int | None
    bytes_per_s: int | None
    relayed_bytes: int
    queued: int
    dropped: int
    is_slow: bool


@frozen(kw_only=True)
class RelaySeen:
    rooms: Sequence[RoomSeen]
    sockets: int
    bytes_per_s: int
    refused: int


async def elsewhere(conn: TrioConnection, own: UUID) -> Elsewhere:
    found = await conn.fetch_one(_ELSEWHERE, {"own": own, "most": COUNT_AT_MOST}, row=Elsewhere)
    assert found is not None
    return found


def relay_seen(relay: Relay) -> RelaySeen:
    rooms = [_seen(room) for room in relay.rooms.values()]
    return RelaySeen(
        rooms=rooms,
        sockets=sum(room.has_host + room.clients for room in rooms),
        bytes_per_s=sum(room.bytes_per_s or 0 for room in rooms),
        refused=relay.tally.refused.total(),
    )


def bytes_per_s(relay: Relay) -> int:
    """Of all hosts together."""
    return sum(room.pace.bytes_per_s or 0 for room in relay.rooms.values())


def _seen(room: Room) -> RoomSeen:
    counts, clients = room.counts, room.clients
    queued = max((client.outbox.queued_bytes for client in clients), default=0)
    shed = counts.shed_messages + sum(client.outbox.shed_messages for client in clients)
    return RoomSeen(
        session=room.session,
        is_active=room.is_active,
        has_host=room.host is not None,
        clients=len(clients),
        messages_per_s=room.pace.messages_per_s,
        bytes_per_s=room.pace.bytes_per_s,
        relayed_bytes=counts.relayed_bytes,
        queued=queued,
        dropped=counts.host_dropped_rate + shed,
        is_slow=queued * 2 > room.limits.queue_bytes,
    )
