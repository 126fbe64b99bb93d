"""A story as a tree on a terminal."""

from typing import Final

from rich.text import Text
from rich.tree import Tree

from opendesk.cli.common import printable
from opendesk.console.told import Told, Tone

_STYLES: Final[dict[Tone, str]] = {"": "", "good": "green", "bad": "red", "warn": "yellow", "wait": "cyan"}


def shown(told: Told) -> Tree | Text:
    """As Text, for which "[::1]" is no markup; and nobody's words move the cursor."""
    if not told.under:
        return _text(told)
    tree = Tree(Text(printable(told.text), style=f"bold {_STYLES[told.tone]}".strip()))
    _grow(tree, told)
    return tree


def _grow(tree: Tree, told: Told) -> None:
    for line in told.under:
        _grow(tree.add(_text(line)), line)


def _text(told: Told) -> Text:
    return Text(printable(told.text), style=_STYLES[told.tone])
