"""Which database the settings mean, and how the daemon and the commands come by it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Final, Protocol

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
import structlog
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.embedded.lifetime import embedded_server, running_server, server_for_command
from opendesk.postgres.identity import SameDatabase
from opendesk.postgres.migrate import MigrationError, MigrationFailed, migrate, pending
from opendesk.postgres.pool import MAX_WAITING, Pool, checked, with_options
from opendesk.settings import Settings
from opendesk.supervise import alive

log = structlog.get_logger()

# Our statements take milliseconds; the longest batch some 200. One that takes this long stands in a queue that nobody is served by.
STATEMENT_TIMEOUT_MS: Final = 10_000

# For connections to a server that vanished without a word (a machine that lost its power, a network that is cut): else the kernel
# would go on hoping for a quarter of an hour, or for two hours where nothing is under way. In seconds, and ms for the last; a URL
# that has its own wins.
TRANSPORT: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
}

# The same from the server's side: a daemon that vanished in the midst of a transaction must not hold its locks for two hours.
# In seconds, and ms for the first.
SESSION: Final = {
    "idle_in_transaction_session_timeout": 30_000,
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 2,
    # What the statements rely on; a role or a database may have another default.
    "default_transaction_isolation": "read\\ committed",
}

# Heartbeats, timers and the look after the database have connections of their own: callers in a crowd must not keep hosts from being heard.
UPKEEP_CONNECTIONS: Final = 4

# Jobs on routers, likewise: some ten short statements each, of which a connection does two thousand a second.
JOBS_CONNECTIONS: Final = 4
# When a thousand grants end at once, each job waits for its turn: as many as may be under way (network/jobs/holding.py), and the runner's
# own statements. At that pace the last one's comes within seconds; refused, all of them would come again and again.
JOBS_WAITING: Final = 5_000

# Whether the database answers: /health/ready wants to know now, the log and the metrics soon, and sooner when it is back.
PING_S: Final = 2.0
_HANG_UP_S: Final = 0.1
WATCH_PERIOD_S: Final = 2.0
WATCH_AWAY_S: Final = 0.5

# A call has 15 s, a statement 10, and a timer's batch takes seconds: who has had a connection for longer waits for a server that keeps
# it open and says nothing.
LONGEST_LOAN_S: Final = 60.0

# A daemon that has just started its server migrates it in less; a command waits for that.
DAEMON_MIGRATES_S: Final = 5.0
_MIGRATES_LOOK_S: Final = 0.1


# For psql too, hence its way to write a variable.
GRANTS: Final = resources.files("opendesk.postgres") / "serving_role.sql"


class UnknownRole(Exception):
    """There is no such role in the database."""


class DatabaseBehind(MigrationError):
    """The database lacks a migration of this program's."""


@asynccontextmanager
async def serving_database(settings: Settings) -> AsyncIterator[str]:
    """The conninfo of the database that a daemon serves from; the embedded server runs as long as this does."""
    if (url := external(settings)) is not None:
        yield url
        return
    async with embedded_server(settings.opendesk_data_dir) as conninfo:
        yield conninfo


@asynccontextmanager
async def command_database(settings: Settings) -> AsyncIterator[str]:
    """The same for a command, which may run beside a daemon or without one."""
    if (url := external(settings)) is not None:
        yield url
        return
    async with server_for_command(settings.opendesk_data_dir) as conninfo:
        yield conninfo


def external(settings: Settings) -> str | None:
    """The conninfo of DATABASE_URL, with TLS where it is asked for; None for the embedded server."""
    if settings.database_url is None:
        return None
    url, mode = settings.database_url.reveal(), settings.database_sslmode
    return make_conninfo(url, sslmode=mode) if mode else url


async def bring_up_to_date(conninfo: str) -> list[str]:
    """Apply what migrations are missing; their names. Raise MigrationError with what is wrong."""
    async with await TrioConnection.connect(_with_limits(conninfo)) as conn:
        try:
            return await migrate(conn)
        except MigrationFailed as error:
            if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                hint = "run `opendesk migrate` as the role that owns the schema (docs/database.md, Two roles)"
                raise MigrationFailed(f"{error}; {hint}") from error
            raise


async def missing(conninfo: str) -> list[str]:
    """The names of what `bring_up_to_date` would apply; change nothing. Raise MigrationError as it does."""
    async with await TrioConnection.connect(_with_limits(conninfo), autocommit=True) as conn:
        return await pending(conn)


async def make_ready_for_command(conninfo: str, settings: Settings, *, wait_s: float = DAEMON_MIGRATES_S) -> None:
    """Bring it up to date where no daemon can be serving from it; else raise DatabaseBehind if it isn't.

    For an embedded one's daemon, which may have just begun, `wait_s` is waited. Whose daemons run on any other server, and
    of which version they are, a command can't know.
    """
    if external(settings) is not None:
        await _be_up_to_date(conninfo, wait_s=0)
    elif await running_server(settings.opendesk_data_dir) is not None:
        await _be_up_to_date(conninfo, wait_s=wait_s)
    else:
        await bring_up_to_date(conninfo)


async def _be_up_to_date(conninfo: str, *, wait_s: float) -> None:
    deadline_s = trio.current_time() + wait_s
    while names := await missing(conninfo):
        if trio.current_time() >= deadline_s:
            raise DatabaseBehind(
                f"the database is behind this program (it lacks {', '.join(names)}): "
                "stop the daemons that serve from it, then run `opendesk migrate`"
            )
        await trio.sleep(_MIGRATES_LOOK_S)


async def grant_to(conninfo: str, role: str) -> None:
    """Give an existing role the rights that serving takes, and no others on our tables. Raise UnknownRole."""
    async with await TrioConnection.connect(_with_limits(conninfo)) as conn:
        quoted = sql.Identifier(role).as_string(conn)
        try:
            await conn.execute(GRANTS.read_text("utf-8").replace(':"role"', quoted).encode())
        except psycopg.errors.UndefinedObject:
            raise UnknownRole(f"there is no database role {role}: make it with CREATE ROLE first") from None


@asynccontextmanager
async def open_pool(
    conninfo: str,
    settings: Settings,
    *,
    size: int | None = None,
    max_waiting: int = MAX_WAITING,
    same: SameDatabase | None = None,
) -> AsyncIterator[Pool]:
    ready = with_options(_with_limits(conninfo), search_path="opendesk", statement_timeout_ms=STATEMENT_TIMEOUT_MS)
    size = size or settings.relay_db_pool_size
    check = None if same is None else same.check
    pool = Pool(ready, size=size, idle_s=settings.relay_db_idle_ms / 1000, max_waiting=max_waiting, check=check)
    try:
        yield pool
    finally:
        await pool.aclose()


async def connect(conninfo: str, *, same: SameDatabase | None = None) -> TrioConnection:
    """A connection that is nobody else's, for as long as it lasts: to listen on."""
    ready = with_options(_with_limits(conninfo), search_path="opendesk")
    conn = await TrioConnection.connect(ready, autocommit=True)
    return conn if same is None else await checked(conn, same.check)


def _with_limits(conninfo: str) -> str:
    given = conninfo_to_dict(conninfo)
    missing = {name: limit for name, limit in TRANSPORT.items() if name not in given}
    # Of two of a name the later wins: that is the operator's.
    options = [*(f"-c {name}={limit}" for name, limit in SESSION.items()), str(given.get("options", ""))]
    return make_conninfo(conninfo, **missing, options=" ".join(options).strip())


async def answers(pool: Pool) -> bool:
    """Whether the database answers a small question in time."""
    answered = False
    try:
        with trio.move_on_after(PING_S) as limit:
            async with pool.connection() as conn, trio.open_nursery() as nursery:
                nursery.start_soon(_hang_up, conn, limit.deadline)
                await conn.fetch_one("SELECT 1")
                answered = True
                nursery.cancel_scope.cancel()
    except* psycopg.Error:
        pass
    return answered


async def _hang_up(conn: TrioConnection, at_s: float) -> None:
    """A statement that is merely cancelled is given seconds to stop, which a mute server takes."""
    await trio.sleep_until(at_s - _HANG_UP_S)
    conn.drop()


class Tell(Protocol):
    """Whoever wants to know whether the database answers."""

    def __call__(self, *, up: bool) -> None: ...


async def watch(pools: Sequence[Pool], tell: Tell) -> None:
    """Say whether the database is there, and to the log when that changes; free whoever waits for a mute one.

    Asked over the last pool. Of each pool, what was idle for too long is closed, also while nobody comes who would.
    """
    was_up = True
    while True:
        alive(wait_s=WATCH_PERIOD_S)
        is_up = await answers(pools[-1])
        tell(up=is_up)
        if is_up != was_up:
            log.warning("database.back" if is_up else "database.away")
        if freed := sum(pool.drop_overdue(LONGEST_LOAN_S) for pool in pools):
            log.warning("database.mute", connections=freed, for_s=LONGEST_LOAN_S)
        for pool in pools:
            pool.close_idle()
        was_up = is_up
        await trio.sleep(WATCH_PERIOD_S if is_up else WATCH_AWAY_S)
