"""What commands share: their settings, the database, and how they fail."""

from collections.abc import Awaitable, Callable
import json
import sys
import traceback
from typing import Final, TypeVar

import click
import psycopg
import trio

from opendesk import database
from opendesk.cli.failing import FAILED, Failure, remark, told
from opendesk.errors import InvalidJson, OpenDeskError, ValidationFailed
from opendesk.ops import logging
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import EmbeddedError
from opendesk.postgres.migrate import MigrationError
from opendesk.postgres.pool import Pool
from opendesk.settings import Settings, SettingsError, load
from opendesk.web.reading import structure_body

T = TypeVar("T")

# Every command has it, and every command's means the same: opendesk/cli/failing.py.
AS_JSON: Final = click.option("--json", "as_json", is_flag=True, help="As JSON; what goes wrong, too.")

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2


class Text(click.ParamType[str]):
    """Text that a database takes: Python keeps an argument's bytes that are not UTF-8 as surrogates, which none does."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if any("\ud800" <= char <= "\udfff" for char in value):
            self.fail("it is not UTF-8", param, ctx)
        return value


TEXT: Final = Text()

# What an operator can do something about: told in a line. All else is a fault of ours, and its traceback is of use.
_EXPECTED: Final[tuple[type[Exception], ...]] = (
    OpenDeskError, EmbeddedError, MigrationError, psycopg.OperationalError, psycopg.errors.InsufficientPrivilege, OSError,
)  # fmt: skip


def printable(text: object) -> str:
    """As one line of a terminal's: what would move its cursor, or worse, is shown as the characters that it is."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))


def say(line: object, *, err: bool = False) -> None:
    """A line for people, whoever's words are in it. Beside JSON for a program it is JSON too."""
    text = printable(line)
    click.echo(json.dumps(remark(text)) if err and wants_json() else text, err=err)


def wants_json() -> bool:
    """Whether the command that runs was asked for JSON."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.params.get("as_json"))


def asked_password() -> str:
    """Of whoever sits there. A program isn't asked: the question would stand in what it reads."""
    if wants_json():
        raise click.UsageError("with --json nobody is asked: give the password with --password-stdin")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


def load_settings(context: click.Context) -> Settings:
    """The settings of a command that doesn't serve, and on standard error what is doubtful about them; or every fault and exit code 2."""
    settings = read_settings(context, to_serve=False)
    for warning in settings.warnings:
        say(f"warning: {warning}", err=True)
    return settings


def read_settings(context: click.Context, *, to_serve: bool) -> Settings:
    """The same for whoever tells the warnings in another way."""
    root = context.find_root()
    try:
        return load(root.obj, env_file=root.params.get("env_file"), to_serve=to_serve)
    except SettingsError as error:
        if wants_json():
            click.echo(json.dumps(told("SETTINGS", "the settings are faulty", faults=list(error.faults))), err=True)
            sys.exit(EXIT_SETTINGS)
        for fault in error.faults:
            say(fault, err=True)
        sys.exit(EXIT_SETTINGS)


def log_format() -> str:
    """How a command's log is told beside what it prints."""
    return "json" if wants_json() else "terminal"


def checked(cls: type[T], **given: object) -> T:
    """What the API would take of these fields, by its own rules; else a complaint and exit code 2."""
    try:
        return structure_body(json.dumps(given).encode(), cls)
    except ValidationFailed as error:
        raise click.UsageError(
            "; ".join(f"{fault.pointer.lstrip('/')} {fault.detail}" for fault in error.errors)
        ) from None
    except InvalidJson:
        raise click.UsageError("there are characters that are not UTF-8") from None


def with_connection(settings: Settings, work: Callable[[TrioConnection], Awaitable[T]]) -> T:
    """Run `work` on a connection to the daemon's database, as `with_database` does."""

    async def on_one(pool: Pool, _conninfo: str) -> T:
        async with pool.connection() as conn:
            return await work(conn)

    return with_database(settings, on_one)


def with_database(settings: Settings, work: Callable[[Pool, str], Awaitable[T]]) -> T:
    """Run `work` on the daemon's database, given a pool and the conninfo; what is expected to go wrong is one line.

    An embedded database that nobody serves from is brought up to date before; any other must be.
    """
    click.get_current_context().call_on_close(logging.configure("warning", log_format()).close)

    async def connected() -> T:
        async with database.command_database(settings) as conninfo:
            await database.make_ready_for_command(conninfo, settings)
            async with database.open_pool(conninfo, settings) as pool:
                return await work(pool, conninfo)

    with plain_failures():
        return trio.run(connected)


class plain_failures:  # noqa: N801  # used as a statement
    """Turn expected errors into one line on standard error and exit code 1; these too, if any are given."""

    def __init__(self, *also: type[Exception]) -> None:
        self._expected: tuple[type[Exception], ...] = (*_EXPECTED, *also)

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        found = _only(error)
        if isinstance(found, KeyboardInterrupt):
            raise click.Abort from None
        if isinstance(found, self._expected):
            raise Failure(printable(_line(found)), _code(found)) from None
        if isinstance(found, psycopg.ProgrammingError) and _is_about_conninfo(found):
            # Without its text, which quotes what it was given: a password may be in there.
            raise click.ClickException(
                "the database can't be connected to: DATABASE_URL, or one of libpq's own variables (PGPORT, PGOPTIONS, …), "
                "has a part that can't be read"
            ) from None


def _only(error: BaseException | None) -> BaseException | None:
    """What nurseries put into groups of one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _is_about_conninfo(error: BaseException) -> bool:
    """Whether psycopg complains of how to connect; any other complaint of its own is about a statement of ours."""
    frames = (frame for frame, _line_number in traceback.walk_tb(error.__traceback__))
    return any("conninfo" in frame.f_globals["__name__"] for frame in frames)


def _code(error: BaseException) -> str:
    """By which a program tells them apart: the API's own, where it has one."""
    if isinstance(error, OpenDeskError):
        return error.code
    return "DATABASE" if isinstance(error, psycopg.Error | EmbeddedError | MigrationError) else FAILED


def _line(error: BaseException) -> str:
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or repr(error)
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return f"the database refuses its role a right: {text} (see docs/database.md, Two roles)"
    if isinstance(error, psycopg.OperationalError):
        return f"the database can't be used: {text}"
    return text
