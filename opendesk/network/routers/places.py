"""Who works on which place of a router: two who want the same IP or MAC take turns."""

from collections.abc import Callable
from types import TracebackType

from attrs import define, field
from trio.lowlevel import ParkingLot


@define
class Places:
    """Of one router, for as long as it is known: a worker that takes over from another has them too."""

    _places: dict[str, ParkingLot] = field(factory=dict)  # those that somebody holds, and who waits for them
    holders: int = 0

    def holding(self, keys: frozenset[str], left: Callable[[], None] = lambda: None) -> "Turn":
        """Wait for all of them, with `async with`. `left` is called at its end, also if it came to nothing."""
        return Turn(self, keys, left)

    async def take(self, key: str) -> None:
        """What is free is taken at once, without a checkpoint."""
        waiting = self._places.get(key)
        if waiting is None:
            self._places[key] = ParkingLot()
        else:
            await waiting.park()  # until whoever has it leaves it to us

    def leave(self, key: str) -> None:
        if waiting := self._places[key]:
            waiting.unpark()
        else:
            del self._places[key]


class Turn:
    """Of one who works on some places."""

    __slots__ = ("_keys", "_left", "_places", "_taken")

    def __init__(self, places: Places, keys: frozenset[str], left: Callable[[], None]) -> None:
        self._places = places
        self._keys = keys
        self._left = left
        self._taken: list[str] = []

    async def __aenter__(self) -> None:
        """Taken in one order, so that nobody waits for somebody who waits for them."""
        self._places.holders += 1
        try:
            for key in sorted(self._keys):
                await self._places.take(key)
                self._taken.append(key)
        except BaseException:
            self._leave()
            raise

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        for key in reversed(self._taken):
            self._places.leave(key)
        self._places.holders -= 1
        self._left()
