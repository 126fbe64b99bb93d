"""What the templates make of what they are given, without a browser."""

from collections.abc import Callable
import json
import re
from typing import Any, Final

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from opendesk.console.shapes import Figure, Row, Section, Snapshot, State
from tests.console.made_up import (
    AT,
    FOLDER,
    NASTY,
    STATIC,
    crowd,
    draw,
    draw_page,
    line,
    read,
    router,
    routers,
    snapshot,
    those,
)

PAGES: Final[dict[str, Callable[[], str]]] = {
    "page": lambda: draw_page(snapshot(routers=routers(crowd(30, bad=2), left_out=4)), said="It is tried again."),
    "a page without anything": lambda: draw_page(snapshot()),
    "log-in": lambda: draw("login.html", csrf="c", fault=None, email=""),
    "log-in refused": lambda: draw("login.html", csrf="c", fault="No.", email="ada@example.com"),
    "why": lambda: draw(
        "why.html", at=AT, csrf="c", who="ada", word="x", story=(line(0, "an event"), line(1, "its job", why="7"))
    ),
    "why nothing": lambda: draw("why.html", at=AT, csrf="c", who="ada", word="x", story=None),
    "error": lambda: draw("error.html", title="Too large", text="Less, please.", again="/console?x"),
}
every_page = pytest.mark.parametrize("html", [page() for page in PAGES.values()], ids=list(PAGES))


@every_page
def test_a_page_has_nothing_inline_and_nothing_of_other_hosts(html: str) -> None:
    for element in read(html):
        assert "style" not in element.attributes, element
        assert not any(name.startswith("on") for name in element.attributes), element
        if element.tag in {"script", "style"}:
            assert not element.text.strip()
        for name in ("src", "href", "action"):
            assert re.match(r"/console|#", element.attributes.get(name) or "#"), element


@every_page
def test_a_page_is_told_to_those_who_hear_it(html: str) -> None:
    elements = read(html)
    ids = [element.attributes["id"] for element in elements if "id" in element.attributes]
    assert len(ids) == len(set(ids)), "an id twice"
    (root,) = those(elements, "html")
    assert root.attributes["lang"] == "en"
    assert len(those(elements, "main")) == 1
    assert len(those(elements, "h1")) == 1
    assert all("alt" in image.attributes for image in those(elements, "img"))
    for element in elements:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert element.attributes.get(name) in {None, *ids}, element
        href = element.attributes.get("href") or ""
        assert not href.startswith("#") or href[1:] in ids, element


@every_page
def test_everything_that_takes_words_or_is_pressed_has_a_name(html: str) -> None:
    elements = read(html)
    labelled = {label.attributes.get("for") for label in those(elements, "label")}
    for control in those(elements, "input", lambda one: one.attributes.get("type") != "hidden"):
        assert control.attributes.get("id") in labelled - {None} or "label" in control.inside, control
    for button in those(
        elements, "button", lambda one: "dialog" not in one.inside
    ):  # which is given its words when asked
        assert button.text.strip(), button


@every_page
def test_every_post_carries_the_word_against_forgery(html: str) -> None:
    elements = read(html)
    posts = those(elements, "form", lambda one: one.attributes.get("method") == "post")
    words = those(elements, "input", lambda one: one.attributes.get("name") == "csrf")
    assert len(posts) == len(words)
    assert {word.attributes["type"] for word in words} <= {"hidden"}


def test_tables_have_captions_and_headings_of_columns_and_rows() -> None:
    elements = read(PAGES["page"]())
    assert len(those(elements, "caption")) == len(those(elements, "table")) == 1
    scopes = [head.attributes["scope"] for head in those(elements, "th")]
    assert scopes == ["col"] * 5 + ["row"] * 30
    assert {cell.attributes["data-label"] for cell in those(elements, "td") if cell.attributes.get("class") != "act"} == {
        "Circuit", "Waiting", "Heard",
    }  # fmt: skip


@pytest.mark.parametrize("place", ["cells", "key", "note", "fault", "said", "who", "word", "line", "email"])
def test_markup_in_words_of_others_comes_out_as_text(place: str) -> None:
    row = router(1, State.BAD)
    given = {
        "cells": lambda: draw_page(_with(row, cells=(NASTY, NASTY, NASTY, NASTY))),
        "key": lambda: draw_page(_with(row, key=NASTY, why=NASTY)),
        "note": lambda: draw_page(snapshot(routers=routers((router(1, heard=NASTY),)))),
        "fault": lambda: draw_page(snapshot(routers=routers((), fault=NASTY))),
        "said": lambda: draw_page(snapshot(), said=NASTY),
        "who": lambda: draw("why.html", at=AT, csrf=NASTY, who=NASTY, word="", story=None),
        "word": lambda: draw("why.html", at=AT, csrf="", who="", word=NASTY, story=None),
        "line": lambda: draw("why.html", at=AT, csrf="", who="", word="", story=(line(0, NASTY, why=NASTY),)),
        "email": lambda: draw("login.html", csrf=NASTY, fault=NASTY, email=NASTY),
    }[place]()
    elements = read(given)
    assert not those(elements, "b")
    assert {script.attributes.get("src") for script in those(elements, "script")} <= {"/console/static/console.js"}
    told = [value for one in elements for value in (one.text, *one.attributes.values()) if value and NASTY in value]
    assert told or place == "key", "it isn't there at all"


def _with(row: Row, **changes: Any) -> Snapshot:
    return snapshot(routers=routers((evolve(row, **changes),)))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 6), max_size=12))
def test_a_story_is_nested_as_deep_as_its_lines_say(depths: list[int]) -> None:
    story = tuple(line(depth, f"line {place}") for place, depth in enumerate(depths))
    elements = read(draw("why.html", at=AT, csrf="c", who="ada", word="x", story=story))
    told = those(elements, "span", lambda one: one.attributes.get("class") == "line")
    assert [one.inside.count("ul") - 1 for one in told] == depths
    assert [one.text.strip() for one in told] == [one.text for one in story]


@pytest.mark.parametrize(
    ("section", "worst", "reason"),
    [
        (routers(crowd(3)), "ok", ""),
        (routers(crowd(3, bad=1)), "bad", "Circuits open: 1"),
        (routers((router(1, State.WARN), router(2, State.WARN))), "warn", "Routers: HOTSPOT-001, closed, and 1 more"),
        (routers((evolve(router(1, State.WARN), cells=("x" * 40, "slow")),)), "warn", f"Routers: {'x' * 24}…, slow"),
        (routers(crowd(3), fault="It can't be read."), "bad", "It can't be read."),
        (Section("routers", "Routers"), "ok", ""),
        (routers((router(1, State.QUIET),)), "ok", ""),
        (Section("routers", "Routers", (Figure("a", "Asleep", "1", State.QUIET),)), "quiet", ""),
        (Section("routers", "Routers", (Figure("a", "Lost", "1", State.WARN, "of 2"),)), "warn", "Lost: 1 (of 2)"),
    ],
    ids=["all well", "one bad", "two to look at", "a long name", "unread", "nothing", "one asleep", "off", "noted"],
)
def test_a_part_is_as_its_worst_and_says_why(section: Section, worst: str, reason: str) -> None:
    elements = read(draw_page(snapshot(routers=section)))
    told = [one.attributes["data-state"] for one in elements if one.attributes.get("data-part") == "routers"]
    assert told == [worst, worst]
    (why,) = those(elements, "p", lambda one: one.attributes.get("class") == "reason" and one.text == reason)[:1]
    assert why.text == section.reason
    named = "Routers" if worst in {"warn", "bad"} else "All is well"
    assert those(elements, "span", lambda one: "h1" in one.inside)[-1].text == named


def test_states_have_the_same_words_in_the_page_and_in_its_patches() -> None:
    words = re.search(r"const WORDS = \{(.+)\};", (STATIC / "console.js").read_text())
    base = re.search(r"set words = (\{.+\}) ", (FOLDER / "templates/base.html").read_text())
    assert words is not None
    assert base is not None
    patched = {name: json.loads(word) for name, word in re.findall(r"(\w+): (\"\w+\")", words[1])}
    assert patched == json.loads(base[1])
    assert patched.keys() == {state.value for state in State}


def test_a_row_without_an_action_has_no_button() -> None:
    elements = read(draw_page(snapshot(routers=routers((router(1, State.BAD), router(2))))))
    acts = [one.attributes["action"] for one in those(elements, "form") if "tr" in one.inside]
    assert acts == ["/console/routers/HOTSPOT-001/reset"]


def test_of_a_crowd_the_first_rows_are_in_the_page_and_the_others_are_told_of() -> None:
    html = draw_page(snapshot(routers=routers(crowd(1_000, bad=10))))
    assert html.count("<tr data-key") == 100
    assert "first 100" in html
    assert ">1,000</span>" in html


def test_the_script_never_makes_markup_of_text() -> None:
    script = (STATIC / "console.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)


def test_an_id_in_a_story_leads_to_its_own() -> None:
    elements = read(draw("why.html", at=AT, csrf="c", who="ada", word="x", story=(line(0, "job 7", why="7/&"),)))
    (link,) = those(elements, "a", lambda one: "li" in one.inside)
    assert (link.text, link.attributes["href"]) == ("job 7", "/console/why?q=7/%26")


def test_what_was_asked_for_goes_and_stays_nowhere_but_on_the_page() -> None:
    """It may be a device's token: an address or a title is kept in a history, and in a proxy's log."""
    elements = read(draw("why.html", at=AT, csrf="c", who="ada", word="a token", story=None))
    (form,) = those(elements, "form", lambda one: one.attributes.get("role") == "search")
    assert form.attributes["method"] == "post"
    (title,) = those(elements, "title")
    assert "token" not in title.text
    assert not [one for one in elements for value in one.attributes.values() if value == "a token"]
