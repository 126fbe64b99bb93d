"""The wrapper that secrets come in."""

from collections.abc import Iterable
import hmac
from typing import AnyStr, Final, Generic, NoReturn, final

MASK: Final = "********"


@final
class Secret(Generic[AnyStr]):
    """Text or bytes that show themselves only to who asks with `reveal`.

    Not an attrs class: `attrs.asdict` and cattrs would look inside one.
    """

    __slots__ = ("_value",)
    _value: AnyStr

    def __init__(self, value: AnyStr) -> None:
        object.__setattr__(self, "_value", value)

    def reveal(self) -> AnyStr:
        return self._value

    def reveal_bytes(self) -> bytes:
        """The key for an HMAC: text in UTF-8."""
        return _as_bytes(self._value)

    def matches(self, candidate: str | bytes) -> bool:
        """Compare in a time that tells nothing but the lengths."""
        return hmac.compare_digest(self.reveal_bytes(), _as_bytes(candidate))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and type(self._value) is type(other._value) and self.matches(other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret is frozen")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is neither pickled nor copied")


def any_matches(secrets: Iterable[Secret[str]], candidate: str | bytes) -> bool:
    """Whether one of them is `candidate`; all are compared, so that the time does not tell which."""
    return bool(sum([secret.matches(candidate) for secret in secrets]))


def _as_bytes(value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    # A header may carry what is no UTF-8, and JSON half a character: it matches nothing, and must not raise.
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
