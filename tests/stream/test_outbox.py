"""However little the socket takes, a client gets whole messages, in order, and no more waits for it than may."""

from collections.abc import Sequence
from itertools import pairwise

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from opendesk.stream.frames import Burst
from opendesk.stream.outbox import Outbox

# Some three messages of one piece, or one in many.
LIMIT = 400
PLENTY = 10**9


def message(number: int, size: int) -> bytes:
    """One that is known again, and says how long it is."""
    return b"<%d:" % number + b"." * size + b">"


def bursts(messages: Sequence[bytes], cuts: Sequence[int], pieces: int) -> list[Burst]:
    """The host's stream cut anywhere; each part in so many pieces a message."""
    stream, ends = b"".join(messages), set()
    at = 0
    for each in messages:
        at += len(each)
        ends.add(at)
    made, inside, begin = list[Burst](), False, 0
    for end in [*sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]:
        if end == begin:
            continue
        bounds = sorted(
            {begin, end, *(e for e in ends if begin < e < end), *range(begin, end, max(1, (end - begin) // pieces))}
        )
        parts = [stream[a:b] for a, b in pairwise(bounds)]
        made.append(Burst(inside, parts, [bounds.index(e) for e in bounds[1:] if e in ends], end - begin))
        inside, begin = end not in ends, end
    return made


@define
class Client:
    """Takes as many bytes at a time as the test allows."""

    outbox: Outbox
    room: int = 0
    got: bytearray = field(factory=bytearray)

    def take(self, pieces: Sequence[bytes | memoryview]) -> int:
        data = b"".join(pieces)[: self.room]
        self.got += data
        self.room -= len(data)
        return len(data)

    def come(self, burst: Burst) -> None:
        if self.outbox.is_idle:
            self.outbox.passed(burst, self.take(burst.pieces))
        else:
            self.outbox.put(burst)

    def drain(self) -> None:
        while self.room and (waiting := self.outbox.next()):
            self.outbox.sent(self.take(list(waiting)))


def parsed(data: bytes) -> list[bytes]:
    """The messages; AssertionError if something is inside of another, or cut short."""
    found, at = [], 0
    while at < len(data):
        assert data[at : at + 1] == b"<"
        end = data.index(b">", at) + 1
        assert b"<" not in data[at + 1 : end]
        found.append(data[at:end])
        at = end
    return found


def numbers(messages: Sequence[bytes]) -> list[int]:
    return [int(each[1:].partition(b":")[0]) for each in messages]


@settings(max_examples=400)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 10_000), max_size=20),
    pieces=st.integers(1, 6),
    rooms=st.lists(st.integers(0, 90), min_size=1, max_size=30),
    words=st.lists(st.booleans(), min_size=1, max_size=30),
)
def test_a_client_gets_whole_messages_in_order_whatever_its_socket_takes(
    sizes: list[int], cuts: list[int], pieces: int, rooms: list[int], words: list[bool]
) -> None:
    sent = [message(number, size) for number, size in enumerate(sizes)]
    client, said = Client(Outbox(LIMIT, PLENTY)), 0
    for n, burst in enumerate(bursts(sent, cuts, pieces)):
        client.room += rooms[n % len(rooms)]
        client.drain()
        client.come(burst)
        if words[n % len(words)]:
            client.outbox.say(message(1000 + said, 3))
            said += 1
        assert client.outbox.queued_bytes <= LIMIT
    client.room = 10**9
    client.drain()
    assert client.outbox.is_idle
    assert client.outbox.may_part
    got = parsed(bytes(client.got))
    pictures = [each for each in got if numbers([each])[0] < 1000]
    assert numbers(pictures) == sorted(set(numbers(pictures)))
    assert all(each == sent[numbers([each])[0]] for each in pictures)
    assert [n for n in numbers(got) if n >= 1000] == [1000 + n for n in range(said)]
    assert len(pictures) + client.outbox.shed_messages == len(sent)


def test_one_that_keeps_up_is_sent_what_came_as_it_came() -> None:
    sent = [message(n, 10) for n in range(5)]
    client = Client(Outbox(LIMIT, PLENTY), room=10**9)
    for burst in bursts(sent, [3, 17, 18], 3):
        assert client.outbox.is_idle
        client.come(burst)
    assert bytes(client.got) == b"".join(sent)
    assert (client.outbox.shed_messages, client.outbox.queued_bytes) == (0, 0)


def test_words_of_ours_overtake_queued_pictures() -> None:
    client = Client(Outbox(LIMIT, PLENTY), room=5)
    for number in range(3):
        client.come(bursts([message(number, 10)], [], 1)[0])
    client.outbox.say(b"<9:>")
    client.room = 1000
    client.drain()
    assert numbers(parsed(bytes(client.got))) == [0, 9, 1, 2]


def test_what_is_on_the_wire_is_never_shed() -> None:
    client = Client(Outbox(LIMIT, PLENTY), room=5)
    for number in range(9):
        client.come(bursts([message(number, 30)], [], 2)[0])
    client.room = 1000
    client.drain()
    assert numbers(parsed(bytes(client.got))) == [0, 7, 8]
    assert client.outbox.shed_messages == 6


def test_who_joins_in_the_midst_of_a_message_gets_the_next() -> None:
    first, second = bursts([message(0, 20), message(1, 5)], [10], 2)
    client = Client(Outbox(LIMIT, PLENTY, skips=True), room=1000)
    client.come(second)
    client.drain()
    assert not first.finished
    assert numbers(parsed(bytes(client.got))) == [1]


def test_nobody_parts_in_the_midst_of_a_message() -> None:
    client, may_part = Client(Outbox(LIMIT, PLENTY), room=1000), list[bool]()
    for burst in bursts([message(0, 20)], [10], 2):
        client.come(burst)
        client.outbox.say(b"<9:>")
        client.drain()
        may_part.append(client.outbox.may_part)
    assert may_part == [False, True]
    assert numbers(parsed(bytes(client.got))) == [0, 9, 9]


def test_a_message_that_goes_on_for_ever_is_given_up() -> None:
    """It can't be shed, being on the wire already, and its fragments may be empty."""
    outbox = Outbox(LIMIT, 1000)
    outbox.passed(Burst(goes_on=False, pieces=[b"\x02\x01", b"x"], size=3), 1)
    grown = 0
    while not outbox.is_hopeless:
        outbox.put(Burst(goes_on=True, pieces=[b"\x00\x00"], size=2))
        grown += 1
        assert grown < 100
    outbox.sent(sum(map(len, outbox.next())))
    assert not outbox.is_hopeless
