"""A room: one session's host, its client's sockets, and what goes from one side to the other."""

from datetime import datetime
from typing import Final
from uuid import UUID

from attrs import define, field, frozen
import trio

from opendesk.stream import control
from opendesk.stream.control import CLIENT_MAX_BYTES, Kind
from opendesk.stream.counts import Counts, Pace
from opendesk.stream.events import Burst, Swallowed
from opendesk.stream.limits import Rate
from opendesk.stream.outgoing import text_frame
from opendesk.stream.peer import TRY_AGAIN, Peer
from opendesk.stream.presence import Presence
from opendesk.stream.tokens import Role

POLICY_VIOLATION: Final = 1008

# Frames of all kinds are counted, too, since the smallest cost as much as large ones. A host may send one for so many bytes of its limit
# (51,200 a second by default, a fifth of a core if they are pictures), yet a thousand where that is low; a client some for each message,
# since it may answer pings and send in fragments.
BYTES_A_FRAME: Final = 512
FEWEST_FRAMES: Final = 1000
FRAMES_A_MESSAGE: Final = 4


@frozen
class RoomLimits:
    """The settings that rooms follow."""

    clients: int  # RELAY_MAX_CLIENTS_PER_ROOM
    host_bytes_per_s: int
    client_messages_per_s: int
    message_bytes: int
    queue_bytes: int


@frozen
class Meters:
    """What one socket may send in a second. A host's pictures are no messages here: of those only bytes and frames count."""

    bytes: Rate
    messages: Rate
    frames: Rate

    @classmethod
    def of(cls, role: Role, limits: RoomLimits) -> "Meters":
        said = limits.client_messages_per_s
        if role is Role.HOST:
            # As many texts as it could have to answer.
            size, messages, frames = (
                limits.host_bytes_per_s,
                limits.clients * said,
                limits.host_bytes_per_s // BYTES_A_FRAME,
            )
        else:
            # All that its messages may have, or one of the largest, which is dropped.
            size, messages, frames = max(said * CLIENT_MAX_BYTES, limits.message_bytes), said, said * FRAMES_A_MESSAGE
        return cls(Rate(size), Rate(messages), Rate(max(frames, FEWEST_FRAMES)))

    def take(self, messages: int, size: int, now_s: float) -> bool:
        return self.messages.take(messages, now_s) and self.bytes.take(size, now_s)


@define(eq=False)
class Room:
    session: UUID
    limits: RoomLimits
    is_active: bool  # the session is ACTIVE, not only PENDING
    opened_at: datetime  # by the database's clock
    presence: Presence  # also of what was seen before this room opened
    host: Peer | None = None
    clients: list[Peer] = field(factory=list)
    counts: Counts = field(factory=Counts)  # what clients shed who are still here, they know
    pace: Pace = field(factory=lambda: Pace(trio.current_time()))
    is_inside: bool = False  # of a message of the host's, of which more is to come
    _is_closing: bool = False
    _meters: dict[Peer, Meters] = field(factory=dict)

    @property
    def is_empty(self) -> bool:
        return self.host is None and not self.clients

    @property
    def peers(self) -> list[Peer]:
        return [*([self.host] if self.host else []), *self.clients]

    def sums(self) -> Counts:
        """What was counted up to now."""
        sums = Counts()
        sums.add(self.counts)
        for client in self.clients:
            sums.shed_messages += client.outbox.shed_messages
            sums.shed_bytes += client.outbox.shed_bytes
        return sums

    # ---- who comes and goes

    def refusal(self, role: Role, *, own: bool) -> tuple[int, str] | None:
        """Why there is no place for one more, as a close frame says it."""
        if role is Role.CLIENT:
            return (TRY_AGAIN, "room_full") if len(self.clients) >= self.limits.clients else None
        # Both sides hold the shared token: a client must not be able to put the host out.
        if self.host is not None and self.host.admitted.own and not own:
            return POLICY_VIOLATION, "host_forbidden"
        return None

    def enter(self, peer: Peer) -> None:
        self._meters[peer] = Meters.of(peer.admitted.role, self.limits)
        if peer.admitted.role is Role.CLIENT:
            self.clients.append(peer)
        else:
            if self.host is not None:
                self.host.part(POLICY_VIOLATION, "host_replaced")
                self._host_left()
            self.host = peer
        self._note_presence()

    def leave(self, peer: Peer) -> None:
        self._meters.pop(peer, None)
        if peer not in self.peers:
            return  # a host that was replaced; by now another room may go on with the presence
        if peer in self.clients:
            self.clients.remove(peer)
            self.counts.shed_messages += peer.outbox.shed_messages
            self.counts.shed_bytes += peer.outbox.shed_bytes
        if peer is self.host:
            self.host = None
            self._host_left()
        self._note_presence()

    def _note_presence(self) -> None:
        self.presence.now(
            trio.current_time(),
            host=self.host is not None and self.host.admitted.own,
            client=any(client.admitted.own for client in self.clients),
        )

    def _host_left(self) -> None:
        self.is_inside = False
        for client in self.clients:
            client.host_left()

    def close(self, code: int, reason: str, *, within_s: float | None = None) -> None:
        """Part from all. Who is in the midst of a picture gets the rest of its frame, if that comes in time."""
        self._is_closing = True
        for peer in self.peers:
            peer.part(code, reason, within_s=within_s)

    # ---- what they say

    def frames(self, peer: Peer, count: int, now_s: float) -> None:
        """All that were read at once, whatever they were."""
        if peer.parting is None and not self._meters[peer].frames.take(count, now_s):
            peer.stem("host_rate_limit" if peer is self.host else "client_rate_limit")

    def pictures(self, peer: Peer, burst: Burst, now_s: float) -> None:
        if peer is not self.host or not (self._is_closing or self._takes(peer, burst, now_s)):
            return
        for client in self.clients:
            client.pass_on(burst)

    def _takes(self, peer: Peer, burst: Burst, now_s: float) -> bool:
        """Count what came, and say whether it is to be passed on."""
        if peer.parting is not None:
            return False
        self.is_inside = not burst.finished
        counts, messages, size = self.counts, len(burst.ends), burst.size
        if not self._meters[peer].bytes.take(size, now_s):
            counts.host_dropped_rate += messages + self.is_inside
            peer.stem("host_rate_limit")
            return False
        counts.host_messages += messages
        counts.host_bytes += size
        if not self.clients:
            counts.host_dropped_no_client += messages
            return False
        if peer.admitted.own and self.presence.is_client_up:
            self.presence.last_byte_s = now_s
        counts.relayed_messages += messages
        counts.relayed_bytes += size
        return True

    def swallowed(self, peer: Peer, event: Swallowed, now_s: float) -> None:
        """Binary of a client, and texts that are too long: counted, and never carried."""
        if not self._may_say(peer, event.messages, event.payload_bytes, now_s):
            return
        if peer.admitted.role is Role.HOST:
            self.counts.host_control_invalid += event.messages
        else:
            self.counts.client_dropped["invalid"] += event.messages

    def text(self, peer: Peer, payload: bytes, now_s: float) -> None:
        if not self._may_say(peer, 1, len(payload), now_s):
            return
        if peer.admitted.role is Role.HOST:
            self._from_host(peer, payload)
        else:
            self._from_client(peer, payload)

    def _may_say(self, peer: Peer, messages: int, size: int, now_s: float) -> bool:
        """Count what was said, and part from who says too much."""
        if peer.parting is not None:
            return False
        is_client = peer.admitted.role is Role.CLIENT
        if is_client:
            self.counts.client_messages += messages
        if self._meters[peer].take(messages, size, now_s):
            return True
        if is_client:
            self.counts.client_dropped["rate"] += messages
        else:
            self.counts.host_dropped_rate += messages
        peer.stem("client_rate_limit" if is_client else "host_rate_limit")
        return False

    def _from_client(self, peer: Peer, payload: bytes) -> None:
        said = control.from_client(payload, peer.admitted.scope)
        if said is None:
            self.counts.client_dropped["invalid"] += 1
        elif said.kind is Kind.INPUT_EVENT and not self.is_active:
            self.counts.client_dropped["not_active"] += 1
        elif self.host is None:
            self.counts.client_dropped["no_host"] += 1
        elif self.host.say(text_frame(control.rewritten(said, self.host.admitted.scope, with_token=True))):
            self.counts.client_forwarded[said.kind] += 1
        else:
            self.counts.client_dropped["slow_host"] += 1

    def _from_host(self, peer: Peer, payload: bytes) -> None:
        said = control.from_host(payload, peer.admitted.scope)
        if said is None:
            self.counts.host_control_invalid += 1
            return
        self.counts.host_control_forwarded += 1
        for client in self.clients:
            frame = text_frame(control.rewritten(said, client.admitted.scope, with_token=False))
            if not client.say(frame):
                self.counts.shed_messages += 1
                self.counts.shed_bytes += len(frame)
