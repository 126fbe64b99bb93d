"""Errors as `application/problem+json` (RFC 9457), with the members that older clients read."""

from typing import Any, Final

from opendesk.errors import DatabaseUnavailable, OpenDeskError, Overloaded
from opendesk.postgres.errors import AWAY
from opendesk.postgres.pool import PoolFull
from opendesk.web.wire import dump_json

PROBLEM_JSON = "application/problem+json"

# What a caller is told to wait when the database is away: the pool finds it again at once when it is back.
DATABASE_RETRY_S = 5

# And when the database is there, but too many wait for it: they are served, or have given up, within seconds (`pool.ACQUIRE_TIMEOUT_S`).
CROWD_RETRY_S = 1

# What every answer has, errors and others: most are one caller's own, and none is a page.
FIXED_HEADERS: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


def as_expected(error: BaseException) -> OpenDeskError | None:
    """The error that callers are told for this one; None for one that nobody expected."""
    if isinstance(error, OpenDeskError):
        return error
    if isinstance(error, PoolFull):
        return Overloaded(retry_after_s=CROWD_RETRY_S)
    if isinstance(error, AWAY):
        return DatabaseUnavailable(retry_after_s=DATABASE_RETRY_S)
    return None


def problem(
    *, status: int, code: str, title: str, detail: str, trace_id: str, errors: tuple[Any, ...] = ()
) -> dict[str, Any]:
    members = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "error": detail,
        "traceId": trace_id,
    }
    return {**members, "errors": errors} if errors else members


def render(error: OpenDeskError, trace_id: str) -> bytes:
    told = problem(
        status=error.status,
        code=error.code,
        title=error.title(),
        detail=error.detail,
        trace_id=trace_id,
        errors=error.errors,
    )
    return dump_json({**error.members, **told})
