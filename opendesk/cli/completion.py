"""`opendesk completion`: what a shell is to be told so that it completes our commands, options and values."""

import json
from typing import Final, Literal

import click

from opendesk.cli.common import AS_JSON, TEXT

Shell = Literal["bash", "zsh", "fish"]
# What starts each, where a shell reads such things by itself; `completion` tells of it in its help.
SHELLS: Final[tuple[Shell, ...]] = ("bash", "zsh", "fish")
PROGRAM: Final = "opendesk"
# The variable by which the script asks the program (opendesk/cli/__init__.py: click makes it of the program's name).
VARIABLE: Final = "_OPENDESK_COMPLETE"

# Click's zsh script gives up where the program is no command of the PATH, as scripts/run of a checkout is none.
_ZSH_ON_PATH: Final = "(( ! $+commands[%(prog_name)s] )) && return 1"
_ZSH_ANYWHERE: Final = '[[ -n "${commands[%(prog_name)s]-}" || -x %(prog_name)s ]] || return 1'


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.option("--program", type=TEXT, default=PROGRAM, show_default=True, help="What is typed to run it.")
@AS_JSON
@click.pass_context
def completion(context: click.Context, shell: Shell, *, program: str, as_json: bool) -> None:
    """Print the script that makes SHELL complete commands, options, and what they take. The package installs it by itself.

    \b
    bash   eval "$(opendesk completion bash)"          in ~/.bashrc
    zsh    eval "$(opendesk completion zsh)"           in ~/.zshrc, after compinit
    fish   opendesk completion fish | source           in ~/.config/fish/config.fish
    """  # noqa: D301  # the mark itself, which keeps click from filling the lines up
    if not program or any(char in program for char in " \t\n'\"$`\\;&|<>()"):
        raise click.UsageError("--program is the name or the path of a program, without blanks or quotes")
    text = script(context.find_root().command, shell, program)
    click.echo(json.dumps({"shell": shell, "program": program, "script": text}) if as_json else text, nl=as_json)


def script(root: click.Command, shell: Shell, program: str = PROGRAM) -> str:
    """Click's own."""
    from click import shell_completion  # noqa: PLC0415  # whoever only asks for help needs none of it

    kind = shell_completion.get_completion_class(shell)
    assert kind is not None
    made = kind(root, {}, program, VARIABLE)
    # Not its `source`: that of bash starts a bash first, to complain of its age.
    template = made.source_template.replace(_ZSH_ON_PATH, _ZSH_ANYWHERE)
    return template % {**made.source_vars(), "complete_func": "_opendesk_completion"}
