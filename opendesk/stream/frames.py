"""The server's side of RFC 6455 (without extensions), made for passing on: bytes in, events and pieces out, no I/O.

A relay reads into one buffer that all connections share. `Frames.feed` parses what was read where it lies; of binary
messages come out the very bytes for the other side (headers without a mask, unmasked payload), also of frames of which
only a part is there yet. What a parser keeps between two reads is no more than a header, a control frame or a text that
isn't whole yet.
"""

from struct import Struct

from attrs import define, field

from opendesk.stream.events import Burst, Close, Event, Ping, Pong, Swallowed, Text, Violation
from opendesk.stream.outgoing import (
    BINARY,
    CLOSE,
    FIN,
    KEY_BYTES,
    LENGTH_16,
    LENGTH_64,
    MAX_16,
    MAX_CONTROL_BYTES,
    OPCODES,
    PING,
    PONG,
    TEXT,
    apply_mask,
    encode_header,
    is_close_code,
)

PROTOCOL_ERROR, INVALID_DATA, TOO_BIG = 1002, 1007, 1009
# A control frame is passed on whole, so what may be left over of a read is one, but for its last byte (2 + 4 + 125 - 1).
MAX_REST_BYTES = 2 + KEY_BYTES + MAX_CONTROL_BYTES - 1

# What a message under way is, besides TEXT and BINARY: none is, or one that nobody gets.
_IDLE, _SWALLOWED = 0, 3
_MASKED = 0x80  # of the second byte
# By the rest of the second byte; the mask's key is a header's last part.
_HEADER_BYTES = (6,) * LENGTH_16 + (8, 14)
# A whole binary message by its first two bytes, as a client sends it and as a server does, with 16 bits of length; and
# the first of those that have theirs in the second byte.
_CLIENT_BINARY_16, _SERVER_BINARY_16, _CLIENT_BINARY_7 = 0x82FE, 0x827E, 0x8280
_CLIENT_HEAD, _SERVER_HEAD = Struct("!HH4s"), Struct("!HH")
_SERVER_BINARY_7 = tuple(encode_header(BINARY, True, length) for length in range(LENGTH_16))  # noqa: FBT003  # fin


class _Violated(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.violation = Violation(code, reason)


def _first_byte_fault(first: int) -> str | None:
    if first & 0x70:
        return "reserved bits"
    if first & 0x0F not in OPCODES:
        return "reserved opcode"
    if first & CLOSE and not first & FIN:
        return "fragmented control frame"
    return None


_FIRST_BYTE_FAULTS = tuple(map(_first_byte_fault, range(256)))


@define(eq=False, weakref_slot=False)
class Frames:
    """The frames of one client, of which binary messages are passed on (or swallowed) and texts gathered.

    `max_message_bytes` limits the payload of a message over all of its fragments; a text over `max_text_bytes` is swallowed. `swallow` may
    change at any time and holds from the next message on. `seen` counts frames of all kinds.
    """

    max_message_bytes: int = field(kw_only=True)
    max_text_bytes: int = field(kw_only=True)
    swallow: bool = field(kw_only=True, default=False)
    over: bool = field(init=False, default=False)
    seen: int = field(init=False, default=0)
    _rest: bytes = field(init=False, default=b"")
    _kind: int = field(init=False, default=_IDLE)
    _size: int = field(init=False, default=0)
    _text: bytes = field(init=False, default=b"")
    _fin: bool = field(init=False, default=True)
    _left: int = field(init=False, default=0)
    _key: bytes = field(init=False, default=bytes(KEY_BYTES))

    def feed(self, data: memoryview) -> list[Event]:
        """Give what `data` (of bytes; may be overwritten afterwards) holds, in order. A `Close` or a `Violation` is last."""
        if self._kind == BINARY:
            if 0 < len(data) < self._left:
                return [self._middle(data)]
        elif not self._kind and (alone := self._alone(data)) is not None:
            return [alone]
        events: list[Event] = []
        try:
            at = self._complete_rest(data, events) if self._rest else 0
            if at < len(data):
                self._rest = self._scan(data, at, events)
        except _Violated as exc:
            self.over = True
            events.append(exc.violation)
        return events

    def _alone(self, data: memoryview) -> Burst | None:
        """Pass on what is one whole message of 126 bytes or more and nothing else: most reads, where each message wakes the loop."""
        if self._rest or self.swallow or self.over or len(data) < _CLIENT_HEAD.size:
            return None
        first, length, key = _CLIENT_HEAD.unpack_from(data)
        is_whole = first == _CLIENT_BINARY_16 and len(data) == _CLIENT_HEAD.size + length
        if not is_whole or not LENGTH_16 <= length <= self.max_message_bytes:
            return None
        self.seen += 1
        pieces = [_SERVER_HEAD.pack(_SERVER_BINARY_16, length), apply_mask(data[_CLIENT_HEAD.size :], key)]
        return Burst(False, pieces, [2], _SERVER_HEAD.size + length)  # noqa: FBT003  # the fields in order

    def _middle(self, data: memoryview) -> Burst:
        """Pass on what is all payload of one big frame: the shortest way for most reads of a big message."""
        key, size = self._key, len(data)
        self._left -= size
        self._key = _turned(key, size)
        return Burst(True, [apply_mask(data, key)], [], size, self._left)  # noqa: FBT003  # the fields in order

    def _complete_rest(self, data: memoryview, events: list[Event]) -> int:
        """Put together the header (or control frame) that an earlier read broke off; return how much of `data` it took."""
        at = 0
        while self._rest and at < len(data):
            wanted = _wanted_bytes(self._rest) - len(self._rest)
            frame = self._rest + data[at : at + wanted]
            at += min(wanted, len(data) - at)
            self._rest = self._scan(memoryview(frame), 0, events)
        return at

    def _scan(self, data: memoryview, at: int, events: list[Event]) -> bytes:
        """Parse `data` from `at` and return what has to wait for more: nothing any more when it is over."""
        end = len(data)
        if self._left:
            at = self._payload(data, at, events)
        while at < end and not self.over:
            if not self._kind and not self.swallow and end - at >= _CLIENT_HEAD.size:
                at = self._plain_messages(data, at, events)
            if self._left:
                self._payload(data, at, events)
                return b""
            after = self._frame(data, at, events)
            if after is None:
                return data[at:].tobytes()
            at = after
        return b""

    def _plain_messages(self, data: memoryview, at: int, events: list[Event]) -> int:
        """Pass on messages of one frame under 64 KiB, nearly all there are, by the shortest way.

        It stops where that way doesn't fit, and `_frame` looks closer; a violation is never told here.
        """
        end, most = len(data), min(self.max_message_bytes, MAX_16)
        burst = _last_burst(events) or Burst(False, [], [])  # noqa: FBT003  # goes_on
        pieces, ends, start, heads = burst.pieces, burst.ends, at, 0
        add, mark, mask = pieces.append, ends.append, apply_mask
        read, write = _CLIENT_HEAD.unpack_from, _SERVER_HEAD.pack
        while end - at >= _CLIENT_HEAD.size:
            first, length, key = read(data, at)
            if first == _CLIENT_BINARY_16:
                if not LENGTH_16 <= length <= most:
                    break
                body = at + 8
                add(write(_SERVER_BINARY_16, length))
            elif _CLIENT_BINARY_7 < first < _CLIENT_BINARY_16:
                length = first - _CLIENT_BINARY_7
                if length > most:
                    break
                body, key = at + 6, data[at + 2 : at + 6].tobytes()
                add(_SERVER_BINARY_7[length])
            else:
                break
            heads += 1
            at = body + length
            if at > end:
                self._kind, self._size, self._fin, self._left, self._key = BINARY, length, True, length, key
                at = body
                break
            add(mask(data[body:at], key))
            mark(len(pieces))
        if heads:
            self.seen += heads
            burst.size += at - start - KEY_BYTES * heads
            if not events or events[-1] is not burst:
                events.append(burst)
        return at

    def _frame(self, data: memoryview, at: int, events: list[Event]) -> int | None:
        """Take one frame's header and what there is of its payload; return where it ends, or None if more has to come."""
        if len(data) - at < 2:  # noqa: PLR2004  # the two bytes that tell what more there is
            return None
        first, second = data[at], data[at + 1]
        if first != FIN | BINARY or second < _MASKED or self._kind:
            self._check_start(first, second)
        body = at + _HEADER_BYTES[second & 0x7F]
        if body > len(data):
            return None
        length, key = _payload_length(data, at), data[body - KEY_BYTES : body].tobytes()
        if first & CLOSE and body + length > len(data):
            return None
        self.seen += 1
        if not first & CLOSE:
            self._begin_frame(first, length, key, events)
            return self._payload(data, body, events)
        control = _control(first & 0x0F, apply_mask(data[body : body + length], key))
        self.over = isinstance(control, Close)
        events.append(control)
        return body + length

    def _check_start(self, first: int, second: int) -> None:
        fault = _FIRST_BYTE_FAULTS[first]
        opcode = first & 0x0F
        if fault is None:
            if not second & _MASKED:
                fault = "unmasked frame"
            elif opcode & CLOSE:
                fault = "control frame too long" if second & 0x7F > MAX_CONTROL_BYTES else None
            elif not opcode and not self._kind:
                fault = "continuation of nothing"
            elif opcode and self._kind:
                fault = "message inside a message"
        if fault is not None:
            raise _Violated(PROTOCOL_ERROR, fault)

    def _begin_frame(self, first: int, length: int, key: bytes, events: list[Event]) -> None:
        opcode = first & 0x0F
        if opcode:
            self._size = 0
            self._kind = _SWALLOWED if opcode == BINARY and self.swallow else opcode
        self._size += length
        if self._size > self.max_message_bytes:
            raise _Violated(TOO_BIG, "message too big")
        if self._kind == TEXT and self._size > self.max_text_bytes:
            self._kind, self._text = _SWALLOWED, b""
        self._fin, self._left, self._key = bool(first & FIN), length, key
        if self._kind == BINARY:
            self._pass_on(encode_header(opcode, self._fin, length), events, goes_on=not opcode)

    def _payload(self, data: memoryview, at: int, events: list[Event]) -> int:
        """Take what there is of the current frame's payload and return where that ends."""
        size = min(self._left, len(data) - at)
        self._left -= size
        if self._kind != _SWALLOWED:
            payload = apply_mask(data[at : at + size], self._key)
            if self._kind == TEXT:
                self._text += payload
            else:
                self._pass_on(payload, events, goes_on=True)
        if self._left:
            self._key = _turned(self._key, size)
        elif self._fin:
            self._end_message(events)
        return at + size

    def _pass_on(self, piece: bytes, events: list[Event], *, goes_on: bool) -> None:
        burst = _last_burst(events)
        if burst is None:
            burst = Burst(goes_on)
            events.append(burst)
        if piece:
            burst.pieces.append(piece)
            burst.size += len(piece)
        burst.frame_left = self._left

    def _end_message(self, events: list[Event]) -> None:
        kind, self._kind = self._kind, _IDLE
        last = events[-1] if events else None
        if kind == TEXT:
            text, self._text = self._text, b""
            _utf8(text)
            events.append(Text(text))
        elif kind == BINARY:
            assert isinstance(last, Burst)
            last.ends.append(len(last.pieces))
        elif isinstance(last, Swallowed):
            last.messages += 1
            last.payload_bytes += self._size
        else:
            events.append(Swallowed(1, self._size))


def _last_burst(events: list[Event]) -> Burst | None:
    return last if events and isinstance(last := events[-1], Burst) else None


def _turned(key: bytes, size: int) -> bytes:
    """Give the key as it stands after `size` bytes."""
    turn = size % KEY_BYTES
    return key[turn:] + key[:turn] if turn else key


def _wanted_bytes(rest: bytes) -> int:
    """How long the broken-off start of a frame has to become: its header, or the whole frame if it is a control frame."""
    if len(rest) < 2:  # noqa: PLR2004  # the two bytes that tell what more there is
        return 2
    return _HEADER_BYTES[rest[1] & 0x7F] + (rest[1] & 0x7F if rest[0] & CLOSE else 0)


def _payload_length(data: memoryview, at: int) -> int:
    length = data[at + 1] & 0x7F
    if length < LENGTH_16:
        return length
    wide = length == LENGTH_64
    length = int.from_bytes(data[at + 2 : at + (10 if wide else 4)], "big")
    if length <= (MAX_16 if wide else MAX_CONTROL_BYTES):
        raise _Violated(PROTOCOL_ERROR, "length not minimal")
    if length >> 63:
        raise _Violated(PROTOCOL_ERROR, "length over 63 bits")
    return length


def _control(opcode: int, payload: bytes) -> Ping | Pong | Close:
    if opcode == PING:
        return Ping(payload)
    if opcode == PONG:
        return Pong(payload)
    if not payload:
        return Close(None, "")
    code = int.from_bytes(payload[:2], "big")
    if not is_close_code(code):  # neither is one byte alone
        raise _Violated(PROTOCOL_ERROR, "invalid close code")
    return Close(code, _utf8(payload[2:]))


def _utf8(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise _Violated(INVALID_DATA, "invalid UTF-8") from None
