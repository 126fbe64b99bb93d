"""What metrics and the log are told of sessions: booked, started, ended. A line each, so that a session's id finds all of it."""

from collections import Counter
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from opendesk.ops.metrics import Metrics
from opendesk.rental.sessions import Session

log = structlog.get_logger()

# Of what ends at once, in one batch. After an outage it would be ten thousand lines, for which a journal drops others.
NAMED_MAX: Final = 50
KINDS: Final = ("host_payout", "platform_fee", "client_credit", "retained")


def booked(metrics: Metrics, session: Session, trace_id: str) -> None:
    metrics.session_event("created")
    log.info(
        "session.booked",
        session=str(session.id),
        pc=str(session.pc_id),
        host=str(session.host_id),
        client=str(session.client_user_id),
        minutes=session.minutes_purchased,
        traceId=trace_id,
    )


def started(metrics: Metrics, session: UUID, by: UUID, trace_id: str) -> None:
    """`by` is a user."""
    metrics.session_event("started")
    log.info("session.started", session=str(session), by=str(by), traceId=trace_id)


def ended(metrics: Metrics, closed: Sequence[Session], by: object, trace_id: str | None = None) -> None:
    """`by` is a user, or the timer whose batch this is."""
    for reason, count in Counter(session.end_reason for session in closed).items():
        metrics.session_ended(str(reason), count)
    for kind in KINDS:
        metrics.money_settled(kind, sum(getattr(session.settlement, kind) for session in closed if session.settlement))
    of_request = {} if trace_id is None else {"traceId": trace_id}
    for session in closed[:NAMED_MAX]:
        log.info(
            "session.ended",
            session=str(session.id),
            pc=str(session.pc_id),
            host=str(session.host_id),
            client=str(session.client_user_id),
            reason=str(session.end_reason),
            fault=str(session.failure_reason),
            minutes=session.minutes_used,
            by=str(by),
            **of_request,
        )
    if len(closed) > NAMED_MAX:
        log.info("sessions.ended_too", sessions=len(closed) - NAMED_MAX, by=str(by))
