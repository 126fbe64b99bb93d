"""What is published of events and ACKs, from the classes that the validator goes by: `schemas/events.schema.json`."""

import json
from typing import Any, Final

from opendesk.network.events.types import PAYLOADS, EventId, Reason, Type
from opendesk.web.json_schema import Schema, Schemas

_INSIDE: Final = "#/components/schemas/"
_HERE: Final = "#/$defs/"
# What an ACK may tell: of what is not yet decided there is none.
_TOLD: Final = [reason.value for reason in Reason if reason not in {Reason.CIRCUIT_OPEN, Reason.PEER_OFFLINE}]


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12)."""
    schemas = Schemas()
    event_id = schemas.of(EventId, asked=True)
    events = {_name(kind): _event(kind, event_id, schemas) for kind in Type}
    # A backend may add members: they are left out.
    payloads = {name: _open(shape) for name, shape in schemas.components.items()}
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Events from the backend, and their ACKs",
        "description": "A member of what BACKEND_EVENTS_URL answers (Event), and what is posted to BACKEND_ACK_URL (Ack).",
        "$comment": "Beyond this schema: texts have no half characters (lone surrogates), and numbers are none that overflow.",
        "anyOf": [{"$ref": f"{_HERE}Event"}, {"$ref": f"{_HERE}Ack"}],
        "$defs": {
            "Event": {"anyOf": [{"$ref": f"{_HERE}{name}"} for name in events]},
            **events,
            **payloads,
            "Ack": _ack(),
        },
    }
    moved: dict[str, Any] = json.loads(json.dumps(whole).replace(_INSIDE, _HERE))
    return moved


def _name(kind: Type) -> str:
    return f"{PAYLOADS[kind].__name__}Event"


def _event(kind: Type, event_id: Schema, schemas: Schemas) -> Schema:
    return {
        "type": "object",
        "properties": {
            "eventId": event_id,
            "type": {"const": kind.value},
            "payload": schemas.of(PAYLOADS[kind], asked=True),
            "timestamp": {"description": "when it happened, as the backend has it; not looked at"},
        },
        "required": ["eventId", "type", "payload"],
    }


def _open(shape: Schema) -> Schema:
    return {key: value for key, value in shape.items() if key != "additionalProperties"}


def _ack() -> Schema:
    told = {
        "reason": {"type": "string", "enum": _TOLD},
        "error": {"type": "string", "description": "for people"},
        "jobId": {"type": "string", "format": "uuid"},
        "online": {"type": "boolean", "description": "the router was seen to let the device through"},
        "until": {"type": "string", "format": "date-time"},
        "changed": {"type": "boolean", "description": "something was changed on the router"},
        "dryRun": {"type": "boolean", "description": "true: it was only pretended"},
    }
    return {
        "type": "object",
        "description": "What became of an event. The same one may come again, also after it was taken.",
        "properties": {
            "eventId": {"type": "string", "description": "as it came"},
            "ok": {"type": "boolean"},
            "payload": {"type": "object", "properties": told},
        },
        "required": ["eventId", "ok", "payload"],
        "if": {"properties": {"ok": {"const": False}}},
        "then": {"properties": {"payload": {"required": ["reason"]}}},
    }
