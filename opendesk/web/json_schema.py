"""JSON Schema (draft 2020-12) of what requests and answers are made of, from the same annotations that `wire` goes by.

Requests are closed and bounded, as `wire` takes them. Answers are open: fields may be added to them later.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

import attrs
from attrs import define, field
from msgspec import Meta

from opendesk.web.strict import LARGEST_INTEGER, TEXT_PATTERN
from opendesk.web.wire import camel, to_wire

Schema = dict[str, Any]

_PLAIN: Final[Mapping[Any, Schema]] = {
    Any: {},
    NoneType: {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "format": "int64"},
    str: {"type": "string"},
    UUID: {"type": "string", "format": "uuid"},
    Decimal: {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$", "examples": ["0.1"]},
    datetime: {
        "type": "string",
        "format": "date-time",
        "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
        "examples": ["2026-01-31T12:00:00.000Z"],
    },
}
# Fractions are taken, not given: what we tell is counted in whole units or written as a Decimal.
_ASKED: Final[Mapping[Any, Schema]] = {
    **_PLAIN,
    float: {"type": "number"},
    int: {"type": "integer", "format": "int64", "minimum": -LARGEST_INTEGER, "maximum": LARGEST_INTEGER},
    str: {"type": "string", "pattern": TEXT_PATTERN},
}


@define
class Schemas:
    """`of` gives a type's schema; those of classes are kept in `components`, and referred to."""

    components: dict[str, Schema] = field(factory=dict)
    # Which class each is of, and in which direction.
    _made_of: dict[str, tuple[Any, bool | None]] = field(factory=dict)

    def of(self, cls: Any, *, asked: bool) -> Schema:
        """`asked`: as a part of a request. Raise TypeError for a type that the wire doesn't carry."""
        origin, args = get_origin(cls), get_args(cls)
        if origin is Annotated:
            return _limited(self.of(args[0], asked=asked), [arg for arg in args[1:] if isinstance(arg, Meta)])
        if origin in (Union, UnionType):
            return self._choice(args, asked=asked)
        if origin is Literal and not asked:
            return {"type": "string", "enum": list(args)}
        if origin is tuple:
            return {"type": "array", "items": self.of(args[0], asked=asked)}
        if origin in (dict, Mapping):
            return {"type": "object", "additionalProperties": self.of(args[1], asked=asked) or True}
        if attrs.has(origin or cls):
            return self._component(cls, asked=asked)
        if isinstance(cls, type) and issubclass(cls, StrEnum):
            return self._enum(cls)
        plain = _ASKED if asked else _PLAIN
        if cls not in plain:
            raise TypeError(f"the wire does not carry {cls}")
        return dict(plain[cls])

    def _choice(self, options: tuple[Any, ...], *, asked: bool) -> Schema:
        schemas = [self.of(option, asked=asked) for option in options]
        real = [schema for schema in schemas if schema != {"type": "null"}]
        if len(real) == 1 and len(schemas) > 1 and "type" in real[0]:
            return {**real[0], "type": [real[0]["type"], "null"]}
        return {"anyOf": schemas}

    def _enum(self, cls: type[StrEnum]) -> Schema:
        if self._is_new(cls.__name__, (cls, None)):
            schema = {"type": "string", "enum": [member.value for member in cls]}
            self.components[cls.__name__] = {**schema, **_described(cls)}
        return _reference(cls.__name__)

    def _component(self, cls: Any, *, asked: bool) -> Schema:
        name = component_name(cls)
        if self._is_new(name, (cls, asked)):
            self.components[name] = {}  # its place in the order, and the end of a circle
            self.components[name] = self._object(cls, asked=asked)
        return _reference(name)

    def _is_new(self, name: str, made_of: tuple[Any, bool | None]) -> bool:
        assert self._made_of.setdefault(name, made_of) == made_of, f"two different things are called {name}"
        return name not in self.components

    def _object(self, cls: Any, *, asked: bool) -> Schema:
        origin = get_origin(cls) or cls
        attrs.resolve_types(origin)
        of = dict(zip(getattr(origin, "__parameters__", ()), get_args(cls), strict=True)) if get_args(cls) else {}
        schema: Schema = {"type": "object", **_described(origin), "properties": {}, "required": []}
        for attribute in attrs.fields(origin):
            name = camel(attribute.name)
            schema["properties"][name] = self._property(attribute, of, asked=asked)
            if not asked or attribute.default is attrs.NOTHING:
                schema["required"].append(name)
        if asked:
            schema["additionalProperties"] = False
        return {**schema, **getattr(origin, "SCHEMA_EXTRA", {})}

    def _property(self, attribute: Any, of: Mapping[Any, Any], *, asked: bool) -> Schema:
        schema = self.of(_filled_in(attribute.type, of), asked=asked)
        if asked and attribute.default not in (attrs.NOTHING, None):
            return {**schema, "default": to_wire(attribute.default)}
        return schema


def component_name(cls: Any) -> str:
    """`Page[Pc]` is a `PcPage`; a class that is called a shape in the code is the thing itself to those outside."""
    origin = get_origin(cls) or cls
    name: str = "".join(arg.__name__ for arg in get_args(cls)) + origin.__name__
    return name.removesuffix("Shape")


def without_null(cls: Any) -> Any:
    """The same type where nothing can be null, as in a query: a parameter is there or not."""
    options = tuple(option for option in get_args(cls) if option is not NoneType)
    return Union[options] if get_origin(cls) in (Union, UnionType) else cls  # noqa: UP007  # made at run time


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _described(cls: type) -> Schema:
    """Its own docstring, not its ancestors' nor what enum and attrs make up."""
    doc = cls.__dict__.get("__doc__")
    return {"description": " ".join(doc.split())} if doc else {}


def _filled_in(cls: Any, of: Mapping[Any, Any]) -> Any:
    """A generic class's annotation with its type variables replaced."""
    if isinstance(cls, TypeVar):
        return of[cls]
    variables = getattr(cls, "__parameters__", ())
    return cls[tuple(of[variable] for variable in variables)] if variables else cls


def _limited(schema: Schema, metas: list[Meta]) -> Schema:
    length = "Items" if schema.get("type") == "array" else "Length"
    for meta in metas:
        limits = {
            "description": meta.description,
            "minimum": meta.ge,
            "maximum": meta.le,
            f"min{length}": meta.min_length,
            f"max{length}": meta.max_length,
            "pattern": meta.pattern,
            "examples": meta.examples,
        }
        schema = schema | {key: value for key, value in limits.items() if value is not None}
    return schema
