"""Names of endpoints, looked up beside all else: `wg` would wait for each, and do nothing at all if one isn't known."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
import heapq
import math
import re
import socket
from typing import Final

from attrs import define, field
import structlog
import trio

log = structlog.get_logger()

# Each takes a thread while it waits, which is up to half a minute where no server answers; the daemon's other threads are none of these.
LOOKUPS_AT_ONCE: Final = 16
# Between two looks at the same name: the second where nobody knew it.
KNOWN_S: Final = 600.0
UNKNOWN_S: Final = 60.0
# What isn't known is told at the end of a round, or so often where that takes long.
TELL_S: Final = 60.0
# No host name is like that: its last part begins with a letter. Thousands are asked, so it is quick.
_ADDRESS: Final = re.compile(r"\[[0-9a-f:.]+\]:[0-9]+|[0-9.]+:[0-9]+")
# Of names that a line of the log tells.
_TOLD: Final = 10

# What a host and port are at, in `wg`'s spelling; None where nobody knows.
LookUp = Callable[[str, int], Awaitable[str | None]]


def is_name(endpoint: str | None) -> bool:
    return endpoint is not None and not _ADDRESS.fullmatch(endpoint)


def in_threads(at_once: int = LOOKUPS_AT_ONCE) -> LookUp:
    """By the system's resolver, in threads of its own."""
    limiter = trio.CapacityLimiter(at_once)

    async def look_up(host: str, port: int) -> str | None:
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_DGRAM)
        try:
            found = await trio.to_thread.run_sync(ask, limiter=limiter, abandon_on_cancel=True)
        except (OSError, UnicodeError):  # which includes "no such name"; the caller tells of it
            return None
        address = str(found[0][4][0])
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    return look_up


def _ignore() -> None:
    pass


@define(eq=False)
class Names:
    """The addresses of those names that somebody wants, as far as they are known; `found` is called when one is new.

    Each is asked for in its turn: those that never were first, then whoever waits for the longest time. Nobody waits for an answer.
    """

    _look_up: LookUp = field(factory=in_threads)
    found: Callable[[], None] = _ignore
    _addresses: dict[str, str] = field(factory=dict)
    _due_s: dict[str, float] = field(factory=dict)  # of all that are wanted: when each is asked for
    _queue: list[tuple[float, str]] = field(factory=list)  # a heap; entries that `_due_s` doesn't have are over
    _asking: set[str] = field(factory=set)
    _unknown: set[str] = field(factory=set)
    _told: frozenset[str] = frozenset()
    _told_s: float = -math.inf
    _news: trio.Event = field(factory=trio.Event)

    def want(self, names: Collection[str]) -> None:
        """These and no others."""
        wanted = set(names)
        for name in self._due_s.keys() - wanted:
            del self._due_s[name]
            self._addresses.pop(name, None)
            self._unknown.discard(name)
        self._queue = [entry for entry in self._queue if entry[1] in wanted]
        heapq.heapify(self._queue)
        for name in sorted(wanted - self._due_s.keys()):
            self._is_due(name, -math.inf)
        self._news.set()

    @property
    def addresses(self) -> Mapping[str, str]:
        """Of those names that are known."""
        return self._addresses

    @property
    def unknown(self) -> list[str]:
        """Those that have no address, asked for or not."""
        return sorted(self._due_s.keys() - self._addresses.keys())

    async def run(self) -> None:
        self._told_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(LOOKUPS_AT_ONCE):
                nursery.start_soon(self._keep_asking)

    async def once(self, limit_s: float) -> None:
        """All that aren't known, without the service; what isn't answered by then stays unknown."""
        turns = iter(self.unknown)

        async def worker() -> None:
            for name in turns:
                await self._ask(name)

        with trio.move_on_after(limit_s):
            async with trio.open_nursery() as nursery:
                for _ in range(LOOKUPS_AT_ONCE):
                    nursery.start_soon(worker)

    async def _keep_asking(self) -> None:
        while True:
            await self._ask(await self._next())
            self._tell()

    async def _next(self) -> str:
        while (wait_s := self._until_due()) > 0:
            if self._news.is_set():
                self._news = trio.Event()
            with trio.move_on_after(wait_s):
                await self._news.wait()
        return heapq.heappop(self._queue)[1]

    def _until_due(self) -> float:
        while self._queue and self._due_s.get(self._queue[0][1]) != self._queue[0][0]:
            heapq.heappop(self._queue)
        return self._queue[0][0] - trio.current_time() if self._queue else math.inf

    async def _ask(self, name: str) -> None:
        host, _colon, port = name.rpartition(":")
        self._asking.add(name)
        try:
            address = await self._look_up(host, int(port))
        finally:
            self._asking.discard(name)
        if name in self._due_s:  # still
            self._is_due(name, trio.current_time() + (UNKNOWN_S if address is None else KNOWN_S))
            self._learn(name, address)

    def _learn(self, name: str, address: str | None) -> None:
        """One that isn't known any more is taken to be where it was."""
        if address is None:
            self._unknown.add(name)
            return
        self._unknown.discard(name)
        if self._addresses.get(name) != address:
            self._addresses[name] = address
            self.found()

    def _is_due(self, name: str, at_s: float) -> None:
        self._due_s[name] = at_s
        heapq.heappush(self._queue, (at_s, name))

    def _tell(self) -> None:
        """Once for each set of names."""
        is_busy = bool(self._asking) or self._until_due() <= 0
        if is_busy and trio.current_time() < self._told_s + TELL_S:
            return
        self._told_s = trio.current_time()
        if (unknown := frozenset(self._unknown)) != self._told:
            self._told = unknown
            if unknown:
                log.warning("tunnel.endpoint_unknown", count=len(unknown), endpoints=sorted(unknown)[:_TOLD])
