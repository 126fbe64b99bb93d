"""A session under way, and ways to end it."""

from datetime import UTC, datetime, timedelta

from attrs import evolve

from opendesk.rental.lifecycle import (
    ActiveSession,
    Caller,
    Ending,
    EndRequest,
    NetworkProvider,
    RelayEvidence,
    decide_end,
)
from opendesk.rental.settlement import FailureReason

NONE, HOST, CLIENT, PLATFORM = FailureReason
CLAIMS = (None, *FailureReason)

START = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
TIMEOUT = timedelta(seconds=60)
INSTANT = timedelta(microseconds=1)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


END = at(60)
# Beating, reached directly, nothing seen by a relay.
SESSION = ActiveSession(
    start_at=START,
    end_at=END,
    minutes_purchased=60,
    provider=NetworkProvider.DIRECT,
    last_beat_at=at(29.9),
)
BOTH_UP = RelayEvidence(host_down_since=None, client_up_since=at(1), last_byte_at=at(29.99))
ON_RELAY = evolve(SESSION, provider=NetworkProvider.RELAY, evidence=BOTH_UP)


def end(
    session: ActiveSession,
    who: Caller,
    claim: FailureReason | None = None,
    *,
    now: datetime | None = None,
    listening_since: datetime | None = None,
) -> Ending:
    now = at(30) if now is None else now
    return decide_end(session, EndRequest(who, claim, now, TIMEOUT, listening_since))


def host_left(at_minute: float, *, last_byte: float | None) -> ActiveSession:
    """A session on the relay whose host still beats but isn't in the room, while the client is."""
    last_byte_at = None if last_byte is None else at(last_byte)
    return evolve(ON_RELAY, evidence=RelayEvidence(at(at_minute), at(1), last_byte_at))
