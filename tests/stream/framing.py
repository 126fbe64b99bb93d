"""A WebSocket client's frames, also such as no client sends; and a run of the parser that checks what holds always."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
import struct

from opendesk.stream.events import Burst, Event, Swallowed
from opendesk.stream.frames import Frames
from opendesk.stream.outgoing import mask_in_python

FIN = 0x80
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x11\xa2\xf3\x04"
# The one buffer that all parsers share in the daemon.
BUFFER_BYTES = 65_536

Told = bytes | str | Event


def extended(first: int, second: int, length: int) -> bytes:
    """A header with a length of 7 bits in the second byte, or of 16 or 64 after it if `length` wants it."""
    if length < 126:
        return bytes((first, second | length))
    return (
        struct.pack("!BBH", first, second | 126, length)
        if length < 65_536
        else struct.pack("!BBQ", first, second | 127, length)
    )


def sent(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bytes = MASK) -> bytes:
    """As a client sends it."""
    return extended(opcode | FIN * fin, 0x80, len(payload)) + mask + mask_in_python(payload, mask)


def passed_on(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """As the other side is to get it."""
    return extended(opcode | FIN * fin, 0, len(payload)) + payload


def frames(*, message: int = 1 << 22, text: int = 2048, swallow: bool = False) -> Frames:
    return Frames(max_message_bytes=message, max_text_bytes=text, swallow=swallow)


def feed(parser: Frames, data: bytes) -> list[Event]:
    """Through the shared buffer, which is written over before the events are looked at."""
    buffer = bytearray(max(BUFFER_BYTES, len(data)))
    view = memoryview(buffer)
    view[: len(data)] = data
    events = parser.feed(view[: len(data)])
    buffer[:] = bytes(len(buffer))
    return events


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


def run(parser: Frames, chunks: Sequence[bytes]) -> list[Told]:
    """What is told of these reads, without how it was cut: what is passed on as bytes, "end" after each message."""
    told: list[Told] = []
    inside = False
    for chunk in chunks:
        for event in feed(parser, chunk):
            if isinstance(event, Burst):
                assert event.goes_on == inside
                inside = not event.finished
                _check(event)
                _add_burst(told, event)
            elif isinstance(event, Swallowed) and told and isinstance(last := told[-1], Swallowed):
                told[-1] = Swallowed(last.messages + event.messages, last.payload_bytes + event.payload_bytes)
            else:
                told.append(event)
    return told


def _add_burst(told: list[Told], burst: Burst) -> None:
    for part in burst.parts():
        data = b"".join(part.pieces)
        if told and isinstance(last := told[-1], bytes):
            assert not part.begins
            told[-1] = last + data
        else:
            told.append(data)
        if part.ends:
            told.append("end")


def _check(burst: Burst) -> None:
    assert burst.pieces
    assert all(burst.pieces)
    assert burst.size == sum(map(len, burst.pieces))
    assert burst.ends == sorted(set(burst.ends))
    parts = list(burst.parts())
    assert [piece for part in parts for piece in part.pieces] == burst.pieces
    assert [part.begins for part in parts] == [not burst.goes_on, *(True for _ in parts[1:])]
    assert [part.ends for part in parts] == [*(True for _ in parts[1:]), burst.finished]
    assert [part.in_frame for part in parts] == [*(False for _ in parts[1:]), burst.frame_left > 0]
    if burst.finished:
        assert burst.frame_left == 0
