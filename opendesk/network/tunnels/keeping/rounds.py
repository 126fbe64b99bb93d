"""Work that everybody wants done after they asked, and that is done once for all who did."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from attrs import define, field
import trio

T = TypeVar("T")


@define(eq=False)
class Rounds(Generic[T]):
    """Rounds of `act` never overlap. Who is first in the queue leads one; if that fails, or is cancelled, the next in it leads another.

    How many wait is bounded by who asks: each has a connection to the front door, or is a service of ours.
    """

    _act: Callable[[], Awaitable[T]]
    _lock: trio.Lock = field(factory=trio.Lock)
    _begun: int = 0
    _ended: int = 0  # the last one that has an outcome
    _outcomes: list[T] = field(factory=list)  # of that one

    async def ask(self) -> T:
        """What a round found that began after this was called."""
        after = self._begun
        async with self._lock:
            if self._ended <= after:
                self._begun += 1
                self._outcomes = [await self._act()]
                self._ended = self._begun
            return self._outcomes[0]
