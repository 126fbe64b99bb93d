"""Events are read one by one: what is wrong with one is told of that one."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.events.types import (
    MOST_ID_TOLD,
    MOST_MEMBER,
    Event,
    Invalid,
    Nameless,
    Reason,
    Type,
    hash_of,
    id_of,
    is_usable,
    read,
)
from opendesk.network.hotspots.place import Place
from tests.network.events.arriving import IP, MAC, Json, raw, release, revoke, trial

KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="


def reading(member: Any) -> Event | Invalid | Nameless:
    return read(*raw(member))


def refusal(member: Any) -> tuple[Reason, str]:
    found = reading(member)
    assert isinstance(found, Invalid)
    return found.reason, found.error


def test_each_type_is_read_with_all_it_has() -> None:
    here = Place(IP, MAC)
    minutes = 60
    assert reading(release(minutes=5, peerPublicKey=KEY)) == Event(
        "e1", Type.RELEASE_REQUESTED, "r1", "1", here, 5 * minutes, KEY
    )
    assert reading(trial(trialMinutes=7)) == Event("e1", Type.TRIAL_REQUESTED, "r1", "1", here, 7 * minutes, None)
    assert reading(revoke(ip=None)) == Event("e1", Type.REVOKE_REQUESTED, "r1", None, Place(None, MAC), None, None)


def test_a_trial_without_minutes_has_five_and_a_release_has_no_end() -> None:
    for made, seconds in ((trial(), 300), (trial(trialMinutes=None), 300), (release(), None)):
        found = reading(made)
        assert isinstance(found, Event)
        assert found.duration_s == seconds


def test_addresses_are_canonical() -> None:
    found = reading(release(mac="aabb.ccdd.ee01"))
    assert isinstance(found, Event)
    assert found.place == Place(IP, MAC)


def test_members_that_nobody_knows_are_left_out() -> None:
    assert reading({**release(extra={"a": [1]}), "more": None, "timestamp": {}}) == reading(release())


@pytest.mark.parametrize(
    ("member", "named"),
    [
        (release(mac="nobody"), "/payload/mac"),
        (release(ip="10.5.50"), "/payload/ip"),
        (release(minutes="5"), "/payload/minutes"),
        (release(pedidoId=None), "/payload/pedidoId"),
        (release(mikId="a b"), "/payload/mikId"),
        (trial(trialMinutes=0), "/payload/trialMinutes"),
        (release(peerPublicKey="A" * 43 + "="), "/payload/peerPublicKey"),
        (revoke(ip=None, mac=None), "/payload/ip"),
        ({**release(), "payload": None}, "/payload"),
        ({"eventId": "e1", "type": "RELEASE_REQUESTED"}, "/payload"),
        ({"eventId": "e1"}, "/type"),
        ({**release(), "type": 1}, "/type"),
        (release(""), "/eventId"),
        (release("a" * 257), "/eventId"),
        (release("a\0"), "/eventId"),
        (release("a\x85"), "/eventId"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_is_told_with_its_place(member: Json, named: str) -> None:
    reason, error = refusal(member)
    assert reason is Reason.VALIDATION
    assert error.startswith(f"{named} ")


def test_all_faults_are_told() -> None:
    _, error = refusal(release(mac="x", ip="y"))
    assert "/payload/mac" in error
    assert "/payload/ip" in error


def test_an_unknown_type_is_told_for_that_whatever_its_payload_is() -> None:
    for payload in list[object]([None, {}, 1]):
        found = reading({"eventId": "e", "type": "X" * 99, "payload": payload})
        assert isinstance(found, Invalid)
        assert (found.reason, found.type) == (Reason.UNKNOWN_TYPE, "X" * 64)


@pytest.mark.parametrize("event_id", [None, 1, True, ["e"], {}, 1.5], ids=repr)
def test_who_has_no_string_for_an_id_is_nameless(event_id: object) -> None:
    assert reading({**release(), "eventId": event_id}) == Nameless()


@pytest.mark.parametrize(
    "member", [b"", b"1", b"null", b"[]", b"{}", b"{", b"\xff", b'{"eventId":"\xff"}', b"[" * 9999, b"{" * 9999]
)
def test_what_is_no_event_at_all_is_nameless(member: bytes) -> None:
    assert read(member) == Nameless()


def test_an_id_that_no_ack_has_room_for_is_none() -> None:
    assert isinstance(reading(release("😀" * MOST_ID_TOLD)), Invalid)
    assert reading(release("a" * (MOST_ID_TOLD + 1))) == Nameless()


def test_half_characters_are_refused_and_told_with_the_id_as_it_came() -> None:
    for made, event_id in ((release("\ud83d"), "\ud83d"), (release(pedidoId="\udc00"), "e1")):
        found = reading(made)
        assert isinstance(found, Invalid)
        assert (found.reason, found.event_id) == (Reason.VALIDATION, event_id)
    assert hash_of("\ud83d") != hash_of("\ud83e")
    assert not is_usable("\ud83d")


@given(st.binary(max_size=200) | st.builds(lambda text: text.encode(), st.text(max_size=200)))
def test_no_bytes_make_reading_raise(member: bytes) -> None:
    read(member)


@given(st.data())
def test_a_damaged_event_never_raises_and_its_id_is_read_alike(data: st.DataObject) -> None:
    member = bytearray(raw(release(minutes=5, peerPublicKey=KEY))[0])
    places = st.dictionaries(st.integers(0, len(member) - 1), st.integers(0, 255), min_size=1, max_size=3)
    for at, byte in data.draw(places).items():
        member[at] = byte
    found = read(bytes(member))
    assert id_of(bytes(member)) == (None if isinstance(found, Nameless) else found.event_id)


def test_a_number_that_no_program_has_costs_nobody_its_id() -> None:
    digits = b"1" * 5000
    for member in (b'{"eventId":"e1","timestamp":' + digits + b"}", b'{"eventId":"e1","x":[-' + digits + b"]}"):
        found = read(member)
        assert isinstance(found, Invalid)
        assert (found.event_id, found.reason) == ("e1", Reason.VALIDATION)


def test_one_that_is_longer_than_anybody_writes_is_not_looked_at() -> None:
    long = raw(release(extra="x" * MOST_MEMBER))[0]
    assert read(long) == Nameless()
    assert isinstance(read(raw(release(extra="x" * (MOST_MEMBER - 1000)))[0]), Event)
