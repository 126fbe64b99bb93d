"""psycopg 3 natively on Trio.

psycopg's core is generators that say which socket they wait for; only the waiting is asyncio's. `TrioConnection` is
psycopg's `AsyncConnection` with its own waiting, so cursors, COPY, pipelines, notifications, types and errors are
psycopg's. What differs: host names are resolved and cancel requests sent through Trio; a cancelled task's statement is
cancelled on the server too; ends of blocks (ROLLBACK, COMMIT, the end of a COPY) go out although the task is cancelled,
each within a limit; and `fetch`, `fetch_one` and `run` are a shorter way for one statement than a cursor.

Needs libpq 17 or newer on the client (`psycopg[binary]` 3.3 brings one). `AsyncQueuedLibpqWriter` is asyncio's and does
not work. Close `stream()` and `notifies()` with `contextlib.aclosing` if you leave them early.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from functools import partial
import math
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar, cast, overload

from psycopg import AsyncConnection, AsyncCursor, AsyncPipeline, AsyncTransaction, Notify
from psycopg import errors as e
from psycopg._capabilities import capabilities
from psycopg.abc import RV, AdaptContext, ConnDict, ConnParam, Params, PQGen, PQGenConn
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import make_conninfo, timeout_from_conninfo
from psycopg.generators import send
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import AsyncRowFactory, Row, tuple_row
from psycopg.waiting import Ready, Wait
import structlog
import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable

from opendesk.postgres.addresses import connection_attempts
from opendesk.postgres.cursors import TrioCursor
from opendesk.postgres.settling import SETTLE_LIMIT_S, Shields, drain
from opendesk.postgres.statements import Statements, make_rows
from opendesk.postgres.transactions import COMMIT_LIMIT_S, ROLLBACK_LIMIT_S, TrioTransaction
from opendesk.postgres.waits import BUSY_LIMIT_S, ConnectionLock, ready_now, wait_ready

log = structlog.get_logger()
T = TypeVar("T")

# When to ask again to cancel a statement that goes on, doubled each time: a request that arrives before the server has
# begun the statement is lost.
CANCEL_AGAIN_S = 0.1
# How often hung_up() reads: the server's last words, then the end behind them. More is somebody's notifications.
READS_OF_AN_IDLE_SOCKET = 4


class TrioConnection(AsyncConnection[Row]):
    """A connection for one Trio program. Several tasks may use it; their statements take turns."""

    lock: ConnectionLock  # type: ignore[assignment]  # psycopg's is asyncio's, used in the same way

    def __init__(self, pgconn: PGconn, row_factory: AsyncRowFactory[Row] | None = None) -> None:
        super().__init__(pgconn, row_factory or cast("AsyncRowFactory[Row]", tuple_row))
        self.lock = ConnectionLock()
        self.cursor_factory = TrioCursor
        self._statements: Statements | None = None
        self._waited_at = 0.0  # when this connection last gave way to other tasks; monotonic seconds
        self._must_yield = False
        self.shields = Shields()

    @classmethod
    async def connect(
        cls,
        conninfo: str = "",
        *,
        autocommit: bool = False,
        prepare_threshold: int | None = 5,
        context: AdaptContext | None = None,
        row_factory: AsyncRowFactory[Row] | None = None,
        cursor_factory: type[AsyncCursor[Row]] | None = None,
        **kwargs: ConnParam,
    ) -> Self:
        """Connect to the first address that answers; `connect_timeout` (seconds) counts for each, and for their names.

        Raises OperationalError (ConnectionTimeout among them) that tells what was tried.
        """
        capabilities.has_cancel_safe(check=True)
        params = await cls._get_connection_params(conninfo, **kwargs)
        conn = await cls._connect_to_any(params, timeout_from_conninfo(params))
        conn._autocommit = bool(autocommit)  # noqa: SLF001 - its own
        if row_factory:
            conn.row_factory = row_factory
        if cursor_factory:
            conn.cursor_factory = cursor_factory
        if context:
            conn._adapters = AdaptersMap(context.adapters)  # noqa: SLF001 - its own
        conn.prepare_threshold = prepare_threshold
        return conn

    @classmethod
    async def _connect_to_any(cls, params: ConnDict, timeout_s: float) -> Self:
        failures: list[e.Error] = []
        tried: list[str] = []
        for attempt in await _within(timeout_s, partial(connection_attempts, params)):
            try:
                gen = cls._connect_gen(make_conninfo("", **attempt))
                return await _within(timeout_s, partial(_drive_anywhere, gen))
            except e.Error as exc:
                failures.append(exc)
                tried.append(f"- host: {attempt.get('host')!r}, hostaddr: {attempt.get('hostaddr')!r}: {exc}")
        if len(failures) == 1:
            raise failures[0]
        raise type(failures[-1])("\n".join(["all connection attempts failed:", *tried]))

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        try:
            if not self.closed and exc_val is None:
                await self.shielded(COMMIT_LIMIT_S, super().commit)
            elif not self.closed:
                await self.shielded(ROLLBACK_LIMIT_S, super().rollback)
        except e.Error as exc:
            if exc_val is None:
                raise
            log.warning("postgres.rollback_failed", error=repr(exc))
        finally:
            await self.close()

    async def close(self) -> None:
        """Close at once. A task that waits for an answer gets OperationalError."""
        self.drop()

    def drop(self) -> None:
        """Close at once, without being a coroutine. What goes on in a cancelled task ends, too."""
        if not self.closed:
            notify_closing(self.pgconn.socket)
            self._closed = True
        self.shields.lower()
        self.pgconn.finish()
        self._statements = None  # which refers to us: freed now instead of by the garbage collector

    def hung_up(self) -> bool:
        """Whether the server is gone, as far as one can know without asking it. Only while nothing is under way."""
        severities: list[str | None] = []

        def hear(said: e.Diagnostic) -> None:
            severities.append(said.severity_nonlocalized)

        self.add_notice_handler(hear)
        try:
            for _ in range(READS_OF_AN_IDLE_SOCKET):
                if not ready_now(self.pgconn.socket, Wait.R):
                    break
                self.pgconn.consume_input()
                self._hear_notifies()
        except e.OperationalError:
            return True
        finally:
            self.remove_notice_handler(hear)
        return self.closed or not {"FATAL", "PANIC"}.isdisjoint(severities)

    def _hear_notifies(self) -> None:
        """Keep the notifications that were read; this is also what makes libpq look at what it read."""
        while (notify := self.pgconn.notifies()) is not None:
            if self.pgconn.notify_handler:
                self.pgconn.notify_handler(notify)

    # One statement

    @overload
    async def fetch(self, query: str | bytes, params: Params | None = None) -> list[tuple[Any, ...]]: ...
    @overload
    async def fetch(self, query: str | bytes, params: Params | None = None, *, row: Callable[..., T]) -> list[T]: ...
    async def fetch(
        self, query: str | bytes, params: Params | None = None, *, row: Callable[..., T] | None = None
    ) -> list[tuple[Any, ...]] | list[T]:
        """Run one statement and return its rows: tuples, or what `row` makes of the columns given by name.

        The query bounds how many rows there are: all are in memory. `row` may be a class, or `dict`. The connection's
        row and cursor factories don't count here, nor do adapters registered on it after the first `fetch`.
        """
        result, rows = await self._run(query, params)
        return rows if row is None else make_rows(result, rows, row)

    @overload
    async def fetch_one(self, query: str | bytes, params: Params | None = None) -> tuple[Any, ...] | None: ...
    @overload
    async def fetch_one(
        self, query: str | bytes, params: Params | None = None, *, row: Callable[..., T]
    ) -> T | None: ...
    async def fetch_one(
        self, query: str | bytes, params: Params | None = None, *, row: Callable[..., T] | None = None
    ) -> tuple[Any, ...] | T | None:
        """Run one statement and return its first row, or None."""
        result, rows = await self._run(query, params)
        if not rows:
            return None
        return rows[0] if row is None else make_rows(result, rows[:1], row)[0]

    async def run(self, query: str | bytes, params: Params | None = None) -> int:
        """Run one statement and return how many rows it changed (or returned), 0 for one that has none to count."""
        result, _ = await self._run(query, params)
        return result.command_tuples or 0

    async def _run(self, query: str | bytes, params: Params | None) -> tuple[PGresult, list[tuple[Any, ...]]]:
        async with self.lock:
            if self._pipeline is not None:
                raise e.NotSupportedError("in a pipeline, use execute()")
            statements = self._statements
            if statements is None:
                statements = self._statements = Statements(self)
            result = await self.wait(statements.run_gen(query, params))
            return result, statements.load(result)

    # Waiting

    async def wait(self, gen: PQGen[RV], interval: float = 0.0, timeout: float | None = None) -> RV:  # noqa: ARG002 - psycopg's
        """Run a generator that works on this connection; the caller holds the lock.

        Raises psycopg's _WaitTimeout after `timeout` seconds, after having looked once. When the task is cancelled,
        the statement under way is cancelled on the server and what it still answers is thrown away.
        """
        if timeout is None:
            return await self._wait(gen)
        with trio.move_on_after(timeout):
            return await self._wait(gen, look_first=True)
        raise e._WaitTimeout("wait timeout expired")  # noqa: SLF001 - what notifies() expects

    async def _wait(self, gen: PQGen[RV], *, look_first: bool = False) -> RV:
        try:
            if self._must_yield and not look_first:
                await self._give_way()
            return await self._drive(gen, look_first=look_first)
        except (trio.Cancelled, KeyboardInterrupt):
            await self._settle(gen)
            raise

    async def _drive(self, gen: PQGen[RV], *, look_first: bool = False) -> RV:
        fd = self.pgconn.socket
        try:
            wanted = next(gen)
            while True:
                if wanted == Wait.R and not look_first:  # a statement's answer: the hot path
                    await wait_readable(fd)
                    self._waited_at = monotonic()
                    wanted = gen.send(Ready.R)
                else:
                    wanted = gen.send(await self._ready(fd, wanted))
        except StopIteration as done:
            result: RV = done.value
        except (OSError, trio.ClosedResourceError) as exc:
            raise e.OperationalError("connection socket closed") from exc
        # Not here: a cancellation would lose the result. Before the next generator begins.
        self._must_yield = monotonic() - self._waited_at > BUSY_LIMIT_S
        return result

    async def _ready(self, fd: int, wanted: Wait) -> Ready:
        # A socket is nearly always writable: to ask costs less than to park.
        if ready := ready_now(fd, wanted):
            if wanted != Wait.R:  # else only a look, for which there may be no time
                await self.yield_if_busy()
            return ready
        ready = await wait_ready(fd, wanted)
        self._waited_at = monotonic()
        return ready

    async def yield_if_busy(self) -> None:
        """Let other tasks run if this connection's didn't wait for long: in a fast COPY, among rows already read."""
        if monotonic() - self._waited_at > BUSY_LIMIT_S:
            await self._give_way()

    async def _give_way(self) -> None:
        await checkpoint()
        self._waited_at = monotonic()
        self._must_yield = False

    async def _settle(self, gen: PQGen[Any]) -> None:
        """Bring the connection to rest after an interrupted wait, or drop it."""
        with trio.move_on_after(SETTLE_LIMIT_S, shield=True) as scope, self.shields.raised(scope):
            try:
                await self.stop_statement()
            except e.Error as exc:
                log.warning("postgres.cancel_failed", error=repr(exc))
        if self._pipeline is not None:
            self.drop()  # replies can no longer be matched to commands
        elif self.pgconn.transaction_status == TransactionStatus.ACTIVE:
            log.warning("postgres.connection_dropped", reason="a cancelled statement did not stop")
            self._lose()
        with suppress(e.Error):
            gen.close()  # only now: a pipeline's would talk to the server

    async def stop_statement(self) -> None:
        """Stop what the server does, if anything, and read what it still says; a pipeline is not usable then.

        Goes on until the server has stopped: the caller sets a limit.
        """
        if self._pipeline is not None and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
            self.pgconn.pipeline_sync()  # without which the server may be silent for ever
        pause_s = CANCEL_AGAIN_S
        while self.pgconn.transaction_status == TransactionStatus.ACTIVE:
            # The server can't stop what it has half received, and what is in our buffer goes out when we hang up.
            await self._drive(send(self.pgconn))
            await self.cancel_safe()
            with trio.move_on_after(pause_s):
                await self._drive(drain(self.pgconn))
            pause_s *= 2

    def _lose(self) -> None:
        """Drop the connection as one that the server or the network broke: `broken` is true then."""
        self.drop()
        self._closed = False

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:
        """Ask the server to cancel the statement under way; returns when the server has taken note.

        Raises CancellationTimeout after `timeout` seconds, OperationalError if the server can't be reached.
        """
        if not self._should_cancel():
            return
        with trio.move_on_after(timeout or math.inf):
            await _drive_anywhere(self._cancel_gen())
            return
        raise e.CancellationTimeout("cancellation timeout expired")

    async def shielded(self, limit_s: float, work: Callable[[], Awaitable[T]]) -> T:
        """Do what must be done although the task is cancelled. Without an answer the connection is lost."""
        with trio.move_on_after(limit_s, shield=True) as scope, self.shields.raised(scope):
            return await work()
        self._lose()
        raise e.OperationalError(f"no answer from the server within {limit_s:g} s")

    # Blocks

    def transaction(  # type: ignore[override]  # psycopg's generator type says no more than this
        self,
        savepoint_name: str | None = None,
        force_rollback: bool = False,  # noqa: FBT001, FBT002 - psycopg's
    ) -> AbstractAsyncContextManager[AsyncTransaction]:
        """A block that is committed at its end, rolled back if an exception or a cancellation leaves it.

        COMMIT and ROLLBACK go out although the task is cancelled. In a block, another is a savepoint.
        """
        block = TrioTransaction(self, savepoint_name, force_rollback)
        return block if self._pipeline is None else self._piped(block)

    @asynccontextmanager
    async def _piped(self, block: AsyncTransaction) -> AsyncIterator[AsyncTransaction]:
        async with self.pipeline(), block, self.pipeline():
            yield block

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[AsyncPipeline]:
        """The pipeline mode of psycopg. A cancellation that leaves the block drops the connection."""
        try:
            async with super().pipeline() as pipeline:
                yield pipeline
        except Exception:
            raise
        except BaseException:
            if not self.closed:
                with (
                    trio.move_on_after(SETTLE_LIMIT_S, shield=True) as scope,
                    self.shields.raised(scope),
                    suppress(e.Error),
                ):
                    await self.stop_statement()
                self.drop()
            raise

    async def notifies(self, *, timeout: float | None = None, stop_after: int | None = None) -> AsyncGenerator[Notify]:
        """Yield notifications as they come; ends after `timeout` seconds or about `stop_after` of them."""
        async with self.lock:
            self._hear_notifies()  # what somebody has read already makes no socket readable again
        async with aclosing(super().notifies(timeout=timeout, stop_after=stop_after)) as received:
            async for notification in received:
                yield notification


async def _within(timeout_s: float, work: Callable[[], Awaitable[T]]) -> T:
    with trio.move_on_after(timeout_s):
        return await work()
    raise e.ConnectionTimeout("connection timeout expired")


async def _drive_anywhere(gen: PQGenConn[RV]) -> RV:
    """Run a generator that says itself which socket it waits for: connecting, cancelling."""
    try:
        fd, wanted = next(gen)
        while True:
            fd, wanted = gen.send(await wait_ready(fd, wanted))
    except StopIteration as done:
        result: RV = done.value
        return result
    except (OSError, trio.ClosedResourceError) as exc:
        raise e.OperationalError("connection socket closed") from exc
    finally:
        gen.close()  # frees the half-open connection of a cancelled attempt
