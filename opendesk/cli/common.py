"""What commands share: their settings, the database, and how they fail."""

from collections.abc import Awaitable, Callable
import sys
from typing import TypeVar

import click
import psycopg
import trio

from opendesk import database
from opendesk.errors import OpenDeskError
from opendesk.ops import logging
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import EmbeddedError
from opendesk.postgres.migrate import MigrationError
from opendesk.settings import Settings, SettingsError, load

T = TypeVar("T")

EXIT_FAILED = 1
EXIT_SETTINGS = 2


def load_settings(context: click.Context) -> Settings:
    """The settings, or every fault of them and exit code 2."""
    try:
        settings = load(context.find_root().obj, env_file=context.find_root().params.get("env_file"))
    except SettingsError as error:
        for fault in error.faults:
            click.echo(fault, err=True)
        sys.exit(EXIT_SETTINGS)
    return settings


def with_connection(settings: Settings, work: Callable[[TrioConnection], Awaitable[T]]) -> T:
    """Run `work` on a connection to the daemon's database, brought up to date; what is expected to go wrong is one line."""
    logging.configure("warning", "terminal")

    async def connected() -> T:
        async with database.command_database(settings) as conninfo:
            await database.bring_up_to_date(conninfo)
            async with database.open_pool(conninfo, settings) as pool, pool.connection() as conn:
                return await work(conn)

    with plain_failures():
        return trio.run(connected)


class plain_failures:  # noqa: N801  # used as a statement
    """Turn expected errors into one line on standard error and exit code 1."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        found = _expected(error)
        if found is not None:
            raise click.ClickException(str(found).strip()) from None


def _expected(error: BaseException | None) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return _expected(error.exceptions[0])
    known = (OpenDeskError, EmbeddedError, MigrationError, psycopg.OperationalError, OSError)
    return error if isinstance(error, known) else None
