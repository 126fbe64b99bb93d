"""Who is flooded must not be flooded with lines about it."""

import math
from typing import Final

from attrs import define
import trio

# Often enough to see that something goes on, and seldom enough to read the rest of the log.
EVERY_S: Final = 60.0


@define
class Seldom:
    """For something that may happen often: when a line about it is due."""

    _due_s: float = -math.inf
    _unsaid: int = 0

    def due(self) -> int | None:
        """How often it happened without a line since the last one; None when this one gets none either."""
        now_s = trio.current_time()
        if now_s < self._due_s:
            self._unsaid += 1
            return None
        unsaid, self._unsaid = self._unsaid, 0
        self._due_s = now_s + EVERY_S
        return unsaid
