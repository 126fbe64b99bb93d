"""A story as a tree of lines, which a terminal shows as a tree and the console as a list. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, Literal

from attrs import define, field, frozen

from opendesk.console.shapes import State
from opendesk.console.texts import cut
from opendesk.web.wire import rfc3339

# How it is with what a line tells of: "wait" is for what is still to come.
Tone = Literal["", "good", "bad", "warn", "wait"]

# Of a line on a page: a result's facts may be many.
LINE_CHARS: Final = 600
# Of a page: a chain is bounded, and this is what a browser shows without a pause.
LINES_MOST: Final = 5_000

_STATES: Final[dict[Tone, State]] = {
    "": State.QUIET,
    "wait": State.QUIET,
    "good": State.OK,
    "warn": State.WARN,
    "bad": State.BAD,
}


@define
class Told:
    """A line, and what belongs under it. The text has other people's words in it, as they are."""

    text: str
    tone: Tone = ""
    under: list["Told"] = field(factory=list, init=False)

    def add(self, text: str, tone: Tone = "") -> "Told":
        """The new line, under which there may be others."""
        line = Told(text, tone)
        self.under.append(line)
        return line


@frozen
class Line:
    depth: int
    text: str
    state: State


def lines_of(trees: Iterable[Told]) -> tuple[Line, ...]:
    found: list[Line] = []
    for line in _walked(trees, 0):
        if len(found) == LINES_MOST:
            return (*found, Line(0, "… and more than is shown here", State.QUIET))
        found.append(line)
    return tuple(found)


def _walked(trees: Iterable[Told], depth: int) -> Iterator[Line]:
    for tree in trees:
        yield Line(depth, cut(tree.text, LINE_CHARS), _STATES[tree.tone])
        yield from _walked(tree.under, depth + 1)


def when(moment: datetime | None) -> str:
    return "-" if moment is None else rfc3339(moment)
