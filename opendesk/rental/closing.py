"""From a live session as it was read to what is written of its end: pure."""

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from attrs import frozen

from opendesk.rental.lifecycle import (
    ActiveSession,
    Caller,
    Ending,
    EndReason,
    EndRequest,
    NetworkProvider,
    RelayEvidence,
    Status,
    decide_end,
    decide_expiry,
    decide_pending,
    decide_timeout,
)
from opendesk.rental.reliability import reliability_change
from opendesk.rental.settlement import FailureReason, Settlement, refund, settle


@frozen
class Snapshot:
    """A live session, with what the decision needs. Times are the database's."""

    id: UUID
    pc_id: UUID
    client_user_id: UUID
    status: str
    minutes_purchased: int
    price_total: int
    platform_fee_rate: Decimal
    penalty_rate: Decimal
    created_at: datetime
    start_at: datetime | None
    end_at: datetime | None
    host_user_id: UUID
    host_id: UUID
    network_provider: str
    last_seen_at: datetime | None
    now: datetime
    # What the relays saw of its rooms, if any did: lifecycle.RelayEvidence.
    host_down_since: datetime | None = None
    client_up_since: datetime | None = None
    last_byte_at: datetime | None = None
    client_left_at: datetime | None = None

    @property
    def active(self) -> ActiveSession:
        """Of an ACTIVE one only."""
        assert self.start_at is not None
        assert self.end_at is not None
        return ActiveSession(
            start_at=self.start_at,
            end_at=self.end_at,
            minutes_purchased=self.minutes_purchased,
            provider=NetworkProvider(self.network_provider),
            last_beat_at=self.last_seen_at,
            evidence=RelayEvidence(self.host_down_since, self.client_up_since, self.last_byte_at, self.client_left_at),
        )


@frozen
class Closing:
    """What becomes of one live session: decided, not yet written."""

    session: Snapshot
    status: Status
    ended_at: datetime
    minutes_used: int
    end_reason: EndReason
    failure_reason: FailureReason
    claimed: FailureReason | None
    settlement: Settlement
    gone: bool  # the PC goes OFFLINE, not ONLINE
    score: int
    completed: int
    dropped: int


def end(
    session: Snapshot,
    who: Caller,
    claim: FailureReason | None,
    *,
    heartbeat_timeout: timedelta,
    listening_since: datetime | None,
) -> Closing:
    """Somebody ends an ACTIVE session."""
    request = EndRequest(who, claim, session.now, heartbeat_timeout, listening_since)
    gone = _is_gone(session, heartbeat_timeout, listening_since)
    return _closing(session, decide_end(session.active, request), gone=gone)


def expire(session: Snapshot, *, heartbeat_timeout: timedelta, listening_since: datetime | None) -> Closing:
    """An ACTIVE session ran its time. Of a host that is gone nobody is offered the PC again; its silence is the time-out's to judge."""
    gone = _is_gone(session, heartbeat_timeout, listening_since)
    return _closing(session, decide_expiry(session.active), gone=gone)


def _is_gone(session: Snapshot, heartbeat_timeout: timedelta, listening_since: datetime | None) -> bool:
    """Silent for too long while we listened ourselves."""
    if session.last_seen_at is None:
        return False
    heard_at = session.last_seen_at if listening_since is None else max(session.last_seen_at, listening_since)
    return session.now - heard_at > heartbeat_timeout


def cancel(session: Snapshot) -> Closing:
    return _closing(session, decide_pending(EndReason.CANCELLED, session.now), gone=False)


def give_up(session: Snapshot) -> Closing:
    """A PENDING session was never started."""
    return _closing(session, decide_pending(EndReason.NEVER_STARTED, session.now), gone=False)


def time_out(session: Snapshot) -> Closing:
    """The session's host was judged gone."""
    if session.status == Status.PENDING:
        return _closing(session, decide_pending(EndReason.HOST_TIMEOUT, session.now), gone=True)
    return _closing(session, decide_timeout(session.active, session.now), gone=True)


def _closing(session: Snapshot, ending: Ending, *, gone: bool) -> Closing:
    change = reliability_change(ending)
    return Closing(
        session=session,
        status=ending.status,
        ended_at=ending.ended_at,
        minutes_used=ending.minutes_used,
        end_reason=ending.end_reason,
        failure_reason=ending.failure_reason,
        claimed=ending.claimed_failure_reason,
        settlement=_settlement(session, ending),
        gone=gone,
        score=change.score,
        completed=change.completed,
        dropped=change.dropped,
    )


def _settlement(session: Snapshot, ending: Ending) -> Settlement:
    if session.status == Status.PENDING:
        return refund(session.price_total)
    return settle(
        session.price_total,
        session.minutes_purchased,
        ending.minutes_used,
        session.platform_fee_rate,
        session.penalty_rate,
        ending.failure_reason,
    )
