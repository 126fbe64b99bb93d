"""A router's own words, as people may see them: it has been told a password, and may say it back."""

from collections.abc import Iterable
from typing import Final

from attrs import define, field

# What stands for what is never shown.
MASK: Final = "********"
# Of a text for people; whoever says more is up to no good.
MAX_TEXT: Final = 1000
# A shorter secret, struck out of a text, could be guessed from the gaps: all of the text goes then.
_SHORT: Final = 4

# Whoever hasn't let us in may be anybody, and say the password in ways that nobody can look for: of them only what routers are known to say
# is told.
_KNOWN: Final = frozenset(
    {
        "invalid user name or password",
        "invalid user name or password (6)",
        "cannot log in",
        "login failure",
        "not allowed (9)",
        "not enough permissions (9)",
        "std failure: not allowed (9)",
        "std failure: timeout (13)",
        "too many commands before login",
        "too many logins",
    }
)
_WITHHELD: Final = "it said something else, which may hold the password"


def _longest_first(secrets: Iterable[bytes]) -> list[bytes]:
    return sorted({secret for secret in secrets if secret}, key=len, reverse=True)


@define
class Words:
    """`secrets` are struck out of what is said; before `lets_in` is set, what isn't known to be harmless isn't shown at all."""

    _secrets: list[bytes] = field(converter=_longest_first, factory=list, repr=False)
    lets_in: bool = True

    def hide(self, secret: str) -> None:
        self._secrets = _longest_first([*self._secrets, secret.encode()])

    def shown(self, said: bytes) -> str:
        if not self.lets_in and said and _text(said) not in _KNOWN:
            return _WITHHELD
        for secret in self._secrets:
            if secret in said:
                if len(secret) < _SHORT:
                    return MASK
                said = said.replace(secret, MASK.encode())
        return _text(said)[:MAX_TEXT]


def _text(said: bytes) -> str:
    return said.decode("utf-8", "surrogateescape")
