"""However little the socket takes, a client gets whole messages, in order, and no more waits for it than may."""

from collections.abc import Sequence
from itertools import pairwise

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from opendesk.stream.events import Burst
from opendesk.stream.outbox import WIRE_BYTES, Outbox

# Some three messages of one piece, or one in many.
LIMIT = 400
PLENTY = 10**9


def message(number: int, size: int) -> bytes:
    """One that is known again, and says how long it is."""
    return b"<%d:" % number + b"." * size + b">"


def bursts(messages: Sequence[bytes], cuts: Sequence[int], pieces: int) -> list[Burst]:
    """The host's stream, a frame a message, cut anywhere; each part in so many pieces a message."""
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
        left = min(e for e in ends if e >= end) - end
        made.append(Burst(inside, parts, [bounds.index(e) for e in bounds[1:] if e in ends], end - begin, left))
        inside, begin = left > 0, end
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


def fragment(text: bytes, *, first: bool, left: int = 0) -> Burst:
    """A part of a message that goes on."""
    return Burst(goes_on=not first, pieces=[text], size=len(text), frame_left=left)


def last(text: bytes) -> Burst:
    return Burst(goes_on=True, pieces=[text], ends=[1], size=len(text))


def test_between_two_fragments_go_pings_and_no_words() -> None:
    client = Client(Outbox(LIMIT, PLENTY), room=1000)
    client.come(fragment(b"<0:", first=True))
    client.outbox.say(b"<9:>")
    client.outbox.say_control(b"!")
    client.drain()
    assert (bytes(client.got), client.outbox.may_part) == (b"<0:!", True)
    client.come(last(b">"))
    client.drain()
    assert bytes(client.got) == b"<0:!><9:>"


def test_inside_of_a_frame_goes_nothing() -> None:
    client = Client(Outbox(LIMIT, PLENTY), room=1000)
    client.come(fragment(b"<0:", first=True, left=3))
    client.outbox.say_control(b"!")
    client.drain()
    assert (bytes(client.got), client.outbox.may_part) == (b"<0:", False)
    client.come(fragment(b"..", first=False, left=1))
    client.drain()
    assert (bytes(client.got), client.outbox.may_part) == (b"<0:..", False)
    client.come(fragment(b".", first=False))
    client.drain()
    assert (bytes(client.got), client.outbox.may_part) == (b"<0:...!", True)


def test_who_is_parted_from_gets_the_rest_of_the_frame_and_no_more() -> None:
    client = Client(Outbox(LIMIT, PLENTY), room=4)
    client.come(fragment(b"<0:..", first=True, left=2))
    client.come(Burst(goes_on=True, pieces=[b".", b">", b"<1:>"], ends=[2, 3], size=6))
    client.outbox.say(b"<9:>")
    client.outbox.wind_up()
    client.room = 1000
    client.drain()
    assert (bytes(client.got), client.outbox.may_part) == (b"<0:...>", True)


def test_a_host_that_leaves_between_fragments_leaves_a_client_that_can_be_told_why() -> None:
    """If it is to be told so anyway; else it would wait for a rest that never comes."""
    for left, winds_up, is_lost in ((0, False, True), (0, True, False), (1, False, True), (1, True, True)):
        client = Client(Outbox(LIMIT, PLENTY), room=1000)
        client.come(fragment(b"<0:", first=True, left=left))
        if winds_up:
            client.outbox.wind_up()
        assert client.outbox.host_left() == is_lost


def test_a_host_that_leaves_takes_back_what_is_not_on_the_wire() -> None:
    client = Client(Outbox(LIMIT, PLENTY), room=2)
    client.come(Burst(goes_on=False, pieces=[b"<0:>"], ends=[1], size=4))
    client.come(fragment(b"<1:", first=True, left=2))
    assert not client.outbox.host_left()
    client.come(Burst(goes_on=False, pieces=[b"<2:>"], ends=[1], size=4))
    client.room = 1000
    client.drain()
    assert bytes(client.got) == b"<0:><2:>"


def test_the_queue_goes_out_many_messages_at_a_time() -> None:
    outbox = Outbox(PLENTY, PLENTY)
    outbox.passed(Burst(goes_on=False, pieces=[b"<0:>"], ends=[1], size=4), 1)
    for n in range(1, 1000):
        outbox.put(Burst(goes_on=False, pieces=[message(n, 1200)], ends=[1], size=len(message(n, 1200))))
    outbox.sent(3)
    loads = list[int]()
    while waiting := outbox.next():
        loads.append(sum(map(len, waiting)))
        outbox.sent(loads[-1])
    assert WIRE_BYTES * 0.9 < min(loads[:-1]) <= max(loads) < WIRE_BYTES + 1300


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
