"""What the page wants to know of the database, asked beside it: whoever shows it takes what is known by then, and is told what is old."""

from collections.abc import Awaitable, Callable, Mapping
import math
from typing import Any, Final

from attrs import define, field
import structlog
import trio

from opendesk.console.outage import Outage
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import Pool
from opendesk.supervise import alive

log = structlog.get_logger()

# For one statement: a healthy database takes milliseconds. What is asked for longer than that is told as old.
LOOK_S: Final = 2.0
# What a page waits for answers that are still to come.
PATIENCE_S: Final = 0.5
# After a statement that took too long: it costs the others of its part nothing meanwhile.
AGAIN_S: Final = 5.0
# Connections at once, of the few of the upkeep: one that hangs leaves another.
_AT_ONCE: Final = 2

AWAY_TEXT: Final = "The database doesn't answer: what is shown is what was known before."
UNREAD_TEXT: Final = "This could not be read: the log says why. What is shown is what was known before."
SLOW_TEXT: Final = "Not all of this could be read in time: what is shown is what was known before."

_NOTHING: Final = object()

Read = Callable[[TrioConnection], Awaitable[Any]]


@define
class Look:
    """A statement, how often it is worth asking, and what went wrong with it last."""

    read: Read
    period_s: float
    due_s: float = float("-inf")
    fault: str | None = None
    # What can't be read fails at each try: the log tells of it once, until it is read again.
    is_logged: bool = False


@define(eq=False)
class _Part:
    """What is asked in turn over one connection, for one part of the page. `asked_s`: since when it is being asked."""

    looks: Mapping[str, Look]
    asked_s: float | None = None
    is_again: bool = False
    done: trio.Event = field(factory=trio.Event)

    def is_due(self, now_s: float) -> bool:
        return any(now_s >= look.due_s for look in self.looks.values())

    def begin(self, now_s: float) -> None:
        self.asked_s, self.done = now_s, trio.Event()

    def end(self) -> None:
        self.asked_s = None
        self.done.set()

    def all_are(self, fault: str, due_s: float = float("-inf")) -> None:
        """And are asked anew as soon as they can be."""
        for look in self.looks.values():
            look.fault, look.due_s = fault, due_s


def _parts(looks: Mapping[str, Mapping[str, Look]]) -> dict[str, _Part]:
    return {name: _Part(found) for name, found in looks.items()}


@define(eq=False)
class Asking:
    """`run` is a service of the daemon; `known` is what came of each look last, the very same object while it is equal."""

    _pool: Pool
    _outage: Outage
    _parts: dict[str, _Part] = field(converter=_parts)
    known: dict[str, Any] = field(factory=dict, init=False)
    _todo: list[_Part] = field(factory=list, init=False)
    _wanted: trio.Event = field(factory=trio.Event, init=False)
    _slots: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(_AT_ONCE), init=False)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                alive(wait_s=math.inf)
                await self._wanted.wait()
                self._wanted = trio.Event()
                while self._todo:
                    nursery.start_soon(self._ask, self._todo.pop())

    async def ask(self) -> None:
        """Have asked what is due, and wait for it, but not long: not at all for what is late already."""
        now_s = trio.current_time()
        for part in () if self._outage.is_away else self._parts.values():
            if part.asked_s is None and part.is_due(now_s):
                part.begin(now_s)
                self._todo.append(part)
                self._wanted.set()
        with trio.move_on_at(now_s + PATIENCE_S):
            for part in self._parts.values():
                if part.asked_s is not None and now_s - part.asked_s < PATIENCE_S:
                    await part.done.wait()

    def ask_again(self) -> None:
        """Somebody changed something, and wants to see it."""
        for part in self._parts.values():
            part.is_again = True
            for look in part.looks.values():
                look.due_s = float("-inf")

    def fault(self, name: str) -> str | None:
        """Why this part isn't as it is now."""
        part = self._parts[name]
        if self._outage.is_away or self.is_mute:
            return AWAY_TEXT
        if self._is_late(part):
            return SLOW_TEXT
        return next((look.fault for look in part.looks.values() if look.fault is not None), None)

    @property
    def is_mute(self) -> bool:
        """Whether nothing at all comes back."""
        return all(map(self._is_late, self._parts.values()))

    @property
    def looks(self) -> list[Look]:
        return [look for part in self._parts.values() for look in part.looks.values()]

    def _is_late(self, part: _Part) -> bool:
        return part.asked_s is not None and trio.current_time() - part.asked_s > LOOK_S

    # ---- asked

    async def _ask(self, part: _Part) -> None:
        try:
            async with self._slots, self._pool.connection() as conn:
                part.is_again = True
                while part.is_again:
                    part.is_again = False
                    await self._ask_over(conn, part)
        except AWAY as error:
            log.debug("console.database_away", error=repr(error))
            part.all_are(AWAY_TEXT)
        except Exception as error:  # noqa: BLE001 - a page that tells less is better than none: the log has it
            for name, look in part.looks.items():
                _failed(name, look, error)
            part.all_are(UNREAD_TEXT, trio.current_time() + AGAIN_S)
        finally:
            part.end()

    async def _ask_over(self, conn: TrioConnection, part: _Part) -> None:
        """Raise what AWAY has when the connection is lost."""
        for name, look in part.looks.items():
            if trio.current_time() < look.due_s:
                continue
            look.due_s = trio.current_time() + look.period_s
            look.fault = await self._read(conn, name, look)
            if look.fault is not None:
                look.due_s = trio.current_time() + AGAIN_S
                if conn.closed:
                    part.all_are(AWAY_TEXT)
                return

    async def _read(self, conn: TrioConnection, name: str, look: Look) -> str | None:
        try:
            with trio.move_on_after(LOOK_S):
                found = await look.read(conn)
                if found != self.known.get(name, _NOTHING):
                    self.known[name] = found
                look.is_logged = False
                return None
        except AWAY as error:  # also of one that the server ended
            log.debug("console.not_read", look=name, error=repr(error))
        except Exception as error:  # noqa: BLE001 - one row that can't be read isn't to end a page, let alone the daemon
            _failed(name, look, error)
            return UNREAD_TEXT
        return SLOW_TEXT


def _failed(name: str, look: Look, error: Exception) -> None:
    if not look.is_logged:
        look.is_logged = True
        log.error("console.look_failed", look=name, exc_info=error)
