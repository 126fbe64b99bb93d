"""Who works on which place of a router: two who want the same IP or MAC take turns."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from attrs import define, field
import trio


@define
class _Place:
    lock: trio.Lock = field(factory=trio.Lock)
    users: int = 0  # who holds it, and who waits


@define
class Places:
    """Of one router, for as long as it is known: a worker that takes over from another has them too."""

    _places: dict[str, _Place] = field(factory=dict)  # those in use only
    holders: int = 0

    @asynccontextmanager
    async def holding(self, keys: frozenset[str]) -> AsyncIterator[None]:
        """Wait for all of them. Taken in one order, so that nobody waits for somebody who waits for them."""
        self.holders += 1
        try:
            async with AsyncExitStack() as taken:
                for key in sorted(keys):
                    await taken.enter_async_context(self._place(key))
                yield
        finally:
            self.holders -= 1

    @asynccontextmanager
    async def _place(self, key: str) -> AsyncIterator[None]:
        place = self._places.setdefault(key, _Place())
        place.users += 1
        try:
            async with place.lock:
                yield
        finally:
            place.users -= 1
            if not place.users:
                del self._places[key]
