"""What no client may send: what came before it still comes out, then the close code, then nothing."""

import pytest

from opendesk.stream.events import Close, Event, Ping, Swallowed, Text, Violation
from tests.stream.framing import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    MASK,
    PING,
    PONG,
    TEXT,
    feed,
    frames,
    passed_on,
    pieces_of,
    run,
    sent,
)

RESERVED = (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
BAD_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
GOOD_CODES = (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999)
BAD_UTF8 = (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"a\x80", b"\xe2\x82")


def close(code: int, reason: bytes = b"") -> bytes:
    return sent(CLOSE, code.to_bytes(2, "big") + reason)


BAD: dict[str, tuple[bytes, int]] = {
    **{
        f"RSV {bits:#x} on {op}": (sent(op | bits, b"x"), 1002)
        for bits in range(0x10, 0x80, 0x10)
        for op in (TEXT, BINARY, PING)
    },
    **{f"opcode {op}": (sent(op, b"x"), 1002) for op in RESERVED},
    **{f"opcode {op}, empty": (sent(op), 1002) for op in RESERVED},
    **{f"unmasked {op}": (passed_on(op, b"x"), 1002) for op in (TEXT, BINARY, PING, PONG, CLOSE)},
    **{f"fragmented {op}": (sent(op, b"x", fin=False), 1002) for op in (PING, PONG, CLOSE)},
    **{f"control {op} of {n}": (sent(op, b"x" * n), 1002) for op in (PING, PONG, CLOSE) for n in (126, 200)},
    "control of 64 bits": (bytes((FIN | PING, 0xFF)) + bytes(8) + MASK, 1002),
    "continuation of nothing": (sent(CONTINUATION, b"x"), 1002),
    "unfinished continuation of nothing": (sent(CONTINUATION, b"x", fin=False), 1002),
    **{
        f"16 bits for {n}": (bytes((FIN | BINARY, 0xFE)) + n.to_bytes(2, "big") + MASK + bytes(n), 1002)
        for n in (0, 125)
    },
    **{
        f"64 bits for {n}": (bytes((FIN | BINARY, 0xFF)) + n.to_bytes(8, "big") + MASK + bytes(9), 1002)
        for n in (0, 125, 126, 65_535, 1 << 63, (1 << 64) - 1)
    },
    "16 bits for a short text": (bytes((FIN | TEXT, 0xFE, 0, 5)) + MASK + bytes(5), 1002),
    "close of one byte": (sent(CLOSE, b"\x03"), 1002),
    **{f"close {code}": (close(code, b"why"), 1002) for code in BAD_CODES},
    **{f"close for {reason!r}": (close(1000, reason), 1007) for reason in BAD_UTF8},
    **{f"text {text!r}": (sent(TEXT, text), 1007) for text in BAD_UTF8},
    **{
        f"text {text!r} in fragments": (sent(TEXT, text[:1], fin=False) + sent(CONTINUATION, text[1:]), 1007)
        for text in BAD_UTF8
    },
    "text too big": (sent(TEXT, b"x" * 151), 1009),
    "fragments of a text too big": (sent(TEXT, b"x" * 20, fin=False) + sent(CONTINUATION, b"x" * 131), 1009),
    "binary too big": (sent(BINARY, b"x" * 151), 1009),
    "huge": (bytes((FIN | BINARY, 0xFF)) + ((1 << 63) - 1).to_bytes(8, "big") + MASK, 1009),
}
BEFORE = sent(BINARY, b"good") + sent(TEXT, b"fine") + sent(PING)
TOLD_BEFORE = [passed_on(BINARY, b"good"), "end", Text(b"fine"), Ping(b"")]


@pytest.mark.parametrize("name", BAD)
def test_a_violation_is_told_after_what_was_good_at_every_cut(name: str) -> None:
    bad, code = BAD[name]
    data = BEFORE + bad + sent(BINARY, b"never told")
    for cut in range(len(data) + 1):
        parser = frames(message=150, text=40)
        *before, last = run(parser, pieces_of(data, [cut]))
        assert before == TOLD_BEFORE
        assert isinstance(last, Violation)
        assert last.code == code
        assert parser.over
    assert run(frames(message=150, text=40), [data[at : at + 1] for at in range(len(data))]) == [*before, last]


@pytest.mark.parametrize("inner", [sent(BINARY, b"b"), sent(TEXT, b"t"), sent(BINARY, b"b", fin=False)])
@pytest.mark.parametrize("outer", [BINARY, TEXT])
@pytest.mark.parametrize("swallow", [False, True])
def test_no_message_begins_inside_a_message(outer: int, inner: bytes, *, swallow: bool) -> None:
    data = sent(outer, b"a", fin=False) + sent(PING) + inner
    for cut in range(len(data) + 1):
        told = run(frames(swallow=swallow), pieces_of(data, [cut]))
        assert told[-2:] == [Ping(b""), Violation(1002, "message inside a message")]
        assert told[:-2] == ([passed_on(BINARY, b"a", fin=False)] if outer == BINARY and not swallow else [])


@pytest.mark.parametrize("swallow", [False, True])
def test_swallowed_frames_are_checked_as_others(*, swallow: bool) -> None:
    for name, (bad, code) in BAD.items():
        last = run(frames(message=150, text=40, swallow=swallow), [bad])[-1]
        assert isinstance(last, Violation), name
        assert last.code == code, name


@pytest.mark.parametrize("code", GOOD_CODES)
def test_close_codes_that_may_be_sent(code: int) -> None:
    data = close(code, "weil es ß ist".encode())
    for cut in range(len(data)):
        assert run(frames(), pieces_of(data, [cut])) == [Close(code, "weil es ß ist")]


LIMIT = 70_000


def header(opcode: int, length: int, *, fin: bool = True) -> bytes:
    """A frame of which no payload has come yet."""
    return sent(opcode, bytes(length), fin=fin)[: -length or None]


@pytest.mark.parametrize("limit", [0, 1, 125, 126, 65_535, 65_536, LIMIT])
@pytest.mark.parametrize("swallow", [False, True])
def test_a_message_may_have_its_limit_and_no_byte_more(limit: int, *, swallow: bool) -> None:
    whole = feed(frames(message=limit, swallow=swallow), sent(BINARY, bytes(limit)))
    assert not isinstance(whole[-1], Violation)
    over: list[Event] = feed(frames(message=limit, swallow=swallow), header(BINARY, limit + 1))
    assert over == [Violation(1009, "message too big")]
    assert feed(frames(message=limit, swallow=swallow), sent(BINARY, bytes(limit + 1))) == over


def test_fragments_count_together_and_each_message_anew() -> None:
    parser = frames(message=10)
    for _ in range(3):
        told = run(parser, [sent(BINARY, b"12345", fin=False) + sent(CONTINUATION, b"67890")])
        assert told[1:] == ["end"]
    assert run(parser, [sent(BINARY, b"12345", fin=False) + header(CONTINUATION, 6)])[1:] == [
        Violation(1009, "message too big")
    ]


@pytest.mark.parametrize("limit", [1024, 2048])
def test_a_text_may_have_its_limit_and_is_told_of_only_as_swallowed_beyond(limit: int) -> None:
    half, rest = sent(TEXT, b"x" * (limit // 2), fin=False), limit // 2
    for whole in (sent(TEXT, b"x" * limit), half + sent(CONTINUATION, b"x" * rest)):
        assert feed(frames(text=limit), whole) == [Text(b"x" * limit)]
    for over in (sent(TEXT, b"x" * (limit + 1)), half + sent(CONTINUATION, b"x" * (rest + 1))):
        for cut in range(len(over)):
            parser = frames(text=limit)
            assert run(parser, pieces_of(over + sent(TEXT, b"next"), [cut])) == [Swallowed(1, limit + 1), Text(b"next")]


def test_nothing_is_told_when_it_is_over() -> None:
    for last in (sent(CLOSE), sent(BINARY | 0x40)):
        for cut in range(len(last)):
            parser = frames()
            feed(parser, sent(TEXT, b"unfinished", fin=False) + last[:cut])
            feed(parser, last[cut:])
            assert parser.over
            assert feed(parser, sent(BINARY, b"more") + b"\x82") == []
            assert feed(parser, b"\x82") == []
