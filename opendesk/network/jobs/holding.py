"""The jobs that one runner has: how many of which lane, and for how long they are still its own."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final
from uuid import UUID

from attrs import define, field
import trio

from opendesk.network.jobs.shapes import Ended, Job

# In all: each is a task that mostly waits for a router.
MAX_AT_ONCE: Final = 4_000
# From here on a lane gets one at a time: routers that never answer must leave room for a thousand others.
CROWDED: Final = MAX_AT_ONCE // 2
# Of a router: as much as its worker does at once. Said here as well, since a worker hears of a job only when that comes to it.
MAX_OF_A_LANE: Final = 8

# What of a lease is kept for a job that was stopped to come to rest, before another may begin with it.
LEASE_MARGIN: Final = 0.1


def lease_ends_s(asked_s: float, lease_s: float) -> float:
    """The database counts from later than when it was asked, so that we stop before another begins."""
    return asked_s + lease_s * (1 - LEASE_MARGIN)


@define(eq=False)
class Held:
    """`scope` ends with the lease, or with the time that an attempt may take."""

    job: Job
    attempt_ends_s: float
    scope: trio.CancelScope
    ended: Ended | None = None

    @classmethod
    def since(cls, asked_s: float, job: Job, *, lease_s: float, attempt_s: float) -> "Held":
        attempt_ends_s = asked_s + attempt_s
        return cls(job, attempt_ends_s, trio.CancelScope(deadline=min(lease_ends_s(asked_s, lease_s), attempt_ends_s)))

    def renewed(self, asked_s: float, lease_s: float) -> None:
        self.scope.deadline = min(lease_ends_s(asked_s, lease_s), self.attempt_ends_s)

    @property
    def took_too_long(self) -> bool:
        return self.scope.cancelled_caught and trio.current_time() >= self.attempt_ends_s


@define
class Holding:
    """From the claim until the outcome is written, or the lease is lost."""

    _held: dict[tuple[UUID, int], Held] = field(factory=dict)
    _of_lane: Counter[str] = field(factory=Counter)
    _freed: trio.Event = field(factory=trio.Event)

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    @property
    def space(self) -> int:
        return MAX_AT_ONCE - len(self._held)

    def add(self, held: Held) -> None:
        self._held[held.job.id, held.job.fence] = held
        self._of_lane[held.job.lane] += 1

    def remove(self, held: Held) -> None:
        """Once or twice: a lease may be lost while the outcome is written."""
        if self._held.pop((held.job.id, held.job.fence), None) is None:
            return
        self._of_lane[held.job.lane] -= 1
        if not self._of_lane[held.job.lane]:
            del self._of_lane[held.job.lane]
        self._freed.set()
        self._freed = trio.Event()

    async def one_less(self) -> None:
        await self._freed.wait()

    def rooms(self, lanes: Mapping[str, int], own: Mapping[str, int], among: set[str] | None = None) -> dict[str, int]:
        """How many more of each lane: `lanes` say how many more they take, of our `own` it is known how many at once. Of `among` only, if given."""
        most = MAX_OF_A_LANE if len(self._held) < CROWDED else 1
        if among is not None:
            lanes = {lane: room for lane in among if (room := lanes.get(lane)) is not None}
        rooms = {lane: min(room, most - self._of_lane[lane]) for lane, room in lanes.items()}
        return rooms | {lane: at_once - self._of_lane[lane] for lane, at_once in own.items()}
