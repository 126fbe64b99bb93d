"""Signed calls: what a signature is over, in both forms, and whether one that was sent is right. Whether it comes too late or twice, `nonces` knows."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from hashlib import sha256
import hmac
import re
from typing import Final

from attrs import frozen

SIGNATURE: Final = "x-relay-signature"
TIMESTAMP: Final = "x-relay-ts"
NONCE: Final = "x-relay-nonce"
# Between the backend and us, where we are the ones who call: what we say, and what it says.
RELAY_HMAC: Final = "x-relay-hmac"
BACKEND_HMAC: Final = "x-backend-hmac"

_VERSION: Final = "v1="
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
# Milliseconds since 1970, up to the year 5138: what PostgreSQL takes for a time.
_MS: Final = re.compile(r"[0-9]{1,14}")
_NONCE: Final = re.compile(r"[!-~]{16,64}")


class Fault(StrEnum):
    """Why a signature doesn't hold, as the caller is told."""

    MISSING = "every POST, PUT and DELETE wants a signature: x-relay-signature"
    MALFORMED = "x-relay-signature is neither 64 hexadecimal digits nor v1= and such"
    PLAIN = "only the replay-safe signature (v1=…, with x-relay-ts and x-relay-nonce) is taken here"
    NO_BODY = "without a body the plain signature would be one constant: the replay-safe one is wanted"
    BAD_TIMESTAMP = "x-relay-ts is no time in Unix milliseconds"
    BAD_NONCE = "x-relay-nonce is not of 16 to 64 visible ASCII characters"
    WRONG = "the signature is not one of this request by a secret of this API"


@frozen
class Signable:
    """What of a request is signed. `target` is the path with the query, as sent."""

    method: str
    target: bytes
    body: bytes


@frozen
class Stamp:
    """When a request was signed by its caller's clock, and a word that no other one has."""

    sent_ms: int
    nonce: str


def plain_signature(key: bytes, body: bytes) -> str:
    return hmac.digest(key, body, sha256).hex()


def signature(key: bytes, request: Signable, sent_ms: str, nonce: str) -> str:
    return _VERSION + hmac.digest(key, _text(request, sent_ms, nonce), sha256).hex()


def signed(key: bytes, request: Signable, stamp: Stamp) -> dict[str, str]:
    """The header fields of a replay-safe signature."""
    sent_ms = str(stamp.sent_ms)
    return {
        TIMESTAMP: sent_ms,
        NONCE: stamp.nonce,
        SIGNATURE: signature(key, request, sent_ms, stamp.nonce),
    }


def is_signed(body: bytes, digits: str | None, keys: Sequence[bytes]) -> bool:
    """Whether these hexadecimal digits are the plain signature of the body by any of the keys; all are tried."""
    return digits is not None and _HEX.fullmatch(digits) is not None and _matches(keys, (body,), bytes.fromhex(digits))


def verify(
    headers: Mapping[str, str], request: Signable, keys: Sequence[bytes], *, plain_allowed: bool
) -> Stamp | Fault | None:
    """Return the stamp that a replay-safe signature proves, None for a plain one that is right, or what is wrong.

    Names of headers are in lower case. Any of the keys will do; all are tried, so that the time doesn't tell which.
    """
    sent = headers.get(SIGNATURE)
    if sent is None:
        return Fault.MISSING
    version, digits = (_VERSION, sent[len(_VERSION) :]) if sent.startswith(_VERSION) else ("", sent)
    if _HEX.fullmatch(digits) is None:
        return Fault.MALFORMED
    digest = bytes.fromhex(digits)
    if version:
        return _stamped(headers, request, keys, digest)
    if not plain_allowed:
        return Fault.PLAIN
    if not request.body:
        return Fault.NO_BODY
    return None if _matches(keys, (request.body,), digest) else Fault.WRONG


def _stamped(headers: Mapping[str, str], request: Signable, keys: Sequence[bytes], digest: bytes) -> Stamp | Fault:
    sent_ms, nonce = headers.get(TIMESTAMP, ""), headers.get(NONCE, "")
    if _MS.fullmatch(sent_ms) is None:
        return Fault.BAD_TIMESTAMP
    if _NONCE.fullmatch(nonce) is None:
        return Fault.BAD_NONCE
    texts = tuple(_text(meant, sent_ms, nonce) for meant in _spellings(request))
    return Stamp(int(sent_ms), nonce) if _matches(keys, texts, digest) else Fault.WRONG


def _spellings(request: Signable) -> tuple[Signable, ...]:
    """Of a target that ends in a bare `?` the server passes on only what is before it."""
    if b"?" in request.target:
        return (request,)
    return request, Signable(request.method, request.target + b"?", request.body)


def _text(request: Signable, sent_ms: str, nonce: str) -> bytes:
    head = (request.method.encode(), request.target, sent_ms.encode(), nonce.encode())
    return b"\n".join([*head, request.body])


def _matches(keys: Sequence[bytes], texts: Sequence[bytes], digest: bytes) -> bool:
    found = [hmac.compare_digest(hmac.digest(key, text, sha256), digest) for key in keys for text in texts]
    return any(found)
