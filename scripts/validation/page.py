"""What docs/validation.md says: the settings to walk with, and the steps, each with its block and what that answers."""

from pathlib import Path
import re
from typing import Final

from attrs import frozen

PAGE: Final = Path(__file__).parents[2] / "docs" / "validation.md"

_WALK: Final = "\n## The walk\n"
_SETTINGS: Final = re.compile(r"^cat > \S+ <<'END'\n(.*?)^END$", re.DOTALL | re.MULTILINE)
_BLOCK: Final = re.compile(r"^```sh\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
# A call as it stands in a block: `call POST /relay/revoke …`, `person "$ANA" GET "/sessions/$S"`. What a command prints is put in first.
_COMMAND: Final = re.compile(r"\$\([^()]*\)")
_CALL: Final = re.compile(r"\b(GET|POST|PUT|DELETE) [\"']?(/[^\s\"'?]*)")


class Unreadable(Exception):
    """The page isn't as it should be; the message says what of it."""


@frozen
class Step:
    """`expected` is what the block prints, a line a call."""

    number: int
    title: str
    block: str
    expected: tuple[str, ...]

    @property
    def calls(self) -> frozenset[tuple[str, str]]:
        """Methods and paths, a variable's name for what the shell puts in."""
        return frozenset(_CALL.findall(_COMMAND.sub("$VALUE", self.block)))


def read() -> tuple[tuple[Step, ...], dict[str, str]]:
    """The steps, and the settings to walk with. Raise Unreadable."""
    text = PAGE.read_text()
    return steps(text), settings(text)


def settings(text: str) -> dict[str, str]:
    """Raise Unreadable where there are none."""
    found = _SETTINGS.search(text)
    if found is None:
        raise Unreadable("there are no settings: cat > … <<'END'")
    return dict(line.split("=", 1) for line in found[1].splitlines())


def steps(text: str) -> tuple[Step, ...]:
    """Raise Unreadable for a section with another number of blocks than one."""
    _, _, walk = text.partition(_WALK)
    sections = re.split(r"^### ", walk, flags=re.MULTILINE)[1:]
    return tuple(_step(number, section) for number, section in enumerate(sections, 1))


def _step(number: int, section: str) -> Step:
    title = section.partition("\n")[0]
    blocks = _BLOCK.findall(section)
    if len(blocks) != 1:
        raise Unreadable(f"{title}: {len(blocks)} blocks of shell, and not one")
    block, expected = blocks[0]
    return Step(number, title, block, tuple(line for line in expected.splitlines() if line.strip()))
