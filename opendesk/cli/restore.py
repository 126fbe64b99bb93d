"""`opendesk restore`."""

import json
from pathlib import Path
import sys
from typing import Any

import attrs
from attrs import frozen
import click
import trio

from opendesk import database
from opendesk.cli.backup_lines import News, books_line, facts_line, prove
from opendesk.cli.common import load_settings, log_format, plain_failures, say
from opendesk.ops import logging
from opendesk.postgres.backups import archive as archives
from opendesk.postgres.backups import checking, programs
from opendesk.postgres.backups.archive import Archive
from opendesk.postgres.backups.manifest import Books
from opendesk.postgres.backups.restoring import Restore, alone
from opendesk.postgres.embedded.lifetime import running_server
from opendesk.postgres.errors import BackupFailed, BackupUnusable, RestoreFailed
from opendesk.settings import Settings


@frozen
class Restored:
    """What came of it. `kept_as` is the name of the database that was there before; None when that still is."""

    applied: list[str]
    books: Books
    kept_as: str | None
    daemon_is_told: bool


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--check", is_flag=True, help="Load it, migrate it and verify its ledger, but leave the database as it is."
)
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.pass_context
def restore(context: click.Context, file: Path, *, check: bool, yes: bool, as_json: bool) -> None:
    """Put a backup in the place of the embedded database.

    It is loaded beside it, while that serves; only when all of it is there and its ledger is right it takes the place, in one step. The
    database that was there is kept under another name. A daemon that serves ends itself then; systemd starts it again.

    Restore only files that you trust: what is in them is run.
    """
    settings = load_settings(context)
    if database.external(settings) is not None:
        raise click.UsageError(
            "with DATABASE_URL the server is yours: pg_restore brings the backup there (docs/database.md)"
        )
    context.call_on_close(logging.configure("warning", log_format()).close)
    with plain_failures(BackupFailed, BackupUnusable, RestoreFailed):
        archive = archives.read(file)
        checking.missing_migrations(archive.manifest)
        if not check and not yes:
            _ask(archive)
        news = News(is_wanted=sys.stderr.isatty() and not as_json)
        done = trio.run(_restored, settings, archive, news, check)
    _tell(archive, done, as_json=as_json)


def _ask(archive: Archive) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask whether it may take the database's place: --yes says so")
    say(f"{archive.path}, {facts_line(archive.manifest.facts)}", err=True)
    click.confirm("Shall it take the place of the database that is there now?", abort=True, err=True)


async def _restored(settings: Settings, archive: Archive, news: News, only_check: bool) -> Restored:  # noqa: FBT001 - trio.run takes no keywords
    async with database.command_database(settings) as conninfo, alone(conninfo, database.connect, news) as new:
        applied, books = await _loaded(new, archive, news)
        kept_as = None if only_check else await new.take_place()
        serves = await running_server(settings.opendesk_data_dir) is not None
        return Restored(applied, books, kept_as, daemon_is_told=serves and kept_as is not None)


async def _loaded(new: Restore, archive: Archive, news: News) -> tuple[list[str], Books]:
    """The backup as a whole database of this program's; raise what speaks against it."""
    found = await trio.to_thread.run_sync(programs.find, checking.major_of(archive.manifest))
    await checking.check(archive, found, news)
    await new.load(archive, found)
    applied = await database.bring_up_to_date(new.loading)
    return applied, await new.prove(prove, archive.manifest.facts.books)


def _tell(archive: Archive, done: Restored, *, as_json: bool) -> None:
    if as_json:
        told: dict[str, Any] = {
            "file": str(archive.path),
            "made_at": archive.manifest.facts.made_at,
            **attrs.asdict(done),
        }
        click.echo(json.dumps(told, indent=2))
        return
    for name in done.applied:
        say(f"applied {name}")
    say(f"{archive.path}: {books_line(done.books)}; the ledger is right")
    if done.kept_as is None:
        say("It can be restored. Nothing was changed.")
        return
    say(f"It has taken the database's place; the one that was there is kept as {done.kept_as}.")
    if done.daemon_is_told:
        say("The daemon that serves ends itself; systemd starts it again. Who runs it otherwise starts it by hand.")
