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
    """Rows in the order in which they are shown: the worst first. `left_out` rows had no room."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    empty: str
    left_out: int = 0
    action: Action | None = None


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


@frozen
class Snapshot:
    """The whole page at one time (RFC 3339, UTC, to the second)."""

    at: str
    sections: Mapping[str, Section] = field(factory=dict)


# In the order of the page.
SECTIONS: Final = ("rental", "relay", "routers", "tunnels", "jobs", "events", "ledger", "daemon")
