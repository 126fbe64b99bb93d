"""What is made anew only when what it tells has changed: of a thousand rows, mostly a few."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from attrs import define, field

from opendesk.console.shapes import Row

T = TypeVar("T")


@define(eq=False)
class Kept(Generic[T]):
    """Rows, of what was there the last time, and no longer. The very same tuple while none of them has changed."""

    _make: Callable[[str, T], Row]
    _kept: dict[str, tuple[T, Row]] = field(factory=dict, init=False)
    _rows: tuple[Row, ...] = field(default=(), init=False)

    def rows(self, facts: Iterable[tuple[str, T]]) -> tuple[Row, ...]:
        before, now = self._kept, {}
        is_same = True
        for key, fact in facts:
            known = before.get(key)
            if known is None or known[0] != fact:
                known, is_same = (fact, self._make(key, fact)), False
            now[key] = known
        self._kept = now
        if not is_same or len(now) != len(self._rows) or list(now) != list(before):
            self._rows = tuple([row for _, row in now.values()])
        return self._rows


@define(eq=False)
class Made(Generic[T]):
    """Something that is made of parts: the very same while they are equal."""

    _of: tuple[Any, ...] | None = field(default=None, init=False)
    _made: T | None = field(default=None, init=False)

    def of(self, parts: tuple[Any, ...], make: Callable[[], T]) -> T:
        if self._made is None or parts != self._of:
            self._of, self._made = parts, make()
        return self._made
