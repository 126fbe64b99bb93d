"""A batch is taken apart whatever is in it, and nothing that is dear to take apart is taken for one."""

from collections.abc import Callable
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import trio

from opendesk.network.events import batches
from opendesk.network.events.batches import NotABatch, split
from opendesk.network.events.types import Event, Nameless, read
from tests.network.events.arriving import raw, release


def test_a_batch_is_split_into_its_members_as_they_came() -> None:
    assert split(b' [ {"a": 1} ,2, "x,]" ]\n') == [b'{"a": 1}', b"2", b'"x,]"']
    assert split(b"[]") == []


HALF = json.dumps(release("\ud800")).encode()
DEEP = b'{"eventId":"deep","x":' + b"[" * 5000 + b"]" * 5000 + b"}"
BIG = b'{"eventId":"big","x":1e999}'


@pytest.mark.parametrize(
    "bad", [HALF, DEEP, BIG, b'{"eventId":"\xff"}', b'"\\"]"'], ids=["half", "deep", "big", "utf8", "quote"]
)
@pytest.mark.parametrize(
    "order", [lambda bad, good: [bad, good, bad], lambda bad, good: [good, bad, good]], ids=["around", "amid"]
)
def test_a_bad_member_spoils_no_other(bad: bytes, order: Callable[[bytes, bytes], list[bytes]]) -> None:
    good = raw(release("good"))[0]
    members = order(bad, good)
    found = split(b" [" + b" , ".join(members) + b"] ")
    assert [member.strip() for member in found] == members
    assert [isinstance(read(member), Event) for member in found] == [member is good for member in members]


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"1", b"[", b"]", b"[1", b"[1}", b"[1]]", b"[1] [2]", b"[}" * 3000, b"[" * 5000, b"[]" + b"[" * 5000,
     b'"' + b"[" * 5000, b'["' + b'\\"' * 5000 + b"[" * 5000, b"x" + b"[" * 5000 + b"]" * 5000, b"\xef\xbb\xbf[]", b"[1]\\"],
    ids=lambda body: body[:6].decode(errors="replace") + str(len(body)),
)  # fmt: skip
def test_what_is_no_array_is_no_batch(body: bytes) -> None:
    with pytest.raises(NotABatch):
        split(body)


EVENT = raw(release("evt-0000001", minutes=60, peerPublicKey="xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="))[0]
SHORTEST = b'{"eventId":"a","type":"REVOKE_REQUESTED","payload":{"mikId":"r","ip":"1.1.1.1"}}'


@pytest.mark.parametrize("member", [b"1", b"[]", b'""', b"{}", b'{"x":' + b"[" * 900 + b"]" * 900 + b"}"], ids=len)
def test_what_is_dearer_to_read_than_events_is_no_batch(member: bytes) -> None:
    few = b"[" + b",".join([member] * (1000 // len(member) + 1)) + b"]"
    assert split(few)
    with pytest.raises(NotABatch, match="more commas and brackets"):
        split(b"[" + b",".join([member] * (2**20 // len(member))) + b"]")


@pytest.mark.parametrize("member", [EVENT, SHORTEST], ids=["long", "short"])
def test_events_are_never_too_many_for_their_length(member: bytes) -> None:
    for count in (1, 10_000):
        assert split(b"[" + b",".join([member] * count) + b"]") == [member] * count


def test_a_file_of_a_quarter_of_a_million_events_is_a_batch() -> None:
    members = [
        b'{"eventId":"%d","type":"REVOKE_REQUESTED","payload":{"mikId":"r1","ip":"10.5.50.7"}}' % n
        for n in range(250_000)
    ]
    assert sum(EVENT.count(mark) for mark in (b",", b"[", b"{")) < batches.MOST_MARKS // len(members)
    found = split(b"[" + b" ,\n".join(members) + b"]")
    assert [member.strip() for member in found] == members


LONG = [b'"' + b"x" * 2**20 + b'"', b'"' + b"\\\\" * 2**19 + b'"']


@pytest.mark.parametrize("member", LONG, ids=["letters", "escapes"])
def test_a_long_string_is_a_member_where_all_is_json_and_is_not_looked_through_otherwise(member: bytes) -> None:
    assert split(b"[" + member + b"]") == [member]
    assert read(member) == Nameless()
    with pytest.raises(NotABatch, match="too long"):
        split(b"[" + member + b"," + HALF + b"]")


def test_by_brackets_nothing_is_a_batch_of_nothing_and_blanks_are_no_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "AT_ONCE", 0)
    assert split(b" [ ] ") == split(b"[]") == []
    assert split(b"[[],{}]") == [b"[]", b"{}"]
    assert [member.strip() for member in split(b"[" + b" " * 2**20 + b"1, 2]\n")] == [b"1", b"2"]


@pytest.mark.parametrize("body", [b"[1,]", b"[,1]", b"[1 2]", b"[{]}]", b"[a]", b"[1][", b'[{"a" 1}]'], ids=repr)
def test_by_brackets_no_less_is_refused(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "AT_ONCE", 0)
    with pytest.raises(NotABatch):
        split(body)


async def test_the_loop_turns_while_a_long_one_is_taken_apart() -> None:
    """In a thread: where a short one would be, nothing else could happen meanwhile."""
    members = [EVENT] * (batches.IN_LOOP // len(EVENT) + 1)
    turns, found = 0, list[bytes]()

    async def turn() -> None:
        nonlocal turns
        while not found:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turn)
        found += await batches.split_apart(b"[" + b",".join(members) + b"]")
    assert found == members
    assert turns > 0
    assert await batches.split_apart(b"[1]") == [b"1"]


@settings(max_examples=25)
@given(
    st.lists(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
)
def test_splitting_by_brackets_is_splitting(members: list[Any]) -> None:
    """A member that only the brackets can part is put at the end."""
    written = [json.dumps(member).encode() for member in members]
    found = split(b"[" + b",".join([*written, DEEP]) + b"]")
    assert [json.loads(member) for member in found[:-1]] == members
