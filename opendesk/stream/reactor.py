"""Sockets that are read the moment there is something, without a task of Trio's being woken for each time.

A wake-up of a task costs Trio some 7 µs when its code is warm, and more than twice that after a pause, which on a stream of pictures is
every time; a callback costs half a µs. So where Trio waits in an epoll of its own, an `IdleReactor` does the waiting for it: just before Trio
would block, it blocks on the relay's sockets and Trio's epoll together, calls back for the sockets, and lets Trio go on as soon as Trio has
something to do. docs/decisions/0009-relay.md has the figures.
"""

from collections.abc import Callable
from contextlib import suppress
import select
import time
from typing import Any, Final, Protocol

from attrs import define, field
import outcome
import trio
from trio.abc import Instrument
from trio.lowlevel import Abort, RaiseCancelT, RunVar, Task, TrioToken

# Reads what there is, without waiting, and says whether it wants more.
Read = Callable[[], bool]

# Sockets called back for before it is looked whether Trio has something to do: a tenth of a millisecond each if all of them are saturated.
_MOST_AT_ONCE: Final = 64

# A callback may have set a deadline, which Trio doesn't know of before its next turn: it is late by this at the most.
_TURN_S: Final = 0.05


class Reactor(Protocol):
    async def watch(self, fd: int, read: Read) -> None:
        """Call `read` whenever `fd` is readable, until it wants no more. Raise what it raises."""
        ...


class TrioReactor:
    """By Trio's own means, on every system."""

    async def watch(self, fd: int, read: Read) -> None:
        wants_more = True
        while wants_more:
            await trio.lowlevel.wait_readable(fd)
            wants_more = read()


@define(eq=False)
class IdleReactor(Instrument):
    """One for a run of Trio's, which `reactor` sees to: of two, one would wait while the other's sockets do. At work only while it watches."""

    _trio: Any  # its runner
    _trio_fd: int  # of the epoll that it waits in
    _token: TrioToken = field(factory=trio.lowlevel.current_trio_token)
    _epoll: select.epoll = field(factory=select.epoll)
    _watched: dict[int, tuple[Read, Task]] = field(factory=dict)
    _has_woken: bool = False  # a task, since Trio's last turn

    def __attrs_post_init__(self) -> None:
        self._epoll.register(self._trio_fd, select.EPOLLIN)

    async def watch(self, fd: int, read: Read) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._epoll.register(fd, select.EPOLLIN)
        if not self._watched:
            trio.lowlevel.add_instrument(self)
        self._watched[fd] = read, trio.lowlevel.current_task()

        def abort(_: RaiseCancelT) -> Abort:
            self._forget(fd)
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def task_scheduled(self, task: Task) -> None:  # noqa: ARG002  # whichever it is
        self._has_woken = True

    def before_io_wait(self, timeout: float) -> None:
        """Wait for Trio as long as it would, or have a look if it wouldn't."""
        self._has_woken = False
        ends_s = time.monotonic() + timeout
        if ready := self._epoll.poll(timeout, _MOST_AT_ONCE):
            ends_s = min(ends_s, time.monotonic() + _TURN_S)
        while ready:
            is_trios_turn = self._call_back(ready)
            left_s = ends_s - time.monotonic()
            if self._has_woken or left_s <= 0:
                break
            if is_trios_turn:
                return
            ready = self._epoll.poll(left_s, _MOST_AT_ONCE)
        if timeout and (self._has_woken or not self._trio.waiting_for_idle):
            # What Trio is about to wait for is here already, but not in its epoll; wait_all_tasks_blocked() wants to see nothing there.
            self._token.run_sync_soon(_nothing, idempotent=True)

    def _call_back(self, ready: list[tuple[int, int]]) -> bool:
        is_trios_turn = False
        for fd, _ in ready:
            if fd == self._trio_fd:
                is_trios_turn = True
            elif fd in self._watched:  # an earlier one may have ended it
                self._read(fd)
        return is_trios_turn

    def _read(self, fd: int) -> None:
        read, task = self._watched[fd]
        try:
            if read():
                return
        except BaseException as error:  # noqa: BLE001  # it is the task's that waits, whatever it is
            ended: outcome.Outcome[None] = outcome.Error(error)
        else:
            ended = outcome.Value(None)
        if fd in self._watched:  # it may have cancelled its own task
            self._forget(fd)
            trio.lowlevel.reschedule(task, ended)

    def _forget(self, fd: int) -> None:
        self._watched.pop(fd, None)
        with suppress(OSError):  # closed already: it is out of the epoll then, and Trio drops an instrument that raises
            self._epoll.unregister(fd)
        self._has_woken = True  # the last one's end isn't told to `task_scheduled` any more
        if not self._watched:
            trio.lowlevel.remove_instrument(self)


def _nothing() -> None:
    """Only the call counts."""


_of_run: RunVar[Reactor] = RunVar("reactor")


def reactor() -> Reactor:
    """The one of this run of Trio's."""
    try:
        return _of_run.get()
    except LookupError:
        made = _made()
        _of_run.set(made)
        return made


def _made() -> Reactor:
    """Trio has no public name for its epoll: a Trio that keeps it elsewhere, or a system without one, does with what is public."""
    try:
        from trio._core._run import GLOBAL_RUN_CONTEXT  # noqa: PLC0415  # it may be gone from a later Trio

        trios = GLOBAL_RUN_CONTEXT.runner
        return IdleReactor(trios, trios.io_manager._epoll.fileno())  # noqa: SLF001  # see above
    except (ImportError, AttributeError):
        return TrioReactor()
