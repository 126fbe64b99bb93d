"""`opendesk backup`."""

from datetime import UTC, datetime
import json
from pathlib import Path
import sys

import attrs
import click
import trio

from opendesk import __version__, database
from opendesk.cli.backup_lines import News, facts_line, megabytes, prove
from opendesk.cli.common import EXIT_FAILED, load_settings, log_format, plain_failures, say
from opendesk.ops import logging
from opendesk.postgres.backups import places
from opendesk.postgres.backups.making import back_up
from opendesk.postgres.backups.manifest import Manifest
from opendesk.postgres.errors import BackupFailed, BackupUnusable
from opendesk.settings import Settings


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="N",
    help="Then remove all but the N latest that were named by this command in the same folder. Those with later names stay.",
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.pass_context
def backup(context: click.Context, file: Path | None, *, keep: int | None, as_json: bool) -> None:
    """Back up the database while it is in use; see that what was written can be read.

    FILE is a new file, or a folder in which it gets a name with the time; without it, /var/backups/opendesk, or where you are. It is
    as secret as the database. RELAY_MASTER_KEY and the other secrets are not in it: keep them elsewhere.

    Exit code 1 if there is no backup, or if the ledger in it is wrong (then the file stays, and no older one is removed).
    """
    target = _target(file)
    if keep is not None and target == file:
        raise click.UsageError("--keep goes by names that have the time: give a folder, or nothing")
    settings = load_settings(context)
    context.call_on_close(logging.configure("warning", log_format()).close)
    news = News(is_wanted=sys.stderr.isatty() and not as_json)
    with plain_failures(BackupFailed, BackupUnusable):
        manifest = trio.run(_made, settings, target, news)
    is_right = manifest.facts.books is None or manifest.facts.books.ok
    with plain_failures():
        size = target.stat().st_size
        removed = places.remove_old(target, keep) if keep is not None and is_right else []
    _tell(target, size, manifest, removed, as_json=as_json)
    if not is_right:
        say("the ledger in it is wrong: see `opendesk ledger verify`", err=True)
        sys.exit(EXIT_FAILED)


def _target(file: Path | None) -> Path:
    folder = places.usual_folder() if file is None else file
    return (folder / places.named_at(datetime.now(UTC))).absolute() if folder.is_dir() else folder


async def _made(settings: Settings, target: Path, news: News) -> Manifest:
    async with database.command_database(settings) as conninfo:
        conn = await database.connect(conninfo)
        try:
            return await back_up(conn, conninfo, target, prove, program=__version__, progress=news)
        finally:
            conn.drop()


def _tell(target: Path, size: int, manifest: Manifest, removed: list[str], *, as_json: bool) -> None:
    if as_json:
        told = {"file": str(target), **attrs.asdict(manifest), "removed": removed}
        click.echo(json.dumps(told, indent=2))
        return
    say(f"{target}, {megabytes(size)}, {facts_line(manifest.facts)}")
    for name in removed:
        say(f"removed {name}")
