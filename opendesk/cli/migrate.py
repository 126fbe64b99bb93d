"""`opendesk migrate`."""

from collections.abc import Sequence
import json
from typing import Final

import click
import trio

from opendesk import database
from opendesk.cli.common import AS_JSON, EXIT_FAILED, TEXT, load_settings, log_format, plain_failures, say
from opendesk.ops import logging
from opendesk.settings import Settings

# What is no name to PostgreSQL, quoted or not; to "public" it would grant everything to everybody.
_NO_ROLES: Final = ("", "public", "none")


@click.command()
@click.option("--check", is_flag=True, help="Only tell what is missing; exit code 1 if anything is.")
@click.option(
    "--grant", "role", type=TEXT, metavar="ROLE", help="Then give ROLE, which exists, the rights that serving takes."
)
@AS_JSON
@click.pass_context
def migrate(context: click.Context, *, check: bool, role: str | None, as_json: bool) -> None:
    """Bring the database up to date. `serve` does so too, where its role may; the other commands ask for it.

    With a role that owns the schema in DATABASE_URL here, `serve` itself can run as one that has data rights only:
    docs/database.md.
    """
    if check and role is not None:
        raise click.UsageError("--check changes nothing, and --grant does")
    if role in _NO_ROLES:
        raise click.UsageError(f"--grant takes the name of one role, and {role!r} is none")
    settings = load_settings(context)
    context.call_on_close(logging.configure("warning", log_format()).close)
    with plain_failures(database.UnknownRole):
        names = trio.run(_pending if check else _migrated, settings, role)
    if as_json:
        click.echo(json.dumps({"missing" if check else "applied": names, "grantedTo": role}))
    else:
        _tell(names, role, check=check)
    if check and names:
        context.exit(EXIT_FAILED)


def _tell(names: Sequence[str], role: str | None, *, check: bool) -> None:
    for name in names:
        say(f"{'missing' if check else 'applied'} {name}")
    if not names:
        say("The database is up to date.")
    if role is not None:
        say(f"{role} may serve.")


async def _migrated(settings: Settings, role: str | None) -> list[str]:
    async with database.command_database(settings) as conninfo:
        names = await database.bring_up_to_date(conninfo)
        if role is not None:
            await database.grant_to(conninfo, role)
        return names


async def _pending(settings: Settings, _role: str | None) -> list[str]:
    async with database.command_database(settings) as conninfo:
        return await database.missing(conninfo)
