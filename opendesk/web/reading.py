"""What requests bring: the bytes of a body or the pairs of a query, into a class, or every fault with its place."""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import cattrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError
import msgspec

from opendesk.errors import FieldFault, InvalidJson, ValidationFailed
from opendesk.web.strict import BODY, QUERY
from opendesk.web.wire import camel

T = TypeVar("T")

# A request with a thousand unknown fields gets told of the first ones, and of long names the beginning.
MAX_FAULTS_TOLD: Final = 20
_NAME_SHOWN: Final = 64


def _faults(error: BaseException, pointer: str = "") -> list[FieldFault]:
    """Every fault of a cattrs error, with the JSON Pointer of its place (RFC 6901)."""
    if isinstance(error, ClassValidationError):
        noted, bare = error.group_exceptions()
        inner = [f for e, note in noted for f in _faults(e, f"{pointer}/{camel(note.name)}")]
        return inner + [f for e in bare for f in _faults(e, pointer)]
    if isinstance(error, IterableValidationError):
        listed, bare = error.group_exceptions()
        inner = [f for e, note in listed for f in _faults(e, f"{pointer}/{note.index}")]
        return inner + [f for e in bare for f in _faults(e, pointer)]
    if isinstance(error, ForbiddenExtraKeysError):
        return [
            FieldFault(f"{pointer}/{_escaped(name)}", "is not a field of this request")
            for name in sorted(error.extra_fields)
        ]
    if isinstance(error, KeyError):
        return [FieldFault(pointer, "is missing")]
    return [FieldFault(pointer, str(error) if isinstance(error, ValueError) else "has the wrong type")]


def _escaped(name: str) -> str:
    """A member's name within a JSON Pointer."""
    return name[:_NAME_SHOWN].replace("~", "~0").replace("/", "~1")


def _structured(converter: cattrs.Converter, value: Any, cls: type[T], pointer: str = "") -> T:
    try:
        return converter.structure(value, cls)
    except Exception as error:  # noqa: BLE001  # cattrs passes on whatever a hook raised, in groups
        raise refused(_faults(error, pointer)) from None


def parse_json(body: bytes) -> Any:
    """Raise InvalidJson with where it went wrong."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"the body is not JSON: {error}") from None


def structure_body(body: bytes, cls: type[T]) -> T:
    return _structured(BODY, parse_json(body), cls)


def structure_value(value: Any, cls: type[T], pointer: str) -> T:
    """A part of a body that has been read, at `pointer`: what it may be, another part said."""
    return _structured(BODY, value, cls, pointer)


def structure_query(pairs: Sequence[tuple[str, str]], cls: type[T]) -> T:
    """Unknown and repeated parameters are refused: a filter with a misspelt name would show everything."""
    names = [name for name, _ in pairs]
    repeated = [
        FieldFault(f"/{_escaped(name)}", "is given twice") for name in dict.fromkeys(names) if names.count(name) > 1
    ]
    if repeated:
        raise refused(repeated)
    return _structured(QUERY, dict(pairs), cls)


def refused(faults: Sequence[FieldFault]) -> ValidationFailed:
    """Tell the first in words and all as a list, up to a bound."""
    first = faults[0]
    return ValidationFailed(f"{first.pointer or 'the request'} {first.detail}", errors=faults[:MAX_FAULTS_TOLD])
