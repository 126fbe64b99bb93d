"""The rows of a menu: in order, each with its id, unique by some of their values."""

from collections.abc import Iterator, Mapping
import re
from typing import Final

from attrs import define, field

from opendesk.simulators.routeros.menus import Menu
from opendesk.simulators.routeros.refusals import failure

# Found by these without a look at every row; None is for rows without one. They are shown as they are held, in all menus.
INDEXED: Final = ("address", "mac-address", "comment", "name")

_ID: Final = re.compile(r"\*([0-9A-F]{1,8})", re.IGNORECASE)


@define(eq=False)
class Row:
    number: int
    values: dict[str, str]
    made_s: float
    due_s: float | None = None  # when it goes, or is next run
    runs: int = 0
    parent: int | None = None  # of rows that a router makes for another
    is_parent: bool = False

    @property
    def id(self) -> str:
        return f"*{self.number:X}"

    @property
    def is_enabled(self) -> bool:
        return self.values.get("disabled") != "true"


@define(eq=False)
class Table:
    menu: Menu
    # Older reports have an ip-binding refused whose MAC or address alone is there already; see Router.
    is_strict: bool = False
    _rows: dict[int, Row] = field(factory=dict)
    _by_key: dict[tuple[str | None, ...], int] = field(factory=dict)
    _having: dict[tuple[str, str | None], set[int]] = field(factory=dict)
    _last: int = 0
    _is_in_order: bool = True  # of their numbers

    def __iter__(self) -> Iterator[Row]:
        return iter(list(self._rows.values()))

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, row: Row) -> bool:
        return self._rows.get(row.number) is row

    def find(self, reference: str) -> Row | None:
        """By id, or by name in menus that have one."""
        if written := _ID.fullmatch(reference):
            return self._rows.get(int(written[1], 16))
        if "name" not in self.menu.arguments:
            return None
        return next(iter(self.among(self.having("name", reference))), None)

    def having(self, name: str, value: str | None) -> set[int]:
        """The numbers of the rows that hold this under an INDEXED name."""
        return self._having.get((name, value), set())

    def among(self, numbers: set[int] | None) -> list[Row]:
        """The rows of these numbers, or all, in their order."""
        if numbers is None:
            return list(self._rows.values())
        if len(numbers) > 1 and not self._is_in_order:
            return [row for number, row in self._rows.items() if number in numbers]
        return [self._rows[number] for number in sorted(numbers)]

    def check_free(self, values: Mapping[str, str], but: Row | None = None) -> None:
        """Refuse what would be there twice."""
        taken = self._by_key.get(self._key(values)) if self.menu.unique else None
        if taken is not None and (but is None or taken != but.number):
            raise failure(self.menu.taken)
        if self.is_strict and any(self._shares_one(values, row) for row in self._rows.values() if row is not but):
            raise failure(self.menu.taken)

    def _shares_one(self, values: Mapping[str, str], row: Row) -> bool:
        return any(name in values and values[name] == row.values.get(name) for name in self.menu.unique)

    def _key(self, values: Mapping[str, str]) -> tuple[str | None, ...]:
        return tuple(values.get(name) for name in self.menu.unique)

    def add(self, values: dict[str, str], made_s: float, before: Row | None = None) -> Row:
        self._last += 1
        row = Row(self._last, values, made_s)
        self._rows[row.number] = row
        self._index(row)
        if before is not None:
            self.move([row], before)
        return row

    def change(self, row: Row, values: dict[str, str]) -> None:
        self._forget(row)
        row.values = values
        self._index(row)

    def remove(self, row: Row) -> None:
        self._forget(row)
        del self._rows[row.number]

    def _index(self, row: Row) -> None:
        self._by_key[self._key(row.values)] = row.number
        for name in INDEXED:
            self._having.setdefault((name, row.values.get(name)), set()).add(row.number)

    def _forget(self, row: Row) -> None:
        for name in INDEXED:
            found = name, row.values.get(name)
            self._having[found].discard(row.number)
            if not self._having[found]:
                del self._having[found]
        key = self._key(row.values)
        if self._by_key.get(key) == row.number:
            del self._by_key[key]

    def move(self, rows: list[Row], before: Row | None) -> None:
        """To the end without a destination."""
        self._is_in_order = False
        moved = {row.number for row in rows}
        others = [row for row in self._rows.values() if row.number not in moved]
        at = others.index(before) if before in others else len(others)
        self._rows = {row.number: row for row in [*others[:at], *rows, *others[at:]]}

    def restart(self) -> None:
        """After a reboot numbers go on from the largest that is left: that of a row that is gone may come again."""
        self._last = max(self._rows, default=0)
