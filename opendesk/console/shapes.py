"""What the page shows, as data: figures, tables and plots. All of it is text by now, and nothing of it is markup."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from attrs import field, frozen


class State(StrEnum):
    """How a row or a figure is, for whoever looks from afar: it is told by a mark and a word, never by colour alone."""

    OK = "ok"
    QUIET = "quiet"  # nothing to see: ended, idle, off
    WARN = "warn"
    BAD = "bad"


_WORST_FIRST: Final = (State.BAD, State.WARN, State.OK, State.QUIET)
# Of a row that is told of elsewhere: what its table says in full.
_NAMED_CHARS: Final = 24


@frozen
class Figure:
    """One number with what it is of. `key` is a fixed word."""

    key: str
    label: str
    value: str
    state: State = State.OK
    note: str = ""


@frozen
class Row:
    """`key` is unique in its table and fit for a path's segment; `why` is what a search is to be given to learn more, if anything."""

    key: str
    cells: tuple[str, ...]
    state: State = State.OK
    why: str | None = None
    can_act: bool = False


@frozen
class Action:
    """A button on rows that `can_act`: a POST to `/console/{table}/{key}/{name}`."""

    name: str
    label: str
    confirm: str


@frozen
class Table:
    """Rows in the order in which they are shown, which `order` tells. Of each, the first cell names it and the second says how it is.
    `left_out` rows had no room.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    empty: str
    left_out: int = 0
    action: Action | None = None
    order: str = "the worst first"


@frozen
class Plot:
    """The last hour of one figure: oldest first, evenly spaced, None where nothing was measured."""

    key: str
    title: str
    unit: str
    points: tuple[float | None, ...]


@frozen
class Section:
    """A part of the page. A part that could not be read says so, and the others go on."""

    name: str
    title: str
    figures: tuple[Figure, ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    fault: str | None = None

    @property
    def worst(self) -> State:
        """Of all that it shows. What has nothing to show is well."""
        found = {figure.state for figure in self.figures}
        for table in self.tables:
            found.update(row.state for row in table.rows)
        return State.BAD if self.fault else next((state for state in _WORST_FIRST if state in found), State.OK)

    @property
    def reason(self) -> str:
        """Why it isn't well, in a few words: its figures that are wrong, or the first row of a table that is."""
        worst = self.worst
        if self.fault or worst not in {State.WARN, State.BAD}:
            return self.fault or ""
        figures = [_figure_told(figure) for figure in self.figures if figure.state is worst]
        rows = (_rows_told(table, worst) for table in self.tables)
        return ", ".join(figures) or next(told for told in rows if told)


@frozen
class Snapshot:
    """The whole page at one time (RFC 3339, UTC, to the second)."""

    at: str
    sections: Mapping[str, Section] = field(factory=dict)


def _figure_told(figure: Figure) -> str:
    return f"{figure.label}: {figure.value}{f' ({figure.note})' if figure.note else ''}"


def _rows_told(table: Table, state: State) -> str:
    rows = [row for row in table.rows if row.state is state]
    if not rows:
        return ""
    named = [cell if len(cell) <= _NAMED_CHARS else f"{cell[:_NAMED_CHARS]}…" for cell in rows[0].cells[:2]]
    return f"{table.title}: {', '.join(named)}{f', and {len(rows) - 1:,} more' if rows[1:] else ''}"


# In the order of the page.
SECTIONS: Final = ("rental", "relay", "routers", "tunnels", "jobs", "events", "ledger", "daemon")
