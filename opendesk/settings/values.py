"""What the value of a setting may look like: a `Kind` for each shape."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
import re
from typing import Any, Final, Generic, TypeVar

from attrs import frozen

from opendesk.settings.secret import Secret

T = TypeVar("T")

# Six decimal places: finer than anybody's fee, and `str` of such a Decimal never falls into 1E-7.
RATE_MAX_PLACES: Final = 6
# Two are needed to change a secret without a gap; each one more is work for every request that fails.
SECRETS_MAX: Final = 8
# ChaCha20-Poly1305 and WireGuard keys alike.
KEY_BYTES: Final = 32
DURATION_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")


@frozen
class Kind(Generic[T]):
    """A shape of values: `parse` raises `ValueError` that goes on after the value ("… is not a whole number")."""

    parse: Callable[[str], T]
    allowed: str
    show: Callable[[T], str] = str
    secret: bool = False
    quotable: bool = True  # whether a fault may repeat the value: a URL may hold a password


def integer(low: int, high: int, *, note: str = "") -> Kind[int]:
    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text):
            raise ValueError("is not a whole number")
        if not low <= (value := int(text)) <= high:
            raise ValueError("is out of range")
        return value

    return Kind(parse, f"a whole number, {low} to {high}{note}")


def choice(*names: str, aliases: Mapping[str, str] | None = None) -> Kind[str]:
    known = {name: name for name in names} | dict(aliases or {})

    def parse(text: str) -> str:
        if text.lower() not in known:
            raise ValueError("is none of the names")
        return known[text.lower()]

    return Kind(parse, ", ".join(names))


_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError("is neither yes nor no")
    return _FLAGS[text.lower()]


FLAG: Kind[bool] = Kind(_flag, "1 or 0 (true or false, yes or no, on or off)", lambda value: "1" if value else "0")


def _rate(text: str) -> Decimal:
    if not re.fullmatch(rf"[0-9]*\.?[0-9]{{1,{RATE_MAX_PLACES}}}", text):
        raise ValueError("is not a plain decimal number")
    if (value := Decimal(text)) > 1:
        raise ValueError("is out of range")
    return value.normalize()


RATE: Kind[Decimal] = Kind(_rate, f"a decimal number, 0 to 1, of at most {RATE_MAX_PLACES} places (0.1 is 10 %)")


def duration(low_s: int, high_s: int) -> Kind[timedelta]:
    def parse(text: str) -> timedelta:
        if not (match := re.fullmatch(r"([0-9]{1,9})([smhdw]?)", text)):
            raise ValueError("is not a time")
        if not low_s <= (seconds := int(match[1]) * DURATION_UNITS_S[match[2]]) <= high_s:
            raise ValueError("is out of range")
        return timedelta(seconds=seconds)

    allowed = f"seconds, or a number with s, m, h, d or w (7d, 12h, 3600); {low_s} s to {high_s // 86_400} d"
    return Kind(parse, allowed, _shown_duration)


def _shown_duration(value: timedelta) -> str:
    seconds = value // timedelta(seconds=1)
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % DURATION_UNITS_S[unit] == 0)
    return f"{seconds // DURATION_UNITS_S[unit]}{unit}"


def pattern(regex: str, allowed: str, *, quotable: bool = True) -> Kind[str]:
    def parse(text: str) -> str:
        if not re.fullmatch(regex, text):
            raise ValueError("does not fit")
        return text

    return Kind(parse, allowed, quotable=quotable)


def items(text: str, most: int) -> list[str]:
    """Part at commas. An empty part is a fault: an empty secret would match an empty header."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(parts):
        raise ValueError("has nothing between two commas")
    if len(parts) > most:
        raise ValueError(f"has more than {most} parts")
    return parts


def joined(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _secret(text: str) -> Secret[str]:
    return Secret(text)


def _secrets(text: str) -> tuple[Secret[str], ...]:
    return tuple(Secret(part) for part in items(text, SECRETS_MAX))


def _keys(text: str) -> tuple[Secret[bytes], ...]:
    return tuple(Secret(_key(part)) for part in items(text, SECRETS_MAX))


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"is not of {KEY_BYTES} bytes")
    return key


def _public_key(text: str) -> str:
    _key(text)
    return text


SECRET = Kind(_secret, "any text", secret=True)
SECRETS = Kind(
    _secrets, f"up to {SECRETS_MAX} secrets, comma-separated; the first signs, all verify", joined, secret=True
)
KEYS = Kind(_keys, f"base64 of {KEY_BYTES} bytes, or up to {SECRETS_MAX} of them, comma-separated", joined, secret=True)
# Not quoted: whoever mixes keys up has pasted the private one.
PUBLIC_KEY = Kind(_public_key, f"a WireGuard public key: base64 of {KEY_BYTES} bytes", quotable=False)


def _path(text: str) -> Path:
    if text.startswith("~"):
        raise ValueError("begins with ~, which only a shell understands")
    if "\0" in text:
        raise ValueError("has a NUL in it")
    return Path(text).absolute()


PATH = Kind(_path, "a path")


def show(kind: Kind[Any], value: object) -> str | None:
    """What of a value may be seen; None if there is none."""
    return None if value is None or value == () else kind.show(value)
