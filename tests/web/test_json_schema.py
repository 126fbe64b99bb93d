"""JSON Schema from annotations: what each kind of type becomes, asked and answered."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Generic, TypeVar
from uuid import UUID

from attrs import frozen
from msgspec import Meta
import pytest

from opendesk.web.json_schema import Schemas, component_name, without_null
from opendesk.web.strict import LARGEST_INTEGER, TEXT_PATTERN

T = TypeVar("T")


class Colour(StrEnum):
    """What paint has."""

    RED = "RED"
    BLUE = "BLUE"


class Plain(StrEnum):
    A = "A"


@frozen
class Thing:
    """Of many lines,
    told in one."""

    some_id: UUID
    colour: Colour | None = None


@frozen
class Several(Generic[T]):
    items: tuple[T, ...]


@frozen
class Ruled:
    SCHEMA_EXTRA: ClassVar[Mapping[str, Any]] = {"minProperties": 1}

    size: Annotated[int, Meta(ge=1, le=9, description="how large", examples=[3])] = 2


@pytest.mark.parametrize(
    ("cls", "schema"),
    [
        (str, {"type": "string"}),
        (bool, {"type": "boolean"}),
        (int, {"type": "integer", "format": "int64"}),
        (UUID, {"type": "string", "format": "uuid"}),
        (Any, {}),
        (UUID | None, {"type": ["string", "null"], "format": "uuid"}),
        (tuple[bool, ...], {"type": "array", "items": {"type": "boolean"}}),
        (Mapping[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}),
        (dict[str, Any], {"type": "object", "additionalProperties": True}),
        (str | bool | None, {"anyOf": [{"type": "string"}, {"type": "boolean"}, {"type": "null"}]}),
        (Colour, {"$ref": "#/components/schemas/Colour"}),
        (Colour | None, {"anyOf": [{"$ref": "#/components/schemas/Colour"}, {"type": "null"}]}),
        (Annotated[str, Meta(min_length=2, pattern="^a")], {"type": "string", "minLength": 2, "pattern": "^a"}),
        (
            Annotated[tuple[bool, ...], Meta(max_length=2)],
            {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        ),
    ],
)
def test_an_answer_s_type_becomes_a_schema(cls: Any, schema: dict[str, Any]) -> None:
    assert Schemas().of(cls, asked=False) == schema


def test_what_is_asked_is_bounded() -> None:
    bounds = {"minimum": -LARGEST_INTEGER, "maximum": LARGEST_INTEGER}
    assert Schemas().of(int, asked=True) == {"type": "integer", "format": "int64", **bounds}
    assert Schemas().of(str, asked=True) == {"type": "string", "pattern": TEXT_PATTERN}


def test_a_fraction_may_be_asked_and_is_never_answered() -> None:
    assert Schemas().of(float, asked=True) == {"type": "number"}
    with pytest.raises(TypeError):
        Schemas().of(float, asked=False)


@pytest.mark.parametrize("cls", [bytes, object, list, set[int], complex])
def test_what_the_wire_does_not_carry_has_no_schema(cls: Any) -> None:
    with pytest.raises(TypeError):
        Schemas().of(cls, asked=False)


def test_answers_are_open_and_whole_and_requests_are_closed() -> None:
    answered, asked = Schemas(), Schemas()
    answered.of(Thing, asked=False)
    asked.of(Thing, asked=True)
    assert list(answered.components) == ["Thing", "Colour"]
    assert answered.components["Colour"] == {
        "type": "string",
        "enum": ["RED", "BLUE"],
        "description": "What paint has.",
    }
    thing = answered.components["Thing"]
    assert (thing["description"], thing["required"]) == ("Of many lines, told in one.", ["someId", "colour"])
    assert "additionalProperties" not in thing
    thing = asked.components["Thing"]
    assert (thing["required"], thing["additionalProperties"]) == (["someId"], False)
    assert "default" not in thing["properties"]["colour"]


def test_a_default_a_rule_and_an_example_are_told() -> None:
    schemas = Schemas()
    schemas.of(Ruled, asked=True)
    ruled = schemas.components["Ruled"]
    size = {"type": "integer", "format": "int64", "minimum": 1, "maximum": 9}
    assert ruled["properties"]["size"] == {**size, "description": "how large", "examples": [3], "default": 2}
    assert ruled["minProperties"] == 1


def test_a_docstring_that_nobody_wrote_is_none() -> None:
    schemas = Schemas()
    schemas.of(Plain, asked=False)
    assert "description" not in schemas.components["Plain"]


def test_a_generic_class_is_named_for_what_it_is_of() -> None:
    schemas = Schemas()
    assert schemas.of(Several[Thing], asked=False) == {"$ref": "#/components/schemas/ThingSeveral"}
    assert schemas.components["ThingSeveral"]["properties"]["items"] == {
        "type": "array",
        "items": {"$ref": "#/components/schemas/Thing"},
    }
    shape: Any = type("ThingShape", (), {})
    assert component_name(shape) == "Thing"


def test_two_things_of_one_name_are_refused() -> None:
    def other_ones() -> tuple[type, type]:
        class Colour(StrEnum):
            RED = "RED"
            BLUE = "BLUE"

        @frozen
        class Thing:
            pass

        return Colour, Thing

    schemas = Schemas()
    schemas.of(Thing, asked=False)
    for other in other_ones():
        with pytest.raises(AssertionError, match=f"two different things are called {other.__name__}"):
            schemas.of(other, asked=False)
    with pytest.raises(AssertionError, match="Thing"):
        schemas.of(Thing, asked=True)


def test_in_a_query_nothing_is_null() -> None:
    assert without_null(UUID | None) is UUID
    assert without_null(str | int | None) == str | int
    assert without_null(Decimal) is Decimal
    assert Schemas().of(datetime, asked=False)["format"] == "date-time"
