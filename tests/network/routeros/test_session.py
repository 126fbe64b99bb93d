"""Commands out, answers in, without a network."""

from itertools import pairwise
from typing import Any

import pytest

from opendesk.network.routeros.codec import MAX_WORD_BYTES
from opendesk.network.routeros.errors import Fatal, ProtocolError, TooMuch, Trap
from opendesk.network.routeros.session import (
    MAX_TRAPS,
    MAX_UNASKED_BYTES,
    WORD_COSTS_BYTES,
    Came,
    Command,
    Ended,
    Event,
    Finished,
    Overflowed,
    Result,
    Session,
)
from opendesk.network.routeros.words import MAX_TEXT
from tests.network.routeros.scripting import said

PRINT = Command("/ip/address/print")


def shape(event: Event) -> tuple[object, ...]:
    """An event without exceptions, which are equal to nothing but themselves."""
    match event:
        case Finished(tag, Trap() as trap):
            return (tag, "trap", trap.category, trap.message)
        case Finished(tag, outcome):
            return (tag, "done", outcome)
        case Came(tag, row):
            return (tag, "row", row)
        case Overflowed(tag, error):
            return (tag, "overflow", str(error))
        case Ended(error):
            return (type(error), str(error))


def heard(session: Session, *sentences: bytes) -> list[tuple[object, ...]]:
    return [shape(event) for event in session.receive(b"".join(sentences))]


def test_a_command_is_its_words_in_the_routers_order() -> None:
    command = Command(
        "/ip/hotspot/host/print",
        {"detail": "", "comment": "a=b\nc"},
        queries=("?address=10.0.0.1", "?mac-address=0A:00:00:00:00:01", "?#|"),
        proplist=(".id", "address"),
    )
    tag, wire = Session().send(command)
    assert tag == 1
    assert wire == said(
        "/ip/hotspot/host/print",
        "=detail=",
        "=comment=a=b\nc",
        "=.proplist=.id,address",
        "?address=10.0.0.1",
        "?mac-address=0A:00:00:00:00:01",
        "?#|",
        ".tag=1",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": ""},
        {"path": "=name=x"},
        {"path": "/x", "attributes": {"": "x"}},
        {"path": "/x", "attributes": {"a=b": "x"}},
        {"path": "/x", "queries": (".tag=1",)},
        {"path": "/x", "queries": ("",)},
        {"path": "/x", "proplist": ("a,b",)},
        {"path": "/x", "attributes": {"a": "x" * MAX_WORD_BYTES}},
        {"path": "/x", "attributes": {"a": "\ud800"}},
    ],
)
def test_what_would_be_another_word_is_no_command(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Command(**arguments)


def test_a_command_doesnt_change_with_what_it_was_made_of() -> None:
    attributes = {"name": "x"}
    command = Command("/x", attributes)
    attributes["name"] = "y"
    assert command == Command("/x", {"name": "x"})


def test_a_command_doesnt_show_secrets() -> None:
    command = Command("/user/add", {"name": "tech", "password": "hush-hush", "private-key": "hush-key"})
    assert "hush" not in repr(command)
    assert "tech" in repr(command)


def test_rows_and_the_id_of_what_was_added() -> None:
    session = Session()
    tag, _ = session.send(PRINT)
    assert session.in_flight == 1
    rows = said("!re", "=.id=*1", "=comment=a=b=c", ".tag=1") + said("!re", ".tag=1", "=disabled=false", "=empty=")
    assert heard(session, rows) == []
    assert heard(session, said("!done", "=ret=*1A", ".tag=1")) == [
        (tag, "done", Result(({".id": "*1", "comment": "a=b=c"}, {"disabled": "false", "empty": ""}), "*1A"))
    ]
    assert session.in_flight == 0


def test_every_position_where_the_answer_may_be_cut() -> None:
    wire = said("!re", "=a=1", ".tag=1") + said("!empty", ".tag=2") + said("!done", ".tag=2") + said("!done", ".tag=1")
    for at in range(len(wire) + 1):
        session = Session()
        session.send(PRINT)
        session.send(PRINT)
        assert heard(session, wire[:at]) + heard(session, wire[at:]) == [
            (2, "done", Result()),
            (1, "done", Result(({"a": "1"},))),
        ]


def test_bytes_that_are_no_text_come_through_both_ways() -> None:
    session = Session()
    session.send(PRINT)
    event = session.receive(said("!re", b"=comment=Jo\xe3o", ".tag=1") + said("!done", ".tag=1"))[0]
    assert isinstance(event, Finished)
    assert isinstance(event.outcome, Result)
    comment = event.outcome.rows[0]["comment"]
    _, wire = session.send(Command("/x/set", {"comment": comment}))
    assert b"=comment=Jo\xe3o" in wire


@pytest.mark.parametrize(
    ("traps", "category", "message"),
    [
        ([("=category=1", "=message=no such thing")], 1, "no such thing"),
        ([("=message=first",), ("=category=4", "=message=second")], 4, "first; second"),
        ([("=message=failure: already have such entry",)], None, "failure: already have such entry"),
        ([()], None, ""),
        ([("=category=x", "=message=m")], None, "m"),
        ([("=category=99999999999999999999", "=message=m")], None, "m"),
        ([("=message=m",)] * (MAX_TRAPS + 5), None, "; ".join("m" * MAX_TRAPS)),
        ([("=message=" + "m" * 5000,)], None, "m" * MAX_TEXT),
    ],
)
def test_a_trap_ends_nothing_and_may_come_more_than_once(
    traps: list[tuple[str, ...]], category: int | None, message: str
) -> None:
    session = Session()
    session.send(PRINT)
    for words in traps:
        assert heard(session, said("!trap", *words, ".tag=1")) == []
    assert session.in_flight == 1
    assert heard(session, said("!done", ".tag=1")) == [(1, "trap", category, message)]


def test_empty_and_answers_nobody_knows_yet_are_passed_over() -> None:
    session = Session()
    session.send(PRINT)
    assert heard(session, said("!empty", ".tag=1"), said("!novelty", "=x=y", ".tag=1")) == []
    assert heard(session, said("!done", ".tag=1")) == [(1, "done", Result())]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_cancelled_command_is_over_when_both_are_done(order: tuple[int, int]) -> None:
    session = Session()
    tag, _ = session.send(PRINT)
    assert session.cancel(tag) == said("/cancel", "=tag=1", ".tag=2")
    assert session.cancel(tag) == b""
    assert heard(session, said("!re", "=a=1", ".tag=1")) == []
    assert heard(session, said("!trap", "=category=2", "=message=interrupted", ".tag=1")) == []
    assert heard(session, said("!done", f".tag={order[0]}")) == []
    assert session.in_flight == 2
    assert heard(session, said("!done", f".tag={order[1]}")) == [(1, "trap", 2, "interrupted")]
    assert session.in_flight == 0
    assert session.cancel(tag) == b""


def test_a_command_that_was_quicker_than_its_cancellation_is_what_it_was() -> None:
    session = Session()
    tag, _ = session.send(Command("/x/add"))
    session.cancel(tag)
    heard(session, said("!done", "=ret=*5", ".tag=1"))
    assert heard(session, said("!trap", "=message=no such item", ".tag=2"), said("!done", ".tag=2")) == [
        (1, "done", Result((), "*5"))
    ]


def test_a_cancellation_isnt_cancelled() -> None:
    session = Session()
    session.cancel(session.send(PRINT)[0])
    assert session.cancel(2) == b""
    assert session.cancel(99) == b""


def test_answers_to_what_is_over_are_passed_over() -> None:
    session = Session()
    session.send(PRINT)
    heard(session, said("!done", ".tag=1"))
    late = [said("!re", "=a=1", ".tag=1"), said("!trap", ".tag=1"), said("!done", ".tag=1")]
    assert heard(session, *late) == []
    assert session.in_flight == 0


def test_who_listens_is_told_row_by_row() -> None:
    session = Session()
    tag, _ = session.send(Command("/log/listen"), is_listening=True)
    assert heard(session, said("!re", "=a=1", ".tag=1")) == [(tag, "row", {"a": "1"})]
    assert heard(session, said("!re", "=.id=*1", "=.dead=true", ".tag=1")) == [
        (tag, "row", {".id": "*1", ".dead": "true"})
    ]
    assert heard(session, said("!done", ".tag=1")) == [(tag, "done", Result())]


def test_fatal_is_the_end_with_its_reason() -> None:
    session = Session()
    session.send(PRINT)
    wire = said("!done", ".tag=1") + said("!fatal", "session terminated on request") + said("!done", ".tag=1")
    assert heard(session, wire) == [(1, "done", Result()), (Fatal, "session terminated on request")]
    assert heard(session, said("!done", ".tag=1")) == []
    assert session.in_flight == 0


@pytest.mark.parametrize(
    "wire",
    [
        b"\xff",
        said("hello"),
        said("re", ".tag=1"),
        said("!done"),
        said("!trap", "=message=no tag"),
        said("!done", ".tag="),
        said("!done", ".tag=0"),
        said("!done", ".tag=2"),
        said("!done", ".tag=-1"),
        said("!done", ".tag=" + "9" * 5000),
        said("!done", ".tag=²"),
        said(*["!re"] * 2000),
    ],
)
def test_what_is_no_answer_of_a_router_is_the_end(wire: bytes) -> None:
    session = Session()
    session.send(PRINT)
    [event] = session.receive(wire)
    assert isinstance(event, Ended)
    assert isinstance(event.error, ProtocolError)


@pytest.mark.parametrize(
    "junk",
    [
        said("!re", ".tag=1"), said("!done", ".tag=1"), said("!re", "=a=" + "x" * 9000, ".tag=1"), said("!what", ".tag=2"),
        said("!trap", "=message=no", ".tag=2"),
    ],
)  # fmt: skip
def test_a_flood_that_nobody_asked_for_is_the_end(junk: bytes) -> None:
    session = Session()
    session.send(PRINT)
    session.receive(said("!done", ".tag=1"))
    session.send(PRINT)
    bounded = MAX_UNASKED_BYTES // WORD_COSTS_BYTES + MAX_TRAPS
    ends = [event for _ in range(bounded) for event in session.receive(junk)]
    [event] = ends
    assert isinstance(event, Ended)
    assert isinstance(event.error, ProtocolError)
    assert "nobody asked for" in str(event.error)


def test_a_stray_answer_now_and_then_is_no_flood() -> None:
    session = Session()
    stray = said("!re", "=a=1", ".tag=1") * 9
    session.send(PRINT)
    session.receive(said("!done", ".tag=1"))
    for tag in range(2, 200):
        session.send(PRINT)
        assert session.receive(stray) == []
        [event] = session.receive(said("!done", f".tag={tag}"))
        assert isinstance(event, Finished)


def test_more_rows_than_are_kept_are_said_once_and_thrown_away() -> None:
    session = Session(max_rows=2)
    tag, _ = session.send(PRINT)
    row = said("!re", "=a=1", ".tag=1")
    assert heard(session, row, row) == []
    [event] = session.receive(row * 5)
    assert isinstance(event, Overflowed)
    assert isinstance(event.error, TooMuch)
    assert heard(session, row, said("!done", ".tag=1")) == [(tag, "done", Result())]


def test_large_rows_and_many_tiny_words_are_too_much_as_well() -> None:
    for words in (["=a=" + "x" * 9000], ["=a="] * 70):
        session = Session(max_answer_bytes=9000)
        session.send(PRINT)
        [event] = session.receive(said("!re", *words, ".tag=1"))
        assert isinstance(event, Overflowed)


def test_two_answers_woven_into_each_other_are_told_apart_at_any_cut() -> None:
    session = Session()
    session.send(PRINT)
    session.send(PRINT)
    wire = b"".join(said("!re", f"=n={n}", f".tag={1 + n % 2}") for n in range(6))
    wire += said("!done", ".tag=1") + said("!done", ".tag=2")
    told = [
        event
        for start, end in pairwise([*range(0, len(wire), 7), len(wire)])
        for event in heard(session, wire[start:end])
    ]
    assert told == [
        (1, "done", Result(({"n": "0"}, {"n": "2"}, {"n": "4"}))),
        (2, "done", Result(({"n": "1"}, {"n": "3"}, {"n": "5"}))),
    ]
