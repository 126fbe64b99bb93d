"""How much is done: as much as a figure needs, or as little as shows that it runs."""

from typing import Final

from attrs import evolve, frozen

from scripts.benchmarks.driving import Work

_WARM_UP_S: Final = 1.0


@frozen
class Size:
    """How many rounds, by what everything else is divided, and of how many hours what is told in hours."""

    rounds: int = 5
    divisor: int = 1
    hours: int = 8

    def count(self, full: int) -> int:
        """At least one, so that something happens."""
        return max(1, full // self.divisor)

    def seconds(self, full: float) -> float:
        return full / self.divisor

    def warm_up(self, work: Work) -> Work:
        """Statements get prepared, caches filled, connections to the database opened."""
        return evolve(work, seconds=self.seconds(_WARM_UP_S))


FULL: Final = Size()
QUICK: Final = Size(rounds=1, divisor=40, hours=3)
