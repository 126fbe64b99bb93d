"""Which lanes are worth a look, and when: those that somebody told of, and those where a job falls due."""

from collections.abc import Iterable, Mapping
import math
from typing import Final

from attrs import define, field
import trio

# Lanes told of between two looks; anybody may have jobs in any lane. With more of them a look at all open ones costs less.
MAX_TOLD: Final = 10_000
# However soon something falls due: a clock that is a little behind the database's must not make us ask again and again.
SHORTEST_WAIT_S: Final = 0.005


@define
class Lookout:
    """Told by whoever has news; `take` is the one looker's."""

    _told: set[str] = field(factory=set)
    _look_at_all: bool = True
    _due_s: dict[str, float] = field(factory=dict)  # of lanes that had nothing to do then: when they will
    _news: trio.Event = field(factory=trio.Event)

    def tell(self, lanes: Iterable[str]) -> None:
        self._told.update(lanes)
        if len(self._told) > MAX_TOLD:
            self.tell_all()
        self._news.set()

    def tell_all(self) -> None:
        self._told.clear()
        self._look_at_all = True
        self._news.set()

    def falls_due(self, in_s: Mapping[str, float]) -> None:
        now_s = trio.current_time()
        self._due_s.update({lane: now_s + max(seconds, SHORTEST_WAIT_S) for lane, seconds in in_s.items()})

    async def wait(self) -> None:
        """Until there is something to look at."""
        if self._told or self._look_at_all:
            await trio.lowlevel.checkpoint()
            return
        self._news = trio.Event()
        with trio.CancelScope(deadline=min(self._due_s.values(), default=math.inf)):
            await self._news.wait()

    @property
    def wanted(self) -> set[str] | None:
        """The lanes whose rooms `take` may want to know; None: all."""
        return None if self._look_at_all else self._told | self._due_s.keys()

    def take(self, rooms: Mapping[str, int]) -> dict[str, int]:
        """Those of the open lanes that are to be looked at now, and from here on no longer are.

        What was told of others is forgotten: there is a look at all now and then, and whoever opens a lane tells of it.
        """
        now_s = trio.current_time()
        fallen = {lane for lane, due_s in self._due_s.items() if due_s <= now_s}
        wanted = rooms.keys() if self._look_at_all else (self._told | fallen) & rooms.keys()
        found = {lane: rooms[lane] for lane in wanted if rooms[lane] > 0}
        if self._look_at_all:
            self._due_s.clear()
        for lane in fallen | found.keys():
            self._due_s.pop(lane, None)
        self._told.clear()
        self._look_at_all = False
        return found
