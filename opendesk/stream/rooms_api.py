"""`GET /stream/rooms`: what goes on in the relay, for admins."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
import heapq
from operator import attrgetter
from uuid import UUID

from attrs import fields_dict, frozen
import trio

from opendesk.stream.peer import Peer
from opendesk.stream.relay import Relay
from opendesk.stream.room import Room
from opendesk.web.endpoint import Access, Answer, Call, Endpoint
from opendesk.web.pages import Page, PageQuery, page


@frozen
class RelayHost:
    """`own`: it came with the host's own token; a shared one, which both sides hold, is no evidence of anything."""

    own: bool


@frozen
class RelayClient:
    """What waits for one socket of the client's, and what it was too slow for."""

    own: bool
    queued_bytes: int
    shed_messages: int
    shed_bytes: int


@frozen
class RelayDrops:
    """Pictures of the host's, dropped since the room was opened: `slowClient` once for each socket that was too slow."""

    rate: int
    no_client: int
    slow_client: int


@frozen
class RelayHostControl:
    """Texts of the host's."""

    forwarded: int
    invalid: int


@frozen
class RelayClientForwarded:
    """Texts of the client's that were passed on, by kind."""

    stream_ping: int
    keyframe_request: int
    request_keyframe: int
    network_report: int
    report_stats: int
    reconnect: int
    input_event: int


@frozen
class RelayClientDrops:
    """Those that weren't, and why."""

    rate: int
    no_host: int
    slow_host: int
    invalid: int
    not_active: int


@frozen
class RelayRoom:
    """A session's room, and what was counted since it was opened. Rates are the host's, of the last 5 s or so, and null in the first."""

    session_id: UUID
    active: bool
    opened_at: datetime
    host: RelayHost | None
    clients: tuple[RelayClient, ...]
    messages_per_s: int | None
    bytes_per_s: int | None
    host_messages: int
    host_bytes: int
    relayed_messages: int
    relayed_bytes: int
    dropped: RelayDrops
    host_control: RelayHostControl
    client_messages: int
    client_forwarded: RelayClientForwarded
    client_dropped: RelayClientDrops
    # Since the host's last byte was passed on, if it came with its own token.
    last_byte_age_ms: int | None

    @property
    def id(self) -> UUID:
        """What pages go by: sessions' ids are time-ordered."""
        return self.session_id


@frozen
class Rooms:
    """The handler."""

    _relay: Relay

    async def list_rooms(self, call: Call) -> Answer:
        """Only of the daemon that answers: each knows its own. Newest sessions first."""
        query: PageQuery = call.query
        before, now_s = query.before, trio.current_time()
        found = (room for room in self._relay.rooms.values() if room.session < before)
        newest = heapq.nlargest(query.wanted, found, key=attrgetter("session"))
        return Answer(page([_shown(room, now_s) for room in newest], query))


def _shown(room: Room, now_s: float) -> RelayRoom:
    sums, last_byte_s = room.sums(), room.presence.last_byte_s
    return RelayRoom(
        session_id=room.session,
        active=room.is_active,
        opened_at=room.opened_at,
        host=None if room.host is None else RelayHost(room.host.admitted.own),
        clients=tuple(_clients(room.clients)),
        messages_per_s=room.pace.messages_per_s,
        bytes_per_s=room.pace.bytes_per_s,
        host_messages=sums.host_messages,
        host_bytes=sums.host_bytes,
        relayed_messages=sums.relayed_messages,
        relayed_bytes=sums.relayed_bytes,
        dropped=RelayDrops(sums.host_dropped_rate, sums.host_dropped_no_client, sums.shed_messages),
        host_control=RelayHostControl(sums.host_control_forwarded, sums.host_control_invalid),
        client_messages=sums.client_messages,
        client_forwarded=RelayClientForwarded(**_named(RelayClientForwarded, sums.client_forwarded)),
        client_dropped=RelayClientDrops(**_named(RelayClientDrops, sums.client_dropped)),
        last_byte_age_ms=None if last_byte_s is None else round((now_s - last_byte_s) * 1000),
    )


def _clients(peers: Iterable[Peer]) -> Iterable[RelayClient]:
    for peer in peers:
        outbox = peer.outbox
        yield RelayClient(peer.admitted.own, outbox.queued_bytes, outbox.shed_messages, outbox.shed_bytes)


def _named(shape: type, counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in fields_dict(shape)}


def endpoints(relay: Relay) -> tuple[Endpoint, ...]:
    api = Rooms(relay)
    return (
        Endpoint(
            "GET",
            "/stream/rooms",
            "What goes on in the relay",
            {200: Page[RelayRoom]},
            handler=api.list_rooms,
            access=Access.ADMIN,
            query=PageQuery,
            tag="stream",
        ),
    )
