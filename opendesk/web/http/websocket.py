"""The part of a WebSocket handshake that is the same whoever takes it over (RFC 6455, section 4.2)."""

import re
from typing import Final

from opendesk.errors import OpenDeskError
from opendesk.web.http.request import BadRequest, Head

VERSION: Final = b"13"

# 16 bytes in base64.
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")


class WrongVersion(OpenDeskError):
    """Another version of WebSocket is spoken here."""

    status, code = 426, "UPGRADE_REQUIRED"

    # RFC 6455, section 4.4, and RFC 9110, section 15.5.22.
    fields: Final = (("Sec-WebSocket-Version", VERSION.decode()), ("Upgrade", "websocket"))


def websocket_key(head: Head) -> bytes:
    """The client's Sec-WebSocket-Key. Raise BadRequest or WrongVersion."""
    versions = _values(head, b"sec-websocket-version")
    if not versions:
        raise BadRequest("Sec-WebSocket-Version is missing")
    if versions != [VERSION]:
        raise WrongVersion
    keys = _values(head, b"sec-websocket-key")
    if len(keys) != 1 or _KEY.fullmatch(keys[0]) is None:
        raise BadRequest("Sec-WebSocket-Key is to be there once, and to be 16 bytes in base64")
    return keys[0]


def _values(head: Head, name: bytes) -> list[bytes]:
    return [value for found, value in head.fields if found == name]
