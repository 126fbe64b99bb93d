"""A pool of connections: a fixed number, the last used first, no background task.

Connections are in autocommit: a statement stands alone, `async with conn.transaction():` holds more together. Those who
wait for one are served first come first served, a bounded number of them for a bounded time. What a borrower leaves in
a session besides a transaction (SET, LISTEN, temporary tables, row factories) is the next one's too: don't.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
import re
from types import TracebackType

from attrs import frozen
from psycopg import OperationalError
from psycopg import errors as e
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
import structlog
import trio
from trio.lowlevel import ParkingLot

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.settling import SETTLE_LIMIT_S
from opendesk.postgres.transactions import ROLLBACK_LIMIT_S

log = structlog.get_logger()

# A connection is a server process of some 10 MB, and two or three a CPU core keep a server busy.
SIZE = 10
# How many may wait for a connection: at 2000 transactions a second, a quarter of a second's work. Who comes later is
# better told at once than kept waiting behind all of them.
MAX_WAITING = 500
# How long one may wait for a connection, opening it included, in seconds. Past it the database is away or overrun,
# and a caller over HTTP has lost patience.
ACQUIRE_TIMEOUT_S = 5.0
# How long a connection may be idle before it is closed, in seconds, and how many are kept however long: one, so that
# a lone request doesn't wait for a server process to start.
IDLE_S = 30.0
MIN_IDLE = 1
# How long after its last statement a connection is lent without a look at it, in seconds. One that died in between
# fails its next statement, as it would had it died a moment later.
TRUSTED_S = 0.01


class PoolTimeout(OperationalError):
    """No connection became free, or could be opened, in time."""


class PoolFull(OperationalError):
    """Too many are waiting for a connection already."""


class PoolClosed(OperationalError):
    """The pool is closed."""


@frozen
class PoolStats:
    """Connections that are open (`size`), those of them that nobody uses (`idle`), tasks that wait for one."""

    size: int
    idle: int
    waiting: int


@frozen
class _Idle:
    conn: TrioConnection
    since_s: float


class Pool:
    """Lends connections to `conninfo`, at most `size` at a time. Opens them when needed, and none before."""

    def __init__(
        self,
        conninfo: str,
        *,
        size: int = SIZE,
        min_idle: int = MIN_IDLE,
        idle_s: float = IDLE_S,
        max_waiting: int = MAX_WAITING,
        acquire_timeout_s: float = ACQUIRE_TIMEOUT_S,
        prepare_threshold: int | None = 5,
        check: Callable[[TrioConnection], Awaitable[None]] | None = None,
    ) -> None:
        """`check` looks at each connection before it is lent for the first time, and raises OperationalError if it won't do."""
        self._conninfo, self._check = conninfo, check
        self._min_idle, self._idle_s = min_idle, idle_s
        self._max_waiting, self._acquire_timeout_s = max_waiting, acquire_timeout_s
        self._prepare_threshold = prepare_threshold
        self._idle: list[_Idle] = []  # the least recently used first
        self._lent: dict[Lease, float] = {}  # since when
        self._free = size  # places that nobody holds, nor has been given while parked
        self._waiting = ParkingLot()
        self._closed = False

    def connection(self) -> "Lease":
        """Lend a connection for an `async with` block.

        Raises PoolTimeout, PoolFull, PoolClosed, or what connecting raises: all are OperationalError.
        """
        return Lease(self)

    @property
    def stats(self) -> PoolStats:
        return PoolStats(size=len(self._lent) + len(self._idle), idle=len(self._idle), waiting=len(self._waiting))

    def drop_overdue(self, limit_s: float) -> int:
        """Close connections that have been lent for longer than `limit_s` seconds, and say how many.

        For a server that has fallen mute with its connections open: no limit of its own holds then. Who waits for an
        answer gets OperationalError; who is cancelled and would wait for the statement to stop no longer does.
        """
        then_s = trio.current_time() - limit_s
        overdue = [lease for lease, since_s in self._lent.items() if since_s < then_s]
        for lease in overdue:
            lease.drop()
        return len(overdue)

    def close_idle(self) -> None:
        """Close what has been idle for longer than `idle_s`. Giving back a connection does so, too: this is for a time when nobody does."""
        self._drop_idle_since(trio.current_time() - self._idle_s)

    async def aclose(self) -> None:
        """Close the idle connections, and each lent one when it comes back. Who waits gets PoolClosed."""
        self._closed = True
        self._drop_idle()
        self._waiting.unpark_all()

    # Borrowing

    async def _acquire(self, lease: "Lease") -> TrioConnection:
        if self._closed:
            raise PoolClosed("the pool is closed")
        now_s = trio.current_time()
        deadline_s = now_s + self._acquire_timeout_s
        if self._free:
            self._free -= 1
        else:
            await self._wait_for_place(deadline_s)
        try:
            conn = self._take_idle(now_s) or await self._open(deadline_s)
        except BaseException:
            self._leave_place()
            raise
        self._lent[lease] = trio.current_time()
        return conn

    async def _wait_for_place(self, deadline_s: float) -> None:
        if len(self._waiting) >= self._max_waiting:
            raise PoolFull(f"{self._max_waiting} tasks wait for a database connection already")
        with trio.CancelScope(deadline=deadline_s) as scope:
            await self._waiting.park()
        if scope.cancelled_caught:
            raise PoolTimeout(f"no database connection became free within {self._acquire_timeout_s:g} s")
        if self._closed:
            raise PoolClosed("the pool is closed")

    def _take_idle(self, now_s: float) -> TrioConnection | None:
        while self._idle:
            idle = self._idle.pop()
            if now_s - idle.since_s < TRUSTED_S or not idle.conn.hung_up():
                return idle.conn
            idle.conn.drop()
        return None

    async def _open(self, deadline_s: float) -> TrioConnection:
        with trio.CancelScope(deadline=deadline_s):
            conn = await TrioConnection.connect(
                self._conninfo, autocommit=True, prepare_threshold=self._prepare_threshold
            )
            return conn if self._check is None else await checked(conn, self._check)
        raise PoolTimeout(f"the database could not be reached within {self._acquire_timeout_s:g} s")

    # Giving back

    async def _release(self, lease: "Lease", conn: TrioConnection) -> None:
        try:
            await _come_to_rest(conn)
        finally:
            del self._lent[lease]
            if conn.broken:
                self._server_lost()
            if self._closed or conn.closed:
                conn.drop()
            else:
                now_s = trio.current_time()
                self._idle.append(_Idle(conn, now_s))
                self._drop_idle_since(now_s - self._idle_s)
            self._leave_place()

    def _leave_place(self) -> None:
        if self._waiting:
            self._waiting.unpark()  # it has our place now: nobody who comes later can take it
        else:
            self._free += 1

    def _server_lost(self) -> None:
        """One connection broke, so the others, which nobody looks at, broke as well: don't let each fail someone."""
        if self._idle:
            log.warning("postgres.pool_emptied", dropped=len(self._idle))
            self._drop_idle()

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().conn.drop()

    def _drop_idle_since(self, then_s: float) -> None:
        while len(self._idle) > self._min_idle and self._idle[0].since_s < then_s:
            self._idle.pop(0).conn.drop()


class Lease:
    """One loan: `async with pool.connection() as conn`."""

    __slots__ = ("_conn", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._conn: TrioConnection | None = None

    async def __aenter__(self) -> TrioConnection:
        self._conn = await self._pool._acquire(self)  # noqa: SLF001 - a part of the pool
        return self._conn

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._conn is not None
        await self._pool._release(self, self._conn)  # noqa: SLF001

    def drop(self) -> None:
        """Close the connection under whoever has it. Only while it is lent."""
        assert self._conn is not None
        self._conn.drop()


async def checked(conn: TrioConnection, check: Callable[[TrioConnection], Awaitable[None]]) -> TrioConnection:
    """The connection; closed if the check won't have it, or didn't come to its end."""
    try:
        await check(conn)
    except BaseException:
        conn.drop()
        raise
    return conn


async def _come_to_rest(conn: TrioConnection) -> None:
    """Roll back what a borrower left open; drop the connection where that isn't possible."""
    status = conn.pgconn.transaction_status
    sound = conn.autocommit and not conn.lock.locked() and not conn.pgconn.pipeline_status
    if conn.closed or (sound and status == TransactionStatus.IDLE):
        return
    if sound and status in (TransactionStatus.INTRANS, TransactionStatus.INERROR) and await _rolled_back(conn):
        return
    if status == TransactionStatus.ACTIVE:  # a stream or a COPY that nobody ended
        with trio.move_on_after(SETTLE_LIMIT_S, shield=True) as scope, conn.shields.raised(scope), suppress(e.Error):
            await conn.cancel_safe()
    log.warning("postgres.connection_dropped", reason="given back in use", status=TransactionStatus(status).name)
    conn.drop()


async def _rolled_back(conn: TrioConnection) -> bool:
    try:
        await conn.shielded(ROLLBACK_LIMIT_S, conn.rollback)
    except e.Error as exc:
        log.warning("postgres.rollback_failed", error=repr(exc))
        return False
    return True


def with_options(conninfo: str, *, search_path: str | None = None, statement_timeout_ms: int | None = None) -> str:
    """The conninfo with settings that hold from the first statement on, added to the `options` that it has.

    `search_path` is as in SET: names parted by commas. A statement that runs longer than `statement_timeout_ms`
    milliseconds (0: no limit) is stopped with QueryCanceled. Raises ProgrammingError for a bad conninfo.
    """
    settings = {"search_path": search_path, "statement_timeout": statement_timeout_ms}
    options = [f"-c {name}={_escaped(str(value))}" for name, value in settings.items() if value is not None]
    before = conninfo_to_dict(conninfo).get("options")
    return make_conninfo(conninfo, options=" ".join([str(before), *options] if before else options))


def _escaped(value: str) -> str:
    """As the server wants it in `options`, which it splits at white space."""
    return re.sub(r"([\s\\])", r"\\\1", value)
