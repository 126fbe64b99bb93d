"""Expected errors: each knows its HTTP status and its stable code; its docstring is its title."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from attrs import frozen


@frozen
class FieldFault:
    """One fault in a request: where (a JSON Pointer) and what."""

    pointer: str
    detail: str


class OpenDeskError(Exception):
    """Something that callers are told about went wrong."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        detail: str | None = None,
        *,
        retry_after_s: int | None = None,
        errors: Sequence[FieldFault] = (),
        members: Mapping[str, str] | None = None,
    ) -> None:
        """`members` are what the problem tells besides what all of them do, by their names on the wire."""
        super().__init__(detail or self.title())
        self.detail = detail or self.title()
        self.retry_after_s = retry_after_s
        self.errors = tuple(errors)
        self.members = dict(members or {})

    @classmethod
    def title(cls) -> str:
        return (cls.__doc__ or cls.__name__).splitlines()[0]


class NotFound(OpenDeskError):
    """There is no such thing here."""

    status, code = 404, "NOT_FOUND"


class Unauthenticated(OpenDeskError):
    """A valid token is needed."""

    status, code = 401, "UNAUTHENTICATED"


class Forbidden(OpenDeskError):
    """It is not yours."""

    status, code = 403, "FORBIDDEN"


class InvalidJson(OpenDeskError):
    """The body is not JSON."""

    status, code = 400, "INVALID_JSON"


class ValidationFailed(OpenDeskError):
    """The request does not fit."""

    status, code = 422, "VALIDATION_FAILED"


class Misfit(ValidationFailed):
    """The request does not fit."""

    # What the clients of the network API expect.
    status = 400


class BodyTooLarge(OpenDeskError):
    """The body is larger than allowed."""

    status, code = 413, "BODY_TOO_LARGE"


class RateLimited(OpenDeskError):
    """Too many requests; try again later."""

    status, code = 429, "RATE_LIMITED"


class IdempotencyKeyReused(OpenDeskError):
    """The Idempotency-Key was used with another request."""

    status, code = 422, "IDEMPOTENCY_KEY_REUSED"


class IdempotencyInProgress(OpenDeskError):
    """The first request with this Idempotency-Key is still running."""

    status, code = 409, "IDEMPOTENCY_IN_PROGRESS"


class DatabaseUnavailable(OpenDeskError):
    """The database can't be reached at the moment."""

    status, code = 503, "DATABASE_UNAVAILABLE"


class Overloaded(OpenDeskError):
    """Too much is waiting here already; try again later."""

    status, code = 503, "OVERLOADED"


class Unauthorized(OpenDeskError):
    """The relay token is wanted."""

    status, code = 401, "UNAUTHORIZED"


class InvalidSignature(OpenDeskError):
    """The request is not signed as it should be."""

    status, code = 401, "INVALID_SIGNATURE"


class InternalTokenNotConfigured(OpenDeskError):
    """These calls want an internal token, and this daemon has none (RELAY_INTERNAL_TOKEN)."""

    status, code = 403, "INTERNAL_TOKEN_NOT_CONFIGURED"


class NetworkApiDisabled(OpenDeskError):
    """The network API is switched off: this daemon has no relay token (RELAY_TOKEN)."""

    status, code = 503, "NETWORK_API_DISABLED"


class CannotStart(Exception):
    """What the operator has to change before a daemon can start."""
