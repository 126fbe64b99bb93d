"""A batch of events, taken apart into its members. What they are is seen when each is read, so that a bad one spoils no other."""

import json
import re
from typing import Final

import msgspec
import trio

from opendesk.network.events.types import MOST_MEMBER

# An event has a comma or a bracket in 14 bytes at least, so that nothing that is dearer to read than events is read. Short
# arrays may have more.
BYTES_A_MARK: Final = 10
MARKS_BESIDES: Final = 10_000
# 250,000 events have some three million of them.
MOST_MARKS: Final = 4_000_000
_MARKS: Final = (b",", b"[", b"{")

# So much is taken apart in some 50 ms, whatever it is; more is, in a thread.
IN_LOOP: Final = 256 * 2**10
# One call, during which no other thread does anything: up to here it takes 100 ms at most.
AT_ONCE: Final = 8 * 2**20
_BATCH: Final = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBER: Final = msgspec.json.Decoder(msgspec.Raw)

# No match is long, since nobody else does anything meanwhile: what is between two marks comes in pieces. A string that isn't closed goes on to
# the end, and of one that is too long only the quotation mark is found.
_TOKEN: Final = re.compile(
    rb'[^"\[\]{},]{0,65536}+("(?:[^"\\]|\\.){0,%d}+(?:"|\\?\Z)|["\[\]{},]|)' % MOST_MEMBER, re.DOTALL
)
_STEP: Final = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_BLANKS: Final = b" \t\r\n"


class NotABatch(ValueError):
    """It isn't a JSON array."""


async def split_apart(body: bytes) -> list[bytes]:
    """`split`, during which the loop turns."""
    return split(body) if len(body) <= IN_LOOP else await trio.to_thread.run_sync(split, body)


def split(body: bytes) -> list[bytes]:
    """The members of a batch, each as it came. Raise NotABatch."""
    if sum(map(body.count, _MARKS)) > min(MARKS_BESIDES + len(body) // BYTES_A_MARK, MOST_MARKS):
        raise NotABatch("it has more commas and brackets than any events")
    if len(body) <= AT_ONCE:
        try:
            return [bytes(member) for member in _BATCH.decode(body)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # what one of its members has may be the reason
    members = _cut(body)
    if not all(map(_is_json, members)):
        raise NotABatch("it is not JSON")
    return members


def _cut(body: bytes) -> list[bytes]:
    """By its brackets, strings and commas only."""
    first = len(body) - len(body.lstrip(_BLANKS)) + 1
    if not body[:first].endswith(b"["):
        raise NotABatch("it is no array")
    depth, start, members = 1, first, list[bytes]()
    for token in _TOKEN.finditer(body, first):
        mark = token[1]
        depth += _STEP.get(mark, 0)
        if mark == b'"':
            raise NotABatch("it has a string that is too long")
        if (depth == 1 and mark == b",") or (depth == 0 and mark == b"]"):
            members.append(body[start : token.start(1)])
            start = token.end()
        if depth <= 0 and mark and (mark != b"]" or body[start:].strip(_BLANKS)):
            raise NotABatch("its brackets don't pair")
    if depth != 0:
        raise NotABatch("its brackets don't pair")
    return members if len(members) > 1 or members[0].strip(_BLANKS) else []


def _is_json(member: bytes) -> bool:
    """Also where it is nested deeper than anybody reads, has half characters in it, or is so long that nobody looks at it."""
    if len(member) > MOST_MEMBER:
        return True
    try:
        _MEMBER.decode(member)
    except RecursionError:
        return True
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _is_json_of_a_kind(member)
    return True


def _is_json_of_a_kind(member: bytes) -> bool:
    try:
        json.loads(member.decode(errors="replace"), parse_int=float)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True
