"""A room: one session's host, its client's sockets, and what goes from one side to the other."""

from datetime import datetime
from typing import Final
from uuid import UUID

from attrs import define, field, frozen
import trio

from opendesk.stream import control
from opendesk.stream.control import Kind
from opendesk.stream.counts import Counts, Pace
from opendesk.stream.frames import Burst, Swallowed
from opendesk.stream.limits import Rate
from opendesk.stream.outgoing import text_frame
from opendesk.stream.peer import TRY_AGAIN, Peer
from opendesk.stream.presence import Presence
from opendesk.stream.tokens import Role

POLICY_VIOLATION: Final = 1008


@frozen
class RoomLimits:
    """The settings that rooms follow."""

    clients: int  # RELAY_MAX_CLIENTS_PER_ROOM
    host_bytes_per_s: int
    client_messages_per_s: int
    message_bytes: int
    queue_bytes: int


@define(eq=False)
class Room:
    session: UUID
    limits: RoomLimits
    is_active: bool  # the session is ACTIVE, not only PENDING
    opened_at: datetime  # by the database's clock
    host: Peer | None = None
    clients: list[Peer] = field(factory=list)
    counts: Counts = field(factory=Counts)  # what clients shed who are still here, they know
    pace: Pace = field(factory=lambda: Pace(trio.current_time()))
    is_inside: bool = False  # of a message of the host's, of which more is to come
    presence: Presence = field(factory=lambda: Presence(host_down_since_s=trio.current_time()))
    _rates: dict[Peer, Rate] = field(factory=dict)

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
        if peer.admitted.role is Role.CLIENT:
            self._rates[peer] = Rate(self.limits.client_messages_per_s)
            self.clients.append(peer)
        else:
            self._rates[peer] = Rate(self.limits.host_bytes_per_s)
            if self.host is not None:
                self.host.part(POLICY_VIOLATION, "host_replaced")
                self._host_left()
            self.host = peer
        self._note_presence()

    def leave(self, peer: Peer) -> None:
        self._rates.pop(peer, None)
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

    def close(self, code: int, reason: str) -> None:
        for peer in self.peers:
            peer.part(code, reason)

    # ---- what they say

    def pictures(self, peer: Peer, burst: Burst) -> None:
        if peer is not self.host or peer.parting is not None:
            return
        self.is_inside = not burst.finished
        counts, messages = self.counts, len(burst.ends)
        now_s = trio.current_time()
        if not self._rates[peer].take(burst.size, now_s):
            counts.host_dropped_rate += messages
            peer.part(TRY_AGAIN, "host_rate_limit")
            return
        counts.host_messages += messages
        counts.host_bytes += burst.size
        if not self.clients:
            counts.host_dropped_no_client += messages
            return
        waiting = False
        for client in self.clients:
            waiting = not client.pass_on(burst) or waiting
        if waiting:
            peer.give_way()
        if peer.admitted.own:
            self.presence.last_byte_s = now_s
        counts.relayed_messages += messages
        counts.relayed_bytes += burst.size

    def swallowed(self, peer: Peer, event: Swallowed) -> None:
        """Binary of a client: counted, and never carried."""
        if self._may_say(peer, event.messages):
            self.counts.client_dropped["invalid"] += event.messages

    def text(self, peer: Peer, payload: bytes) -> None:
        if peer.parting is not None:
            return
        if peer.admitted.role is Role.HOST:
            self._from_host(peer, payload)
        elif self._may_say(peer, 1):
            self._from_client(peer, payload)

    def _may_say(self, peer: Peer, messages: int) -> bool:
        if peer not in self._rates:
            return False
        self.counts.client_messages += messages
        if self._rates[peer].take(messages, trio.current_time()):
            return True
        self.counts.client_dropped["rate"] += messages
        peer.part(TRY_AGAIN, "client_rate_limit")
        return False

    def _from_client(self, peer: Peer, payload: bytes) -> None:
        said = control.from_client(payload, peer.admitted.scope)
        if said is None:
            self.counts.client_dropped["invalid"] += 1
        elif said.kind is Kind.INPUT_EVENT and not self.is_active:
            self.counts.client_dropped["not_active"] += 1
        elif self.host is None:
            self.counts.client_dropped["no_host"] += 1
        else:
            self.counts.client_forwarded[said.kind] += 1
            self.host.say(text_frame(control.rewritten(said, self.host.admitted.scope, with_token=True)))

    def _from_host(self, peer: Peer, payload: bytes) -> None:
        if peer is not self.host:
            return
        if not self._rates[peer].take(len(payload), trio.current_time()):
            peer.part(TRY_AGAIN, "host_rate_limit")
            return
        said = control.from_host(payload, peer.admitted.scope)
        if said is None:
            self.counts.host_control_invalid += 1
            return
        self.counts.host_control_forwarded += 1
        for client in self.clients:
            client.say(text_frame(control.rewritten(said, client.admitted.scope, with_token=False)))
