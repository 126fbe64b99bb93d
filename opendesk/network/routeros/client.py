"""One connection to a router: many commands at once, each with its deadline, none left running when nobody waits for it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from opendesk.network.routeros import login, transport
from opendesk.network.routeros.errors import LoginRefused, RouterOsError, TimedOut, Trap, Unreachable
from opendesk.network.routeros.exchanges import Exchange, Rows
from opendesk.network.routeros.session import Command, Ended, Event, Finished, Result, Session
from opendesk.network.routeros.transport import Target
from opendesk.network.routeros.words import Words

# Commands that a router works on at once. A small one answers some 200 a second, so more would only wait there instead of here.
MAX_IN_FLIGHT: Final = 64

# A command that nobody waits for any more is cancelled, and the router says so within a round trip or two. One that doesn't is left.
DRAIN_S: Final = 2.0

_READ_BYTES: Final = 64 * 1024


@asynccontextmanager
async def connect(
    target: Target, *, open_stream: Callable[[Target], Awaitable[trio.abc.Stream]] = transport.open_stream
) -> AsyncIterator["Client"]:
    """Log in. Raise Unreachable, LoginRefused or TimedOut; what the block raises comes as it is, in no group."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield await _connected(target, open_stream, nursery)
        except Exception as error:  # noqa: BLE001  # raised below, where no nursery wraps it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _connected(
    target: Target, open_stream: Callable[[Target], Awaitable[trio.abc.Stream]], nursery: trio.Nursery
) -> "Client":
    with trio.move_on_after(target.timeout_s):
        client = Client(
            await open_stream(target), target.timeout_s, Words((target.password.reveal_bytes(),), lets_in=False)
        )
        nursery.start_soon(client.read)
        await client.log_in(target)
        return client
    raise TimedOut(f"{target} let nobody in within {target.timeout_s:g} s.")


class Client:
    """What `connect` gives. Any number of tasks may use it at once."""

    def __init__(self, stream: trio.abc.Stream, timeout_s: float, words: Words) -> None:
        self._stream = stream
        self._timeout_s = timeout_s
        self._session = Session(words)
        self._exchanges: dict[int, Exchange] = {}
        self._in_flight = 0
        self._entrance = trio.Lock()
        self._freed = trio.lowlevel.ParkingLot()
        self._sending = trio.Lock()
        self._reading = trio.CancelScope()
        self._why: RouterOsError | None = None
        self._gone = trio.Event()

    @property
    def is_closed(self) -> bool:
        return self._gone.is_set()

    async def wait_closed(self) -> None:
        """Until nothing can be sent or received any more, for whatever reason."""
        await self._gone.wait()

    async def run(self, command: Command, *, timeout_s: float | None = None) -> Result:
        """Raise Trap, TimedOut, Unreachable or TooMuch. The time runs from now, also while others are let go first."""
        [outcome] = await self.run_all((command,), timeout_s=timeout_s)
        if isinstance(outcome, Trap):
            raise outcome
        return outcome

    async def run_all(self, commands: Sequence[Command], *, timeout_s: float | None = None) -> list[Result | Trap]:
        """All in one send (MAX_IN_FLIGHT at a time), answered in the order asked. A trap doesn't stop those after it."""
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        outcomes: list[Result | Trap] = []
        with trio.move_on_after(limit_s):
            for at in range(0, len(commands), MAX_IN_FLIGHT):
                outcomes += await self._run_some(commands[at : at + MAX_IN_FLIGHT])
            return outcomes
        raise TimedOut(f"No answer within {limit_s:g} s to {', '.join(sorted({it.path for it in commands}))}.")

    @asynccontextmanager
    async def listen(self, command: Command) -> AsyncIterator[Rows]:
        """Rows as they come. The command is cancelled at the end of the block."""
        await self._enter(1)
        exchange = Exchange(self._unreachable)
        try:
            await self._send_commands((command,), exchange, is_listening=True)
            yield Rows(exchange)
        finally:
            await self._leave(exchange, 1)

    async def log_in(self, target: Target) -> None:
        """Raise LoginRefused."""
        try:
            result = await self.run(login.with_password(target.user, target.password))
            if result.ret is not None:
                if not target.allow_md5_login:
                    raise LoginRefused(f"{target} wants the MD5 login of RouterOS before 6.43, which isn't allowed.")
                answer = login.with_challenge(target.user, target.password, result.ret)
                self._session.words.hide(answer.attributes["response"])
                await self.run(answer)
        except Trap as trap:
            raise LoginRefused(f"{target} doesn't let {target.user!r} in: {trap}") from trap
        self._session.words.lets_in = True

    async def read(self) -> None:
        """Take what comes until the connection is over, and close it."""
        try:
            with self._reading:
                await self._read()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._end(Unreachable(f"it broke: {error.__cause__ or error}"))
        finally:
            self._end(Unreachable("it was closed here"))
            await trio.aclose_forcefully(self._stream)

    async def _read(self) -> None:
        while data := await self._stream.receive_some(_READ_BYTES):
            for event in self._session.receive(data):
                self._take(event)
        middle = " in the middle of an answer" if self._session.is_inside else ""
        self._end(Unreachable(f"the router closed it{middle}"))

    def _take(self, event: Event) -> None:
        if isinstance(event, Ended):
            self._end(event.error)
        elif self._why is None:
            take = self._exchanges.pop if isinstance(event, Finished) else self._exchanges.__getitem__
            take(event.tag).take(event)

    async def _run_some(self, commands: Sequence[Command]) -> list[Result | Trap]:
        await self._enter(len(commands))
        exchange = Exchange(self._unreachable)
        try:
            await self._send_commands(commands, exchange)
            return await exchange.answered()
        finally:
            await self._leave(exchange, len(commands))

    async def _enter(self, count: int) -> None:
        """In the order of coming, so that many small ones never keep a large one out. Who finds room and nobody waiting goes in at once."""
        if not self._entrance.locked() and self._in_flight + count <= MAX_IN_FLIGHT:
            self._in_flight += count
            return
        async with self._entrance:
            while self._in_flight + count > MAX_IN_FLIGHT and self._why is None:
                await self._freed.park()
            self._in_flight += count

    async def _leave(self, exchange: Exchange, count: int) -> None:
        """Whoever leaves early leaves nothing running on the router, or no connection."""
        if exchange.unfinished and self._why is None:
            await self._abandon(exchange)
        self._in_flight -= count
        self._freed.unpark_all()

    async def _send_commands(
        self, commands: Sequence[Command], exchange: Exchange, *, is_listening: bool = False
    ) -> None:
        if self._sending.locked():
            await self._sending.acquire()
        else:
            self._sending.acquire_nowait()
        try:
            if (error := self._unreachable()) is not None:
                raise error
            # From here on nothing but a full socket can cut the sending short.
            await trio.lowlevel.checkpoint_if_cancelled()
            sent = [self._session.send(command, is_listening=is_listening) for command in commands]
            exchange.began([tag for tag, _ in sent])
            self._exchanges |= dict.fromkeys(exchange.tags, exchange)
            await self._send(b"".join([wire for _, wire in sent]))
        finally:
            self._sending.release()

    async def _send(self, wire: bytes) -> None:
        """Half a sentence can be neither taken back nor gone on with: then the connection is over."""
        try:
            await self._stream.send_all(wire)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._end(Unreachable(f"it broke: {error.__cause__ or error}"))
        except BaseException:
            self._end(Unreachable("a command was given up while it was sent"))
            raise

    async def _abandon(self, exchange: Exchange) -> None:
        """Cancel what is unfinished, and wait until the router has; also when we are cancelled ourselves."""
        with trio.move_on_after(DRAIN_S if self._session.words.lets_in else 0, shield=True):
            await self._cancel(exchange)
        if exchange.unfinished:
            self._end(Unreachable("the router didn't cancel a command in time"))

    async def _cancel(self, exchange: Exchange) -> None:
        async with self._sending:
            if wire := b"".join(map(self._session.cancel, sorted(exchange.unfinished))):
                await self._send(wire)
        try:
            await exchange.drained()
        except Unreachable:
            return  # nor can the router go on with it, then

    def _unreachable(self) -> Unreachable | None:
        """Another for each who is told: an exception gathers where it came by."""
        if self._why is None:
            return None
        error = Unreachable(f"The connection is gone: {self._why}")
        error.__cause__ = self._why
        return error

    def _end(self, why: RouterOsError) -> None:
        """The first reason counts. Who waits is told; `read` closes."""
        if self._why is not None:
            return
        self._why = why
        self._gone.set()
        self._reading.cancel()
        self._freed.unpark_all()
        for exchange in self._exchanges.values():
            exchange.wake()
        self._exchanges.clear()
