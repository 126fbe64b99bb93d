"""Transaction blocks whose end goes out even from a cancelled task.

Trio goes on cancelling a task until it is out of the cancelled scope: an `__aexit__` that waits as usual would be
cancelled before ROLLBACK is sent, and the connection would stay in its transaction.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from psycopg import AsyncTransaction
from psycopg import errors as e
from psycopg.pq import ConnStatus, TransactionStatus
import structlog

if TYPE_CHECKING:
    from opendesk.postgres.driver import TrioConnection

log = structlog.get_logger()

# How long a ROLLBACK of a failed block may take: as a cancelled statement, it is mostly one.
ROLLBACK_LIMIT_S = 5.0
# How long a COMMIT may take. It is never given up lightly, since nobody knows then whether it took place; a disk or a
# synchronous standby that needs longer is as good as gone.
COMMIT_LIMIT_S = 30.0


class TrioTransaction(AsyncTransaction):
    """psycopg's transaction block, whose end goes out even from a cancelled task."""

    _conn: "TrioConnection[Any]"

    async def __aenter__(self) -> Self:
        async with self._conn.lock:
            self._check_enter()
            try:
                await self._conn.wait(self._enter_gen())
            except BaseException as exc:
                if self.status != self.Status.NOT_STARTED:  # as it is when the cancellation came before BEGIN was sent
                    await self._end(exc, self._leave)
                raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool:
        if exc_val is None and not self.force_rollback and (fault := self._fault()) is not None:
            await self._end(fault, self._leave_with_lock)
            raise fault
        return await self._end(exc_val, self._leave_with_lock)

    def _fault(self) -> e.Error | None:
        """Why a block that ends without an exception can't be committed, of which the server would say nothing.

        So it is when a cancel scope within the block took the time-out of a statement for its own.
        """
        if self.pgconn.status != ConnStatus.OK:
            return e.OperationalError("the connection was lost during the transaction")
        if self.pgconn.transaction_status == TransactionStatus.INERROR:
            return e.InFailedSqlTransaction("a statement of the transaction failed or was cancelled")
        return None

    async def _end(self, exc: BaseException | None, leave: Callable[[BaseException | None], Awaitable[bool]]) -> bool:
        if self.pgconn.status != ConnStatus.OK:
            self.status = self.Status.FAILED
            return False
        limit_s = COMMIT_LIMIT_S if exc is None else ROLLBACK_LIMIT_S
        try:
            return await self._conn.shielded(limit_s, partial(leave, exc))
        except e.OperationalError as failure:
            if exc is None:
                raise
            log.warning("postgres.rollback_failed", error=repr(failure))
            return False

    async def _leave(self, exc: BaseException | None) -> bool:
        return await self._conn.wait(self._exit_gen(type(exc) if exc else None, exc, None))

    async def _leave_with_lock(self, exc: BaseException | None) -> bool:
        async with self._conn.lock:
            return await self._leave(exc)
