"""What psycopg's generators wait for, on Trio: readiness of a socket, and a turn on the connection."""

from collections.abc import Awaitable, Callable
import select
from types import TracebackType

from psycopg.waiting import Ready, Wait
import trio
from trio.lowlevel import ParkingLot, checkpoint_if_cancelled, current_task, wait_readable, wait_writable

# How long generators that never have to wait may keep the event loop from all other tasks, in seconds. psycopg's own
# limit for asyncio is the same: a fiftieth of what anyone waiting for an answer would notice.
BUSY_LIMIT_S = 0.005


class ConnectionLock:
    """One statement at a time, first come first served.

    Unlike `trio.Lock` it doesn't reschedule the task when it is free: the statement that follows waits for the server
    anyway, and the two would cost twice. It may be released by another task than the one that took it, as happens
    when an abandoned generator is finalized. A cancelled task is told so before it takes the lock.
    """

    __slots__ = ("_lot", "_owner")

    def __init__(self) -> None:
        self._lot = ParkingLot()
        self._owner: trio.lowlevel.Task | None = None

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> None:
        task = current_task()
        if self._owner is None:
            await checkpoint_if_cancelled()
            self._owner = task
        elif self._owner is task:
            raise RuntimeError("this task uses the connection already: in notifies(), stream() or copy()")
        else:
            await self._lot.park()  # the one who releases makes us the owner

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._lot:
            (self._owner,) = self._lot.unpark()
        else:
            self._owner = None

    def locked(self) -> bool:
        return self._owner is not None


def ready_now(fd: int, wanted: Wait) -> Ready:
    """What of `wanted` the socket is ready for at this moment; an error or a hang-up counts as both."""
    poll = select.poll()
    poll.register(fd, (select.POLLIN if wanted & Wait.R else 0) | (select.POLLOUT if wanted & Wait.W else 0))
    events = poll.poll(0)
    if not events:
        return Ready.NONE
    flags = events[0][1]
    readable = Ready.R if flags & ~select.POLLOUT else Ready.NONE
    writable = Ready.W if flags & ~select.POLLIN else Ready.NONE
    return Ready((readable | writable) & wanted)


async def wait_ready(fd: int, wanted: Wait) -> Ready:
    """Park until the socket is ready for some of `wanted`. Raises OSError or `trio.ClosedResourceError`."""
    if wanted == Wait.R:
        await wait_readable(fd)
        return Ready.R
    if wanted == Wait.W:
        await wait_writable(fd)
        return Ready.W
    return await _wait_either(fd)


async def _wait_either(fd: int) -> Ready:
    ready = Ready.NONE
    failure: Exception | None = None

    async def wait_for(park: Callable[[int], Awaitable[None]], bit: Ready) -> None:
        nonlocal ready, failure
        try:
            await park(fd)
        except (OSError, trio.ClosedResourceError) as exc:
            failure = exc  # raised below: the nursery would wrap it in a group
        else:
            ready = Ready(ready | bit)
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for, wait_readable, Ready.R)
            nursery.start_soon(wait_for, wait_writable, Ready.W)
    except BaseExceptionGroup:
        await checkpoint_if_cancelled()  # a cancellation from outside, bare instead of in a group
        raise
    if failure is not None:
        raise failure
    return ready
