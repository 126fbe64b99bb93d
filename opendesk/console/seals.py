"""What only this installation can have written: cookies of the console, and what is bound to them. Pure."""

from datetime import timedelta
from hashlib import sha256
import hmac
import re
from typing import Final

from attrs import field, frozen

from opendesk.web.auth import Tokens

# A working day, and the evening after it.
LIFETIME: Final = timedelta(hours=12)

_SESSION: Final = "opendesk_console"
_VISIT: Final = "opendesk_console_visit"
_VISIT_FORM: Final = re.compile(r"[A-Za-z0-9_-]{22,64}")


@frozen
class Seals:
    """`tokens` are signed with a key of their own: the API refuses the console's, as the console refuses the API's."""

    tokens: Tokens
    _key: bytes = field(repr=False)

    @classmethod
    def of(cls, jwt_secret: bytes) -> "Seals":
        key = _derived(jwt_secret, b"opendesk console")
        return cls(Tokens(_derived(key, b"cookie"), LIFETIME), _derived(key, b"seal"))

    def csrf(self, of: str) -> str:
        """For the forms of who has this cookie."""
        return self._seal(b"csrf", of)

    def is_csrf(self, sent: str, of: str) -> bool:
        return _equal(sent, self.csrf(of))

    def said(self, text: str, token: str) -> str:
        """For a message that comes back by way of a URL, to nobody else."""
        return self._seal(b"said", f"{token}\n{text}")

    def is_said(self, sent: str, text: str, token: str) -> bool:
        return _equal(sent, self.said(text, token))

    def _seal(self, purpose: bytes, text: str) -> str:
        return hmac.new(self._key, purpose + b"\n" + text.encode(), sha256).hexdigest()


def session_name(scheme: str) -> str:
    """`__Host-` asks for the path /, and other paths than the console's needn't have it."""
    return f"__Secure-{_SESSION}" if scheme == "https" else _SESSION


def visit_name(scheme: str) -> str:
    return f"__Secure-{_VISIT}" if scheme == "https" else _VISIT


def is_visit(value: str | None) -> bool:
    """Whether a cookie of somebody who isn't logged in is one as we make them."""
    return value is not None and _VISIT_FORM.fullmatch(value) is not None


def cookie_of(header: str | None, name: str) -> str | None:
    """The first of this name: the most specific path's."""
    for part in (header or "").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return None


def set_cookie(name: str, value: str, scheme: str, lifetime: timedelta | None = None) -> tuple[str, str]:
    """A header. Without a lifetime it is there until the browser is closed; with none at all (0), it is gone."""
    age = "" if lifetime is None else f"; Max-Age={int(lifetime.total_seconds())}"
    secure = "; Secure" if scheme == "https" else ""
    return "Set-Cookie", f"{name}={value}; Path=/console; HttpOnly; SameSite=Strict{secure}{age}"


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.new(key, purpose, sha256).digest()


def _equal(sent: str, right: str) -> bool:
    return hmac.compare_digest(sent.encode("utf-8", "surrogatepass"), right.encode())
