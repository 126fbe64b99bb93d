"""What the wire carries: JSON with camelCase names and times with milliseconds. What comes in is read by `reading.py`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
import msgspec


def camel(name: str) -> str:
    head, *rest = name.rstrip("_").split("_")
    return head + "".join(part.capitalize() for part in rest)


def rfc3339(moment: datetime) -> str:
    """UTC with milliseconds, cut, not rounded: a time told is never later than the fact."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _plain_decimal(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


_WIRE_NAMES: dict[type, tuple[tuple[str, str], ...]] = {}  # bounded by the number of attrs classes


def _wire_names(cls: type) -> tuple[tuple[str, str], ...]:
    if cls not in _WIRE_NAMES:
        _WIRE_NAMES[cls] = tuple((a.name, camel(a.name)) for a in attrs.fields(cls))
    return _WIRE_NAMES[cls]


def to_wire(value: Any) -> Any:
    """Only what JSON knows, with the wire's names."""
    if value is None or isinstance(value, (str, int)):
        return value
    if attrs.has(type(value)):
        return {wire: to_wire(getattr(value, name)) for name, wire in _wire_names(type(value))}
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        return _plain_decimal(value)
    if isinstance(value, Mapping):
        return {key: to_wire(item) for key, item in value.items()}
    return [to_wire(item) for item in value]


def dump_json(value: Any) -> bytes:
    return msgspec.json.encode(to_wire(value))
