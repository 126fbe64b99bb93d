"""How long things took, in a few hundred numbers however many there were. Pure."""

from itertools import accumulate
import math
from typing import Final

from attrs import define, field

# Each class of times is a twelfth of a doubling wide: what is told of a time is over it by 6 % at most.
CLASSES_A_DOUBLING: Final = 12
# From a microsecond to a minute; what is less or more is told as these.
SHORTEST_NS: Final = 1_000
DOUBLINGS: Final = 26
CLASSES: Final = DOUBLINGS * CLASSES_A_DOUBLING + 1
LONGEST_NS: Final = SHORTEST_NS * 2**DOUBLINGS

_NS_A_MS: Final = 1_000_000


@define
class Latencies:
    """Times of any number, told as percentiles."""

    count: int = 0
    _counts: list[int] = field(factory=lambda: [0] * CLASSES)

    def note(self, took_ns: int) -> None:
        self._counts[_class_of(took_ns)] += 1
        self.count += 1

    def percentile_ms(self, percent: float) -> float | None:
        """The time that so many percent of all stayed within, rounded up to its class; None: there were none."""
        if not self.count:
            return None
        within = max(math.ceil(self.count * percent / 100), 1)
        found = next(n for n, sum_ in enumerate(accumulate(self._counts)) if sum_ >= within)
        return SHORTEST_NS * 2 ** (found / CLASSES_A_DOUBLING) / _NS_A_MS


def _class_of(took_ns: int) -> int:
    """The first whose upper end isn't under it."""
    if took_ns <= SHORTEST_NS:
        return 0
    return min(math.ceil(math.log2(took_ns / SHORTEST_NS) * CLASSES_A_DOUBLING), CLASSES - 1)
