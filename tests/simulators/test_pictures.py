"""A frame says when it was sent, and that nothing of it changed on the way."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.simulators import pictures
from opendesk.simulators.pictures import (
    KEYFRAME_BYTES,
    KEYFRAME_EVERY,
    LEAST_BYTES,
    InOrder,
    Spoilt,
    Stamp,
    frame,
    read,
)

NUMBERS = st.integers(0, 2**64 - 1)


@given(NUMBERS, NUMBERS)
def test_a_frame_is_read_as_it_was_made(number: int, sent_ns: int) -> None:
    assert read(frame(number, sent_ns)) == Stamp(number, sent_ns)


def test_frames_have_the_sizes_of_a_modest_picture() -> None:
    sizes = [len(frame(number, 0)) - pictures._STAMP.size for number in range(4 * KEYFRAME_EVERY)]
    assert min(sizes) >= LEAST_BYTES
    assert [number for number, size in enumerate(sizes) if size == KEYFRAME_BYTES] == [0, 30, 60, 90]


@given(st.integers(0, 100), st.data())
def test_a_byte_that_changed_in_a_picture_is_seen(number: int, data: st.DataObject) -> None:
    spoilt = bytearray(frame(number, 7))
    at = data.draw(st.integers(pictures._STAMP.size, len(spoilt) - 1))
    spoilt[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Spoilt):
        read(bytes(spoilt))


@pytest.mark.parametrize(
    "data",
    [b"", b"odf1", frame(3, 7)[:-1], frame(3, 7) + b"x", frame(3, 7) + frame(4, 8), b"no frame".ljust(9000)],
    ids=["nothing", "short", "cut", "longer", "two", "another thing"],
)
def test_what_is_no_frame_is_spoilt(data: bytes) -> None:
    with pytest.raises(Spoilt):
        read(data)


@given(st.sets(st.integers(0, 200)))
def test_what_did_not_come_before_one_that_did_is_lost(numbers: set[int]) -> None:
    order = InOrder()
    for number in sorted(numbers):
        order.note(number)
    assert (order.came, order.lost) == (len(numbers), max(numbers, default=-1) + 1 - len(numbers))


@pytest.mark.parametrize("late", [0, 2, 4])
def test_a_frame_that_comes_twice_or_too_late_is_spoilt(late: int) -> None:
    order = InOrder()
    order.note(1)
    order.note(4)
    with pytest.raises(Spoilt):
        order.note(late)
