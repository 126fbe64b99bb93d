"""wsproto, another reader of the same RFC, reads the same out of any frames."""

from random import Random

from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from opendesk.stream.events import Close, Ping, Pong, Text, Violation
from tests.stream.framing import (
    BINARY,
    BUFFER_BYTES,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Told,
    frames,
    pieces_of,
    run,
    sent,
)

EDGES = st.sampled_from([0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537])
SIZES = st.one_of(st.integers(0, 300), EDGES)
MASKS = st.binary(min_size=4, max_size=4)
CONTROLS = st.lists(st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125), MASKS), max_size=2)


@frozen
class Seen:
    """A frame as it was read: a message's kind, a fragment's payload, whether it was the message's last."""

    opcode: int
    payload: bytes
    fin: bool


@st.composite
def messages(draw: st.DrawFn) -> list[bytes]:
    """One message in fragments, with control frames between them, as a client sends it."""
    random = Random(draw(st.integers(0, 1 << 32)))
    text = draw(st.booleans())
    sizes = draw(st.lists(st.integers(0, 200) if text else SIZES, min_size=1, max_size=4))
    made = []
    for number, size in enumerate(sizes):
        payload = bytes(random.choices(b"abc \xc3\xa4", k=size)) if text else random.randbytes(size)
        payload = payload.decode(errors="ignore").encode() if text else payload
        opcode = CONTINUATION if number else (TEXT if text else BINARY)
        made.append(sent(opcode, payload, fin=number == len(sizes) - 1, mask=draw(MASKS)))
        made += [sent(control, payload, mask=mask) for control, payload, mask in draw(CONTROLS)]
    return made


def read_by_wsproto(data: bytes, *, client: bool) -> list[Seen]:
    """Frames as wsproto tells them, put together if it tells them in parts."""
    protocol = FrameProtocol(client=client, extensions=[])
    protocol.receive_bytes(data)
    seen, begun = list[Seen](), b""
    for frame in protocol.received_frames():
        payload = frame.payload.encode() if isinstance(frame.payload, str) else frame.payload
        if frame.opcode is Opcode.CLOSE:
            assert isinstance(payload, tuple)
            payload = payload[0].to_bytes(2, "big") + (payload[1] or "").encode()
        assert isinstance(payload, bytes | bytearray)
        begun += bytes(payload)
        if frame.frame_finished:
            seen.append(Seen(int(frame.opcode), begun, bool(frame.message_finished)))
            begun = b""
    return seen


def refused_by_wsproto(data: bytes) -> list[int]:
    try:
        read_by_wsproto(data, client=False)
    except ParseFailed as exc:
        return [int(exc.code)]
    return []


def whole_texts(seen: list[Seen]) -> list[bytes]:
    texts = [b""]
    for frame in seen:
        if frame.opcode == TEXT:
            texts[-1] += frame.payload
            texts += [b""] if frame.fin else []
    return texts[:-1]


def controls(told: list[Told]) -> list[Seen]:
    return [
        Seen(PING if isinstance(event, Ping) else PONG, event.payload, fin=True)
        for event in told
        if isinstance(event, Ping | Pong)
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(messages(), max_size=4), st.lists(st.integers(0, 1 << 20), max_size=8))
def test_wsproto_reads_the_same(sequence: list[list[bytes]], cuts: list[int]) -> None:
    data = b"".join(frame for message in sequence for frame in message)
    told = run(frames(), pieces_of(data, [cut % (len(data) + 1) for cut in cuts]))
    assert told == run(frames(), pieces_of(data, range(BUFFER_BYTES, len(data), BUFFER_BYTES)))
    seen = read_by_wsproto(data, client=False)
    assert read_by_wsproto(b"".join(item for item in told if isinstance(item, bytes)), client=True) == [
        frame for frame in seen if frame.opcode == BINARY
    ]
    assert [item.payload for item in told if isinstance(item, Text)] == whole_texts(seen)
    assert controls(told) == [frame for frame in seen if frame.opcode in {PING, PONG}]
    assert told.count("end") == sum(frame.opcode == BINARY and frame.fin for frame in seen)


@settings(max_examples=100, deadline=None)
@given(messages(), messages(), st.integers(0, 1 << 20))
def test_the_order_is_that_of_the_frames(first: list[bytes], second: list[bytes], cut: int) -> None:
    """Told frame by frame and told in a few reads, it is the same."""
    every = [*first, *second]
    data = b"".join(every)
    assert run(frames(), every) == run(frames(), [data]) == run(frames(), pieces_of(data, [cut % (len(data) + 1)]))


# IANA registered 1014 after RFC 6455, and wsproto doesn't know it.
CODES = st.one_of(st.integers(0, 65_535), st.integers(990, 1020)).filter(lambda code: code != 1014)
HEADS = st.tuples(st.integers(0, 255), st.integers(0, 255))
NO_MASK = bytes(4)


@settings(max_examples=400, deadline=None)
@given(messages(), HEADS, st.binary(max_size=12).map(lambda raw: bytes(byte & 0x7F for byte in raw)))
def test_wsproto_refuses_the_same_heads(before: list[bytes], head: tuple[int, int], after: bytes) -> None:
    """Any two bytes where a frame is to begin; what follows is ASCII, and a mask of zeros leaves it so."""
    data = b"".join(before[:-1]) + bytes(head) + NO_MASK + after + b"a" * 40
    told = run(frames(message=1 << 63, text=1 << 63), [data])
    codes = [event.code for event in told if isinstance(event, Violation)]
    assert codes == refused_by_wsproto(data)


@settings(max_examples=300, deadline=None)
@given(CODES, st.binary(max_size=6))
def test_wsproto_takes_the_same_closes(code: int, reason: bytes) -> None:
    data = sent(CLOSE, code.to_bytes(2, "big") + reason)
    [told] = run(frames(), [data])
    assert [event.code for event in [told] if isinstance(event, Violation)] == refused_by_wsproto(data)
    if isinstance(told, Close):
        [seen] = read_by_wsproto(data, client=False)
        assert (told.code, told.reason.encode()) == (code, reason)
        assert seen.payload == code.to_bytes(2, "big") + reason
