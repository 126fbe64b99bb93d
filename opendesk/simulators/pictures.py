"""What a simulated PC shows: frames that say when they were sent, and that a receiver can check byte for byte. Pure.

A frame is a stamp and a piece of a texture. The frame's number says which piece and how long, so both sides know what must come.
"""

from random import Random
import struct
from typing import Final

from attrs import define, frozen

# Of a frame: a keyframe, as an encoder sends one a second, is larger than what lies between.
KEYFRAME_EVERY: Final = 30
KEYFRAME_BYTES: Final = 16 * 1024
LEAST_BYTES: Final = 8 * 1024

# Those between differ in length, so that no two that follow each other are mistaken for one another.
_STEP_BYTES: Final = 1021
_STEPS: Final = 4

_STAMP: Final = struct.Struct(">4sQQ")
_MAGIC: Final = b"odf1"
_TEXTURE: Final = Random("texture").randbytes(KEYFRAME_BYTES)  # noqa: S311 - a pattern, not a secret


class Spoilt(ValueError):
    """Bytes that are no frame, or not as they were sent."""


@frozen
class Stamp:
    """`number` counts a stream's frames from 0; `sent_ns` is the sender's monotonic clock."""

    number: int
    sent_ns: int


def frame(number: int, sent_ns: int) -> bytes:
    return _STAMP.pack(_MAGIC, number, sent_ns) + _body(number)


def read(data: bytes) -> Stamp:
    """Raise Spoilt."""
    if len(data) < _STAMP.size:
        raise Spoilt(f"{len(data)} bytes are no frame")
    magic, number, sent_ns = _STAMP.unpack_from(data)
    if magic != _MAGIC or data[_STAMP.size :] != _body(number):
        raise Spoilt(f"{len(data)} bytes are not frame {number}")
    return Stamp(number, sent_ns)


def _body(number: int) -> bytes:
    if number % KEYFRAME_EVERY == 0:
        return _TEXTURE
    return _TEXTURE[: LEAST_BYTES + number % _STEPS * _STEP_BYTES]


@define
class InOrder:
    """Counts what came of one stream, and what didn't although later frames did."""

    came: int = 0
    lost: int = 0

    def note(self, number: int) -> None:
        """Raise Spoilt if it is not later than the one before it."""
        missing = number - self.came - self.lost
        if missing < 0:
            raise Spoilt(f"frame {number} came again or too late: {self.came} had come, {self.lost} were lost")
        self.lost += missing
        self.came += 1
