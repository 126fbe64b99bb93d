"""What a backend's events are, and how they are read: each by itself, so that a bad one spoils no other. Nothing here raises for one of them."""

from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256
import json
import re
from typing import Annotated, Any, ClassVar, Final

from attrs import fields, frozen
import msgspec
from msgspec import Meta

from opendesk.errors import FieldFault, ValidationFailed
from opendesk.network.hotspots.place import Place
from opendesk.network.hotspots.requests import MOST_MINUTES, Address, Mac, MikId, Minutes, PedidoId, place_of
from opendesk.network.wireguard import keys
from opendesk.web.reading import structure_value
from opendesk.web.wire import camel

SECONDS_A_MINUTE: Final = 60
TRIAL_MINUTES: Final = 5

# What can be written down, searched for, and shown in a terminal.
MOST_ID: Final = 256
ID_PATTERN: Final = r"^[^\u0000-\u001f\u007f-\u009f]*$"
_ID: Final = re.compile(ID_PATTERN)
# Of any other string that still gets an ACK: that has room for so many characters, each as two escapes (acks.MAX_ACK_BYTES).
MOST_ID_TOLD: Final = 2048
# Of one event: a thousand times as long as any that is known, and read in some milliseconds. A longer one isn't looked at.
MOST_MEMBER: Final = 256 * 2**10
# A type that nobody knows is told back and kept up to here.
MOST_TYPE: Final = 64

# As the API's minutes, but for what is meant without them.
TrialMinutes = Annotated[int, Meta(ge=1, le=MOST_MINUTES, description=f"how long; without it, {TRIAL_MINUTES} minutes")]
EventId = Annotated[str, Meta(pattern=ID_PATTERN, min_length=1, max_length=MOST_ID, examples=["evt-10442-1"])]
PeerKey = Annotated[
    str,
    Meta(
        pattern=rf"^(?!{keys.ZERO}$){keys.PATTERN}$",
        title="a WireGuard public key (32 bytes in base64)",
        examples=["xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="],
    ),
]


class Type(StrEnum):
    TRIAL_REQUESTED = "TRIAL_REQUESTED"
    RELEASE_REQUESTED = "RELEASE_REQUESTED"
    REVOKE_REQUESTED = "REVOKE_REQUESTED"


class Reason(StrEnum):
    """Why an event did not take effect, as its ACK tells it; the last two only say what it waits for."""

    VALIDATION = "validation"
    UNKNOWN_TYPE = "unknown_type"
    FAILED = "failed"
    GRANT_ENDED = "grant_ended"
    SUPERSEDED = "superseded"
    CIRCUIT_OPEN = "circuit_open"
    PEER_OFFLINE = "peer_offline"


@frozen
class Event:
    """`duration_s` is None for until it is revoked. `peer`: whose tunnel the router is behind, as the backend says."""

    event_id: str
    type: Type
    router: str
    pedido: str | None
    place: Place
    duration_s: int | None
    peer: str | None


@frozen
class Invalid:
    """`event_id` as it came, whatever is in it."""

    event_id: str
    reason: Reason
    error: str
    type: str | None


@frozen
class Nameless:
    """Nobody could be told what became of it."""


# ---- the shapes, also for the published schema


@frozen
class TrialRequested:
    """A device is let through for a short time, for free: once an order."""

    pedido_id: PedidoId
    mik_id: MikId
    ip: Address
    mac: Mac
    trial_minutes: TrialMinutes | None = None
    peer_public_key: PeerKey | None = None


@frozen
class ReleaseRequested:
    """A device is let through for an order that was paid."""

    pedido_id: PedidoId
    mik_id: MikId
    ip: Address
    mac: Mac
    minutes: Minutes | None = None
    peer_public_key: PeerKey | None = None


@frozen
class RevokeRequested:
    """A device, by its address, by its MAC, or by both together, is let through no longer."""

    mik_id: MikId
    ip: Address | None = None
    mac: Mac | None = None
    peer_public_key: PeerKey | None = None

    SCHEMA_EXTRA: ClassVar = {
        "anyOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in ("ip", "mac")]
    }


Payload = TrialRequested | ReleaseRequested | RevokeRequested
PAYLOADS: Final[Mapping[Type, type]] = {
    Type.TRIAL_REQUESTED: TrialRequested,
    Type.RELEASE_REQUESTED: ReleaseRequested,
    Type.REVOKE_REQUESTED: RevokeRequested,
}
_NAMES: Final = {cls: [camel(attribute.name) for attribute in fields(cls)] for cls in PAYLOADS.values()}


def hash_of(event_id: str) -> bytes:
    """What is kept of it for good. Half characters are part of it, too."""
    return sha256(event_id.encode("utf-8", "surrogatepass")).digest()


def is_usable(event_id: str) -> bool:
    """Whether an event of this id can be done. All others are refused, and told so."""
    return 0 < len(event_id) <= MOST_ID and _ID.fullmatch(event_id) is not None and _is_text(event_id)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# ---- reading


def read(raw: bytes) -> Event | Invalid | Nameless:
    """One member of a batch. A fault of the id comes first, then one of the type."""
    member, flaw = _decoded(raw)
    event_id = _id_of(member)
    if event_id is None:
        return Nameless()
    kind = member.get("type")
    named = kind[:MOST_TYPE] if isinstance(kind, str) else None
    if flaw is not None or not is_usable(event_id):
        error = flaw or f"/eventId must have 1 to {MOST_ID} characters, none of them a control character"
        return Invalid(event_id, Reason.VALIDATION, error, named)
    if named is None:
        return Invalid(event_id, Reason.VALIDATION, "/type must be a string", None)
    if kind not in PAYLOADS:
        error = f"/type must be one of {', '.join(Type)}"
        return Invalid(event_id, Reason.UNKNOWN_TYPE, error, named)
    try:
        return _event(event_id, Type(kind), member.get("payload"))
    except ValidationFailed as failed:
        return Invalid(event_id, Reason.VALIDATION, _told(failed), named)


def id_of(raw: bytes) -> str | None:
    """Of one member, at a tenth of what `read` takes; None for a nameless one."""
    return _id_of(_decoded(raw)[0])


def _id_of(member: Any) -> str | None:
    event_id = member.get("eventId") if isinstance(member, dict) else None
    return event_id if isinstance(event_id, str) and len(event_id) <= MOST_ID_TOLD else None


def _decoded(raw: bytes) -> tuple[Any, str | None]:
    """What it is, and what keeps it from being taken although it can be read: half characters, numbers that no program has."""
    if len(raw) > MOST_MEMBER:
        return None, None
    try:
        return msgspec.json.decode(raw), None
    except RecursionError:
        return None, None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        flaw = f"it is not JSON that every program reads alike: {error}"
    try:
        return json.loads(raw.decode(), parse_int=float), flaw  # as int, a number of thousands of digits would raise
    except (ValueError, RecursionError):
        return None, None


def _event(event_id: str, kind: Type, payload: Any) -> Event:
    """Members that are not known are left out: a backend may add some."""
    shape = PAYLOADS[kind]
    if not isinstance(payload, dict):
        raise ValidationFailed(errors=[FieldFault("/payload", "must be an object")])
    known = {name: payload[name] for name in _NAMES[shape] if name in payload}
    asked: Payload = structure_value(known, shape, "/payload")
    pedido = None if isinstance(asked, RevokeRequested) else asked.pedido_id
    place = place_of(asked.ip, asked.mac, "payload/ip", "payload/mac")
    return Event(event_id, kind, asked.mik_id, pedido, place, _duration_s(asked), asked.peer_public_key)


def _duration_s(asked: Payload) -> int | None:
    if isinstance(asked, TrialRequested):
        return (asked.trial_minutes or TRIAL_MINUTES) * SECONDS_A_MINUTE
    minutes = asked.minutes if isinstance(asked, ReleaseRequested) else None
    return None if minutes is None else minutes * SECONDS_A_MINUTE


def _told(failed: ValidationFailed) -> str:
    return "; ".join(f"{fault.pointer} {fault.detail}" for fault in failed.errors)
