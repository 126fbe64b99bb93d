"""What there is to complete, without the commands themselves: those import the database's driver, the routers' and the web's, which takes
longer than somebody waits who presses a key.

`outline.json` is written by scripts/schemas; a test compares it with the commands.
"""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any, Final

import click

from opendesk.cli import completing

FILE: Final = Path(__file__).with_name("outline.json")
# Functions that complete a value, by the names that they have in the file.
_COMPLETERS: Final = {"routers": completing.routers}


def command(name: str) -> click.Command | None:
    """One that completes as the real one does, and can't be run."""
    told = json.loads(FILE.read_text("utf-8")).get(name)
    return None if told is None else _command(name, told)


def _command(name: str, told: Mapping[str, Any]) -> click.Command:
    params = [_param(one) for one in told["params"]]
    if "commands" not in told:
        return click.Command(name, params=params, help=told["help"])
    subs = {sub: _command(sub, its) for sub, its in told["commands"].items()}
    return click.Group(name, subs, params=params, help=told["help"])


def _param(told: Mapping[str, Any]) -> click.Parameter:
    names, help_ = told["names"], told.get("help")
    if "flag" in told:
        return click.Option(names, is_flag=True, help=help_)
    completer = _COMPLETERS.get(told.get("complete", ""))
    values: dict[str, Any] = {"type": _type(told), "nargs": told.get("nargs", 1), "shell_complete": completer}
    if not names[0].startswith("-"):
        return click.Argument(names, required=False, **values)
    return click.Option(names, multiple="multiple" in told, help=help_, **values)


def _type(told: Mapping[str, Any]) -> click.ParamType[Any]:
    if "choices" in told:
        return click.Choice(told["choices"])
    return click.Path() if "path" in told else click.STRING


def outline_of(group: click.Group) -> dict[str, Any]:
    """What the file is to say of these commands."""
    context = click.Context(group)
    found = ((name, group.get_command(context, name)) for name in group.list_commands(context))
    return {name: _told(one) for name, one in found if one is not None}


def _told(of: click.Command) -> dict[str, Any]:
    told: dict[str, Any] = {"help": of.get_short_help_str(), "params": [_told_of(one) for one in of.params]}
    if isinstance(of, click.Group):
        told["commands"] = outline_of(of)
        if type(of) is not click.Group:  # as `events` is: without a command it lists, and takes what `list` does
            told["params"] = told["commands"]["list"]["params"]
    return told


def _told_of(of: click.Parameter) -> dict[str, Any]:
    """Only what isn't as it is mostly."""
    told: dict[str, Any] = {"names": _names(of)}
    if isinstance(of, click.Option):
        told |= {"help": of.help} if of.help else {}
        told |= {what: True for what, so in (("flag", of.is_flag), ("multiple", of.multiple)) if so}
    if of.nargs != 1:
        told["nargs"] = of.nargs
    if isinstance(of.type, click.Choice):
        told["choices"] = [str(choice) for choice in of.type.choices]
    if isinstance(of.type, click.Path):
        told["path"] = True
    completer = of._custom_shell_complete  # noqa: SLF001  # click tells it in no other way
    if completer is not None:
        told["complete"] = next(name for name, function in _COMPLETERS.items() if function is completer)
    return told


def _names(of: click.Parameter) -> list[str]:
    if of.secondary_opts:
        return [f"{of.opts[0]}/{of.secondary_opts[0]}", *of.opts[1:]]
    return list(of.opts)
