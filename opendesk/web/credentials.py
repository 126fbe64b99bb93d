"""What the OpenAPI document says of who may call: the tokens, the signature, and what those are told who have none."""

from typing import Final

from opendesk.errors import (
    Forbidden,
    InternalTokenNotConfigured,
    InvalidSignature,
    Misfit,
    NetworkApiDisabled,
    OpenDeskError,
    RateLimited,
    Unauthenticated,
    Unauthorized,
    ValidationFailed,
)
from opendesk.web.endpoint import Access, Endpoint
from opendesk.web.json_schema import Schema

_BEARER: Final = "bearer"
_RELAY_TOKEN: Final = "relayToken"  # noqa: S105  # no secret, the name of a scheme
_RELAY_BEARER: Final = "relayBearer"
_INTERNAL_TOKEN: Final = "internalToken"  # noqa: S105  # likewise
SCHEMES: Final[dict[str, Schema]] = {
    _BEARER: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    _RELAY_TOKEN: {"type": "apiKey", "in": "header", "name": "X-Relay-Token", "description": "RELAY_TOKEN"},
    _RELAY_BEARER: {"type": "http", "scheme": "bearer", "description": "RELAY_TOKEN"},
    _INTERNAL_TOKEN: {
        "type": "apiKey",
        "in": "header",
        "name": "X-Relay-Internal-Token",
        "description": "RELAY_INTERNAL_TOKEN. Callers from RELAY_INTERNAL_WHITELIST need none.",
    },
}
SECURITY: Final[dict[Access, list[Schema]]] = {
    Access.ANYONE: [],
    Access.USER: [{_BEARER: []}],
    Access.ADMIN: [{_BEARER: []}],
    Access.RELAY: [{_RELAY_TOKEN: []}, {_RELAY_BEARER: []}],
    Access.INTERNAL: [{_RELAY_TOKEN: [], _INTERNAL_TOKEN: []}, {_RELAY_BEARER: [], _INTERNAL_TOKEN: []}],
}
# No schema of theirs would be true for a daemon without the secret, which takes whatever is there.
_ONLY_THERE: Final = "Looked at only where the daemon has RELAY_API_SECRET, and wanted there."
SIGNATURE: Final[tuple[Schema, ...]] = (
    {
        "name": "X-Relay-Signature",
        "in": "header",
        "description": f"64 hexadecimal digits, after `v1=` or by themselves. {_ONLY_THERE}",
        "schema": {"type": "string"},
    },
    {
        "name": "X-Relay-Ts",
        "in": "header",
        "description": f"With a signature of `v1=`: when it was made, in Unix milliseconds. {_ONLY_THERE}",
        "schema": {"type": "string"},
    },
    {
        "name": "X-Relay-Nonce",
        "in": "header",
        "description": f"With a signature of `v1=`: new with each request, 16 to 64 visible ASCII characters. {_ONLY_THERE}",
        "schema": {"type": "string"},
    },
)
_OF_PEOPLE: Final[dict[Access, list[type[OpenDeskError]]]] = {
    Access.ANYONE: [],
    Access.USER: [Unauthenticated],
    Access.ADMIN: [Unauthenticated, Forbidden],
}


def refusals(endpoint: Endpoint) -> list[type[OpenDeskError]]:
    """Of those who may not, and of what doesn't fit."""
    if endpoint.of_network:
        return [Misfit, *_of_programs(endpoint)]
    return [ValidationFailed, *_OF_PEOPLE[endpoint.access]]


def _of_programs(endpoint: Endpoint) -> list[type[OpenDeskError]]:
    found: list[type[OpenDeskError]] = [Unauthorized, NetworkApiDisabled, RateLimited]
    if endpoint.method != "GET":
        found.append(InvalidSignature)
    if endpoint.access is Access.INTERNAL:
        found += [Forbidden, InternalTokenNotConfigured]
    return found
