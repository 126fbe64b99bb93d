"""The relay: WebSockets of hosts and clients, taken over from the front door, admitted, and brought together in rooms."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl
from uuid import UUID

from attrs import define, field, frozen
import structlog
import trio

from opendesk.limits import Window
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.stream import control, states
from opendesk.stream.admission import Admitted, Asked, Reason, Refusal, SessionState, admit, parse_query
from opendesk.stream.counts import Tally
from opendesk.stream.frames import Frames
from opendesk.stream.looks import Looks
from opendesk.stream.outbox import Outbox
from opendesk.stream.outgoing import accept_key, close_frame, text_frame
from opendesk.stream.peer import PARTING_S, TRY_AGAIN, Parting, Peer
from opendesk.stream.presence import Presences
from opendesk.stream.reactor import Reactor, reactor
from opendesk.stream.room import POLICY_VIOLATION, Room, RoomLimits
from opendesk.stream.tokens import Role, read_token
from opendesk.stream.wire import BUFFER_BYTES, MORSEL_BYTES, Gone, Wire, wire_of
from opendesk.supervise import alive
from opendesk.web.http.door import Upgrade
from opendesk.web.http.websocket import websocket_key
from opendesk.web.wire import dump_json

log = structlog.get_logger()

PATH: Final = "/stream/relay"
SERVICE_RESTART: Final = 1012

# The contract's: clients on Node's `ws` listen only after `open`, and lose what comes with the 101.
WELCOME_AFTER_S: Final = 0.005

# Five parameters are what the contract has; more are somebody's tracking.
_MAX_QUERY_FIELDS: Final = 20

# A message on a client's wire is finished, whatever it takes, up to so many times the largest there may be: its pieces count, too.
ON_WIRE: Final = 4

# The contract's second from a session's end to its sockets', less what word of it takes.
SESSION_END_S: Final = 0.8

# A look at the session of who comes. The database away: they are told to come again.
_LOOK_S: Final = 5.0

# A path through NATs is kept open, and a peer that vanished is noticed, by a ping after so long a silence; after the second, it is gone.
PING_AFTER_S: Final = 20.0
GONE_AFTER_S: Final = 45.0
_ROUND_S: Final = 5.0


@frozen
class RelayLimits:
    """The settings that the door of the relay follows."""

    attempts: int
    attempts_window_s: float
    room: RoomLimits


@define(eq=False)
class Relay:
    """`take_over` is for the front door; `follow_sessions` and `keep_alive` are services of the daemon."""

    _pool: Pool  # the callers', for who comes
    _upkeep: Pool  # for what becomes of sessions: it isn't to wait for a crowd
    _key: bytes = field(repr=False)
    _limits: RelayLimits
    # The caller's address, of the peer's and of what proxies of ours say.
    _caller: Callable[[Upgrade], str]
    rooms: dict[UUID, Room] = field(factory=dict)
    presences: Presences = field(factory=Presences)
    tally: Tally = field(factory=Tally)
    _draining: bool = False
    _buffer: memoryview = field(factory=lambda: memoryview(bytearray(BUFFER_BYTES)))
    _reactor: Reactor = field(factory=reactor)
    _looks: Looks = field(init=False)
    _by_address: Window = field(init=False)
    _by_user: Window = field(init=False)
    _by_session: Window = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._looks = Looks(self._upkeep, self.session_is)
        self._by_address, self._by_user, self._by_session = (
            Window(self._limits.attempts, self._limits.attempts_window_s) for _ in range(3)
        )

    async def take_over(self, upgrade: Upgrade) -> bool:
        """Serve the socket until it is done, if it is the relay's. Raise BadRequest or WrongVersion."""
        if upgrade.head.decoded_path != PATH:
            return False
        key = websocket_key(upgrade.head)
        wire = wire_of(upgrade.stream, self._buffer, self._reactor)
        try:
            await _send(wire, _switching(key))
            earliest_s = trio.current_time() + WELCOME_AFTER_S
            found = await self._admitted(upgrade)
            await trio.sleep_until(earliest_s)
            parting = found if isinstance(found, Parting) else await self._serve(upgrade, found)
            if parting is not None:
                self.tally.refuse(parting.reason)
                # Who is over the limit must not fill the log with it.
                tell = log.debug if parting.reason == "rate_limited" else log.info
                tell("relay.refused", reason=parting.reason)
                await _part(wire, parting)
        except Gone:
            log.debug("relay.gone_at_the_door")
        return True

    # ---- opening

    async def _admitted(self, upgrade: Upgrade) -> "_Guest | Parting":
        now_s = trio.current_time()
        if not self._by_address.take(self._caller(upgrade), now_s):
            return Parting(TRY_AGAIN, "rate_limited")
        asked = _asked(upgrade.head.query)
        if asked is None:
            return Parting(POLICY_VIOLATION, Reason.INVALID_QUERY)
        try:
            guest = await self._look(asked)
        except (*AWAY, trio.TooSlowError):
            return Parting(TRY_AGAIN, "try_again_later")
        if isinstance(guest, Refusal):
            return Parting(guest.code, guest.reason)
        admitted, session = guest.admitted, guest.session.id
        # Who comes with their own token is counted for themselves: else one side could use up the other's attempts.
        of_user = admitted.user_id, admitted.own
        of_session = (session, admitted.role) if admitted.own else session
        if not self._by_user.take(of_user, now_s) or not self._by_session.take(of_session, now_s):
            return Parting(TRY_AGAIN, "rate_limited")
        return guest

    async def _look(self, asked: Asked) -> "_Guest | Refusal":
        token = read_token(self._key, asked.token)
        if token is None:  # not worth a look
            return Refusal(POLICY_VIOLATION, Reason.INVALID_TOKEN)
        ids = {asked.session_id, token.session}
        with trio.fail_after(_LOOK_S):
            async with self._pool.connection() as conn:
                found, now = await states.states(conn, list(ids))
        session = found.get(asked.session_id)
        admitted = admit(asked, self._key, session, now, token_session=found.get(token.session))
        if isinstance(admitted, Refusal):
            return admitted
        assert session is not None
        return _Guest(admitted, session, now)

    # ---- being there

    async def _serve(self, upgrade: Upgrade, guest: "_Guest") -> Parting | None:
        """Until the socket is done. What it is to be told instead, if there is no place for it."""
        admitted = guest.admitted
        if self._draining:
            return Parting(SERVICE_RESTART, "relay_shutdown")
        room = self.rooms.get(guest.session.id) or self._room(guest)
        refusal = room.refusal(admitted.role, own=admitted.own)
        if refusal is not None:
            return Parting(*refusal)
        self.rooms[room.session] = room
        self.session_is(room.session, guest.session.status)
        limits = room.limits
        peer = Peer(
            admitted,
            room,
            wire_of(upgrade.stream, self._buffer, self._reactor),
            self._frames(admitted.role),
            Outbox(limits.queue_bytes, ON_WIRE * limits.message_bytes, skips=room.is_inside),
        )
        peer.say(text_frame(_welcome(guest)))
        room.enter(peer)
        log.info("relay.connected", session=str(room.session), role=admitted.role, own=admitted.own)
        try:
            async with trio.open_nursery() as looking:
                # It may have ended between the look and now, when nobody here would have heard of it. Beside serving: it may have to wait.
                looking.start_soon(self.look_again, [room.session])
                await peer.serve(upgrade.rest)
                looking.cancel_scope.cancel()
        finally:
            self._left(room, peer)
        return None

    def _room(self, guest: "_Guest") -> Room:
        """A new one, for somebody to enter at once: an empty room has a place for anybody."""
        presence = self.presences.opened(guest.session.id, trio.current_time())
        return Room(guest.session.id, self._limits.room, is_active=False, opened_at=guest.came_at, presence=presence)

    def _left(self, room: Room, peer: Peer) -> None:
        role, parting = peer.admitted.role, peer.farewell
        self.tally.disconnect(role, parting.code, parting.reason)
        log.info("relay.disconnected", session=str(room.session), role=role, code=parting.code, reason=parting.reason)
        room.leave(peer)
        if room.is_empty:
            self._close(room)

    def _frames(self, role: Role) -> Frames:
        is_client = role is Role.CLIENT
        return Frames(
            max_message_bytes=self._limits.room.message_bytes,
            max_text_bytes=control.CLIENT_MAX_BYTES if is_client else control.HOST_MAX_BYTES,
            swallow=is_client,
        )

    def _close(self, room: Room) -> None:
        if self.rooms.get(room.session) is not room:
            return  # it is closed already: a host that was replaced only said good-bye yet
        del self.rooms[room.session]
        self.presences.closed(room.session, trio.current_time())
        counts = room.counts
        self.tally.closed.add(counts)
        log.info(
            "relay.room_closed",
            session=str(room.session),
            host_messages=counts.host_messages,
            host_bytes=counts.host_bytes,
            relayed_messages=counts.relayed_messages,
            relayed_bytes=counts.relayed_bytes,
            dropped_rate=counts.host_dropped_rate,
            dropped_no_client=counts.host_dropped_no_client,
            dropped_slow_client=counts.shed_messages,
            host_control=counts.host_control_forwarded,
            host_control_invalid=counts.host_control_invalid,
            client_messages=counts.client_messages,
            client_forwarded=counts.client_forwarded.total(),
            client_dropped=dict(counts.client_dropped),
        )

    # ---- what happens to sessions

    def session_is(self, session: UUID, status: str) -> None:
        """What became of a session; of others nothing is kept. Sessions only move on: a slow look's PENDING may be older than what is known."""
        if status not in {"PENDING", "ACTIVE"}:
            self.presences.over(session)
        room = self.rooms.get(session)
        if room is None or status == "PENDING":
            return
        room.is_active = status == "ACTIVE"
        if not room.is_active:
            room.close(POLICY_VIOLATION, "session_closed", within_s=SESSION_END_S)

    async def look_again(self, sessions: Sequence[UUID]) -> None:
        """Ask what became of these sessions, unless the database is away."""
        await self._looks.look_at(sessions)

    async def keep_alive(self) -> None:
        """Ping who is silent, and give up who stays so."""
        while True:
            alive(wait_s=_ROUND_S)
            await trio.sleep(_ROUND_S)
            now_s = trio.current_time()
            for room in list(self.rooms.values()):
                room.pace.look(room.counts, now_s)
                for peer in room.peers:
                    if now_s - peer.heard_s > GONE_AFTER_S:
                        peer.cut_off("silent")
                    elif now_s - peer.heard_s > PING_AFTER_S:
                        peer.ping()

    def drain(self) -> None:
        """Say good-bye to all, and let nobody in any more."""
        self._draining = True
        for room in list(self.rooms.values()):
            room.close(SERVICE_RESTART, "relay_shutdown")


@frozen
class _Guest:
    """Somebody who may come in, and when they came, by the database's clock."""

    admitted: Admitted
    session: SessionState
    came_at: datetime


def _asked(query: bytes) -> Asked | None:
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS
        )
    except ValueError:
        return None
    return parse_query(pairs)


def _switching(key: bytes) -> bytes:
    accept = accept_key(key.decode("latin-1"))
    lines = (
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept}",
    )
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _welcome(guest: _Guest) -> bytes:
    scope = guest.admitted.scope
    return dump_json(
        {
            "type": "relay.welcome",
            "role": guest.admitted.role,
            "sessionId": scope.session_id,
            "streamId": scope.stream_id,
            "connectedAt": guest.came_at,
        }
    )


async def _part(wire: Wire, parting: Parting) -> None:
    """Of somebody who isn't let in: say why, and wait a little for their good-bye."""
    assert parting.code is not None
    with trio.move_on_after(PARTING_S):
        await _send(wire, close_frame(parting.code, parting.reason))
        await wire.feed(lambda data: MORSEL_BYTES if data else 0)


async def _send(wire: Wire, data: bytes) -> None:
    left = memoryview(data)
    with trio.move_on_after(PARTING_S):
        while left:
            left = left[await wire.send([left]) :]
        return
    raise Gone
