"""Text for RouterOS' console, which is what a scheduler runs. Nothing else puts text together for a router."""

import re
from typing import Final

_IDENTIFIER: Final = re.compile(r"\*[0-9A-F]{1,8}")

# As `/export` writes them. The rest of what isn't printable ASCII is told in bytes.
_ESCAPED: Final = {ord(char): f"\\{char}" for char in '\\"$?'}
_PRINTABLE: Final = range(0x20, 0x7F)
_WRITTEN: Final = [_ESCAPED.get(byte, chr(byte) if byte in _PRINTABLE else f"\\{byte:02X}") for byte in range(0x100)]


def quoted(text: str) -> str:
    """A string literal that is `text` and does nothing, whatever is in it."""
    data = text.encode("utf-8", "surrogateescape")
    return '"' + "".join([_WRITTEN[byte] for byte in data]) + '"'


def identifier(row_id: str) -> str:
    """`row_id`, as it may stand unquoted. Raise ValueError if it isn't one (`*1A`)."""
    if not _IDENTIFIER.fullmatch(row_id):
        raise ValueError(f"{row_id!r} isn't the id of a row.")
    return row_id
