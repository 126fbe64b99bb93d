"""What one client is still to be sent: passed on at once while it keeps up, whole messages in a bounded queue while it doesn't.

Pure: it is told what came from the host and how much the socket took, and says what is to be sent next. What is on the wire is finished
first; then go words of our own, which overtake queued pictures; then the queue. Between two fragments of a message only control frames go.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from attrs import define, field

from opendesk.stream.events import Burst, Part

# Of the queue at once: a system call for each message would cost several times as much as the copying.
WIRE_BYTES: Final = 64 * 1024

# What a piece takes besides its bytes: else a queue of empty fragments would hold twenty times its limit.
PIECE_BYTES: Final = 64


@define(eq=False)
class _Message:
    pieces: list[bytes]
    cost: int
    whole: bool
    in_frame: bool  # left in the midst of one


@define(eq=False)
class Outbox:
    """Of one client. Counts what it sheds, in messages and bytes of frames."""

    _limit: int  # bytes that may wait, besides the message on the wire
    # Of that one, which can't be shed: more waits only if its host makes it of countless fragments.
    _most_on_wire: int
    # A client that joins in the midst of a message gets the next one.
    _skips: bool = False
    shed_messages: int = 0
    shed_bytes: int = 0
    queued_bytes: int = 0  # with what their pieces take
    # Goes out before all else: a part of it may be sent already.
    _wire: deque[bytes | memoryview] = field(factory=deque)
    _continued: int = 0  # what the message on the wire grew by while it waited
    _goes_on: bool = False  # the message on the wire isn't ended yet by the host
    _in_frame: bool = False  # nor is its frame
    _winds_up: bool = False
    _control: deque[bytes] = field(factory=deque)
    _texts: deque[bytes] = field(factory=deque)
    _queue: deque[_Message] = field(factory=deque)

    @property
    def is_idle(self) -> bool:
        """Nothing waits: a burst may be handed to the socket as it is, and then be told to `passed`."""
        return not (self._wire or self._queue or self._control or self._texts or self._skips or self._winds_up)

    @property
    def is_sending(self) -> bool:
        """Something is on the wire that the socket didn't take yet."""
        return bool(self._wire)

    @property
    def own_waiting(self) -> int:
        """Frames of our own that aren't on the wire yet."""
        return len(self._control) + len(self._texts)

    @property
    def is_hopeless(self) -> bool:
        """The message on the wire goes on and on: its client can only be cut off."""
        return self._continued > self._most_on_wire

    @property
    def may_part(self) -> bool:
        """Between two frames: one that closes may go."""
        return not (self._wire or self._in_frame)

    def passed(self, burst: Burst, sent: int) -> None:
        """While idle, the socket took `sent` bytes of the burst: all, or what its buffer had room for."""
        if sent == burst.size:
            self._goes_on, self._in_frame = not burst.finished, burst.frame_left > 0
            return
        for part in burst.parts():
            size = _size(part.pieces)
            if sent or not part.begins:
                self._wire.extend(part.pieces)
                self.sent(min(sent, size))
                self._goes_on, self._in_frame = not part.ends, part.in_frame
                sent -= min(sent, size)
            else:
                self._append(part)

    def put(self, burst: Burst) -> None:
        """Keep the burst for later; what is too much goes, the oldest whole messages first."""
        for part in burst.parts():
            if part.begins:
                self._append(part)
            else:
                self._continue(part)

    def host_left(self) -> bool:
        """No more comes of the message under way. True if a part of it is on the wire, and that is a client's end who can't be told so."""
        if not self._goes_on and self._queue and not self._queue[-1].whole:
            self.queued_bytes -= self._queue.pop().cost
        self._skips = False
        return self._in_frame or (self._goes_on and not self._winds_up)

    def wind_up(self) -> None:
        """From now on only the message on the wire is finished: then the client is parted from."""
        self._winds_up = True
        self._skips = self._skips or (bool(self._queue) and not self._queue[-1].whole)
        self._queue.clear()
        self._control.clear()
        self._texts.clear()
        self.queued_bytes = 0

    def say(self, text: bytes) -> None:
        """A whole text frame of our own. Who calls bounds how many."""
        self._texts.append(text)

    def say_control(self, frame: bytes) -> None:
        """A ping or a pong, which may go between fragments, too."""
        self._control.append(frame)

    def next(self) -> deque[bytes | memoryview]:
        """What is to be sent now; nothing if all is sent, or if the host's next piece must come first. Tell `sent` how much went."""
        if not self._wire and not self._in_frame:
            self._wire.extend(self._control)
            self._control.clear()
            if not self._goes_on:
                self._wire.extend(self._texts)
                self._texts.clear()
                self._load()
        return self._wire

    def _load(self) -> None:
        loaded = 0
        while self._queue and loaded < WIRE_BYTES:
            message = self._queue.popleft()
            self.queued_bytes -= message.cost
            loaded += message.cost
            self._wire.extend(message.pieces)
            self._goes_on, self._in_frame = not message.whole, message.in_frame

    def sent(self, count: int) -> None:
        while count > 0:
            piece = self._wire.popleft()
            if count < len(piece):
                self._wire.appendleft(memoryview(piece)[count:])
            count -= len(piece)
        if not self._wire:
            self._continued = 0

    def _continue(self, part: Part) -> None:
        if self._skips:
            self._skips = not part.ends
        elif self._goes_on:
            self._wire.extend(part.pieces)
            self._continued += _cost(part.pieces)
            self._goes_on, self._in_frame = not part.ends, part.in_frame
        else:
            message, cost = self._queue[-1], _cost(part.pieces)
            message.pieces += part.pieces
            message.cost += cost
            message.whole, message.in_frame = part.ends, part.in_frame
            self.queued_bytes += cost
            self._shed()

    def _append(self, part: Part) -> None:
        self._skips = self._winds_up and not part.ends
        if self._winds_up:
            return
        message = _Message(part.pieces, _cost(part.pieces), part.ends, part.in_frame)
        self._queue.append(message)
        self.queued_bytes += message.cost
        self._shed()

    def _shed(self) -> None:
        while self.queued_bytes > self._limit:
            oldest = self._queue.popleft()
            self.queued_bytes -= oldest.cost
            self.shed_messages += 1
            self.shed_bytes += _size(oldest.pieces)
            self._skips = not oldest.whole


def _cost(pieces: Sequence[bytes]) -> int:
    return _size(pieces) + PIECE_BYTES * len(pieces)


def _size(pieces: Sequence[bytes]) -> int:
    return sum(map(len, pieces))
