"""The published schema says what the validator takes, of whatever comes."""

import json
import os
from pathlib import Path
import string
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import jsonschema_rs
import pytest

from opendesk.network.events.acks import ack_job
from opendesk.network.events.schema import schema
from opendesk.network.events.types import Event, Reason, Type, read
from tests.network.events.arriving import event, release, revoke, trial

PUBLISHED = Path(__file__).parents[3] / "schemas" / "events.schema.json"
SCHEMA = schema()
EVENT = jsonschema_rs.Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": "#/$defs/Event"}]})
ACK = jsonschema_rs.Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": "#/$defs/Ack"}]})

KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
OPTIONAL = {"minutes": 30, "trialMinutes": 1, "peerPublicKey": KEY, "pedidoId": "10442"}

spelt_macs = st.sampled_from(
    [
        "aa:bb:cc:dd:ee:ff",
        "AA-BB-CC-DD-EE-FF",
        "aabb.ccdd.eeff",
        "AABBCCDDEEFF",
        "AA:BB:CC:DD:EE:0G",
        "01:00:5E:00:00:01",
        "00:00:00:00:00:00",
        "AA:BB-CC:DD:EE:FF",
        "AA:BB:CC:DD:EE:FF\n",
        "AA:BB:CC:DD:EE",
        "ﬀ:BB:CC:DD:EE:FF",
    ]
)
spelt_ips = st.sampled_from(
    [
        "10.5.50.12",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "127.0.0.1",
        "10.5.50.012",
        "10.5.50",
        "::1",
        "10.5.50.12\n",
        "1.2.3.4",
        "223.255.255.255",
        "240.0.0.1",
        "10.5.50.256",
        "١.2.3.4",
        " 1.2.3.4",
    ]
)
keys = st.sampled_from([KEY, "A" * 43 + "=", KEY[:-2] + "h=", KEY[:-1], KEY + "\n", ""])
numbers = st.sampled_from([0, 1, 5, 345_600, 345_601, -1, 5.0, 5.5, 2**53, 10**30, 1e300]) | st.integers(-3, 400_000)
texts = st.text(max_size=5) | st.sampled_from(
    [
        "",
        "r1",
        "r 1",
        "r1\n",
        "a" * 64,
        "a" * 65,
        "a" * 128,
        "a" * 129,
        "a" * 256,
        "a" * 257,
        "é" * 128,
        "😀" * 128,
        "\0",
        "\t",
        "\x7f",
        "\x85",
    ]
)
scalars = st.none() | st.booleans() | numbers | texts | spelt_macs | spelt_ips | keys
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters, max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)
names = st.sampled_from(
    ["mikId", "ip", "mac", "minutes", "trialMinutes", "peerPublicKey", "pedidoId", "extra", "__proto__"]
)
tops = st.sampled_from(["eventId", "type", "payload", "timestamp", "extra"])
bases = st.sampled_from([make() for make in (release, trial, revoke)])


@st.composite
def nearly_valid(draw: st.DrawFn) -> Any:
    """An event of which some members are others, or gone."""
    base = draw(bases)
    optional = draw(st.sets(st.sampled_from(sorted(OPTIONAL))))
    payload = {**base["payload"], **{name: OPTIONAL[name] for name in optional}}
    payload |= draw(st.dictionaries(names, anything, max_size=2))
    for name in draw(st.lists(names, max_size=1)):
        payload.pop(name, None)
    whole = {**base, "payload": payload, **draw(st.dictionaries(tops, anything, max_size=1))}
    for name in draw(st.lists(tops, max_size=1)):
        whole.pop(name, None)
    return whole


@st.composite
def valid(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(list(Type)))
    macs = st.sampled_from(["AA:BB:CC:DD:EE:FF", "aabb.ccdd.eeff", "00-00-00-00-00-01"])
    ips = st.sampled_from(["10.5.50.12", "1.0.0.0", "223.255.255.255"])
    payload = {
        "mikId": draw(st.text(string.ascii_letters + "._:-", min_size=1, max_size=64)),
        "ip": draw(ips),
        "mac": draw(macs),
    }
    if kind is Type.REVOKE_REQUESTED:
        payload.pop(draw(st.sampled_from(["ip", "mac", "none"])), None)
    else:
        payload["pedidoId"] = draw(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=128))
    if draw(st.booleans()):
        payload["peerPublicKey"] = KEY
    event_id = draw(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=256))
    return {"eventId": event_id, "type": kind.value, "payload": payload, "timestamp": draw(anything)}


def is_taken(member: Any) -> bool:
    return isinstance(read(json.dumps(member).encode()), Event)


@settings(max_examples=100)
@given(valid())
def test_what_is_valid_is_taken_by_both(member: Any) -> None:
    assert EVENT.is_valid(member)
    assert is_taken(member)


@settings(max_examples=250)
@given(nearly_valid())
def test_validator_and_schema_agree_on_what_is_nearly_valid(member: Any) -> None:
    assert is_taken(member) is EVENT.is_valid(member)


@settings(max_examples=100)
@given(anything)
def test_validator_and_schema_agree_on_anything_else(member: Any) -> None:
    assert is_taken(member) is EVENT.is_valid(member)


@pytest.mark.parametrize("value", ["", "a" * 129, 1, None, True, [], {}, "\0", "a\x1b"])
def test_a_pedido_id_that_is_none_is_refused_by_both(value: Any) -> None:
    assert not EVENT.is_valid(release(pedidoId=value) if value is not None else event(pedidoId=None))
    assert not is_taken(release(pedidoId=value))


def test_every_ack_that_is_sent_fits() -> None:
    for reason in Reason:
        is_told = reason not in {Reason.CIRCUIT_OPEN, Reason.PEER_OFFLINE}
        job = ack_job(bytes(32), "\ud83d\0", False, {"reason": reason.value, "error": "x"}, lane="/acks", trace_id=None)  # noqa: FBT003  # the ACK's ok
        assert ACK.is_valid(json.loads(job.payload["body"].replace("\\ud83d", "?"))) is is_told


def test_an_ack_of_failure_has_a_reason() -> None:
    assert ACK.is_valid({"eventId": "e", "ok": True, "payload": {"online": True, "dryRun": False}})
    assert not ACK.is_valid({"eventId": "e", "ok": False, "payload": {}})
    assert not ACK.is_valid({"eventId": "e", "payload": {}})


def test_the_schema_is_a_schema() -> None:
    jsonschema_rs.meta.validate(SCHEMA)


def test_the_published_schema_is_current() -> None:
    """UPDATE_SCHEMA=1 writes it anew."""
    made = json.dumps(SCHEMA, indent=2) + "\n"
    if os.environ.get("UPDATE_SCHEMA") == "1":
        PUBLISHED.write_text(made)
    published = PUBLISHED.read_text() if PUBLISHED.exists() else ""
    assert made == published, "run scripts/schemas and look at the difference"
