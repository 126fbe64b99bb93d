"""`opendesk migrate`."""

import click
import trio

from opendesk import database
from opendesk.cli.common import load_settings, plain_failures
from opendesk.postgres import migrate as migrations
from opendesk.postgres.driver import TrioConnection


@click.command()
@click.option("--check", is_flag=True, help="Only tell what is missing; exit code 1 if anything is.")
@click.pass_context
def migrate(context: click.Context, *, check: bool) -> None:
    """Bring the database up to date. `serve` does so too, where its role may.

    With a role that owns the schema in DATABASE_URL, `serve` itself can run with one that has data rights only.
    """
    settings = load_settings(context)

    async def work() -> list[str]:
        async with database.command_database(settings) as conninfo:
            if not check:
                return await database.bring_up_to_date(conninfo)
            async with await TrioConnection.connect(conninfo) as conn:
                return await migrations.pending(conn)

    with plain_failures():
        names = trio.run(work)
    for name in names:
        click.echo(f"{'missing' if check else 'applied'} {name}")
    if not names:
        click.echo("The database is up to date.")
    if check and names:
        context.exit(1)
