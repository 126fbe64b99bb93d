"""Secrets at rest: AES-GCM under RELAY_MASTER_KEY. The first key seals, all open.

A sealed text is: version, four bytes that tell the key, nonce, ciphertext with its tag. `about` says whose secret it is and isn't in it:
one that is put into another's row doesn't open there.
"""

import hashlib
import secrets
from typing import Final

from attrs import field, frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from opendesk.network.routers.errors import CannotOpen, SealingUnavailable
from opendesk.settings.secret import Secret

VERSION: Final = b"\x01"
# Enough to tell eight keys from each other; what they tell of a random key is nothing to go by.
KEY_ID_BYTES: Final = 4
# The one size that AES-GCM is made for. Random ones are safe for 2^32 texts a key.
NONCE_BYTES: Final = 12
_HEAD_BYTES: Final = len(VERSION) + KEY_ID_BYTES


def _head(key: Secret[bytes]) -> bytes:
    return VERSION + hashlib.sha256(key.reveal()).digest()[:KEY_ID_BYTES]


def password_of(router_id: str) -> str:
    """The `about` of a router's password."""
    return f"router:{router_id}:password"


@frozen
class Sealer:
    """Nothing of a key is in its repr."""

    _keys: tuple[Secret[bytes], ...] = field(repr=False)

    @property
    def available(self) -> bool:
        return bool(self._keys)

    @property
    def current_head(self) -> bytes:
        """What all begins with that the first key sealed. Raise SealingUnavailable."""
        return _head(self._first())

    def seal(self, text: Secret[str], *, about: str) -> bytes:
        """Raise SealingUnavailable without a key."""
        key, nonce = self._first(), secrets.token_bytes(NONCE_BYTES)
        return _head(key) + nonce + AESGCM(key.reveal()).encrypt(nonce, text.reveal_bytes(), about.encode())

    def open(self, sealed: bytes, *, about: str) -> Secret[str]:
        """Raise SealingUnavailable without a key, CannotOpen where none of them fits or what is sealed was changed."""
        self._first()
        if sealed[: len(VERSION)] != VERSION:
            raise CannotOpen(f"{about} was sealed by a newer OpenDesk than this one, or is damaged")
        fitting = [key for key in self._keys if _head(key) == sealed[:_HEAD_BYTES]]
        if not fitting:
            raise CannotOpen(f"{about} was sealed with a key that is not in RELAY_MASTER_KEY")
        nonce, ciphertext = sealed[_HEAD_BYTES:][:NONCE_BYTES], sealed[_HEAD_BYTES + NONCE_BYTES :]
        for key in fitting:
            try:
                return Secret(AESGCM(key.reveal()).decrypt(nonce, ciphertext, about.encode()).decode())
            except (InvalidTag, ValueError):  # ValueError: cut so short that there is no nonce
                continue
        raise CannotOpen(f"{about} is damaged, or was sealed as something else")

    def needs_rekey(self, sealed: bytes) -> bool:
        """Whether the first key isn't the one that sealed it."""
        return not sealed.startswith(self.current_head)

    def _first(self) -> Secret[bytes]:
        if not self._keys:
            raise SealingUnavailable
        return self._keys[0]
