"""Both reactors, on real sockets and Trio's real clock."""

from collections.abc import Callable, Iterator
import os
import signal
import socket
import sys

from attrs import define, field
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from opendesk.stream.reactor import IdleReactor, Reactor, TrioReactor, reactor

PATIENCE_S = 20

needs_epoll = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Trio has no epoll to wait for")


@define(eq=False)
class Pair:
    """Two ends: what is written at one is read, byte by byte, at the other."""

    ours: socket.socket
    theirs: socket.socket
    got: list[bytes] = field(factory=list)

    @property
    def fd(self) -> int:
        return self.ours.fileno()

    def read(self) -> bool:
        self.got.append(self.ours.recv(1))
        return bool(self.got[-1])

    def write(self, data: bytes) -> None:
        self.theirs.sendall(data)


@pytest.fixture
def pair() -> Iterator[Callable[[], Pair]]:
    made = list[socket.socket]()

    def make() -> Pair:
        ours, theirs = socket.socketpair()
        made.extend([ours, theirs])
        ours.settimeout(0)
        return Pair(ours, theirs)

    yield make
    for sock in made:
        sock.close()


MakePair = Callable[[], Pair]


@pytest.fixture(params=[pytest.param("idle", marks=needs_epoll), "trio"])
async def by(request: pytest.FixtureRequest) -> Reactor:
    return reactor() if request.param == "idle" else TrioReactor()


@needs_epoll
async def test_here_it_is_the_fast_one_and_one_for_the_whole_run() -> None:
    assert isinstance(reactor(), IdleReactor)
    assert reactor() is reactor()


async def test_all_that_comes_is_read_until_the_end(by: Reactor, pair: MakePair) -> None:
    a = pair()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(by.watch, a.fd, a.read)
            for n in range(50):
                a.write(bytes([n]) * 3)
                await trio.lowlevel.checkpoint()
            a.theirs.close()
    assert b"".join(a.got) == bytes(n for n in range(50) for _ in range(3))


async def test_who_wants_no_more_is_let_go(by: Reactor, pair: MakePair) -> None:
    a = pair()
    a.write(b"xyz")
    with trio.fail_after(PATIENCE_S):
        await by.watch(a.fd, lambda: a.read() and len(a.got) < 2)
    assert a.got == [b"x", b"y"]


async def test_what_a_read_raises_is_raised_where_it_is_waited_for(by: Reactor, pair: MakePair) -> None:
    a, b = pair(), pair()

    def fails() -> bool:
        raise LookupError("of the first")

    async def caught() -> None:
        with pytest.raises(LookupError, match="of the first"):
            await by.watch(a.fd, fails)
        b.write(b"x")
        b.theirs.close()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(by.watch, b.fd, b.read)
            nursery.start_soon(caught)
            a.write(b"x")
    assert b.got == [b"x", b""]


async def test_who_is_cancelled_reads_no_more_and_may_come_again(by: Reactor, pair: MakePair) -> None:
    a = pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(by.watch, a.fd, a.read)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    a.write(b"x")
    await wait_all_tasks_blocked(0.01)
    assert a.got == []
    with trio.fail_after(PATIENCE_S):
        await by.watch(a.fd, lambda: not a.read())
    assert a.got == [b"x"]


async def test_a_read_may_cancel_its_own_task(by: Reactor, pair: MakePair) -> None:
    a = pair()
    a.write(b"xyz")
    with trio.CancelScope() as scope, trio.fail_after(PATIENCE_S):

        def once() -> bool:
            scope.cancel()
            return a.read()

        await by.watch(a.fd, once)
    assert scope.cancelled_caught
    assert a.got == [b"x"]


async def test_a_read_may_cancel_another_that_is_ready_too(by: Reactor, pair: MakePair) -> None:
    a, b = pair(), pair()
    scopes = {a.fd: trio.CancelScope(), b.fd: trio.CancelScope()}

    async def watch(one: Pair, other: Pair) -> None:
        def read() -> bool:
            scopes[other.fd].cancel()
            return one.read()

        with scopes[one.fd]:
            await by.watch(one.fd, read)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, a, b)
            nursery.start_soon(watch, b, a)
            await wait_all_tasks_blocked()
            a.write(b"x")
            b.write(b"x")
            await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
    assert 1 <= len(a.got) + len(b.got) <= 2


async def test_a_task_that_a_read_wakes_goes_on_at_once(by: Reactor, pair: MakePair) -> None:
    """Nothing else would end Trio's wait for an hour."""
    a, woken = pair(), trio.Event()

    async def wait() -> None:
        await woken.wait()
        nursery.cancel_scope.cancel()

    def read() -> bool:
        woken.set()
        return a.read()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(by.watch, a.fd, read)
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            await trio.to_thread.run_sync(a.write, b"x")
    assert a.got == [b"x"]


async def test_a_task_that_a_read_cancels_goes_on_though_what_it_waited_for_has_just_come(
    by: Reactor, pair: MakePair
) -> None:
    """Its cancellation takes back what made Trio's epoll ready."""
    a, own = pair(), pair()
    ended = trio.Event()

    async def wait(scope: trio.CancelScope) -> None:
        with scope:
            await trio.lowlevel.wait_readable(own.ours)
        ended.set()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            def read() -> bool:
                scope.cancel()
                return a.read()

            nursery.start_soon(by.watch, a.fd, read)
            nursery.start_soon(wait, scope)
            await wait_all_tasks_blocked()
            own.write(b"x")
            a.write(b"x")
            await ended.wait()
            nursery.cancel_scope.cancel()


async def test_a_deadline_that_a_read_sets_is_kept(by: Reactor, pair: MakePair) -> None:
    a = pair()
    with trio.fail_after(PATIENCE_S), trio.CancelScope() as scope:

        def read() -> bool:
            scope.deadline = trio.current_time() + 0.01
            return a.read()

        a.write(b"x")
        await by.watch(a.fd, read)
    assert scope.cancelled_caught


async def test_deadlines_are_kept_whatever_comes_in(by: Reactor, pair: MakePair) -> None:
    a = pair()
    a.write(b"x")
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(by.watch, a.fd, _endless(a))
            await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
    assert len(a.got) > 2


async def test_trios_own_sockets_have_their_turn_beside_saturated_ones(by: Reactor, pair: MakePair) -> None:
    many, other = [pair() for _ in range(100)], pair()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for a in many:
                a.write(b"x")
                nursery.start_soon(by.watch, a.fd, _endless(a))
            for _ in range(5):
                await trio.to_thread.run_sync(other.write, b"x")
                await trio.lowlevel.wait_readable(other.ours)
                other.read()
            while not all(a.got for a in many):  # noqa: ASYNC110  # what comes of the others is the fact
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()


async def test_saturated_sockets_all_get_the_same(by: Reactor, pair: MakePair) -> None:
    many = [pair() for _ in range(150)]
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for a in many:
                a.write(b"x")
                nursery.start_soon(by.watch, a.fd, _endless(a))
            while sum(len(a.got) for a in many) < 150 * 50:  # noqa: ASYNC110  # a count, not a time
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
    turns = [len(a.got) for a in many]
    assert sum(turns) ** 2 / (len(turns) * sum(n * n for n in turns)) > 0.98


def _endless(a: Pair) -> Callable[[], bool]:
    """Whatever is read is there again."""

    def read() -> bool:
        a.write(b"x")
        return a.read()

    return read


async def test_threads_and_signals_get_through_while_all_is_quiet(by: Reactor, pair: MakePair) -> None:
    a, called = pair(), trio.Event()
    token = trio.lowlevel.current_trio_token()
    with trio.fail_after(PATIENCE_S), trio.open_signal_receiver(signal.SIGUSR1) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(by.watch, a.fd, a.read)
            await wait_all_tasks_blocked()
            await trio.to_thread.run_sync(token.run_sync_soon, called.set)
            await called.wait()
            await trio.to_thread.run_sync(os.kill, os.getpid(), signal.SIGUSR1)
            assert await anext(signals) == signal.SIGUSR1
            nursery.cancel_scope.cancel()


def test_control_c_in_a_read_reaches_the_main_task(pair: MakePair) -> None:
    a = pair()
    a.write(b"x")

    def read() -> bool:
        signal.raise_signal(signal.SIGINT)
        return a.read()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor().watch, a.fd, read)
            await trio.sleep(PATIENCE_S)
            nursery.cancel_scope.cancel()

    # Who runs us in the background of a shell has it ignored.
    was = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(BaseExceptionGroup) as raised:
            trio.run(main)
    finally:
        signal.signal(signal.SIGINT, was)
    assert raised.group_contains(KeyboardInterrupt)
    assert a.got == [b"x"]


@needs_epoll
async def test_nothing_is_left_when_nobody_is_watched(pair: MakePair) -> None:
    a, ran = pair(), reactor()
    assert isinstance(ran, IdleReactor)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ran.watch, a.fd, a.read)
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(ran)  # it is there
        trio.lowlevel.add_instrument(ran)
        a.theirs.close()
    with pytest.raises(KeyError):
        trio.lowlevel.remove_instrument(ran)


async def test_the_same_socket_twice_is_refused_and_the_first_goes_on(by: Reactor, pair: MakePair) -> None:
    a = pair()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(by.watch, a.fd, a.read)
            await wait_all_tasks_blocked()
            with pytest.raises((OSError, trio.BusyResourceError)):
                await by.watch(a.fd, a.read)
            a.write(b"x")
            a.theirs.close()
    assert a.got == [b"x", b""]


@needs_epoll
async def test_a_socket_that_is_closed_under_its_watch_silences_no_other(pair: MakePair) -> None:
    """Nobody does so; but an exception there would end the reading of all."""
    by, a, b = reactor(), pair(), pair()

    def close_and_stop() -> bool:
        a.ours.close()
        return False

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(by.watch, a.fd, close_and_stop)
            nursery.start_soon(by.watch, b.fd, b.read)
            a.write(b"x")
            await wait_all_tasks_blocked(0.01)
            b.write(b"y")
            b.theirs.close()
    assert b.got == [b"y", b""]
