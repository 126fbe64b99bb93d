"""Reading what the server still has to say to a statement that nobody waits for any more."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from psycopg import errors as e
from psycopg.abc import PQGen
from psycopg.generators import copy_end, copy_from, fetch_many
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn
import trio

# How long a cancelled statement may take to stop, cancel request included. A healthy server needs milliseconds; one
# that needs more has lost the network, and the connection is dropped.
SETTLE_LIMIT_S = 5.0


class Shields:
    """The scopes behind which a connection's work goes on in cancelled tasks. It ends when they are lowered."""

    def __init__(self) -> None:
        self._scopes: list[trio.CancelScope] = []

    @contextmanager
    def raised(self, scope: trio.CancelScope) -> Iterator[None]:
        self._scopes.append(scope)
        try:
            yield
        finally:
            self._scopes.remove(scope)

    def lower(self) -> None:
        for scope in self._scopes:
            scope.cancel()


def drain(pgconn: PGconn) -> PQGen[None]:
    """Throw results away until the server waits for the next statement; in a pipeline, until the last sync."""
    while pgconn.transaction_status == TransactionStatus.ACTIVE:
        for result in (yield from fetch_many(pgconn)):
            with suppress(e.QueryCanceled):  # that is what was asked for
                if result.status == ExecStatus.COPY_IN:
                    yield from copy_end(pgconn, b"cancelled")
                elif result.status == ExecStatus.COPY_OUT:
                    yield from _skip_copy(pgconn)


def _skip_copy(pgconn: PGconn) -> PQGen[None]:
    while isinstance((yield from copy_from(pgconn)), memoryview):
        pass
