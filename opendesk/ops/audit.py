"""Who had what done: a line in the log for each attempt, and for how it ended, whatever LOG_LEVEL says. Counted, so that a missing line is noticed."""

from collections.abc import Callable
import logging
from typing import Any

from attrs import frozen
import structlog

# Of its own: `get_logger` has LOG_LEVEL in it, and an operator who wants less noise doesn't mean the proof of who did what.
log = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET))

ATTEMPT = "attempt"
SUCCESS = "success"
FAILURE = "failure"
OUTCOMES = (ATTEMPT, SUCCESS, FAILURE)


@frozen
class Audit:
    """`count` takes the outcome of each line. Facts are plain values; those under names of secrets are masked, as everywhere in the log."""

    _count: Callable[[str], None]

    def attempt(self, action: str, trace_id: str, **facts: Any) -> None:
        self._line(ATTEMPT, action, trace_id, facts)

    def success(self, action: str, trace_id: str, **facts: Any) -> None:
        self._line(SUCCESS, action, trace_id, facts)

    def failure(self, action: str, trace_id: str, *, error: str, **facts: Any) -> None:
        self._line(FAILURE, action, trace_id, {"error": error, **facts})

    def _line(self, outcome: str, action: str, trace_id: str, facts: dict[str, Any]) -> None:
        self._count(outcome)
        facts.update(action=action, outcome=outcome, traceId=trace_id)
        facts.pop("event", None)
        log.info("audit", **facts)
