"""Control messages: which texts of a client or a host the relay carries, and how they reach the other side.

What a message may be is declared once, as classes: msgspec checks by them, and `schema` publishes them. A message that is carried is
written anew from what was checked. So of a key that is given twice, of unknown fields and of odd spellings, the receiver sees nothing
that was not checked here.
"""

from collections.abc import Mapping
from enum import StrEnum
import hmac
from itertools import accumulate
import re
from typing import Annotated, Any, Final, Literal

from attrs import field, frozen
from msgspec import UNSET, DecodeError, Meta, Struct, UnsetType, to_builtins
from msgspec.json import Decoder, encode, schema_components

from opendesk.stream.tokens import same_stream

CLIENT_MAX_BYTES: Final = 2048
HOST_MAX_BYTES: Final = 1024

# The deepest message, an `input_event`, has 2. The rest is for unknown fields; without a bound of our own, how deep they may go would
# hang on the interpreter's stack.
MAX_DEPTH: Final = 32
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS: Final = bytes(set(range(256)) - _STEP.keys())

# JSON numbers beyond 2**53 are not the same in every program (RFC 8259, section 6).
_LARGEST: Final = 2**53 - 1

Count = Annotated[int, Meta(ge=0, le=_LARGEST)]
Number = Annotated[int, Meta(ge=-_LARGEST, le=_LARGEST)] | Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
# The pattern is for readers of the schema: a message's ids are compared with the socket's own, which says more.
SessionId = Annotated[
    str, Meta(extra_json_schema={"pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", "format": "uuid"})
]
StreamId = Annotated[str, Meta(min_length=12, max_length=64)]
Token = Annotated[str, Meta(min_length=16, max_length=256)]

# Counts or pixels; beyond these nobody moved a mouse.
_MOVE: Final = 3000
_WHEEL: Final = 2400
Move = Annotated[int, Meta(ge=-_MOVE, le=_MOVE)] | Annotated[float, Meta(ge=-_MOVE, le=_MOVE)]
Wheel = Annotated[int, Meta(ge=-_WHEEL, le=_WHEEL)] | Annotated[float, Meta(ge=-_WHEEL, le=_WHEEL)]
Button = Annotated[int, Meta(ge=0, le=5)]
Scancode = Annotated[str, Meta(min_length=1, max_length=64)]


class _Event(Struct, kw_only=True, tag_field="type", rename="camel", gc=False):
    seq: Count = 0
    ts_us: Count = 0


class MouseMove(_Event, tag="mouse_move"):
    dx: Move
    dy: Move


class MouseButton(_Event, tag="mouse_button"):
    button: Button
    down: bool


class MouseWheel(_Event, tag="mouse_wheel"):
    delta_x: Wheel
    delta_y: Wheel


class Key(_Event, tag="key"):
    scancode: Scancode
    down: bool
    ctrl: bool | UnsetType = UNSET
    alt: bool | UnsetType = UNSET
    shift: bool | UnsetType = UNSET
    meta: bool | UnsetType = UNSET


class DisconnectHotkey(_Event, tag="disconnect_hotkey"):
    pass


class _FromClient(Struct, kw_only=True, tag_field="type", rename="camel"):
    token: Token
    session_id: SessionId
    stream_id: StreamId


class StreamPing(_FromClient, tag="stream_ping"):
    ping_id: Count
    sent_at_us: Count


class _Report(_FromClient):
    loss_pct: Number | UnsetType = UNSET
    jitter_ms: Number | UnsetType = UNSET
    freeze_ms: Number | UnsetType = UNSET
    requested_bitrate_kbps: Number | UnsetType = UNSET
    sent_at_us: Number | UnsetType = UNSET
    fps_decode: Number | UnsetType = UNSET
    rtt_ms: Number | UnsetType = UNSET
    drop_rate_pct: Number | UnsetType = UNSET
    buffer_level: Number | UnsetType = UNSET
    bitrate_kbps: Number | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    status: str | UnsetType = UNSET


class KeyframeRequest(_Report, tag="keyframe_request"):
    pass


class RequestKeyframe(_Report, tag="request_keyframe"):
    pass


class NetworkReport(_Report, tag="network_report"):
    pass


class ReportStats(_Report, tag="report_stats"):
    pass


class Reconnect(_Report, tag="reconnect"):
    pass


class InputEvent(_FromClient, kw_only=True, tag="input_event"):
    version: Count = 1
    event: MouseMove | MouseButton | MouseWheel | Key | DisconnectHotkey


class StreamPong(Struct, kw_only=True, rename="camel"):
    type: Literal["stream_pong"]  # no tag: where there is only one class, msgspec takes messages without it
    session_id: SessionId
    stream_id: StreamId
    ping_id: Count
    sent_at_us: Count | UnsetType = UNSET
    received_at_us: Count | UnsetType = UNSET
    host_ts_us: Count | UnsetType = UNSET


ClientMessage = StreamPing | KeyframeRequest | RequestKeyframe | NetworkReport | ReportStats | Reconnect | InputEvent
HostMessage = StreamPong


class Kind(StrEnum):
    """The `type` of a message."""

    STREAM_PING = "stream_ping"
    KEYFRAME_REQUEST = "keyframe_request"
    REQUEST_KEYFRAME = "request_keyframe"
    NETWORK_REPORT = "network_report"
    REPORT_STATS = "report_stats"
    RECONNECT = "reconnect"
    INPUT_EVENT = "input_event"
    STREAM_PONG = "stream_pong"


@frozen
class Scope:
    """What a socket's own messages must carry, and what those that are brought to it carry: each side compares with what it was given."""

    token: str = field(repr=False)  # a secret
    session_id: str
    stream_id: str


@frozen
class Control:
    """A message that may be carried. `fields` are the known ones under their JSON names, defaults filled in, without the scope's."""

    kind: Kind
    fields: Mapping[str, Any]


_CLIENT: Final = Decoder(ClientMessage)
_HOST: Final = Decoder(HostMessage)


def from_client(text: bytes, scope: Scope) -> Control | None:
    """Return what a client sent, None if it is to be dropped: too long, not strictly JSON, no known shape, or of another scope."""
    message = _read(_CLIENT, text, CLIENT_MAX_BYTES)
    if message is None or not _has_ids(message, scope):
        return None
    # Compared as bytes, since `compare_digest` takes no other text than ASCII.
    if not hmac.compare_digest(message.token.encode(), scope.token.encode()):
        return None
    return _control(message)


def from_host(text: bytes, scope: Scope) -> Control | None:
    """Return the `stream_pong` that a host sent, None if it is to be dropped, as `from_client` does."""
    message = _read(_HOST, text, HOST_MAX_BYTES)
    return _control(message) if message is not None and _has_ids(message, scope) else None


def rewritten(control: Control, receiver: Scope, *, with_token: bool) -> bytes:
    """Return the message as the receiver gets it, in compact JSON. `with_token`: a client's messages carry one, a host's none."""
    ids = {"sessionId": receiver.session_id, "streamId": receiver.stream_id}
    token = {"token": receiver.token} if with_token else {}
    return encode({"type": control.kind.value, **token, **ids, **control.fields})


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of what each side may send: `schemas/stream-control.schema.json`."""
    sides, parts = schema_components([ClientMessage, HostMessage], ref_template="#/$defs/{name}")
    client, host = sides
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Control messages of the stream relay",
        "description": "What a client (ClientMessage) and a host (HostMessage) may send as text. Unknown fields are left out on the way.",
        "$comment": (
            f"Beyond this schema: a client's message has at most {CLIENT_MAX_BYTES} bytes, a host's {HOST_MAX_BYTES}; token, sessionId and "
            f"streamId are the socket's own; integers are written without fraction or exponent; at most {MAX_DEPTH} levels are nested."
        ),
        "anyOf": [{"$ref": "#/$defs/ClientMessage"}, {"$ref": "#/$defs/HostMessage"}],
        # msgspec's `discriminator` is OpenAPI's word; JSON Schema knows it not.
        "$defs": {"ClientMessage": {"anyOf": client["anyOf"]}, "HostMessage": host, **_without_discriminators(parts)},
    }


def _read(decoder: Decoder[Any], text: bytes, most: int) -> Any:
    if len(text) > most:
        return None
    try:
        # As text first: msgspec looks at no byte of an unknown field's string.
        message = decoder.decode(str(text, "utf-8"))
    except (DecodeError, UnicodeDecodeError, RecursionError):  # the last: far deeper than MAX_DEPTH
        return None
    return None if _is_too_deep(text) else message


def _is_too_deep(text: bytes) -> bool:
    """Of text that is JSON: all its strings are closed, and all brackets pair."""
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _STRING.sub(b"", text).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets))) > MAX_DEPTH


def _has_ids(message: Any, scope: Scope) -> bool:
    """The ids are no secrets: they need no constant time."""
    own: bool = message.session_id.lower() == scope.session_id.lower()
    return own and same_stream(message.stream_id, scope.stream_id)


def _control(message: Any) -> Control:
    fields = to_builtins(message)
    for name in ("token", "sessionId", "streamId"):
        fields.pop(name, None)
    return Control(Kind(fields.pop("type")), fields)


def _without_discriminators(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_discriminators(inner) for name, inner in value.items() if name != "discriminator"}
    return [_without_discriminators(inner) for inner in value] if isinstance(value, list) else value
