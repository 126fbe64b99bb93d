"""What all connections of one server share: the app, the limits, who is waiting, and whether it is closing time."""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol
from wsgiref.handlers import format_date_time

from attrs import define, field
from hypercorn.typing import ASGIFramework
import structlog
import trio

from opendesk.web.http.limits import Limits
from opendesk.web.http.request import Head
from opendesk.web.http.transport import Address, Stream
from opendesk.web.seldom import Seldom

log = structlog.get_logger()

# Who has just connected at closing time is about to ask: cut off, their call would be lost, though the next daemon is nearly there. Whoever
# has been silent for longer has nothing to lose.
FIRST_WORD_S: Final = 1.0


@define
class Upgrade:
    """A WebSocket handshake that came in: who takes it over owns the stream until its call returns."""

    stream: Stream
    head: Head
    # What the client sent after the head, already read.
    rest: bytes
    client: Address | None


Headers = tuple[tuple[str, str], ...]

# Whether it was taken over. One that wasn't must be left untouched; an expected error instead is told to the client as it is to others.
TakeOver = Callable[[Upgrade], Awaitable[bool]]


class Waiting(Protocol):
    """A connection that waits for a request; `begun` when a part of one is there. At closing time it waits until `welcome_until_s`."""

    @property
    def begun(self) -> bool: ...

    @property
    def welcome_until_s(self) -> float: ...


@define(eq=False)
class Door:
    app: ASGIFramework
    limits: Limits
    new_id: Callable[[], str]
    clock: Callable[[], float]
    upgrade: TakeOver | None = None
    # What an answer to this Origin needs for a browser's page to read it: refusals of ours have it like the app's answers.
    origin_headers: Callable[[str | None], Headers] = lambda _: ()
    draining: bool = False
    open: int = 0
    upgraded: int = 0
    # Who waits, longest first, with the scope that ends the wait.
    waiting: dict[Waiting, trio.CancelScope] = field(factory=dict)
    _full: Seldom = field(factory=Seldom)
    _date_s: int = -1
    _date: bytes = b""

    def drain(self) -> None:
        """Close what is idle. From now on every answer is its connection's last."""
        self.draining = True
        for connection, scope in self.waiting.items():
            if not connection.begun:
                scope.deadline = min(scope.deadline, connection.welcome_until_s)

    def make_room(self) -> bool:
        """End the longest wait. False if everyone is being served."""
        if not self.waiting:
            return False
        longest = next(iter(self.waiting))
        self.waiting.pop(longest).cancel()
        return True

    def report_full(self) -> None:
        unsaid = self._full.due()
        if unsaid is not None:
            limit = self.limits.connections
            log.warning("http.full", connections=self.open, limit=limit, waiting=len(self.waiting), unsaid=unsaid)

    def date(self) -> bytes:
        """The field line, made once a second."""
        now_s = int(self.clock())
        if now_s != self._date_s:
            self._date_s = now_s
            self._date = b"date: %b\r\n" % format_date_time(now_s).encode("ascii")
        return self._date
