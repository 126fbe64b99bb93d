"""The command line: one command a file, imported only when it is asked for."""

import importlib
import os
from pathlib import Path
import sys
from typing import Final

import click

# Each command, and the module that has it under the same name.
COMMANDS: Final = (
    "serve",
    "demo",
    "migrate",
    "admin",
    "wallet",
    "ledger",
    "router",
    "tunnel",
    "jobs",
    "events",
    "why",
    "import",
    "simulate",
    "settings",
)
# A word of Python's is no module's name, nor a function's.
_NAMES: Final = {"import": "import_"}


class Commands(click.Group):
    """Imports a command when it is used: `settings` needs no web server."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        known_as = _NAMES.get(name, name)
        command = getattr(importlib.import_module(f"opendesk.cli.{known_as}"), known_as)
        assert isinstance(command, click.Command)
        return command


@click.command(cls=Commands)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read these NAME=value lines too; the environment wins.",
)
@click.version_option(package_name="opendesk", version="0.1.0")
@click.pass_context
def group(context: click.Context, env_file: Path | None) -> None:  # noqa: ARG001  # read by commands, through the context
    """Rent PCs by the minute.

    `serve` runs the daemon; the other commands work beside it or without it. What can be set: `opendesk settings`.
    """
    context.obj = os.environ


def main() -> None:
    if sys.stdout is None:  # closed (`>&-`): the next socket would get its number, and libraries count on a stream
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as we live
    group(prog_name="opendesk", auto_envvar_prefix="OPENDESK")
