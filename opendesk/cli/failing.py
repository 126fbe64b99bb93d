"""How a command fails for programs: with --json, one line of JSON on standard error, and the exit code that it has without.

`{"error": {"code": …, "message": …}}` is the last line; before it there may be `{"warning": …}` and `{"note": …}`, and lines of the log. On
standard output there is what the command found, or nothing.
"""

from collections.abc import Callable, Sequence
import errno
import json
import os
import sys
from typing import Any, Final, NoReturn

import click

FAILED: Final = "FAILED"
USAGE: Final = "USAGE"
ABORTED: Final = "ABORTED"

_OPTION: Final = "--json"
_WARNING: Final = "warning: "
_EXIT_FAILED: Final = 1


class Failure(click.ClickException):
    """What an operator can do something about. `code` is for programs."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Before anything is parsed, since parsing may be what fails."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return _OPTION in options


def told(code: str, message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}}


def remark(text: str) -> dict[str, str]:
    return {"warning": text.removeprefix(_WARNING)} if text.startswith(_WARNING) else {"note": text}


def as_json(run: Callable[[], Any]) -> NoReturn:
    """Run a command as click does for people, and exit as it would."""
    try:
        code = run()
    except click.UsageError as error:
        _fail(USAGE, error)
    except click.ClickException as error:
        _fail(error.code if isinstance(error, Failure) else FAILED, error)
    except click.Abort:
        click.echo(json.dumps(told(ABORTED, "aborted")), err=True)
        sys.exit(_EXIT_FAILED)
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        # Whoever read has gone: no word of it, at the exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_EXIT_FAILED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(code: str, error: click.ClickException) -> NoReturn:
    # A group without a command says its help; a program wants the reason.
    message = (
        "a command is missing" if isinstance(error, click.exceptions.NoArgsIsHelpError) else error.format_message()
    )
    click.echo(json.dumps(told(code, message)), err=True)
    sys.exit(error.exit_code)
