from collections.abc import Callable
import json
import os
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import jsonschema_rs
import pytest

from opendesk.stream import control
from opendesk.stream.control import (
    CLIENT_MAX_BYTES,
    HOST_MAX_BYTES,
    Control,
    Kind,
    Scope,
    from_client,
    from_host,
    rewritten,
)

PUBLISHED = Path(__file__).parents[2] / "schemas" / "stream-control.schema.json"
LARGEST = 2**53 - 1

SESSION = "7d4b5b5e-6b1c-4a53-9a35-0f2f0b1b7c11"
OWN = Scope(token="client-own-token-0123456789", session_id=SESSION, stream_id="01234567-89ab-cdef-0123-456789abcdef")
PEER = Scope(token="host-own-token-9876543210", session_id=SESSION, stream_id="fedcba98-7654-3210-fedc-ba9876543210")
IDS = {"token": OWN.token, "sessionId": OWN.session_id, "streamId": OWN.stream_id}

PING = {"type": "stream_ping", "pingId": 1, "sentAtUs": 2}
MOVE = {"type": "mouse_move", "dx": 1, "dy": -2, "seq": 3, "tsUs": 4}
PONG = {"type": "stream_pong", "sessionId": SESSION, "streamId": OWN.stream_id, "pingId": 1}
NUMBERS = [
    "lossPct",
    "jitterMs",
    "freezeMs",
    "requestedBitrateKbps",
    "sentAtUs",
    "fpsDecode",
    "rttMs",
    "dropRatePct",
    "bufferLevel",
]
NUMBERS += ["bitrateKbps"]
STRINGS = ["reason", "status"]
REPORTS = ["keyframe_request", "request_keyframe", "network_report", "report_stats", "reconnect"]
EVENTS: list[dict[str, Any]] = [
    MOVE,
    {"type": "mouse_button", "button": 5, "down": True, "seq": 1, "tsUs": 2},
    {"type": "mouse_wheel", "deltaX": -2400, "deltaY": 0.5, "seq": 1, "tsUs": 2},
    {
        "type": "key",
        "scancode": "KeyA",
        "down": False,
        "ctrl": True,
        "alt": False,
        "shift": True,
        "meta": False,
        "seq": 1,
        "tsUs": 2,
    },
    {"type": "disconnect_hotkey", "seq": 1, "tsUs": 2},
]


def client(message: dict[str, Any]) -> Control | None:
    return from_client(json.dumps({**IDS, **message}).encode(), OWN)


def event(**fields: Any) -> Control | None:
    return client({"type": "input_event", "event": fields})


def text(body: str) -> Control | None:
    """A stream_ping with `body` put in as further members."""
    start = json.dumps({**IDS, **PING})
    return from_client(f"{start[:-1]}, {body}}}".encode(), OWN)


# Shapes


def test_a_ping_is_taken() -> None:
    assert client(PING) == Control(Kind.STREAM_PING, {"pingId": 1, "sentAtUs": 2})


@pytest.mark.parametrize("field", ["pingId", "sentAtUs"])
def test_a_ping_needs_both_fields(field: str) -> None:
    assert client({name: value for name, value in PING.items() if name != field}) is None


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_has_any_of_its_fields(kind: str) -> None:
    fields = {**dict.fromkeys(NUMBERS, 1.5), **dict.fromkeys(STRINGS, "x")}
    assert client({"type": kind, **fields}) == Control(Kind(kind), fields)
    assert client({"type": kind}) == Control(Kind(kind), {})
    for name, value in fields.items():
        assert client({"type": kind, name: value}) == Control(Kind(kind), {name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_may_be_negative_or_a_fraction_and_stays_as_it_was_written(name: str) -> None:
    for number in (0, -1, -0.25, 5, 5.0, LARGEST, -LARGEST):
        taken = client({"type": "report_stats", name: number})
        assert taken is not None
        assert repr(taken.fields[name]) == repr(number)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value", [True, "1", None, [], {}, LARGEST + 1, -LARGEST - 1, 1e300, 10**30, float("nan"), float("inf")]
)
def test_no_number_is_dropped(name: str, value: object) -> None:
    assert client({"type": "report_stats", name: value}) is None


@pytest.mark.parametrize("name", STRINGS)
@pytest.mark.parametrize("value", [1, True, None, [], {}, "\ud800", "x\udc00"])
def test_no_string_is_dropped(name: str, value: object) -> None:
    assert client({"type": "reconnect", name: value}) is None


@pytest.mark.parametrize("fields", EVENTS, ids=lambda e: e["type"])
def test_an_event_is_taken(fields: dict[str, Any]) -> None:
    assert event(**fields) == Control(Kind.INPUT_EVENT, {"version": 1, "event": fields})


@pytest.mark.parametrize("fields", EVENTS, ids=lambda e: e["type"])
def test_an_event_has_defaults(fields: dict[str, Any]) -> None:
    bare = {name: value for name, value in fields.items() if name not in ("seq", "tsUs")}
    assert event(**bare) == Control(Kind.INPUT_EVENT, {"version": 1, "event": {**bare, "seq": 0, "tsUs": 0}})


def test_a_version_is_kept() -> None:
    assert client({"type": "input_event", "version": 2, "event": MOVE}) == Control(
        Kind.INPUT_EVENT, {"version": 2, "event": MOVE}
    )


def test_modifiers_are_left_out_where_they_were() -> None:
    taken = event(type="key", scancode="KeyA", down=True, ctrl=True)
    assert taken is not None
    assert taken.fields["event"] == {"type": "key", "scancode": "KeyA", "down": True, "ctrl": True, "seq": 0, "tsUs": 0}


@pytest.mark.parametrize(
    ("fields", "name"), [(e, n) for e in EVENTS for n in e if n not in ("seq", "tsUs", "ctrl", "alt", "shift", "meta")]
)
def test_an_event_needs_its_fields(fields: dict[str, Any], name: str) -> None:
    assert event(**{n: v for n, v in fields.items() if n != name}) is None


INTEGERS: list[Callable[[object], Control | None]] = [
    lambda n: client({**PING, "pingId": n}),
    lambda n: client({**PING, "sentAtUs": n}),
    lambda n: client({"type": "input_event", "version": n, "event": MOVE}),
    lambda n: event(**{**MOVE, "seq": n}),
    lambda n: event(**{**MOVE, "tsUs": n}),
]


@pytest.mark.parametrize("with_integer", INTEGERS)
def test_an_integer_is_from_0_to_what_every_program_reads_alike(
    with_integer: Callable[[object], Control | None],
) -> None:
    for good in (0, 1, LARGEST):
        assert with_integer(good) is not None
    for bad in (-1, LARGEST + 1, 2**64, 10**40, True, False, 0.5, 1.0, 1e3, -0.0, "1", None, [1], float("nan")):
        assert with_integer(bad) is None


@pytest.mark.parametrize(
    ("kind", "names", "most"), [("mouse_move", ("dx", "dy"), 3000), ("mouse_wheel", ("deltaX", "deltaY"), 2400)]
)
def test_movements_are_bounded(kind: str, names: tuple[str, str], most: int) -> None:
    for name in names:
        still = dict.fromkeys(names, 0)
        for good in (most, -most, 0.5, float(most), -float(most)):
            assert event(type=kind, **{**still, name: good}) is not None
        for bad in (most + 1, -most - 1, most + 0.001, 1e308, 10**30, True, "1", None, float("inf"), float("nan")):
            assert event(type=kind, **{**still, name: bad}) is None


def test_buttons_are_0_to_5() -> None:
    assert [n for n in range(-2, 9) if event(type="mouse_button", button=n, down=True)] == [0, 1, 2, 3, 4, 5]
    for bad in (True, 1.0, "1", None):
        assert event(type="mouse_button", button=bad, down=True) is None


def test_scancodes_have_1_to_64_characters() -> None:
    assert [n for n in (0, 1, 64, 65) if event(type="key", scancode="é" * n, down=True)] == [1, 64]
    assert event(type="key", scancode="😀" * 64, down=True) is not None
    for bad in (30, None, ["KeyA"]):
        assert event(type="key", scancode=bad, down=True) is None


@pytest.mark.parametrize("name", ["down", "ctrl", "alt", "shift", "meta"])
def test_flags_are_true_or_false(name: str) -> None:
    for bad in (0, 1, "true", None):
        assert event(**{"type": "key", "scancode": "KeyA", "down": True, name: bad}) is None


@pytest.mark.parametrize(
    "kind", ["", "stream_pong", "relay.welcome", "STREAM_PING", "mouse_move", 1, None, True, ["stream_ping"]]
)
def test_other_types_are_dropped(kind: object) -> None:
    assert client({**PING, **MOVE, "type": kind}) is None
    assert (
        client({"type": "input_event", "event": {**MOVE, "type": kind if kind != "mouse_move" else "stream_ping"}})
        is None
    )


def test_a_message_without_a_type_is_dropped() -> None:
    assert from_client(json.dumps({**IDS, "pingId": 1, "sentAtUs": 1}).encode(), OWN) is None


@pytest.mark.parametrize("value", [None, 1, "mouse_move", [MOVE], {}])
def test_an_event_is_an_object(value: object) -> None:
    assert client({"type": "input_event", "event": value}) is None


# What is left out


def test_unknown_fields_are_left_out() -> None:
    assert client({**PING, "extra": {"a": [1, {"b": None}]}, "__proto__": 1, "ping_id": 9}) == client(PING)
    assert event(**MOVE, extra=1, token="t", sessionId="s") == event(**MOVE)
    assert client({**PING, "event": MOVE, "reason": "x", "version": 3}) == client(PING)


def test_of_a_field_given_twice_only_what_was_checked_is_sent() -> None:
    twice = text('"pingId": 7, "ping\\u0049d": 8')
    assert twice == Control(Kind.STREAM_PING, {"pingId": 8, "sentAtUs": 2})
    assert rewritten(twice, PEER, with_token=True).count(b"pingId") == 1
    assert text('"pingId": "x"') is None
    assert text('"pingId": "x", "pingId": 1') is None


def test_an_id_given_twice_smuggles_in_none() -> None:
    assert text('"token": "somebody-elses-token-12"') is None
    assert text('"type": "reconnect"') is None
    sent = text(f'"token": "somebody-elses-token-12", "token": "{OWN.token}"')
    assert sent is not None
    assert b"somebody" not in rewritten(sent, PEER, with_token=True)


# JSON


@pytest.mark.parametrize(
    "body",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "nan",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "0x1",
        "'a'",
        '"\\x"',
        '"\t"',
        "tru",
        "undefined",
    ],
)
def test_a_value_of_another_language_is_dropped_even_in_an_unknown_field(body: str) -> None:
    assert text(f'"extra": {body}') is None


@pytest.mark.parametrize(
    "body",
    ["[1,]", "{a: 1}", "/**/1", "", '"\\ud800"', '"\\udc00\\ud800"', '"', "[", "]", "{", '{"a"}', "1 2"],
)
def test_what_is_no_json_is_dropped_even_in_unknown_fields(body: str) -> None:
    assert text(f'"extra": {body}') is None
    assert text('"extra": 1') is not None


def test_bytes_that_are_no_utf8_are_dropped() -> None:
    for odd in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"):
        for name in (b"extra", b"reason"):
            message = json.dumps({**IDS, "type": "reconnect"}).encode()
            assert from_client(message[:-1] + b', "' + name + b'": "' + odd + b'"}', OWN) is None


@pytest.mark.parametrize(
    "whole",
    [b"", b" ", b"null", b"1", b'"stream_ping"', b"[]", b"{}", b"\x00", b"\xef\xbb\xbf{}", b"{}{}", b"[" * 2048],
)
def test_what_is_no_object_is_dropped(whole: bytes) -> None:
    assert from_client(whole, OWN) is None
    assert from_host(whole[:HOST_MAX_BYTES], OWN) is None


def test_what_follows_the_object_is_looked_at() -> None:
    message = json.dumps({**IDS, **PING}).encode()
    assert from_client(message + b" \n", OWN) is not None
    for tail in (b"{}", b"\0", b",", b"x"):
        assert from_client(message + tail, OWN) is None


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_is_bounded(opening: str, closing: str) -> None:
    """The object itself is one level."""
    for levels, taken in ((control.MAX_DEPTH - 1, True), (control.MAX_DEPTH, False), (250, False)):
        assert (text(f'"extra": {opening * levels}1{closing * levels}') is not None) is taken


@pytest.mark.parametrize("start", ["", '{"a":', '{"a":"', '{"a":"\\"', "1,", "["])
def test_brackets_that_pair_with_nothing_hide_no_depth(start: str) -> None:
    assert from_client((start + "]" * 900 + "[" * 1100).encode(), OWN) is None
    assert from_client((start + "}" * 200 + '{"a":' * 300).encode(), OWN) is None


def test_brackets_in_strings_and_side_by_side_are_not_nesting() -> None:
    brackets = '[{"' * 40
    assert client({"type": "reconnect", "reason": brackets}) == Control(Kind.RECONNECT, {"reason": brackets})
    assert text(f'"extra": [{",".join(["[]"] * 100)}]') is not None


@pytest.mark.parametrize("filler", ['\\"', "\\", '"', "[{", '\\"['])
def test_broken_strings_with_many_brackets_are_dropped(filler: str) -> None:
    assert from_client(("[" * 40 + '"' + filler * 2048)[:CLIENT_MAX_BYTES].encode(), OWN) is None


def test_sizes_are_bounded_in_bytes() -> None:
    for most, read, message in ((CLIENT_MAX_BYTES, from_client, {**IDS, **PING}), (HOST_MAX_BYTES, from_host, PONG)):
        full = json.dumps(message).encode().ljust(most)
        assert read(full, OWN) is not None
        assert read(full + b" ", OWN) is None
    wide = json.dumps({**IDS, "type": "reconnect", "reason": "é" * 1000}, ensure_ascii=False)
    assert len(wide) < CLIENT_MAX_BYTES
    assert from_client(wide.encode(), OWN) is None


@given(st.binary(max_size=300))
def test_any_bytes_have_an_answer(body: bytes) -> None:
    assert from_client(body, OWN) is None
    assert from_host(body, OWN) is None


@given(st.data())
def test_a_damaged_message_never_raises(data: st.DataObject) -> None:
    message = bytearray(
        json.dumps({**IDS, "type": "input_event", "event": data.draw(st.sampled_from(EVENTS))}).encode()
    )
    for at, byte in data.draw(
        st.dictionaries(st.integers(0, len(message) - 1), st.integers(0, 255), min_size=1, max_size=3)
    ).items():
        message[at] = byte
    taken = from_client(bytes(message), OWN)
    if taken is not None:
        json.loads(rewritten(taken, PEER, with_token=True))


# Scope


@pytest.mark.parametrize("name", ["token", "sessionId", "streamId"])
def test_a_client_says_whose_message_it_is(name: str) -> None:
    peer = {"token": PEER.token, "sessionId": "c0ffee00-1234-4abc-8def-001122334455", "streamId": PEER.stream_id}
    for wrong in (peer[name], "", None, 1, IDS[name][:-1], IDS[name] + "0", IDS[name] + "\0", "é" * 20, "ﬀ" * 16):
        assert client({**PING, name: wrong}) is None
    bare = {**IDS, **PING}
    del bare[name]
    assert from_client(json.dumps(bare).encode(), OWN) is None


def test_ids_may_be_spelled_otherwise_but_not_the_token() -> None:
    assert client({**PING, "sessionId": SESSION.upper()}) is not None
    assert client({**PING, "sessionId": SESSION.replace("-", "")}) is None
    for stream in (OWN.stream_id.upper(), OWN.stream_id.replace("-", ""), OWN.stream_id.replace("-", "").upper()):
        assert client({**PING, "streamId": stream}) is not None
    assert client({**PING, "streamId": "-" * 33 + OWN.stream_id.replace("-", "")}) is None
    assert client({**PING, "token": OWN.token.upper()}) is None


# Hosts


def test_a_pong_is_taken_with_or_without_its_times() -> None:
    times = {"sentAtUs": 2, "receivedAtUs": 3, "hostTsUs": LARGEST}
    assert from_host(json.dumps(PONG).encode(), OWN) == Control(Kind.STREAM_PONG, {"pingId": 1})
    assert from_host(json.dumps({**PONG, **times}).encode(), OWN) == Control(Kind.STREAM_PONG, {"pingId": 1, **times})


@pytest.mark.parametrize("name", ["pingId", "sentAtUs", "receivedAtUs", "hostTsUs"])
def test_a_pongs_integers_are_integers(name: str) -> None:
    for bad in (-1, LARGEST + 1, True, 1.0, "1", None):
        assert from_host(json.dumps({**PONG, name: bad}).encode(), OWN) is None


@pytest.mark.parametrize("name", ["type", "sessionId", "streamId", "pingId"])
def test_a_pong_needs_its_fields(name: str) -> None:
    assert from_host(json.dumps({n: v for n, v in PONG.items() if n != name}).encode(), OWN) is None


def test_a_host_sends_pongs_of_its_own_scope_only() -> None:
    for wrong in (
        {"streamId": PEER.stream_id},
        {"sessionId": "c0ffee00-1234-4abc-8def-001122334455"},
        {"type": "stream_ping"},
    ):
        assert from_host(json.dumps({**PONG, **wrong}).encode(), OWN) is None
    assert from_host(json.dumps({**IDS, **PING}).encode(), OWN) is None
    assert from_host(json.dumps({**IDS, "type": "input_event", "event": MOVE}).encode(), OWN) is None


def test_a_hosts_token_is_left_out() -> None:
    pong = from_host(json.dumps({**PONG, "token": OWN.token}).encode(), OWN)
    assert pong == Control(Kind.STREAM_PONG, {"pingId": 1})


# What the receiver gets


def test_a_message_is_rewritten_with_the_receivers_ids() -> None:
    sent = client({"type": "input_event", "extra": 1, "event": {"type": "mouse_move", "dx": 1, "dy": 2.5}})
    assert sent is not None
    assert rewritten(sent, PEER, with_token=True) == (
        b'{"type":"input_event","token":"host-own-token-9876543210","sessionId":"7d4b5b5e-6b1c-4a53-9a35-0f2f0b1b7c11",'
        b'"streamId":"fedcba98-7654-3210-fedc-ba9876543210","version":1,'
        b'"event":{"type":"mouse_move","dx":1,"dy":2.5,"seq":0,"tsUs":0}}'
    )


def test_a_pong_is_rewritten_without_a_token() -> None:
    pong = from_host(json.dumps(PONG).encode(), OWN)
    assert pong is not None
    assert rewritten(pong, PEER, with_token=False) == (
        b'{"type":"stream_pong","sessionId":"7d4b5b5e-6b1c-4a53-9a35-0f2f0b1b7c11",'
        b'"streamId":"fedcba98-7654-3210-fedc-ba9876543210","pingId":1}'
    )


# Schema

SCHEMA = control.schema()
VALID = {
    side: jsonschema_rs.Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": f"#/$defs/{side}"}]})
    for side in ("ClientMessage", "HostMessage")
}

# Integral numbers with a point are left out: JSON Schema takes 1.0 for an integer, the relay does not.
numbers = (
    st.integers(-4000, 4000)
    | st.integers(-(2**60), 2**60)
    | st.floats(-4000, 4000).filter(lambda x: not x.is_integer())
)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=70)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(
    [*NUMBERS, *STRINGS, "pingId", "version", "event", "extra", "type", "token", "sessionId", "streamId"]
)
event_names = st.sampled_from(sorted({name for e in EVENTS for name in e} | {"extra"}))
events = st.builds(
    lambda base, changed: {**base, **changed},
    st.sampled_from(EVENTS),
    st.dictionaries(event_names, anything, max_size=2),
)
kinds = st.sampled_from([kind.value for kind in Kind])
spelled = {
    "token": st.just(OWN.token),
    "sessionId": st.sampled_from([SESSION, SESSION.upper()]),
    "streamId": st.sampled_from([OWN.stream_id, OWN.stream_id.replace("-", "").upper()]),
}
messages = st.builds(
    lambda kind, ids, inner, changed, dropped: {
        name: value
        for name, value in {"type": kind, "pingId": 1, "sentAtUs": 1, **ids, "event": inner, **changed}.items()
        if name not in dropped
    },
    kinds,
    st.fixed_dictionaries(spelled),
    events,
    st.dictionaries(names, anything, max_size=2),
    st.lists(names, max_size=1),
)


def is_scope(message: dict[str, Any], *, with_token: bool) -> bool:
    """Of a message whose shape is right."""
    stream = message["streamId"].replace("-", "").lower() == OWN.stream_id.replace("-", "")
    return stream and message["sessionId"].lower() == SESSION and (not with_token or message["token"] == OWN.token)


@settings(max_examples=500)
@given(messages)
def test_validator_and_schema_agree(message: dict[str, Any]) -> None:
    body = json.dumps(message, ensure_ascii=False).encode()
    sides = (("ClientMessage", from_client, CLIENT_MAX_BYTES, True), ("HostMessage", from_host, HOST_MAX_BYTES, False))
    for side, read, most, with_token in sides:
        if len(body) <= most:
            expected = VALID[side].is_valid(message) and is_scope(message, with_token=with_token)
            assert (read(body, OWN) is not None) is expected


@settings(max_examples=300)
@given(messages)
def test_what_is_carried_is_what_the_schema_knows_of_what_was_sent(message: dict[str, Any]) -> None:
    body = json.dumps(message, ensure_ascii=False).encode()
    taken = from_client(body, OWN)
    if taken is None:
        return
    carried = json.loads(rewritten(taken, PEER, with_token=True))
    assert VALID["ClientMessage"].is_valid(carried)
    defaults = {"version": 1, "seq": 0, "tsUs": 0}
    for got, sent in ((carried, message), (carried.get("event", {}), message.get("event", {}))):
        for name in got.keys() - {"token", "sessionId", "streamId", "event"}:
            assert got[name] == sent.get(name, defaults.get(name))
    again = from_client(rewritten(taken, OWN, with_token=True), OWN)
    assert again == taken


def test_every_kind_is_declared_once() -> None:
    tags = [part["properties"]["type"]["enum"] for name, part in SCHEMA["$defs"].items() if "properties" in part]
    assert sorted(tag for [tag] in tags) == sorted([*Kind, *(e["type"] for e in EVENTS)])


def test_the_schema_is_a_schema() -> None:
    jsonschema_rs.meta.validate(SCHEMA)


def test_the_published_schema_is_current() -> None:
    """UPDATE_SCHEMA=1 writes it anew."""
    made = json.dumps(SCHEMA, indent=2) + "\n"
    if os.environ.get("UPDATE_SCHEMA") == "1":
        PUBLISHED.write_text(made)
    published = PUBLISHED.read_text() if PUBLISHED.exists() else ""
    assert made == published, "run this test with UPDATE_SCHEMA=1 and look at the difference"
