"""The two ways to log in: with the password, and with the challenge of RouterOS before 6.43."""

import hashlib
import re
from typing import Final

from opendesk.network.routeros.errors import LoginRefused
from opendesk.network.routeros.session import Command
from opendesk.settings.secret import Secret

_CHALLENGE: Final = re.compile(r"[0-9a-fA-F]{32}")


def with_password(user: str, password: Secret[str]) -> Command:
    """Raise LoginRefused for what can't be said in bytes."""
    try:
        return Command("/login", {"name": user, "password": password.reveal()})
    except UnicodeEncodeError:  # which would quote it
        raise LoginRefused("The user or the password has half a character in it.") from None


def with_challenge(user: str, password: Secret[str], challenge: str) -> Command:
    """The answer to what an old router returned instead of letting us in."""
    if not _CHALLENGE.fullmatch(challenge):
        raise LoginRefused("A challenge that isn't 16 bytes in hexadecimal digits.")
    secret = password.reveal_bytes()
    # What the router asks for; no safety is expected of it.
    digest = hashlib.md5(b"\0" + secret + bytes.fromhex(challenge), usedforsecurity=False).hexdigest()
    return Command("/login", {"name": user, "response": f"00{digest}"})
