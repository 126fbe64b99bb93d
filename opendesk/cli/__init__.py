"""The command line: one command a file, imported only when it is asked for."""

from collections.abc import Mapping, Sequence
from functools import partial
import importlib
import os
from pathlib import Path
import sys
from typing import Any, Final

import click

from opendesk.cli import failing
from opendesk.cli.examples import shown_in
from opendesk.ops import collector

# Each command, and what it is for. The module that has it goes by the same name; a list of them all needs none of the modules.
COMMANDS: Final[Mapping[str, str]] = {
    "serve": "Run the daemon.",
    "demo": "Play a day of rentals in fast motion.",
    "migrate": "Bring the database up to date.",
    "admin": "Make admins; ban and unban users.",
    "wallet": "Credit and debit wallets.",
    "ledger": "Prove that the books are right.",
    "backup": "Back up the database while it is in use.",
    "restore": "Put a backup in the database's place.",
    "router": "Register MikroTik routers, and look after them.",
    "tunnel": "The WireGuard interface, its peers and keys.",
    "jobs": "Look at durable jobs, and replay dead ones.",
    "events": "What the backend sent, and what became of it.",
    "why": "Tell how something came to be as it is.",
    "import": "Take over an earlier system's files.",
    "simulate": "Stand in for routers and a backend.",
    "settings": "Show what is set, and where it came from.",
    "doctor": "Look for all that can be wrong; say what to do.",
    "completion": "Have a shell complete all of this.",
}
# A word of Python's is no module's name, nor a function's.
_NAMES: Final = {"import": "import_"}


class Commands(click.Group):
    """Imports a command when it is used: `settings` needs no web server."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        if context.resilient_parsing:  # somebody pressed the key that completes, and waits
            from opendesk.cli import outline  # noqa: PLC0415  # nobody else needs it

            return outline.command(name)
        known_as = _NAMES.get(name, name)
        command = getattr(importlib.import_module(f"opendesk.cli.{known_as}"), known_as)
        assert isinstance(command, click.Command)
        shown_in(command, name)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, context: click.Context, incomplete: str) -> list[Any]:
        """As click does, which would import all commands for what each is for."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  # nobody else needs it

        own = [CompletionItem(name, help=what) for name, what in COMMANDS.items() if name.startswith(incomplete)]
        return [*own, *click.Command.shell_complete(self, context, incomplete)]

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002  # click's own signature
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002
        **extra: Any,
    ) -> Any:
        """As click's, but with --json what goes wrong is told to a program."""
        given = list(sys.argv[1:] if args is None else args)
        run = partial(super().main, given, prog_name, complete_var, windows_expand_args=windows_expand_args, **extra)
        if standalone_mode and failing.asks_for_json(given):
            failing.as_json(partial(run, standalone_mode=False))
        return run(standalone_mode=standalone_mode)


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

    Every command takes --json: then standard output is JSON, and what goes wrong is {"error": {"code", "message"}}, the last line on
    standard error. Exit codes are the same: 0 done, 1 failed or found wrong, 2 not understood.
    """
    context.obj = os.environ


def main() -> None:
    collector.look_seldom()  # before the imports, which make many objects and no garbage
    if sys.stdout is None:  # closed (`>&-`): the next socket would get its number, and libraries count on a stream
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as we live
    group(prog_name="opendesk", auto_envvar_prefix="OPENDESK")
