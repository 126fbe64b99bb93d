from itertools import pairwise
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.console import texts
from opendesk.console.patches import patch, whole
from opendesk.console.plots import Drawn, drawn
from opendesk.console.sections.kept import Kept
from opendesk.console.shapes import Figure, Plot, Row, Section, Snapshot, State, Table

STATES: Final = st.sampled_from(list(State))
WORDS: Final = st.sampled_from(["", "a", "<b>", "é"])
ROWS: Final = st.lists(
    st.builds(Row, st.sampled_from("abcdef"), st.tuples(WORDS, WORDS), STATES, st.none() | WORDS, st.booleans()),
    unique_by=lambda row: row.key,
    max_size=6,
)
TABLES: Final = st.builds(
    lambda rows, left_out: Table("t", "T", ("A", "B"), tuple(rows), "none", left_out), ROWS, st.integers(0, 2)
)
POINTS: Final = st.lists(st.none() | st.floats(0, 1e9), max_size=5).map(tuple)
SECTIONS: Final = st.builds(
    lambda figure, points, table, fault: Section("s", "S", (figure,), (Plot("p", "P", "", points),), (table,), fault),
    st.builds(Figure, st.just("f"), st.just("F"), WORDS, STATES, WORDS),
    POINTS,
    TABLES,
    st.none() | WORDS,
)
SNAPSHOTS: Final = st.builds(lambda section, at: Snapshot(at, {"s": section}), SECTIONS, st.sampled_from(["1", "2"]))

Shown = dict[str, Any]


def apply(shown: Shown, told: Shown) -> Shown:
    """What a page makes of a patch."""
    kept = {name: {**shown.get(name, {}), **told[name]} for name in ("parts", "figures", "plots", "faults")}
    tables = dict(shown.get("tables", {}))
    for name, change in told["tables"].items():
        before = tables.get(name, {"rows": {}, "order": [], "left_out": 0})
        rows = {**before["rows"], **{row[0]: row for row in change["rows"]}}
        for key in change["gone"]:
            del rows[key]
        tables[name] = {"rows": rows, "order": change.get("order", before["order"]), "left_out": change["left_out"]}
    return {"at": told["at"], **kept, "tables": tables}


@given(st.lists(SNAPSHOTS, min_size=1, max_size=6))
def test_patches_applied_in_order_give_the_last_snapshot(snapshots: list[Snapshot]) -> None:
    shown = apply({}, whole(snapshots[0]))
    for before, after in pairwise(snapshots):
        shown = apply(shown, patch(before, after))
    assert shown == apply({}, whole(snapshots[-1]))


@given(SNAPSHOTS)
def test_nothing_is_told_of_what_stayed_the_same(snapshot: Snapshot) -> None:
    assert patch(snapshot, snapshot) == {
        "at": snapshot.at,
        "parts": {},
        "figures": {},
        "plots": {},
        "tables": {},
        "faults": {},
    }


def test_a_row_that_is_the_same_is_made_once_and_forgotten_with_its_fact() -> None:
    made: list[str] = []

    def make(key: str, fact: int) -> Row:
        made.append(key)
        return Row(key, (str(fact),))

    kept = Kept(make)
    first = kept.rows([("a", 1), ("b", 2)])
    second = kept.rows([("a", 1), ("b", 3)])
    assert second[0] is first[0]
    kept.rows([("b", 3)])
    kept.rows([("a", 1)])
    assert made == ["a", "b", "b", "a"]


@pytest.mark.parametrize(
    ("points", "unit", "told"),
    [
        ((), "", Drawn("", "–", "", "0 min ago")),
        ((None, None), "", Drawn("", "–", "", "30 min ago")),
        ((0.0, 2.0, 1.0), "", Drawn("M0.0 23.0L50.0 1.0L100.0 12.0", "1", "2", "1 h ago")),
        ((1.0, None, 1.0), "ms", Drawn("M0.0 1.0h.1M100.0 1.0h.1", "1 ms", "1 ms", "1 h ago")),
        ((0.0, 0.0), "B/s", Drawn("M0.0 23.0L100.0 23.0", "0 B/s", "", "1 h ago")),
        ((None, None, 1_500.0, 300.0), "B/s", Drawn("M0.0 1.0L100.0 18.6", "300 B/s", "1.5 kB/s", "30 min ago")),
        ((2.5, 1_234.0, None), "MB", Drawn("M0.0 23.0L50.0 1.0", "–", "1,234 MB", "1 h ago")),
    ],
    ids=["nothing", "never measured", "a line", "a gap", "zero", "begun since", "not now"],
)
def test_a_plot_is_a_path_in_its_box_with_its_last_value_its_highest_and_its_beginning(
    points: tuple[float | None, ...], unit: str, told: Drawn
) -> None:
    assert drawn(Plot("p", "P", unit, points)) == told


def test_the_first_minutes_are_not_drawn_all_over_the_hour() -> None:
    begun = drawn(Plot("p", "P", "", (*[None] * 358, 1.0, 1.0)))
    assert (begun.since, begun.path) == ("5 min ago", "M96.6 1.0L100.0 1.0")


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (texts.money(-123456, "BRL"), "-1,234.56 BRL"),
        (texts.money(None, "BRL"), "–"),
        (texts.size(999), "999 B"),
        (texts.size(1_500_000, per_s=True), "1.5 MB/s"),
        (texts.number(20_000, most=20_000), "20,000+"),
        (texts.span(59), "59 s"),
        (texts.span(90_061), "1 d 1 h"),
        (texts.age(59.9), "< 1 min"),
        (texts.cut("a\x1b[31m\nb" + "c" * 200), "a [31m b" + "c" * 111 + "…"),
    ],
    ids=["money", "none", "bytes", "rate", "counted no further", "seconds", "days", "age", "words"],
)
def test_numbers_and_words_are_told_for_people(told: str, text: str) -> None:
    assert told == text
