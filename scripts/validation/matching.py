"""Whether what was printed is what the page shows: `…` is anything, and of an object all that is shown must be there."""

from collections.abc import Sequence
import json
import re
from typing import Any, Final

ANYTHING: Final = "…"
# Of what was printed, in a complaint: enough to see what it is.
_SHOWN_CHARS: Final = 600


def complaints(expected: Sequence[str], printed: str) -> list[str]:
    """What is otherwise, a line each; nothing if all is as it should be. A block without an answer prints nothing."""
    lines = [line.rstrip() for line in printed.splitlines() if line.strip()]
    if expected and expected[-1] == ANYTHING:  # and so on
        expected = expected[:-1]
        lines = lines[: len(expected)] if len(lines) > len(expected) else lines
    if len(lines) != len(expected):
        return [f"{len(expected)} lines are expected, and these are {len(lines)}: {_short(printed)}"]
    pairs = zip(expected, lines, strict=True)
    return [f"expected {wanted}\n     got {_short(line)}" for wanted, line in pairs if not is_line(wanted, line)]


def is_line(wanted: str, line: str) -> bool:
    """A line is text, or text and then JSON."""
    head, wanted_json = _split(wanted)
    line_head, line_json = _split(line)
    if wanted_json is None or line_json is None:
        return is_text(wanted, line)
    return is_text(head, line_head) and is_value(wanted_json[0], line_json[0])


def is_value(wanted: Any, value: Any) -> bool:
    if wanted == ANYTHING:
        return value is not None
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            name in value and is_value(each, value[name]) for name, each in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(value, list) and _is_list(wanted, value)
    if isinstance(wanted, str):
        return isinstance(value, str) and is_text(wanted, value)
    return type(wanted) is type(value) and bool(wanted == value)


def is_text(wanted: str, text: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in wanted.strip().split(ANYTHING))
    return re.fullmatch(pattern, text.strip(), re.DOTALL) is not None


def _is_list(wanted: list[Any], values: list[Any]) -> bool:
    """`…` at its end: there are more, and one at least where it is alone."""
    if wanted and wanted[-1] == ANYTHING:
        head = wanted[:-1]
        return len(values) > len(head) and all(map(is_value, head, values))
    return len(wanted) == len(values) and all(map(is_value, wanted, values))


def _split(line: str) -> tuple[str, tuple[Any] | None]:
    """What is before the JSON, and that; no JSON: None."""
    found = re.search(r"[{\[]", line)
    if found is None:
        return line, None
    try:
        return line[: found.start()], (json.loads(line[found.start() :]),)
    except ValueError:
        return line, None


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(text)} characters)"
