"""What is made anew only when it would be another."""

from hypothesis import given
from hypothesis import strategies as st

from opendesk.console.sections.kept import Kept, Made
from opendesk.console.shapes import Row
from opendesk.console.texts import cut

FACTS = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2)).map(lambda found: list(found.items()))


def row(key: str, fact: int) -> Row:
    return Row(key, (str(fact),))


@given(st.lists(FACTS, min_size=1, max_size=6))
def test_kept_rows_are_as_those_made_anew_and_the_very_same_while_nothing_changes(
    turns: list[list[tuple[str, int]]],
) -> None:
    kept = Kept(row)
    for facts in turns:
        rows = kept.rows(facts)
        assert rows == tuple(row(*fact) for fact in facts)
        assert kept.rows(facts) is rows


def test_what_is_made_of_equal_parts_is_the_very_same() -> None:
    made: Made[list[int]] = Made()
    first = made.of(((1, 2), "a"), lambda: [1])
    assert made.of(((1, 2), "a"), lambda: [2]) is first
    assert made.of(((1, 2), "b"), lambda: [2]) == [2]


@given(st.text(max_size=40), st.integers(2, 20))
def test_words_are_cut_to_one_line_of_what_is_seen(words: str, most: int) -> None:
    line = cut(words, most)
    assert len(line) <= most
    assert line.isprintable()
    assert line == " ".join(line.split())
    seen = " ".join("".join(char if char.isprintable() else " " for char in words[: most * 4]).split())
    assert line == seen or line == f"{seen[: most - 1]}…"
