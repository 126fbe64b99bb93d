"""What has become of commands that were sent together."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from attrs import define, field
import trio

from opendesk.network.routeros.errors import TooMuch, Trap, Unreachable
from opendesk.network.routeros.session import Came, Finished, Overflowed, Result, Row

# Rows of a `listen` that nobody has taken yet. The connection can't wait for who is slow: others have their answers in it.
MAX_UNHEARD: Final = 256


@define(eq=False)
class Exchange:
    """`unreachable` tells why the connection is gone, if it is."""

    unreachable: Callable[[], Unreachable | None]
    tags: list[int] = field(factory=list)
    unfinished: set[int] = field(factory=set)
    outcomes: dict[int, Result | Trap] = field(factory=dict)
    rows: deque[Row] = field(factory=deque)
    overflow: TooMuch | None = None
    _news: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    def began(self, tags: list[int]) -> None:
        self.tags = tags
        self.unfinished.update(tags)

    def take(self, event: Came | Finished | Overflowed) -> None:
        if isinstance(event, Finished):
            self.unfinished.discard(event.tag)
            self.outcomes[event.tag] = event.outcome
        elif isinstance(event, Overflowed):
            self.overflow = event.error
        elif len(self.rows) == MAX_UNHEARD:
            self.overflow = TooMuch(f"More than {MAX_UNHEARD} rows that nobody took.")
        elif self.overflow is None:  # after a gap none would know of
            self.rows.append(event.row)
        if not self.unfinished or self.rows or self.overflow is not None:
            self.wake()

    def wake(self) -> None:
        self._news.unpark_all()

    async def news(self) -> None:
        """Wait for something to happen. Raise Unreachable if nothing can."""
        if (error := self.unreachable()) is not None:
            raise error
        await self._news.park()

    async def drained(self) -> None:
        """Wait until the router is done with all, whatever came of it."""
        while self.unfinished:
            await self.news()

    async def answered(self) -> list[Result | Trap]:
        """The outcomes in the order asked. Raise TooMuch or Unreachable."""
        while self.unfinished and self.overflow is None:
            await self.news()
        if self.overflow is not None:
            raise self.overflow
        return [self.outcomes[tag] for tag in self.tags]


@define(eq=False)
class Rows:
    """The rows of a command that listens. Iterating raises Trap, TooMuch or Unreachable; it ends when the command does."""

    _exchange: Exchange

    def __aiter__(self) -> AsyncIterator[Row]:
        return self

    async def __anext__(self) -> Row:
        exchange = self._exchange
        await trio.lowlevel.checkpoint()
        while not exchange.rows:
            if exchange.unfinished and exchange.overflow is None:
                await exchange.news()
                continue
            [outcome] = await exchange.answered()
            if isinstance(outcome, Trap):
                raise outcome
            raise StopAsyncIteration
        return exchange.rows.popleft()
