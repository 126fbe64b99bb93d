"""Times as RouterOS writes them: `1w2d3h4m5s`."""

import re
from typing import Final

_UNITS: Final = (("w", 604800), ("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_WORDS: Final = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)
_CLOCK: Final = re.compile(r"(?:(\d+)d ?)?(\d+):(\d\d):(\d\d)", re.ASCII)
# No number of a time has more digits.
_MOST_DIGITS: Final = 12


def seconds(text: str) -> int | None:
    """What the text means, None if it isn't a time. A bare number is seconds."""
    if not text or len(text) > len(_UNITS) * (_MOST_DIGITS + 1):
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    if clock := _CLOCK.fullmatch(text):
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + rest
    words = _WORDS.fullmatch(text)
    if words is None:
        return None
    return sum(int(part or 0) * size for part, (_, size) in zip(words.groups(), _UNITS, strict=True))


def written(total: int) -> str:
    parts = []
    for name, size in _UNITS:
        count, total = divmod(total, size)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"
