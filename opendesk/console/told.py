"""A story as a tree of lines, which a terminal shows as a tree and the console as a list. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime
import re
from typing import Final, Literal

from attrs import define, field, frozen

from opendesk.console.shapes import State
from opendesk.console.texts import cut, stamp

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


# Ids that are known as such wherever they stand: ours, and MAC addresses.
_IDS: Final = r"\b(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9A-F]{2}(?::[0-9A-F]{2}){5})\b"


@define
class Told:
    """A line, and what belongs under it. The text has other people's words in it, as they are; `ids` are those of them that can be asked for."""

    text: str
    tone: Tone = ""
    ids: tuple[str, ...] = ()
    under: list["Told"] = field(factory=list, init=False)

    def add(self, text: str, tone: Tone = "", *, ids: Iterable[str | None] = ()) -> "Told":
        """The new line, under which there may be others."""
        line = Told(text, tone, tuple(word for word in ids if word))
        self.under.append(line)
        return line


@frozen
class Part:
    """Of a line; `why` is what a search is to be given to learn more, if anything."""

    text: str
    why: str | None = None


@frozen
class Line:
    """`text` is that of all its parts."""

    depth: int
    text: str
    state: State
    parts: tuple[Part, ...] = ()


def lines_of(trees: Iterable[Told], asked: str = "") -> tuple[Line, ...]:
    """What was asked for is no link: it leads here."""
    found: list[Line] = []
    for line in _walked(trees, 0, asked):
        if len(found) == LINES_MOST:
            return (
                *found,
                Line(0, "… and more than is shown here", State.QUIET, (Part("… and more than is shown here"),)),
            )
        found.append(line)
    return tuple(found)


def _walked(trees: Iterable[Told], depth: int, asked: str) -> Iterator[Line]:
    for tree in trees:
        text = cut(tree.text, LINE_CHARS)
        yield Line(depth, text, _STATES[tree.tone], tuple(parts_of(text, tree.ids, asked)))
        yield from _walked(tree.under, depth + 1, asked)


def parts_of(text: str, ids: Iterable[str], asked: str = "") -> Iterator[Part]:
    """The text, cut where ids begin and end."""
    words = "|".join(rf"(?<!\S){re.escape(word)}(?![^\s,:;])" for word in sorted(ids, key=len, reverse=True))
    begin = 0
    for found in re.finditer(f"{words}|{_IDS}" if words else _IDS, text):
        if found[0] == asked:
            continue
        if found.start() > begin:
            yield Part(text[begin : found.start()])
        yield Part(found[0], found[0])
        begin = found.end()
    if begin < len(text):
        yield Part(text[begin:])


def when(moment: datetime | None) -> str:
    """To the second: what is nearer together stands in its order."""
    return "-" if moment is None else stamp(moment)
