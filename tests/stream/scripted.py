"""One socket of a room without a network: what comes is written down beforehand, what goes is kept."""

from typing import Any
from uuid import uuid4

from attrs import define, field

from opendesk.stream.admission import Admitted
from opendesk.stream.control import Scope
from opendesk.stream.events import Burst, Swallowed
from opendesk.stream.outbox import Outbox
from opendesk.stream.peer import Peer
from opendesk.stream.tokens import Role
from opendesk.stream.wire import Gone, Take
from tests.stream import framing


@define
class Script:
    """A wire and a room: bytes that come, and how many are asked for after each."""

    reads: list[bytes]
    wanted: list[int] = field(factory=list)

    async def feed(self, take: Take) -> None:
        for data in [*self.reads, b""]:
            self.wanted.append(take(memoryview(data)))

    async def send(self, pieces: object) -> int:
        raise Gone(pieces)

    def send_now(self, pieces: object) -> int:
        raise Gone(pieces)

    def abort(self) -> None: ...
    def pictures(self, peer: Peer, burst: Burst, now_s: float) -> None: ...
    def swallowed(self, peer: Peer, event: Swallowed, now_s: float) -> None: ...
    def text(self, peer: Peer, payload: bytes, now_s: float) -> None: ...
    def frames(self, peer: Peer, count: int, now_s: float) -> None: ...


@define
class Spy(Script):
    """Takes what it is sent, and parts from whom it is told to after so many texts."""

    sent: bytearray = field(factory=bytearray)
    stems_after: int = 1_000_000
    texts: int = 0

    def send_now(self, pieces: Any) -> int:
        self.sent += b"".join(pieces)
        return sum(map(len, pieces))

    async def send(self, pieces: Any) -> int:
        return self.send_now(list(pieces))

    def text(self, peer: Peer, payload: bytes, now_s: float) -> None:
        self.texts += 1
        if self.texts == self.stems_after:
            peer.stem("client_rate_limit")


def client_at(spy: Spy) -> Peer:
    admitted = Admitted(Role.CLIENT, own=True, scope=Scope("token", "session", "stream"), user_id=uuid4())
    return Peer(admitted, spy, spy, framing.frames(swallow=True), Outbox(0, 0))
