"""`opendesk settings`: what holds, and where it came from."""

from collections.abc import Mapping
import json
import os
from pathlib import Path
import sys
from typing import Final, NoReturn

import attrs
import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from opendesk.cli.common import printable, say
from opendesk.settings import Row, Settings, SettingsError, describe, load, markdown

# Where nobody looks at a screen, lines stay whole enough to search.
FILE_WIDTH: Final = 200
EXIT_INVALID: Final = 2


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option(
    "--markdown", "as_markdown", is_flag=True, help="All there are, with their defaults, as docs/settings.md."
)
@click.option("--env-file", type=click.Path(path_type=Path), help="Read these NAME=value lines too.")
@click.pass_context
def settings(context: click.Context, *, as_json: bool, as_markdown: bool, env_file: Path | None) -> None:
    """Show each setting: value (secrets masked), source, default, meaning.

    Exit code 2, with all faults, when they can't be started with.
    """
    if as_markdown:
        click.echo(markdown(), nl=False)
        return
    environ = context.obj if isinstance(context.obj, Mapping) else os.environ
    try:
        found = load(environ, env_file=env_file or context.find_root().params.get("env_file"))
    except SettingsError as exc:
        _refuse(exc, as_json=as_json)
    _show(found, as_json=as_json)


def _refuse(exc: SettingsError, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"faults": exc.faults, "warnings": exc.warnings}, indent=2, ensure_ascii=False))
    for fault in () if as_json else exc.faults:
        say(fault, err=True)
    sys.exit(EXIT_INVALID)


def _show(found: Settings, *, as_json: bool) -> None:
    rows = describe(found)
    if as_json:
        data = {"settings": [attrs.asdict(row) for row in rows], "warnings": found.warnings}
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    console.print(_table(rows))
    for warning in found.warnings:
        say(f"warning: {warning}", err=True)


def _table(rows: tuple[Row, ...]) -> Table:
    table = Table()
    table.add_column("name", no_wrap=True, style="bold")
    for title in ("value", "source", "default", "meaning"):
        table.add_column(title, overflow="fold")
    for row in rows:
        # As Text, for which "[::1]" and "[red]" are no markup.
        cells = (row.name, row.value, row.source, row.default, row.meaning)
        table.add_row(*(Text("–" if cell is None else printable(cell)) for cell in cells))
    return table
