"""What is scarce is shared out by address, so that a crowd at one doesn't keep all others waiting."""

from collections.abc import Iterator
from contextlib import contextmanager
import math

from attrs import define, field

from opendesk.errors import Overloaded


@define
class Shares:
    """Of each address those who have a piece, or wait for one. Addresses are kept only while there are any."""

    of_one: int
    # Of those who are turned away.
    _retry_after_s: int
    of_all: float = math.inf
    _taken: dict[str, int] = field(factory=dict, init=False)
    _all: int = field(default=0, init=False)

    @contextmanager
    def one(self, address: str) -> Iterator[None]:
        """Raise Overloaded, at once, when this address has its share already, or all together have theirs."""
        taken = self._taken.get(address, 0)
        if taken >= self.of_one or self._all >= self.of_all:
            raise Overloaded(retry_after_s=self._retry_after_s)
        self._taken[address] = taken + 1
        self._all += 1
        try:
            yield
        finally:
            self._give_back(address)

    def _give_back(self, address: str) -> None:
        self._all -= 1
        self._taken[address] -= 1
        if not self._taken[address]:
            del self._taken[address]
