"""Values from JSON or a query into attrs classes, strictly: no text for a number, no unknown field, no control character.

A field's limits stand in its annotation (`Annotated[int, Meta(ge=1)]`), once: the structuring here and the published schema
(`openapi.py`) both read them there.
"""

from collections.abc import Callable
from enum import StrEnum
import re
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, cast, get_args, get_origin
from uuid import UUID

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override
from msgspec import Meta

from opendesk.web.wire import camel

# PostgreSQL's text can't hold NUL, and no text here has a use for the other control characters but tab and line ends. Written so that
# Python and JavaScript read it alike; lone surrogates don't get past the reading of JSON and queries.
TEXT_PATTERN: Final = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]*$"
_TEXT: Final = re.compile(TEXT_PATTERN)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")

# JSON numbers beyond 2**53 are not the same in every program (RFC 8259, section 6).
LARGEST_INTEGER: Final = 2**53 - 1


def _type_name(cls: type) -> str:
    return {bool: "true or false", int: "an integer", str: "a string", float: "a number"}.get(cls, cls.__name__)


def _strict(cls: type) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        if type(value) is not cls:
            raise ValueError(f"must be {_type_name(cls)}")
        if isinstance(value, str) and _TEXT.fullmatch(value) is None:
            raise ValueError("must not contain control characters")
        return value

    return structure


def _structure_int(value: Any, _: Any) -> int:
    """JSON has numbers only: 5.0 is the integer 5, as JSON Schema says too; 5.9, "5" and true are none."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise ValueError(f"must be {_type_name(int)}")
    if abs(value) > LARGEST_INTEGER:
        raise ValueError("is too large")
    return value


def _structure_float(value: Any, _: Any) -> float:
    """Any number that JSON has; an integer stays as it is. What isn't finite got no further than the reading of JSON."""
    if type(value) not in (int, float):
        raise ValueError(f"must be {_type_name(float)}")
    return cast("float", value)


def parse_uuid(text: str) -> UUID:
    """Only the usual spelling, where `UUID` takes many. Raise ValueError."""
    if _UUID.fullmatch(text) is None:
        raise ValueError("must be a UUID")
    return UUID(text)


def _structure_uuid(value: Any, _: Any) -> UUID:
    return parse_uuid(value if isinstance(value, str) else "")


def _structure_enum(value: Any, cls: type[StrEnum]) -> StrEnum:
    if isinstance(value, str):
        try:
            return cls(value)
        except ValueError:
            pass
    raise ValueError(f"must be one of {', '.join(cls)}")


def _check_meta(value: Any, meta: Meta) -> None:
    """Raise ValueError with what is allowed. A pattern's title says it better than the pattern."""
    if meta.ge is not None and value < meta.ge:
        raise ValueError(f"must be at least {meta.ge}")
    if meta.le is not None and value > meta.le:
        raise ValueError(f"must be at most {meta.le}")
    if meta.min_length is not None and len(value) < meta.min_length:
        raise ValueError(f"must have at least {meta.min_length} {_counted(value)}")
    if meta.max_length is not None and len(value) > meta.max_length:
        raise ValueError(f"must have at most {meta.max_length} {_counted(value)}")
    # In a schema `$` is the end; in Python also the place before a last line end, which `fullmatch` doesn't take.
    if meta.pattern is not None and re.fullmatch(meta.pattern, value) is None:
        raise ValueError(f"must be {meta.title}" if meta.title else f"must match {meta.pattern}")


def _counted(value: Any) -> str:
    return "characters" if isinstance(value, str) else "items"


def _structure_annotated(converter: cattrs.Converter) -> Callable[[type], Callable[[Any, Any], Any]]:
    def factory(cls: type) -> Callable[[Any, Any], Any]:
        base, *extras = get_args(cls)
        metas = [extra for extra in extras if isinstance(extra, Meta)]

        def structure(value: Any, _: Any) -> Any:
            structured = converter.structure(value, base)
            for meta in metas:
                _check_meta(structured, meta)
            return structured

        return structure

    return factory


def _structure_attrs(converter: cattrs.Converter) -> Callable[[type], Callable[[Any, Any], Any]]:
    def factory(cls: type) -> Callable[[Any, Any], Any]:
        names: dict[str, Any] = {a.name: override(rename=camel(a.name)) for a in attrs.fields(cls)}
        structure: Any = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, **names)

        def strictly(value: Any, want: Any) -> Any:
            if not isinstance(value, dict):
                raise ValueError("must be an object")
            return structure(value, want)

        return strictly

    return factory


def _structure_tuple(converter: cattrs.Converter) -> Callable[[type], Callable[[Any, Any], Any]]:
    """`tuple[X, ...]` from a JSON array."""

    def factory(cls: type) -> Callable[[Any, Any], Any]:
        item = get_args(cls)[0]

        def structure(value: Any, _: Any) -> tuple[Any, ...]:
            if not isinstance(value, list):
                raise ValueError("must be an array")
            return tuple(converter.structure(value, list[item]))  # type: ignore[valid-type]  # item is a run-time type

        return structure

    return factory


def _is_choice(cls: Any) -> bool:
    """A union of more than one type and None, which cattrs handles itself."""
    return get_origin(cls) in (Union, UnionType) and len([c for c in get_args(cls) if c is not NoneType]) > 1


def _structure_choice(converter: cattrs.Converter) -> Callable[[type], Callable[[Any, Any], Any]]:
    """The first type of the union that takes the value."""

    def factory(cls: type) -> Callable[[Any, Any], Any]:
        options = [option for option in get_args(cls) if option is not NoneType]
        nothing = NoneType in get_args(cls)

        def structure(value: Any, _: Any) -> Any:
            if value is None and nothing:
                return None
            for option in options:
                try:
                    return converter.structure(value, option)
                except ValueError:
                    continue
            raise ValueError(f"must be {' or '.join(map(_type_name, options))}")

        return structure

    return factory


def _is_a(origin: Any) -> Callable[[Any], bool]:
    return lambda cls: get_origin(cls) is origin


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True)
    for cls in (str, bool):
        converter.register_structure_hook(cls, _strict(cls))
    converter.register_structure_hook(int, _structure_int)
    converter.register_structure_hook(float, _structure_float)
    # Of a class's ancestors the nearest counts: without this, enums would be taken for any text.
    converter.register_structure_hook(StrEnum, _structure_enum)
    converter.register_structure_hook(UUID, _structure_uuid)
    converter.register_structure_hook_factory(_is_a(Annotated), _structure_annotated(converter))
    converter.register_structure_hook_factory(attrs.has, _structure_attrs(converter))
    converter.register_structure_hook_factory(_is_a(tuple), _structure_tuple(converter))
    converter.register_structure_hook_factory(_is_choice, _structure_choice(converter))
    return converter


def _from_text(base: type, parse: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        try:
            return parse(value)
        except ValueError:
            raise ValueError(f"must be {_type_name(base)}") from None

    return structure


def _parse_int(text: str) -> int:
    if re.fullmatch(r"-?[0-9]{1,16}", text) is None:
        raise ValueError(text)
    return int(text)


# JSON knows numbers from text; a query is all text.
BODY: Final = _make_converter()
QUERY: Final = _make_converter()
QUERY.register_structure_hook(int, _from_text(int, _parse_int))
