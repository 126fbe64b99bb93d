"""Rows that are made anew only when what they tell has changed: of a thousand, mostly a few."""

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from attrs import define, field

from opendesk.console.shapes import Row

T = TypeVar("T", bound=Hashable)


@define(eq=False)
class Kept(Generic[T]):
    """Of what was there the last time, and no longer."""

    _make: Callable[[str, T], Row]
    _kept: dict[str, tuple[T, Row]] = field(factory=dict, init=False)

    def rows(self, facts: Iterable[tuple[str, T]]) -> list[Row]:
        before, now = self._kept, {}
        for key, fact in facts:
            known = before.get(key)
            now[key] = known if known is not None and known[0] == fact else (fact, self._make(key, fact))
        self._kept = now
        return [row for _, row in now.values()]
