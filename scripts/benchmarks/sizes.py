"""How much is done: as much as a figure needs, or as little as shows that it runs."""

from typing import Final, TypeVar

from attrs import evolve, frozen

from benchmarks.driving import Work

N = TypeVar("N", int, float)

_WARM_UP_S: Final = 1.0


@frozen
class Size:
    """How many rounds, and by what everything else is divided."""

    rounds: int = 5
    divisor: int = 1

    def of(self, amount: N) -> N:
        """At least one of what is counted, so that something happens."""
        return max(1, amount // self.divisor) if isinstance(amount, int) else amount / self.divisor

    def warm_up(self, work: Work) -> Work:
        """Statements get prepared, caches filled, connections to the database opened."""
        return evolve(work, seconds=_WARM_UP_S / self.divisor)


FULL: Final = Size()
QUICK: Final = Size(rounds=1, divisor=20)
