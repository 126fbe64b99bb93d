"""What a parser of frames tells: pictures to pass on, words, control frames, and what is against the rules."""

from collections.abc import Iterator

from attrs import define, field, frozen


@frozen
class Part:
    """The pieces of one message that a burst holds, whether they are its first and its last, and whether a frame is left unfinished."""

    pieces: list[bytes]
    begins: bool
    ends: bool
    in_frame: bool = False


@define
class Burst:
    """What binary messages came, as it is to be sent on: headers and unmasked payloads, fragments as they were.

    - `ends`: each `pieces[:end]` completes a message.
    - `goes_on`: the first piece belongs to a message that an earlier burst began.
    - `size`: bytes of all pieces.
    - `frame_left`: bytes that the last frame still wants; only at 0 may other frames be sent after this burst.
    """

    goes_on: bool
    pieces: list[bytes] = field(factory=list)
    ends: list[int] = field(factory=list)
    size: int = 0
    frame_left: int = 0

    @property
    def finished(self) -> bool:
        """No message is left unfinished at the end."""
        return bool(self.ends) and self.ends[-1] == len(self.pieces)

    def parts(self) -> Iterator[Part]:
        """Give the burst message by message, for a queue that sheds whole ones."""
        start, begins = 0, not self.goes_on
        for end in self.ends:
            yield Part(self.pieces[start:end], begins, ends=True)
            start, begins = end, True
        if start < len(self.pieces):
            yield Part(self.pieces[start:], begins, ends=False, in_frame=self.frame_left > 0)


@define
class Swallowed:
    """Messages that came to their end and were not unmasked: binary ones that nobody is to get, and texts that are too long."""

    messages: int
    payload_bytes: int


@frozen
class Text:
    """A whole text message; its payload is valid UTF-8."""

    payload: bytes


@frozen
class Ping:
    payload: bytes


@frozen
class Pong:
    payload: bytes


@frozen
class Close:
    """The other side closes; nothing after it is read. `code` is None if it told none."""

    code: int | None
    reason: str


@frozen
class Violation:
    """What came is against the protocol or over a limit: close with this; nothing after it is read."""

    code: int
    reason: str


Event = Burst | Swallowed | Text | Ping | Pong | Close | Violation
