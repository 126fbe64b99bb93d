"""One socket of a room: what it sends is parsed as it comes, what it is to be sent goes out as fast as it takes it."""

from typing import Final, Protocol

from attrs import define, field, frozen
import trio

from opendesk.stream.admission import Admitted
from opendesk.stream.frames import Burst, Close, Event, Frames, Ping, Pong, Swallowed, Text, Violation
from opendesk.stream.outbox import Outbox
from opendesk.stream.outgoing import close_frame, ping_frame, pong_frame
from opendesk.stream.wire import Gone, Wire

# The contract's: a client that takes nothing for so long is closed.
STUCK_S: Final = 10.0

# From our good-bye to theirs, the message on the wire included: some round trips of a bad line.
PARTING_S: Final = 2.0

# Pongs and words of ours that wait for a socket that doesn't take them. Who asks for more than it reads is gone.
MOST_OWN_FRAMES: Final = 256

# RFC 6455, section 7.4.1; 1013 is IANA's.
NORMAL, TRY_AGAIN = 1000, 1013


@frozen
class Parting:
    """Why a socket is closed. Without a code nothing is said to it: it is gone."""

    code: int | None
    reason: str


class Hears(Protocol):
    """What a room makes of what its sockets say. Nothing here waits."""

    def pictures(self, peer: "Peer", burst: Burst) -> None: ...
    def swallowed(self, peer: "Peer", event: Swallowed) -> None: ...
    def text(self, peer: "Peer", payload: bytes) -> None: ...


@define(eq=False)
class Peer:
    """`serve` runs until the socket is done. All else only leaves word, and never waits."""

    admitted: Admitted
    room: Hears
    _wire: Wire
    _frames: Frames
    outbox: Outbox
    heard_s: float = field(factory=trio.current_time)
    parting: Parting | None = None
    _theirs_closed: bool = False
    _said_goodbye: bool = False
    _wake: trio.Event = field(factory=trio.Event)
    _life: trio.CancelScope = field(factory=trio.CancelScope)

    def pass_on(self, burst: Burst) -> bool:
        """Send it at once as far as the socket takes it; the rest waits, within bounds. Whether all of it went."""
        if not self.outbox.is_idle:
            self.outbox.put(burst)
            if self.outbox.is_hopeless:
                self.cut_off("client_too_slow")
            self._wake.set()
            return False
        try:
            sent = self._wire.send_now(burst.pieces)
        except Gone:
            self.cut_off("gone")
            return True
        self.outbox.passed(burst, sent)
        if sent < burst.size:
            self._wake.set()
        return sent == burst.size

    def say(self, frame: bytes) -> None:
        """Send a whole frame of our own before whatever waits."""
        if self.parting is not None:
            return
        if self.outbox.own_waiting >= MOST_OWN_FRAMES:
            self.part(TRY_AGAIN, "client_too_slow")
            return
        at_once = self.outbox.is_idle and self.outbox.may_part
        self.outbox.say(frame)
        if at_once:
            self._say_now()
        if not self.outbox.is_idle:
            self._wake.set()

    def _say_now(self) -> None:
        """Without a turn of the loop for the writer, which waits for work."""
        try:
            self.outbox.sent(self._wire.send_now(list(self.outbox.next())))
        except Gone:
            self.cut_off("gone")

    def give_way(self) -> None:
        """Let others have their turn before more is read: they have something to send."""
        self._wire.give_way()

    def ping(self) -> None:
        self.say(ping_frame())

    def part(self, code: int, reason: str) -> None:
        """Say good-bye as soon as the message on the wire is finished, and be gone soon in any case."""
        if self.parting is None:
            self.parting = Parting(code, reason)
            self.outbox.wind_up()
            self._life.deadline = trio.current_time() + PARTING_S
            self._wake.set()

    def cut_off(self, reason: str) -> None:
        self.parting = self.parting or Parting(None, reason)
        self._life.cancel()

    def host_left(self) -> None:
        if self.outbox.host_left():
            self.cut_off("host_left_midway")

    async def serve(self, first: bytes = b"") -> Parting:
        """Until both have said good-bye, or one is gone. The stream is the caller's to close."""
        with self._life:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read(first)
        if not self._said_goodbye:
            self._wire.abort()  # else what has come so far might be taken for all of it
        return self.parting or Parting(None, "gone")

    async def _read(self, first: bytes) -> None:
        try:
            data = memoryview(first) if first else await self._wire.receive()
            while data:
                self.heard_s = trio.current_time()
                for event in self._frames.feed(data) if not self._frames.over else ():
                    self._take(event)
                if self._theirs_closed:
                    return
                data = await self._wire.receive()
        except Gone:
            pass
        self.cut_off("gone")

    def _take(self, event: Event) -> None:
        match event:
            case Burst():
                self.room.pictures(self, event)
            case Text():
                self.room.text(self, event.payload)
            case Swallowed():
                self.room.swallowed(self, event)
            case Ping():
                self.say(pong_frame(event.payload))
            case Close():
                self._theirs_closed = True
                self.part(event.code or NORMAL, "closed")
            case Violation():
                self.part(event.code, event.reason)
            case Pong():
                pass  # that it came is what counts

    async def _write(self) -> None:
        """Send what waits; at the end our close frame."""
        try:
            while self.parting is None or not self.outbox.may_part:
                if waiting := self.outbox.next():
                    with trio.move_on_after(STUCK_S) as limit:
                        self.outbox.sent(await self._wire.send(waiting))
                    if limit.cancelled_caught:
                        self.part(TRY_AGAIN, "client_too_slow")
                else:
                    await self._wake.wait()
                    self._wake = trio.Event()
            if self.parting.code is None:
                return  # cut off while this was about to go on
            await self._send_all(close_frame(self.parting.code, self.parting.reason))
            self._said_goodbye = True
        except Gone:
            self.cut_off("gone")

    async def _send_all(self, frame: bytes) -> None:
        left = memoryview(frame)
        while left:
            left = left[await self._wire.send([left]) :]
