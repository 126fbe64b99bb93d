"""What may stand in a log: plain values of bounded size, no secrets, no query strings."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import islice
import math
import re
from typing import Any, Final

MASK: Final = "********"
# A traceback of 50 frames fits; what is longer tells no more, and a line has to fit into a datagram.
TEXT_MAX_CHARS: Final = 8192
# A log line is no dump: a list or object in it shows its beginning.
ITEMS_MAX: Final = 50
DEPTH_MAX: Final = 4
KEY_MAX_CHARS: Final = 64
# Python refuses to write integers of over 4300 digits; those beyond 64 bits are told in hexadecimal.
WHOLE_MAX: Final = 2**64

_SECRET_WORDS: Final = frozenset(
    {
        "apikey",
        "authorization",
        "conninfo",
        "cookie",
        "cookies",
        "credential",
        "credentials",
        "dsn",
        "hmac",
        "key",
        "keys",
        "passwd",
        "password",
        "passwords",
        "pass",
        "passphrase",
        "psk",
        "pwd",
        "query",
        "querystring",
        "secret",
        "secrets",
        "signature",
        "token",
        "tokens",
    }
)
_WORD_OF_KEY: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_WORD_OF_TEXT: Final = re.compile(r"""[^\s"'<>]+""")
_AUTHORIZATION: Final = re.compile(r"\b(bearer|basic) +[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)


@lru_cache(maxsize=1024)
def is_secret(key: str) -> bool:
    """Whether a key looks as if its value were secret: `relay_token`, `apiPassword`, `Authorization`; not `public_key`."""
    words = {word.lower() for word in _WORD_OF_KEY.findall(key)}
    if "public" in words:
        words -= {"key", "keys"}
    return not _SECRET_WORDS.isdisjoint(words)


def scrub(text: str) -> str:
    """Cut queries off URLs and paths, users and passwords out of URLs, and what follows Bearer and Basic."""
    if "?" in text or "@" in text:
        text = _WORD_OF_TEXT.sub(_scrub_word, text)
    # Most values are one word, and a line has many.
    return _AUTHORIZATION.sub(rf"\1 {MASK}", text) if " " in text else text


def _scrub_word(match: re.Match[str]) -> str:
    word = match[0]
    head, mark, _query = word.partition("?")
    if mark and "/" in head:
        word = f"{head}?…"
    scheme, mark, rest = word.partition("://")
    if mark and "@" in rest:
        word = f"{scheme}://{MASK}@{rest.rpartition('@')[2]}"
    return word


def redacted(event: Mapping[str, Any]) -> dict[str, Any]:
    """Make all values plain (text, numbers, lists, objects), and mask those whose key looks secret."""
    return _mapping(event, 0)


def plain(value: object, depth: int = 0) -> Any:
    """Make a value JSON can hold. Never raises, whatever the object does."""
    if isinstance(value, str):
        # Nearly all are short and one word: nothing to be cut or scrubbed.
        if len(value) <= TEXT_MAX_CHARS and " " not in value and "?" not in value and "@" not in value:
            return value
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -WHOLE_MAX < value < WHOLE_MAX else _text(hex(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    try:
        return _collection(value, depth)
    except Exception as exc:  # noqa: BLE001  # a log line outlives whatever an object's methods raise
        return f"<{type(value).__name__} that can't be shown: {type(exc).__name__}>"


def _collection(value: object, depth: int) -> Any:
    if depth < DEPTH_MAX:
        if isinstance(value, Mapping):
            return _mapping(value, depth + 1)
        if isinstance(value, list | tuple | set | frozenset):
            items: Iterable[object] = value
            return [plain(item, depth + 1) for item in islice(items, ITEMS_MAX)]
    elif isinstance(value, Mapping | list | tuple | set | frozenset):
        return f"<{type(value).__name__} of {len(value)}>"
    return _text(repr(value) if isinstance(value, BaseException | bytes) else str(value))


def _mapping(values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    pairs = values.items() if len(values) <= ITEMS_MAX else islice(values.items(), ITEMS_MAX)
    return {(shown := _key(key)): MASK if is_secret(shown) else plain(value, depth) for key, value in pairs}


def _key(key: object) -> str:
    if type(key) is str:  # nearly all
        return key[:KEY_MAX_CHARS]
    return str(key)[:KEY_MAX_CHARS] if isinstance(key, str | int | float) or key is None else f"<{type(key).__name__}>"


def _text(text: str) -> str:
    """Cut the middle out: a traceback says at its end what went wrong."""
    if len(text) > TEXT_MAX_CHARS:
        half = TEXT_MAX_CHARS // 2
        text = f"{text[:half]}… ({len(text) - 2 * half} characters) …{text[-half:]}"
    return scrub(text)
