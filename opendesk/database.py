"""Which database the settings mean, and how the daemon and the commands come by it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo
import structlog
import trio

from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.embedded import embedded_server, server_for_command
from opendesk.postgres.migrate import migrate
from opendesk.postgres.pool import Pool, with_options
from opendesk.settings import Settings

log = structlog.get_logger()

# Our statements take milliseconds; the longest batch some 200. One that takes this long stands in a queue that nobody is served by.
STATEMENT_TIMEOUT_MS: Final = 10_000

# To a server that doesn't answer at all.
CONNECT_TIMEOUT_S: Final = 5

# Whether the database answers: /health/ready wants to know now, the log and the metrics within some seconds.
PING_S: Final = 2.0
WATCH_PERIOD_S: Final = 5.0


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
    async with await TrioConnection.connect(conninfo, connect_timeout=CONNECT_TIMEOUT_S) as conn:
        return await migrate(conn)


@asynccontextmanager
async def open_pool(conninfo: str, settings: Settings) -> AsyncIterator[Pool]:
    ready = with_options(
        make_conninfo(conninfo, connect_timeout=CONNECT_TIMEOUT_S),
        search_path="opendesk",
        statement_timeout_ms=STATEMENT_TIMEOUT_MS,
    )
    pool = Pool(ready, size=settings.relay_db_pool_size, idle_s=settings.relay_db_idle_ms / 1000)
    try:
        yield pool
    finally:
        await pool.aclose()


async def answers(pool: Pool) -> bool:
    """Whether the database answers a small question in time."""
    try:
        with trio.fail_after(PING_S):
            async with pool.connection() as conn:
                await conn.fetch_one("SELECT 1")
    except (psycopg.Error, trio.TooSlowError):
        return False
    return True


async def watch(pool: Pool, metrics: Metrics) -> None:
    """Tell the metrics whether the database is there, and the log when that changes."""
    was_up = True
    while True:
        is_up = await answers(pool)
        metrics.database_is_up(up=is_up)
        if is_up != was_up:
            log.warning("database.back" if is_up else "database.away")
        was_up = is_up
        await trio.sleep(WATCH_PERIOD_S)
