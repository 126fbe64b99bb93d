"""A clock that passes a day in seconds, and lets those who live by it act one at a time.

Actors are tasks of a nursery. The clock stands still while one of them acts, and moves on when all of them wait for a later time. Of two
who wait for the same minute the one that began to wait first acts first. So what a day brings depends on its plan alone, and not on
which answer came sooner; whoever doesn't live by the clock (heartbeats, a display) runs beside it.
"""

from collections.abc import Awaitable, Callable
import heapq
from itertools import count
from typing import Final

from attrs import define, field, frozen
import trio

# A day whose actors still wait for something then has gone wrong.
LONGEST_DAY_MIN: Final = 48 * 60

# The longest step: a display shows the time go by, and what falls silent is noticed about then.
STEP_MIN: Final = 5

Actor = Callable[[], Awaitable[None]]


class DayTooLong(Exception):
    """Somebody still waits long after the day was over."""


@frozen(order=True)
class _Sleeper:
    due: int
    n: int
    woken: trio.Event = field(factory=trio.Event, order=False)


@define(eq=False)
class FastClock:
    """`minute` counts from midnight. `turn` makes everything else so many minutes later; a minute takes `minute_s` seconds at least."""

    minute: int
    _turn: Callable[[int], Awaitable[None]]
    _minute_s: float
    _sleepers: list[_Sleeper] = field(factory=list)
    _numbers: "count[int]" = field(factory=count)
    _resting: trio.Event = field(factory=trio.Event)

    def play(self, nursery: trio.Nursery, actor: Actor, *, at: int) -> None:
        """Start an actor at that minute, or as soon as it is its turn after it."""
        nursery.start_soon(self._play, self._queued(at), actor)

    async def until(self, minute: int) -> None:
        """Wait for a time of day. Only for actors, who let the others act and time pass meanwhile."""
        sleeper = self._queued(minute)
        self._resting.set()
        await sleeper.woken.wait()

    async def run(self, closes_at: int) -> None:
        """Until that minute, and until every actor has finished. Raise DayTooLong, or what `turn` raises."""
        begun_s, begun = trio.current_time(), self.minute
        while await self._all_have_acted() or self.minute < closes_at:
            step = self._next_step(closes_at)
            # What acting took is made up for.
            await trio.sleep_until(begun_s + (self.minute + step - begun) * self._minute_s)
            self.minute += step
            if self.minute > LONGEST_DAY_MIN:
                raise DayTooLong(f"{len(self._sleepers)} actors still wait")
            await self._turn(step)

    async def _all_have_acted(self) -> bool:
        """Wake those whose time has come, one by one; whether anybody is left who waits."""
        while self._sleepers and self._sleepers[0].due <= self.minute:
            sleeper = heapq.heappop(self._sleepers)
            self._resting = trio.Event()
            sleeper.woken.set()
            await self._resting.wait()
        return bool(self._sleepers)

    def _next_step(self, closes_at: int) -> int:
        due = self._sleepers[0].due if self._sleepers else closes_at
        return min(due, self.minute + STEP_MIN) - self.minute

    def _queued(self, minute: int) -> _Sleeper:
        sleeper = _Sleeper(minute, next(self._numbers))
        heapq.heappush(self._sleepers, sleeper)
        return sleeper

    async def _play(self, sleeper: _Sleeper, actor: Actor) -> None:
        await sleeper.woken.wait()
        try:
            await actor()
        finally:
            self._resting.set()


def clock_face(minute: int) -> str:
    """`14:05`; after midnight it goes on from 00:00."""
    return f"{minute // 60 % 24:02}:{minute % 60:02}"
