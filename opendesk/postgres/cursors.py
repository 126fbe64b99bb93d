"""Cursors that are cheap to make, leave other tasks their turn, and can be left at any point."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from psycopg import AsyncConnection, AsyncCursor
from psycopg import errors as e
from psycopg.abc import Params, PQGen, Query
from psycopg.adapt import AdaptersMap, Transformer
from psycopg.copy import AsyncCopy, AsyncWriter
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.rows import AsyncRowFactory, Row
import trio

from opendesk.postgres.settling import SETTLE_LIMIT_S

if TYPE_CHECKING:
    from opendesk.postgres.driver import TrioConnection


class TrioCursor(AsyncCursor[Row]):
    """psycopg's client-side cursor on a `TrioConnection`."""

    __slots__ = ()

    def __init__(self, connection: AsyncConnection[Any], *, row_factory: AsyncRowFactory[Row] | None = None) -> None:
        # As BaseCursor does, but for the adapters: psycopg copies the connection's map for every cursor, which makes
        # half of a cursor's cost. Here a cursor copies them when somebody asks for its own.
        self._conn = connection
        self.format = Format.TEXT
        self._pgconn = connection.pgconn
        self._adapters = connection.adapters
        self.arraysize = 1
        self._closed = False
        self._last_query = None
        self._reset()
        self._row_factory = row_factory or connection.row_factory

    @property
    def adapters(self) -> AdaptersMap:
        if self._adapters is self._conn.adapters:
            self._adapters = AdaptersMap(self._conn.adapters)
            self._adapters._register_loader_callback = partial(self._loaders_changed, ref(self))  # noqa: SLF001 - psycopg's
            self._last_query = None  # so that the next query takes a transformer with the cursor's own adapters
        return self._adapters

    def _start_query(self, query: Query | None = None) -> PQGen[None]:
        if self._closed:
            raise e.InterfaceError("the cursor is closed")
        self._reset()
        if not self._last_query or self._last_query is not query:
            self._last_query = None
            shared = self._adapters is self._conn.adapters
            self._tx = cast("Any", Transformer(self._conn if shared else self))
        yield from self._conn._start_query()  # noqa: SLF001 - psycopg's own way

    async def __anext__(self) -> Row:
        await cast("TrioConnection[Any]", self._conn).yield_if_busy()
        return await super().__anext__()

    async def stream(
        self, query: Query, params: Params | None = None, *, binary: bool | None = None, size: int = 1
    ) -> AsyncIterator[Row]:
        """As psycopg's. Left early, it cancels the statement and reads what is on its way, even when cancelled."""
        rows = cast("AsyncGenerator[Row]", super().stream(query, params, binary=binary, size=size))
        try:
            async for row in rows:
                yield row
        finally:
            with trio.move_on_after(SETTLE_LIMIT_S, shield=True):
                await rows.aclose()

    @asynccontextmanager
    async def copy(
        self, statement: Query, params: Params | None = None, *, writer: AsyncWriter | None = None
    ) -> AsyncIterator[AsyncCopy]:
        """As psycopg's. Left by an exception or a cancellation, it copies nothing in; copying out may end early."""
        async with self._conn.lock:
            await self._conn.wait(self._start_copy_gen(statement, params))
            async with TrioCopy(self, writer=writer) as copy:
                yield copy
        self._select_current_result(0)  # the copy's, with its row count


class TrioCopy(AsyncCopy):
    """psycopg's COPY, whose end goes out even from a cancelled task."""

    async def finish(self, exc: BaseException | None) -> None:
        if exc is None and self._direction == ExecStatus.COPY_IN:
            await super().finish(None)
        elif self._pgconn.transaction_status == TransactionStatus.ACTIVE:  # else it is at its end, or was interrupted
            with trio.move_on_after(SETTLE_LIMIT_S, shield=True):
                await super().finish(exc or _LeftEarly())


class _LeftEarly(Exception):
    """Someone has read enough; psycopg only knows of errors."""
