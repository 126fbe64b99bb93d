"""What the parser tells of frames that are as they should be, wherever reads cut them."""

from itertools import combinations
import sys

import pytest

from opendesk.stream.events import Burst, Close, Ping, Pong, Swallowed, Text
from opendesk.stream.frames import MAX_REST_BYTES, Frames
from tests.stream.framing import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Told,
    feed,
    frames,
    passed_on,
    pieces_of,
    run,
    sent,
)

BIG = bytes(range(256)) * 300
SEQUENCES: dict[str, tuple[bytes, list[Told]]] = {
    "small binary": (sent(BINARY, b"abc"), [passed_on(BINARY, b"abc"), "end"]),
    "two messages": (
        sent(BINARY, b"abc") + sent(BINARY, BIG[:200], mask=b"\x00\xff\x01\xfe"),
        [passed_on(BINARY, b"abc"), "end", passed_on(BINARY, BIG[:200]), "end"],
    ),
    "empty binary": (
        sent(BINARY) + sent(BINARY, b"a") + sent(BINARY),
        [passed_on(BINARY), "end", passed_on(BINARY, b"a"), "end", passed_on(BINARY), "end"],
    ),
    "fragments, the last empty": (
        sent(BINARY, b"ab", fin=False) + sent(CONTINUATION, b"cde", fin=False) + sent(CONTINUATION),
        [
            passed_on(BINARY, b"ab", fin=False) + passed_on(CONTINUATION, b"cde", fin=False) + passed_on(CONTINUATION),
            "end",
        ],
    ),
    "fragments, the first empty": (
        sent(BINARY, fin=False) + sent(CONTINUATION, BIG[:130]) + sent(BINARY, b"x"),
        [passed_on(BINARY, fin=False) + passed_on(CONTINUATION, BIG[:130]), "end", passed_on(BINARY, b"x"), "end"],
    ),
    "control frames between fragments": (
        sent(BINARY, b"ab", fin=False)
        + sent(PING, b"hi")
        + sent(CONTINUATION, b"cd", fin=False)
        + sent(PONG)
        + sent(CONTINUATION, b"e"),
        [
            passed_on(BINARY, b"ab", fin=False),
            Ping(b"hi"),
            passed_on(CONTINUATION, b"cd", fin=False),
            Pong(b""),
            passed_on(CONTINUATION, b"e"),
            "end",
        ],
    ),
    "texts": (
        sent(TEXT, b"hello") + sent(TEXT) + sent(TEXT, b"a" * 130),
        [Text(b"hello"), Text(b""), Text(b"a" * 130)],
    ),
    "a text cut inside a character, with a ping between": (
        sent(TEXT, "ä€".encode()[:3], fin=False) + sent(PING) + sent(CONTINUATION, "ä€".encode()[3:]),
        [Ping(b""), Text("ä€".encode())],
    ),
    "the longest control frames": (
        sent(PING, b"p" * 125) + sent(PONG, b"q" * 125) + sent(CLOSE, b"\x03\xe8" + b"r" * 123),
        [Ping(b"p" * 125), Pong(b"q" * 125), Close(1000, "r" * 123)],
    ),
    "nothing after a close": (
        sent(BINARY, b"a") + sent(CLOSE) + sent(BINARY, b"b") + b"\xff\xff",
        [passed_on(BINARY, b"a"), "end", Close(None, "")],
    ),
    "all kinds": (
        sent(TEXT, b"t")
        + sent(BINARY, b"b")
        + sent(PING)
        + sent(BINARY, BIG[:126])
        + sent(TEXT, b"u")
        + sent(BINARY, BIG[:127]),
        [
            Text(b"t"),
            passed_on(BINARY, b"b"),
            "end",
            Ping(b""),
            passed_on(BINARY, BIG[:126]),
            "end",
            Text(b"u"),
            passed_on(BINARY, BIG[:127]),
            "end",
        ],
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_every_cut_tells_the_same(name: str) -> None:
    data, told = SEQUENCES[name]
    assert run(frames(), [data]) == told
    assert run(frames(), [data[at : at + 1] for at in range(len(data))]) == told
    for cut in range(len(data) + 1):
        assert run(frames(), pieces_of(data, [cut])) == told


@pytest.mark.parametrize("name", [name for name, (data, _) in SEQUENCES.items() if len(data) < 60])
def test_every_two_cuts_tell_the_same(name: str) -> None:
    data, told = SEQUENCES[name]
    for cuts in combinations(range(len(data) + 1), 2):
        assert run(frames(), pieces_of(data, cuts)) == told


@pytest.mark.parametrize("size", [0, 1, 124, 125, 126, 127, 65_534, 65_535, 65_536, 65_537])
@pytest.mark.parametrize("before", [b"", sent(BINARY, b"before")])
def test_lengths_around_the_headers_sizes(size: int, before: bytes) -> None:
    data = before + sent(BINARY, BIG[:size]) + sent(BINARY, b"after")
    told = [passed_on(BINARY, BIG[:size]), "end", passed_on(BINARY, b"after"), "end"]
    told[:0] = [passed_on(BINARY, b"before"), "end"] if before else []
    around = {*range(40), *range(size, size + 40), len(data) - 1}
    for cut in (cut for cut in around if cut <= len(data)):
        assert run(frames(), pieces_of(data, [cut])) == told


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7])
def test_the_mask_goes_on_where_a_read_cut_it(step: int) -> None:
    data = sent(BINARY, BIG[:999]) + sent(TEXT, b"0123456789" * 9)
    told = run(frames(), [data[at : at + step] for at in range(0, len(data), step)])
    assert told == [passed_on(BINARY, BIG[:999]), "end", Text(b"0123456789" * 9)]


def test_a_whole_message_is_one_header_and_one_payload() -> None:
    events = feed(frames(), sent(BINARY, BIG[:1200]) * 50)
    assert events == [
        Burst(
            goes_on=False,
            pieces=[passed_on(BINARY, BIG[:1200])[:4], BIG[:1200]] * 50,
            ends=[*range(2, 101, 2)],
            size=50 * 1204,
        )
    ]


def test_a_burst_tells_how_its_end_stands() -> None:
    parser = frames()
    data = sent(BINARY, BIG[:100], fin=False)
    stands = [feed(parser, data[:6]), feed(parser, data[6:70]), feed(parser, data[70:] + sent(PING))]
    stands += [feed(parser, sent(CONTINUATION, BIG[:200])[:28]), feed(parser, sent(CONTINUATION, BIG[:200])[28:])]
    bursts = [events[0] for events in stands if isinstance(events[0], Burst)]
    assert [burst.frame_left for burst in bursts] == [100, 36, 0, 180, 0]
    assert [burst.goes_on for burst in bursts] == [False, True, True, True, True]
    assert [burst.finished for burst in bursts] == [False, False, False, False, True]


def test_frame_left_is_what_the_last_frame_wants() -> None:
    frame = passed_on(BINARY, BIG[:700], fin=False)
    data = sent(BINARY, BIG[:700], fin=False) + sent(CONTINUATION, BIG[:300])
    for cut in range(8, len(data)):
        [burst] = feed(frames(), data[:cut])
        assert isinstance(burst, Burst)
        whole = len(frame) if burst.size <= len(frame) else len(frame) + len(passed_on(CONTINUATION, BIG[:300]))
        assert burst.frame_left == whole - burst.size


def test_frames_of_all_kinds_are_counted_once_at_every_cut() -> None:
    data = b"".join(
        [
            sent(BINARY, BIG[:300]),
            sent(BINARY),
            sent(PING, b"p"),
            sent(TEXT, b"a", fin=False),
            sent(CONTINUATION, fin=False),
            sent(CONTINUATION, b"b"),
            sent(PONG),
            sent(TEXT, bytes(3000)),
            sent(BINARY, BIG[:70_000]),
        ]
    )
    for cut in [*range(700), 3000, len(data) - 1]:
        parser = frames()
        for piece in pieces_of(data, [cut]):
            feed(parser, piece)
        assert parser.seen == 9


def test_a_read_of_nothing_tells_nothing() -> None:
    for data in (b"", sent(BINARY, b"ab")[:1], sent(BINARY, b"ab")[:-1], sent(TEXT, b"ab")[:-1]):
        parser = frames()
        feed(parser, data)
        assert feed(parser, b"") == []


def test_swallowed_messages_are_counted_and_not_given() -> None:
    data = (
        sent(BINARY, b"abc")
        + sent(TEXT, b"t")
        + sent(BINARY, BIG[:300], fin=False)
        + sent(PING)
        + sent(CONTINUATION, b"de")
    )
    data += sent(BINARY) + sent(BINARY, b"fgh")
    told = [Swallowed(1, 3), Text(b"t"), Ping(b""), Swallowed(3, 305)]
    assert run(frames(swallow=True), [data]) == told
    for cut in range(len(data)):
        assert run(frames(swallow=True), pieces_of(data, [cut])) == told


def test_swallowing_changes_between_messages_only() -> None:
    parser = frames()
    assert run(parser, [sent(BINARY, b"a", fin=False)]) == [passed_on(BINARY, b"a", fin=False)]
    parser.swallow = True
    [burst] = feed(parser, sent(CONTINUATION, b"b"))
    assert isinstance(burst, Burst)
    assert burst.pieces == [passed_on(CONTINUATION)[:1] + b"\x01", b"b"]
    assert feed(parser, sent(BINARY, b"c", fin=False)) == []
    parser.swallow = False
    assert run(parser, [sent(CONTINUATION, b"d"), sent(BINARY, b"e")]) == [
        Swallowed(1, 2),
        passed_on(BINARY, b"e"),
        "end",
    ]


def kept(parser: Frames) -> int:
    return len(parser._rest) + len(parser._text)


def test_no_more_is_kept_than_a_control_frame() -> None:
    data = sent(PING, b"p" * 125) + sent(BINARY, BIG[:70_000]) + sent(PONG, b"p" * 125)
    most = []
    for step in (1, 130, 131, 65_536):
        parser = frames()
        for at in range(0, len(data), step):
            feed(parser, data[at : at + step]) if step > 1 else parser.feed(memoryview(data)[at : at + step])
            most.append(kept(parser))
        assert kept(parser) == 0
    assert max(most) == MAX_REST_BYTES


def test_an_idle_parser_is_small() -> None:
    parser = frames()
    feed(parser, sent(BINARY, BIG[:70_000]) + sent(TEXT, b"t"))
    assert kept(parser) == 0
    assert not hasattr(parser, "__dict__")
    assert sys.getsizeof(parser) < 200
