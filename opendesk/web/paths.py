"""What stands in a path: ids, which are UUIDs, and names, which are texts of their own."""

from collections.abc import Mapping
import re
from typing import Any, Final, get_args
from uuid import UUID

from attrs import frozen
from msgspec import Meta

from opendesk.errors import NotFound
from opendesk.web.strict import QUERY, parse_uuid

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_UUID: Final = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


@frozen
class Name:
    """A text in a path: its type, with what it may be. One that `takes_rest` is a path's last, and may hold slashes: base64 does.

    A server decodes `%2F` before it routes, so that nothing tells the two apart.
    """

    type: Any
    takes_rest: bool = False

    @property
    def pattern(self) -> str:
        """Without its ends. A path that doesn't fit isn't this one, and may be another's: its methods are told by that."""
        (found,) = (extra.pattern for extra in get_args(self.type) if isinstance(extra, Meta) and extra.pattern)
        return found.removeprefix("^").removesuffix("$")


def parameters(path: str) -> list[str]:
    """In their order."""
    return _PARAMETER.findall(path)


def pattern(path: str) -> re.Pattern[str]:
    """Of a path whose parameters are ids."""
    return re.compile(_PARAMETER.sub(rf"(?P<\1>{_UUID})", path))


def ids_of(texts: Mapping[str, str], names: Mapping[str, Name]) -> dict[str, UUID]:
    """Raise NotFound for what is none: nothing has it."""
    try:
        return {key: parse_uuid(text) for key, text in texts.items() if key not in names}
    except ValueError:
        raise NotFound from None


def names_of(texts: Mapping[str, str], names: Mapping[str, Name]) -> dict[str, str]:
    """Raise NotFound, too."""
    try:
        return {key: QUERY.structure(texts[key], name.type) for key, name in names.items()}
    except ValueError:
        raise NotFound from None
