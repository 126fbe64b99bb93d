"""One socket of a room: what it sends is parsed as it comes, what it is to be sent goes out as fast as it takes it."""

from collections.abc import Callable
from typing import Final, Protocol

from attrs import define, field, frozen
import trio

from opendesk.stream.admission import Admitted
from opendesk.stream.events import Burst, Close, Event, Ping, Pong, Swallowed, Text, Violation
from opendesk.stream.frames import Frames
from opendesk.stream.outbox import Outbox
from opendesk.stream.outgoing import close_frame, ping_frame, pong_frame
from opendesk.stream.tokens import Role
from opendesk.stream.wire import BUFFER_BYTES, MORSEL_BYTES, Gone, Wire

# The contract's: a client that takes nothing for so long is closed.
STUCK_S: Final = 10.0

# From our good-bye to theirs, the frame on the wire included: some round trips of a bad line.
PARTING_S: Final = 2.0

# Pongs and texts of ours that wait for a socket that takes too little: half a MiB of the longest. More go unsaid.
MOST_OWN_FRAMES: Final = 256

# A host whose frames are smaller is read by morsels; so are clients, who say 2 KiB at the most.
SMALL_FRAME_BYTES: Final = 64

# RFC 6455, section 7.4.1; 1013 is IANA's.
NORMAL, TRY_AGAIN = 1000, 1013


@frozen
class Parting:
    """Why a socket is closed. Without a code nothing is said to it: it is gone."""

    code: int | None
    reason: str


class Hears(Protocol):
    """What a room makes of what its sockets say. Nothing here waits."""

    def pictures(self, peer: "Peer", burst: Burst, now_s: float) -> None: ...
    def swallowed(self, peer: "Peer", event: Swallowed, now_s: float) -> None: ...
    def text(self, peer: "Peer", payload: bytes, now_s: float) -> None: ...
    def frames(self, peer: "Peer", count: int, now_s: float) -> None: ...


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
    _is_flooding: bool = False  # parted from for sending too much: what else comes is thrown away
    _pinged: bytes | None = None
    _said_goodbye: bool = False
    _wake: trio.Event = field(factory=trio.Event)
    _life: trio.CancelScope = field(factory=trio.CancelScope)

    def pass_on(self, burst: Burst) -> None:
        """Send it at once as far as the socket takes it; the rest waits, within bounds."""
        if self.parting is not None and self.parting.code is None:
            return  # cut off, maybe in the midst of another host's message, and still in its room
        if not self.outbox.is_idle:
            self.outbox.put(burst)
            if self.outbox.is_hopeless:
                self.cut_off("client_too_slow")
            self._wake.set()
            return
        try:
            sent = self._wire.send_now(burst.pieces)
        except Gone:
            self.cut_off("gone")
            return
        self.outbox.passed(burst, sent)
        if sent < burst.size:
            self._wake.set()

    def say(self, text: bytes) -> bool:
        """Send a whole text frame of our own before the pictures that wait. False if it isn't said."""
        return self._say(self.outbox.say, text)

    def ping(self) -> None:
        self._say(self.outbox.say_control, ping_frame())

    def _say(self, put: Callable[[bytes], None], frame: bytes) -> bool:
        if self.parting is not None or self.outbox.own_waiting >= MOST_OWN_FRAMES:
            return False
        put(frame)
        if not self.outbox.is_sending:
            self._send_now()
        if not self.outbox.is_idle:
            self._wake.set()
        return True

    def _send_now(self) -> None:
        """Without a turn of the loop for the writer, which waits for work."""
        try:
            self.outbox.sent(self._wire.send_now(list(self.outbox.next())))
        except Gone:
            self.cut_off("gone")

    def stem(self, reason: str) -> None:
        """Part from who sends too much, and look at nothing more that it sends: it may not stop."""
        self.part(TRY_AGAIN, reason)
        self._is_flooding = True

    def part(self, code: int, reason: str, *, within_s: float | None = None) -> None:
        """Say good-bye as soon as the frame on the wire is finished, and be gone soon in any case."""
        deadline = trio.current_time() + (PARTING_S if within_s is None else within_s)
        if self.parting is None:
            self.parting = Parting(code, reason)
            self.outbox.wind_up()
            self._wake.set()
        self._life.deadline = min(self._life.deadline, deadline)

    def cut_off(self, reason: str) -> None:
        self.parting = self.parting or Parting(None, reason)
        self._life.cancel()

    @property
    def farewell(self) -> Parting:
        """Why it ended; with a code only if it was told."""
        why = self.parting or Parting(None, "interrupted")
        return why if self._said_goodbye else Parting(None, why.reason)

    def host_left(self) -> None:
        if self.outbox.host_left():
            self.cut_off("host_left_midway")

    async def serve(self, first: bytes = b"") -> None:
        """Until both have said good-bye, or one is gone. The stream is the caller's to close."""
        with self._life:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read(first)
        if not self._said_goodbye:
            self._wire.abort()  # else what has come so far might be taken for all of it

    async def _read(self, first: bytes) -> None:
        try:
            if not first or self._hear(memoryview(first)):
                await self._wire.feed(self._hear)
        except Gone:
            pass
        if not self._theirs_closed:
            self.cut_off("gone")

    def _hear(self, data: memoryview) -> int:
        """Take what came; how much is to be read next, 0 for no more."""
        if not data:
            return 0
        now_s = self.heard_s = trio.current_time()
        if self._is_flooding:
            return BUFFER_BYTES
        seen = self._frames.seen
        for event in self._frames.feed(data) if not self._frames.over else ():
            self._take(event, now_s)
        if self._pinged is not None:
            self._say(self.outbox.say_control, pong_frame(self._pinged))
            self._pinged = None
        count = self._frames.seen - seen
        self.room.frames(self, count, now_s)
        if self._theirs_closed:
            return 0
        is_large = count * SMALL_FRAME_BYTES <= len(data)
        return BUFFER_BYTES if is_large and self.admitted.role is Role.HOST else MORSEL_BYTES

    def _take(self, event: Event, now_s: float) -> None:
        match event:
            case Burst():
                self.room.pictures(self, event, now_s)
            case Text():
                self.room.text(self, event.payload, now_s)
            case Swallowed():
                self.room.swallowed(self, event, now_s)
            case Ping():
                self._pinged = event.payload  # of several the last is answered (RFC 6455, 5.5.3)
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
                        self.heard_s = trio.current_time()  # it takes what it is sent: a ping may have to wait for that
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
