"""Stream tokens: what admits to one session's stream. They are made with an HMAC, so every daemon knows them and none stores them.

A token is base64url, unpadded, of: kind (1 byte), session (16), user (16, not in the shared one), HMAC-SHA256 of those under the stream
key (32). It says nothing of time: until when it admits, and whether its session still lives, is the session's business.
"""

import base64
from enum import StrEnum
import hashlib
import hmac
from typing import Final
from uuid import UUID

from attrs import frozen

KEY_BYTES: Final = 32

# Told apart from whatever else may one day be signed with the same key; a new layout gets a new name, and no old token passes for one.
_PURPOSE: Final = b"opendesk stream token 1\0"
_MAC_BYTES: Final = 32
_UUID_BYTES: Final = 16
_SHARED: Final = b"s"


class Role(StrEnum):
    """On which side of the relay a socket stands."""

    HOST = "host"
    CLIENT = "client"


_KIND_OF: Final = {Role.HOST: b"h", Role.CLIENT: b"c"}
_ROLE_OF: Final = {kind: role for role, kind in _KIND_OF.items()}


@frozen
class StreamToken:
    """What a genuine token says. The shared one, which both sides hold, has neither role nor user."""

    session: UUID
    role: Role | None
    user: UUID | None


def shared_token(key: bytes, session: UUID) -> str:
    """Return the secret that client and host of a session share: 66 characters, the same every time."""
    return _sealed(key, _SHARED + session.bytes)


def own_token(key: bytes, session: UUID, role: Role, user: UUID) -> str:
    """Return the token of one user in one role of one session: 87 characters, the same every time."""
    return _sealed(key, _KIND_OF[role] + session.bytes + user.bytes)


def read_token(key: bytes, text: str) -> StreamToken | None:
    """Return what the token says, None if it is not genuine. Any text will do; a genuine token has one spelling only."""
    sealed = _unspelled(text)
    if sealed is None:
        return None
    claim, mac = sealed[:-_MAC_BYTES], sealed[-_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, claim)):
        return None
    kind, ids = claim[:1], claim[1:]
    # What is genuine was written by the functions above; a key that signed something else as well must not end in an error here.
    if kind == _SHARED and len(ids) == _UUID_BYTES:
        return StreamToken(UUID(bytes=ids), None, None)
    if kind in _ROLE_OF and len(ids) == 2 * _UUID_BYTES:
        return StreamToken(UUID(bytes=ids[:_UUID_BYTES]), _ROLE_OF[kind], UUID(bytes=ids[_UUID_BYTES:]))
    return None


def stream_id(token: str) -> str:
    """Return the id that goes with a token: the first 32 hex digits of SHA-256 of `stream:` and the token, written 8-4-4-4-12."""
    return str(UUID(hex=hashlib.sha256(b"stream:" + token.encode()).hexdigest()[:32]))


def same_stream(a: str, b: str) -> bool:
    """Stream ids are compared without case or dashes."""
    return a == b or _bare(a) == _bare(b)


def _bare(text: str) -> str:
    return text.replace("-", "").lower()


def _mac(key: bytes, claim: bytes) -> bytes:
    """Raise ValueError for a key of another length: a short one would be guessed, an empty one is a mistake."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a stream key has {KEY_BYTES} bytes")
    return hmac.digest(key, _PURPOSE + claim, "sha256")


def _sealed(key: bytes, claim: bytes) -> str:
    return _spelled(claim + _mac(key, claim))


def _spelled(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


_SHARED_LENGTH: Final = len(_spelled(bytes(1 + _UUID_BYTES + _MAC_BYTES)))
_OWN_LENGTH: Final = len(_spelled(bytes(1 + 2 * _UUID_BYTES + _MAC_BYTES)))


def _unspelled(text: str) -> bytes | None:
    """Base64 takes many texts for the same bytes (other alphabets, unused bits, characters skipped): only ours counts."""
    if len(text) not in (_SHARED_LENGTH, _OWN_LENGTH):
        return None
    try:
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return sealed if _spelled(sealed) == text else None
