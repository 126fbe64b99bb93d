"""Queries pick the rows that a router picks."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.simulators.routeros import Refused, Router
from opendesk.simulators.routeros.menus import BINDING, MENUS
from opendesk.simulators.routeros.query import matching
from opendesk.simulators.routeros.tables import INDEXED
from tests.simulators.routeros.talking import logged_in, trapped

ROWS = (
    {".id": "*1", "name": "a", "size": "9", "disabled": "false", "address": "10.0.0.9", "for": "59s"},
    {".id": "*2", "name": "b", "size": "10", "disabled": "true", "address": "10.0.0.10", "for": "1m"},
    {".id": "*3", "name": "c", "disabled": "false", "comment": "x=y"},
)


def found(*words: str) -> str:
    test = matching(words)
    return "".join(row["name"] for row in ROWS if test.fits(row))


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), "abc"),
        (("?name=b",), "b"),
        (("?=name=b",), "b"),
        (("?comment=x=y",), "c"),
        (("?size",), "ab"),
        (("?-size",), "c"),
        (("?<size=10",), "a"),
        (("?>size=9",), "b"),
        (("?<address=10.0.0.10",), "a"),
        (("?>for=59s",), "b"),
        (("?disabled=no",), "ac"),
        (("?disabled=true",), "b"),
        (("?name=",), ""),
        (("?size", "?disabled=false"), "a"),
        (("?name=a", "?name=b", "?#|"), "ab"),
        (("?name=a", "?#!"), "bc"),
        (("?name=a", "?name=b", "?#|!"), "c"),
        (("?size", "?disabled=true", "?#&"), "b"),
        (("?name=a", "?name=b", "?name=c", "?#||"), "abc"),
        # What is on top twice: both, or either, is itself.
        (("?name=b", "?#.&"), "b"),
        # The second from the top, copied, or instead of all.
        (("?name=a", "?name=b", "?#1.|", "?#|"), "ab"),
        (("?name=a", "?name=b", "?#1"), "a"),
        (("?.id=*3",), "c"),
    ],
)
def test_the_rows_that_fit(words: tuple[str, ...], names: str) -> None:
    assert found(*words) == names


@pytest.mark.parametrize(
    "words", [("?#|",), ("?#x",), ("?name=a", "?#&"), ("?",), ("?#1",), ("?<size",), ("?#" + "9" * 999,)]
)
def test_what_is_no_query_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(Refused, match="invalid query"):
        matching(words)


@given(st.lists(st.text(max_size=6).map(lambda text: f"?{text}"), max_size=6))
def test_any_words_are_a_query_or_refused(words: list[str]) -> None:
    try:
        test = matching(words)
    except Refused:
        return
    assert all(test.fits(row) in {True, False} for row in ROWS)


CHANGES = st.sampled_from(
    [
        ("add", {"address": "10.0.0.1", "mac-address": "02:00:00:00:00:01", "comment": "yes"}),
        ("add", {"address": "10.0.0.1", "comment": "true"}),
        ("add", {"mac-address": "02:00:00:00:00:01"}),
        ("add", {"address": "10.0.0.0/24", "place-before": "*1"}),
        ("set", {".id": "*1", "address": "10.0.0.1", "mac-address": "02:00:00:00:00:02"}),
        ("set", {".id": "*2", "comment": "true"}),
        ("move", {".id": "*1"}),
        ("remove", {".id": "*2"}),
    ]
)
CONDITIONS = (
    "address=10.0.0.1",
    "mac-address=02:00:00:00:00:01",
    "-mac-address",
    "-address",
    "comment=yes",
    "comment=true",
    "comment",
)
WORDS = st.sampled_from([*CONDITIONS, "disabled=no", ".id=*1", "#|", "#&", "#!", "#1.", "#1"]).map("?{}".format)


@given(st.lists(CHANGES, max_size=8), st.lists(WORDS, max_size=6))
def test_a_print_finds_the_same_rows_as_a_look_at_each(
    changes: list[tuple[str, dict[str, str]]], words: list[str]
) -> None:
    router = Router()
    for verb, attributes in changes:
        with suppress(Refused):
            router.run(f"{BINDING}/{verb}", attributes)
    try:
        test = matching(words)
    except Refused:
        return
    assert list(router.run(f"{BINDING}/print", {}, *words).rows) == list(filter(test.fits, router.rows(BINDING)))


def test_what_rows_are_found_by_is_shown_as_it_is_held_in_every_menu() -> None:
    arguments = [menu.arguments[name] for menu in MENUS.values() for name in menu.arguments.keys() & set(INDEXED)]
    assert not [argument for argument in arguments if argument.secret or argument.left_out is not None]


def printed(router: Router, *words: str) -> list[tuple[str, ...]]:
    return logged_in(router).say("/ip/firewall/address-list/print", *words)


def filled(version: str = "7.24") -> Router:
    router = Router(version=version)
    for address in ("10.0.0.1", "10.0.0.2"):
        router.run("/ip/firewall/address-list/add", {"address": address, "list": "a"})
    return router


def test_a_print_gives_the_properties_that_are_asked_for() -> None:
    assert printed(filled(), "=.proplist=address,nothing,.id", "?address=10.0.0.2") == [
        ("!re", "=address=10.0.0.2", "=.id=*2"),
        ("!done",),
    ]


def test_a_print_counts() -> None:
    assert printed(filled(), "=count-only=", "?list=a") == [("!done", "=ret=2")]


@pytest.mark.parametrize(
    ("version", "says_empty"), [("7.12.2", False), ("7.17", False), ("7.18", True), ("7.24", True)]
)
def test_a_print_that_finds_nothing_says_so_since_7_18(version: str, *, says_empty: bool) -> None:
    assert printed(filled(version), "?list=b") == [("!empty",)] * says_empty + [("!done",)]


def test_a_bad_query_is_trapped() -> None:
    assert printed(filled(), "?#&") == trapped("invalid query", 1)
