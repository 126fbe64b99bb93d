"""What comes in is taken strictly, and as the published schema says; what goes out is what the contract says."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
import json
import re
from typing import Annotated, Any
from uuid import UUID

import attrs
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
import jsonschema_rs
from msgspec import Meta
import pytest

from opendesk.errors import FieldFault, InvalidJson, ValidationFailed
from opendesk.rental.api.hosts import Heartbeat
from opendesk.rental.api.sessions import CreateSession, EndSession, Refund
from opendesk.rental.api.users import ChangePassword, Login, Register
from opendesk.rental.api.wallets import MoveMoney
from opendesk.rental.pcs import PcNetwork, PcOffer
from opendesk.web.json_schema import Schemas
from opendesk.web.reading import parse_json, structure_body, structure_query
from opendesk.web.strict import TEXT_PATTERN, parse_uuid
from opendesk.web.wire import camel, dump_json, rfc3339, to_wire

REQUESTS = [
    Register,
    Login,
    ChangePassword,
    Heartbeat,
    PcOffer,
    PcNetwork,
    MoveMoney,
    CreateSession,
    EndSession,
    Refund,
]
Json = dict[str, Any]


def faults_of(body: bytes, cls: type) -> tuple[FieldFault, ...]:
    """None if it is taken; any other error than a refusal is a test's failure."""
    try:
        structure_body(body, cls)
    except ValidationFailed as refusal:
        assert refusal.errors  # noqa: PT017  # both ways are right
        return refusal.errors
    return ()


# Requests, against their schemas


def schema_of(cls: type) -> Json:
    """In one piece."""
    schemas = Schemas()
    schemas.of(cls, asked=True)

    def inlined(thing: Any) -> Any:
        if isinstance(thing, dict):
            if "$ref" in thing:
                return inlined(schemas.components[thing["$ref"].rpartition("/")[2]])
            return {key: inlined(item) for key, item in thing.items()}
        return [inlined(item) for item in thing] if isinstance(thing, list) else thing

    whole: Json = inlined(schemas.components[cls.__name__])
    return whole


ODD_TEXT = st.text(max_size=40) | st.text("a \t\n\r\x00\x1f\x7f\x85\xa0\ufeff\u2028@.-A0", max_size=8)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 300),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 300).map(float),
    ODD_TEXT,
    st.uuids().map(str),
    st.uuids().map(lambda made: made.hex),
    st.lists(ODD_TEXT, max_size=3),
    st.just({}),
)


def fitting(schema: Json) -> st.SearchStrategy[Any]:
    """What the schema allows."""
    kinds = schema.get("type")
    if "anyOf" in schema:
        return st.one_of([fitting(option) for option in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if isinstance(kinds, list):
        return st.one_of([fitting({**schema, "type": kind}) for kind in kinds])
    made: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "null": st.none,
        "boolean": st.booleans,
        "integer": lambda: st.integers(schema["minimum"], schema["maximum"]),
        "number": lambda: st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
        "string": lambda: text(schema),
        "array": lambda: st.lists(fitting(schema["items"]), max_size=3),
    }
    return made[str(kinds)]()


# Of Unicode enough to have of every kind that the patterns tell apart.
ALPHABET = st.characters(max_codepoint=0x2FF) | st.sampled_from("\u2028\u3000\ufeff😀")


def text(schema: Json) -> st.SearchStrategy[str]:
    if schema.get("format") == "uuid":
        return st.uuids().map(str)
    least, most = schema.get("minLength", 0), min(schema.get("maxLength", 1000), 60)
    if schema["pattern"] == TEXT_PATTERN:
        fit = ALPHABET.filter(lambda character: re.fullmatch(TEXT_PATTERN, character) is not None)
        return st.text(fit, min_size=least, max_size=most)
    # Made from the pattern itself they would take most of the time of these tests.
    made = (
        st.emails()
        if "@" in schema["pattern"]
        else st.text("ab. -:[]09é😀", min_size=least, max_size=most).map(str.strip)
    )
    return made.filter(lambda found: jsonschema_rs.is_valid(schema, found))


@st.composite
def bodies(draw: st.DrawFn, cls: type) -> Json:
    """Objects that fit, or nearly do."""
    schema = schema_of(cls)
    body: Json = {}
    for name, part in schema["properties"].items():
        if name in schema["required"] or draw(st.booleans()):
            body[name] = draw(fitting(part))
    for name in draw(st.lists(st.sampled_from([*schema["properties"], "more"]), max_size=2)):
        body[name] = draw(JUNK)
    for name in draw(st.lists(st.sampled_from(list(schema["properties"])), max_size=1)):
        body.pop(name, None)
    return body


@pytest.mark.parametrize("cls", REQUESTS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_published_schema_and_the_program_take_the_same(cls: type, data: st.DataObject) -> None:
    body = data.draw(bodies(cls))
    allowed = jsonschema_rs.Draft202012Validator(schema_of(cls), validate_formats=True).is_valid(body)
    if cls is EndSession and not allowed and body.keys() <= {"hostFault", "failureReason"}:
        # That the two don't go together is found out later: tests/web/test_api_sessions.py.
        return
    faults = faults_of(json.dumps(body).encode(), cls)
    assert allowed == (not faults), faults


@pytest.mark.parametrize("cls", REQUESTS)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_what_was_taken_says_what_was_sent(cls: type, data: st.DataObject) -> None:
    schema = schema_of(cls)
    # Fractions are taken and not given.
    parts = {name: fitting(part) for name, part in schema["properties"].items() if "number" not in json.dumps(part)}
    body = data.draw(st.fixed_dictionaries(parts))
    taken: object = structure_body(json.dumps(body).encode(), cls)
    assert json.loads(dump_json(taken)) == {**dict.fromkeys(schema["properties"]), **body}
    assert structure_body(dump_json(taken), cls) == taken


# Faults


@frozen
class Inner:
    some_number: Annotated[int, Meta(ge=1, le=3)]


@frozen
class Outer:
    the_list: tuple[Inner, ...]
    flag: bool = False
    id: UUID | None = None


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        ({}, {"/theList": "is missing"}),
        ({"theList": None}, {"/theList": "must be an array"}),
        ({"theList": [None]}, {"/theList/0": "must be an object"}),
        ({"theList": [{}]}, {"/theList/0/someNumber": "is missing"}),
        ({"theList": [{"someNumber": 1}, {"someNumber": 4}]}, {"/theList/1/someNumber": "must be at most 3"}),
        ({"theList": [{"someNumber": "1"}]}, {"/theList/0/someNumber": "must be an integer"}),
        ({"theList": [{"someNumber": 1, "a/b~c": 2}]}, {"/theList/0/a~1b~0c": "is not a field of this request"}),
        ({"theList": [], "flag": 1}, {"/flag": "must be true or false"}),
        ({"theList": [], "flag": None}, {"/flag": "must be true or false"}),
        ({"theList": [], "id": "x"}, {"/id": "must be a UUID"}),
        ({"theList": {}, "flag": 0}, {"/theList": "must be an array", "/flag": "must be true or false"}),
        ([], {"": "must be an object"}),
        (None, {"": "must be an object"}),
    ],
)
def test_a_fault_is_pointed_at(value: Any, faults: dict[str, str]) -> None:
    with pytest.raises(ValidationFailed) as told:
        structure_body(json.dumps(value).encode(), Outer)
    assert {fault.pointer: fault.detail for fault in told.value.errors} == faults
    first = told.value.errors[0]
    assert told.value.detail == f"{first.pointer or 'the request'} {first.detail}"


@given(st.recursive(JUNK, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD_TEXT, inner, max_size=3)))
def test_any_json_at_all_is_taken_or_refused(value: Any) -> None:
    for cls in (Outer, Register, Heartbeat):
        faults_of(json.dumps(value).encode(), cls)


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_not(data: bytes) -> None:
    with suppress(InvalidJson):
        parse_json(data)


@frozen
class Filter:
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    pc_id: UUID | None = None


@given(
    st.lists(
        st.tuples(st.sampled_from(["limit", "pcId", "x"]) | ODD_TEXT, ODD_TEXT | st.integers(0, 101).map(str)),
        max_size=4,
    )
)
def test_a_query_is_taken_or_refused(pairs: list[tuple[str, str]]) -> None:
    try:
        found = structure_query(pairs, Filter)
    except ValidationFailed:
        assert pairs
        return
    given = dict(pairs)
    assert found.limit == int(given.get("limit", "20"))
    assert found.pc_id == (UUID(given["pcId"]) if "pcId" in given else None)


# Values


@given(st.uuids())
def test_an_id_is_read_in_the_usual_spelling_only(value: UUID) -> None:
    assert parse_uuid(str(value)) == parse_uuid(str(value).upper()) == value
    for spelling in (value.hex, value.urn, f"{{{value}}}", f" {value}", f"{value}\n"):
        with pytest.raises(ValueError, match="must be a UUID"):
            parse_uuid(spelling)


ZONES = st.sampled_from([UTC, timezone(timedelta(hours=-3)), timezone(timedelta(hours=14))])


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9999, 12, 29), timezones=ZONES))  # noqa: DTZ001  # as it wants them
def test_times_are_utc_with_milliseconds_and_never_later_than_the_fact(moment: datetime) -> None:
    told = rfc3339(moment)
    assert len(told) == len("2026-01-31T12:00:00.000Z")
    assert told.endswith("Z")
    read = datetime.fromisoformat(told)
    assert timedelta(0) <= moment - read < timedelta(milliseconds=1)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None))
def test_decimals_are_plain_text_and_exact(value: Decimal) -> None:
    told = to_wire(value)
    assert Decimal(told) == value
    assert set(told) <= set("-.0123456789")
    assert not ("." in told and told.endswith(("0", ".")))


@pytest.mark.parametrize(
    ("value", "told"), [("0.10", "0.1"), ("1E-7", "0.0000001"), ("1E+2", "100"), ("0.30", "0.3"), ("1.00", "1")]
)
def test_rates_are_told_as_people_write_them(value: str, told: str) -> None:
    assert to_wire(Decimal(value)) == told


def test_names_on_the_wire_are_camel_case() -> None:
    assert [camel(name) for name in ("id", "pc_id", "vram_gb", "created_at", "class_")] == [
        "id",
        "pcId",
        "vramGb",
        "createdAt",
        "class",
    ]


def test_answers_are_whole_and_nested() -> None:
    answer = Outer((Inner(1),), id=UUID(int=5))
    assert to_wire(answer) == {
        "theList": [{"someNumber": 1}],
        "flag": False,
        "id": "00000000-0000-0000-0000-000000000005",
    }
    assert to_wire({"a": (True, None, 1, "x")}) == {"a": [True, None, 1, "x"]}
    assert all(attrs.has(cls) for cls in REQUESTS)
