"""What the server itself says in RFC 6455: frames without a mask, the answer to a handshake; and the mask of the others."""

import base64
from hashlib import sha1
from struct import Struct
from typing import Final

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OPCODES: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
FIN: Final = 0x80
# Of a control frame's payload (RFC 6455, 5.5); a close frame's code takes two of it.
MAX_CONTROL_BYTES = 125
MAX_REASON_BYTES = MAX_CONTROL_BYTES - 2
KEY_BYTES = 4
# Of the second byte: the length itself up to 125, else how many bytes of length follow.
LENGTH_16, LENGTH_64 = 126, 127
MAX_16 = 0xFFFF

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_HEADER_16, _HEADER_64 = Struct("!BBH"), Struct("!BBQ")


def mask_in_python(data: bytes | bytearray | memoryview, mask: bytes | bytearray) -> bytes:
    """XOR of `data` and `mask` over and over: what `websockets.speedups.apply_mask` does, some ten times slower."""
    size = len(data)
    stream = (mask * (size // KEY_BYTES + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")).to_bytes(size, "little")


try:
    from websockets.speedups import apply_mask as apply_mask  # noqa: PLC0414  # tells mypy that others may take it from here
except ImportError:  # a platform that websockets has no wheel and no compiler for
    apply_mask = mask_in_python


def is_close_code(code: int) -> bool:
    """Whether a close frame may hold `code`: RFC 6455, 7.4 with IANA's registrations up to 1014; 3000–4999 are free."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999  # noqa: PLR2004  # the registry's ranges


def encode_header(opcode: int, fin: bool, length: int) -> bytes:  # noqa: FBT001  # the three fields, in their order
    """Make a server's frame header: 2 to 10 bytes, without a mask."""
    first = opcode | FIN if fin else opcode
    if length < LENGTH_16:
        return bytes((first, length))
    if length <= MAX_16:
        return _HEADER_16.pack(first, LENGTH_16, length)
    return _HEADER_64.pack(first, LENGTH_64, length)


def text_frame(payload: bytes) -> bytes:
    """Make a whole text message of valid UTF-8."""
    return encode_header(TEXT, True, len(payload)) + payload  # noqa: FBT003  # fin


def ping_frame(payload: bytes = b"") -> bytes:
    """Raise ValueError for a payload over 125 bytes."""
    return _control_frame(PING, payload)


def pong_frame(payload: bytes) -> bytes:
    """Raise ValueError for a payload over 125 bytes."""
    return _control_frame(PONG, payload)


def close_frame(code: int | None, reason: str = "") -> bytes:
    """None makes a frame without a code, as it answers one. Raise ValueError for a reason over 123 bytes of UTF-8."""
    if code is None:
        return _control_frame(CLOSE, b"")
    if not is_close_code(code):
        raise ValueError(f"{code} is no close code")
    return _control_frame(CLOSE, code.to_bytes(2, "big") + reason.encode())


def _control_frame(opcode: int, payload: bytes) -> bytes:
    if len(payload) > MAX_CONTROL_BYTES:
        raise ValueError(f"a control frame holds {MAX_CONTROL_BYTES} bytes, not {len(payload)}")
    return bytes((FIN | opcode, len(payload))) + payload


def accept_key(sec_websocket_key: str) -> str:
    """Answer a handshake's `Sec-WebSocket-Key` (RFC 6455, 4.2.2)."""
    digest = sha1(sec_websocket_key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()
