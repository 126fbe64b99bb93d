"""What goes wrong with a router, on demand."""

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from fnmatch import fnmatchcase

from attrs import define, field, frozen

from opendesk.simulators.routeros.commands import Request


class Act(Enum):
    """What becomes of one command."""

    DROP_BEFORE = auto()  # the connection is cut, nothing was done
    DROP_AFTER = auto()  # done, and cut before the answer
    DROP_MIDWAY = auto()  # done, and cut within the answer
    LIE = auto()  # answered as if it were done
    SILENT = auto()  # done and never answered; can be cancelled
    IGNORED = auto()  # neither done nor answered; can be cancelled


@frozen
class Trapped:
    category: int | None
    message: str


@frozen
class Slow:
    """Done; the answer, and all after it, come that much later."""

    seconds: float


Fault = Act | Trapped | Slow


@define
class _Planned:
    command: str
    fault: Fault
    skip: int
    times: int


@define
class Faults:
    """The switches last until they are switched back; what `plan` says happens to a command, once or some times."""

    black_hole: bool = False  # accepts connections and answers nothing, not even a login
    refuses_connections: bool = False  # closes each one at once
    refuses_login: bool = False
    drip_s: float | None = None  # a byte of an answer each so often
    slow_s: float = 0.0  # each answer that much later
    decide: Callable[[Request], Fault | None] | None = None  # asked about each command after the login
    _planned: deque[_Planned] = field(factory=deque)

    def plan(self, fault: Fault, command: str = "*", *, skip: int = 0, times: int = 1) -> None:
        """`command` is a pattern: "/ip/hotspot/*", "*/add". So many that fit are left alone first."""
        self._planned.append(_Planned(command, fault, skip, times))

    def clear(self) -> None:
        self.black_hole = self.refuses_connections = self.refuses_login = False
        self.drip_s, self.slow_s, self.decide = None, 0.0, None
        self._planned.clear()

    def of(self, request: Request) -> Fault | None:
        for planned in self._planned:
            if not fnmatchcase(request.command, planned.command):
                continue
            if planned.skip:
                planned.skip -= 1
                continue
            planned.times -= 1
            if not planned.times:
                self._planned.remove(planned)
            return planned.fault
        return None if self.decide is None else self.decide(request)
