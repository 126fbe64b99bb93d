"""A gate before the server, which a test may shut or hold, and a second look at what the server does."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
import shutil
import tempfile
from typing import Any

from attrs import define, field
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
import pytest
import trio

SOCKET = ".s.PGSQL.5432"


@define
class Gate:
    """Passes connections on to a server's Unix socket. Runs in the test's own loop."""

    conninfo: str
    path: str
    target: str
    nursery: trio.Nursery
    lose: int = 0  # how many of the next connections to take and close, having read what they ask
    hides_ends: bool = False  # whether a connection stays open when the other side has closed its own
    _listener: trio.SocketListener | None = None
    _is_shut: bool = False
    _passing: set[trio.CancelScope] = field(factory=set)
    _flow: trio.Event = field(factory=trio.Event)

    async def open(self) -> None:
        """Let connections in."""
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        with suppress(FileNotFoundError):
            await trio.Path(self.path).unlink()
        await sock.bind(self.path)
        sock.listen(100)
        self._listener = trio.SocketListener(sock)
        self._is_shut = False
        self._flow.set()
        self.nursery.start_soon(self._accept, self._listener)

    async def shut(self) -> None:
        """Refuse connections and cut those that there are."""
        assert self._listener is not None
        self._is_shut = True
        await self._listener.aclose()
        self.cut()

    def cut(self) -> None:
        for scope in self._passing:
            scope.cancel()

    def hold(self) -> None:
        """Take connections and bytes, but pass nothing on, in either direction."""
        self._flow = trio.Event()

    def release(self) -> None:
        self._flow.set()

    async def _accept(self, listener: trio.SocketListener) -> None:
        with suppress(trio.ClosedResourceError):
            while True:
                client, scope = await listener.accept(), trio.CancelScope()
                if self._is_shut:  # while it was on its way to us
                    await trio.aclose_forcefully(client)
                    continue
                self._passing.add(scope)  # from now on: one that is only about to be passed on is cut as well
                self.nursery.start_soon(self._pass_on, client, scope)

    async def _pass_on(self, client: trio.SocketStream, scope: trio.CancelScope) -> None:
        if self.lose:
            self.lose -= 1
            async with client:
                await client.receive_some()
            return
        with scope:
            async with client:
                await self._flow.wait()
                async with await trio.open_unix_socket(self.target) as server, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, client, server, scope)
                    nursery.start_soon(self._pump, server, client, scope)
        self._passing.discard(scope)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await self._flow.wait()
                await sink.send_all(data)
        if self.hides_ends:
            await trio.sleep_forever()
        scope.cancel()


@pytest.fixture
async def gate(conninfo: str, nursery: trio.Nursery) -> AsyncIterator[Gate]:
    folder = tempfile.mkdtemp(prefix="gate-", dir="/tmp")  # short: a socket's path holds 103 bytes
    target = f"{conninfo_to_dict(conninfo)['host']}/{SOCKET}"
    made = Gate(make_conninfo(conninfo, host=folder), f"{folder}/{SOCKET}", target, nursery)
    await made.open()
    yield made
    made.release()
    await made.shut()
    shutil.rmtree(folder)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]:
    """Wait until a condition holds, and return what it gave."""

    async def wait(condition: Callable[[], Awaitable[Any]]) -> Any:
        with trio.fail_after(10):
            while not (result := await condition()):  # noqa: ASYNC110 - the server has no event for us
                await trio.sleep(0.005)
        return result

    return wait


@pytest.fixture
def look(conninfo: str) -> Callable[[str], list[Any]]:
    """Ask the server over a connection that has nothing to do with the code under test."""

    def ask(query: str) -> list[Any]:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            return [row[0] for row in conn.execute(query.encode())]

    return ask


# The statements that this test's database runs at the moment, other than the one that asks.
RUNNING = """
    SELECT query FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
       AND state <> 'idle'
"""


@pytest.fixture
def running(look: Callable[[str], list[Any]]) -> Callable[[], Awaitable[list[Any]]]:
    async def ask() -> list[Any]:
        return look(RUNNING)

    return ask


SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@pytest.fixture
def sessions_become(
    look: Callable[[str], list[Any]], eventually: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
) -> Callable[[int], Awaitable[None]]:
    """Wait until the test's database has so many sessions; one that was closed takes its time to end."""

    async def wait(wanted: int) -> None:
        async def reached() -> bool:
            return look(SESSIONS) == [wanted]

        await eventually(reached)

    return wait


@pytest.fixture
def cancel_when_running(
    running: Callable[[], Awaitable[list[Any]]], eventually: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
) -> Callable[[trio.CancelScope], Awaitable[None]]:
    """Cancel a scope once the server is at work."""

    async def cancel(scope: trio.CancelScope) -> None:
        await eventually(running)
        scope.cancel()

    return cancel


@pytest.fixture
def is_usable() -> Callable[[Any], Awaitable[bool]]:
    """Whether a connection waits for statements and answers them."""

    async def ask(conn: Any) -> bool:
        return bool(conn.pgconn.transaction_status == TransactionStatus.IDLE and await conn.fetch("SELECT 1") == [(1,)])

    return ask


@pytest.fixture
async def table(conn: Any) -> str:
    """A table `things` in the test's database."""
    await conn.execute("CREATE TABLE things (i int PRIMARY KEY, s text)")
    return "things"
