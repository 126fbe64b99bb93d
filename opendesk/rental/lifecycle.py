"""How a session goes from one status to the next: whose fault an end was, up to when time is billed.

docs/settlement.md tells the same for those who audit the money.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from attrs import converters, field, frozen

from opendesk.rental.settlement import FailureReason

# "No host socket for the last 30 s": the contract's number. Long enough for a host to change networks and come back.
RELAY_SILENCE: Final = timedelta(seconds=30)

# A client that gives up hangs up first, and then calls `end`.
HUNG_UP_BEFORE: Final = timedelta(seconds=5)

_MINUTE: Final = timedelta(minutes=1)


class Status(StrEnum):
    """Where a session stands. ENDED and FAILED are for good."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    ENDED = "ENDED"
    FAILED = "FAILED"


class Event(StrEnum):
    """What may happen to a session. FAIL is an end with a fault, or a reservation that nobody will start any more."""

    START = "START"
    CANCEL = "CANCEL"
    END = "END"
    FAIL = "FAIL"


NEXT: Final[Mapping[tuple[Status, Event], Status]] = {
    (Status.PENDING, Event.START): Status.ACTIVE,
    (Status.PENDING, Event.CANCEL): Status.FAILED,
    (Status.PENDING, Event.FAIL): Status.FAILED,
    (Status.ACTIVE, Event.END): Status.ENDED,
    (Status.ACTIVE, Event.FAIL): Status.FAILED,
}


class EndReason(StrEnum):
    """How a session came to its end."""

    COMPLETED = "COMPLETED"
    ENDED_BY_CLIENT = "ENDED_BY_CLIENT"
    ENDED_BY_HOST = "ENDED_BY_HOST"
    ENDED_BY_ADMIN = "ENDED_BY_ADMIN"
    HOST_TIMEOUT = "HOST_TIMEOUT"
    CANCELLED = "CANCELLED"
    NEVER_STARTED = "NEVER_STARTED"


class Caller(StrEnum):
    """As what somebody acts in one session; not the role of the account, since a host may rent too."""

    CLIENT = "CLIENT"
    HOST = "HOST"
    ADMIN = "ADMIN"


class NetworkProvider(StrEnum):
    """Whether a PC is reached directly, or only through the relay."""

    DIRECT = "DIRECT"
    RELAY = "RELAY"


def acting_as(*, is_client: bool, is_host: bool, is_admin: bool) -> Caller | None:
    """Return as what a user acts in a session, None for a stranger. An admin's own session gives an admin no more say than its party has."""
    if is_client:
        return Caller.CLIENT
    if is_host:
        return Caller.HOST
    return Caller.ADMIN if is_admin else None


@frozen
class RelayEvidence:
    """What the relays saw of one session's rooms: at one daemon as a rule, at several when a side moved or has sockets at more than one.

    A socket that came with the shared token is not seen at all: both sides hold that token. If no relay that is alive knows of the session,
    who was there is None and nothing is proven.
    """

    # When the last host socket left, or the room opened if none came, at whichever relay that was latest; None: one is up somewhere.
    host_down_since: datetime | None
    # Since when a socket of the client has been up without a gap, or was until `client_left_at`; None: there never was one.
    client_up_since: datetime | None
    # When the host's last byte was relayed, whether that relay is still alive or not; None: none was.
    last_byte_at: datetime | None
    # When the client's last socket left; None: one is up, or there never was one.
    client_left_at: datetime | None = None


@frozen
class ActiveSession:
    """What an end is decided on. All times are the database's. ValueError for a provider that isn't one."""

    start_at: datetime
    end_at: datetime
    minutes_purchased: int
    provider: NetworkProvider = field(converter=NetworkProvider)
    last_beat_at: datetime | None = None  # of this session's PC
    evidence: RelayEvidence | None = None  # None: no relay saw anything


@frozen
class EndRequest:
    """Who wants a session ended, and what they say about whose fault it is. ValueError for words that mean nothing."""

    who: Caller = field(converter=Caller)
    claim: FailureReason | None = field(converter=converters.optional(FailureReason))  # None: nothing was said
    now: datetime
    heartbeat_timeout: timedelta  # HOST_HEARTBEAT_TIMEOUT_MS
    # Silence from before this is the daemon's own: it was away and heard nobody. See liveness.Watch.listening_since.
    listening_since: datetime | None = None


@frozen
class Ending:
    """How a session ends. `minutes_used` is what is billed; with a fault of the host it may end before `ended_at`."""

    status: Status
    end_reason: EndReason
    failure_reason: FailureReason
    claimed_failure_reason: FailureReason | None
    ended_at: datetime
    minutes_used: int


_ENDED_BY: Final[Mapping[Caller, EndReason]] = {
    Caller.CLIENT: EndReason.ENDED_BY_CLIENT,
    Caller.HOST: EndReason.ENDED_BY_HOST,
    Caller.ADMIN: EndReason.ENDED_BY_ADMIN,
}


def minutes_used(start_at: datetime, until: datetime, minutes_purchased: int) -> int:
    """Whole minutes begun between the two, clamped to 0..minutes_purchased. With `until` = now: the live count."""
    begun = -(-(until - start_at) // _MINUTE)
    return min(max(begun, 0), minutes_purchased)


def decide_end(session: ActiveSession, request: EndRequest) -> Ending:
    """Somebody ends an ACTIVE session. One that ran its time is COMPLETED whoever calls, save for a fault that counts even then."""
    at = _within(session, request.now)
    fault = _fault(session, request, at)
    ran_its_time = at == session.end_at and fault is FailureReason.NONE
    return _ending(
        session,
        at=at,
        fault=fault,
        end_reason=EndReason.COMPLETED if ran_its_time else _ENDED_BY[request.who],
        claimed=None if request.claim is fault else request.claim,
    )


def decide_expiry(session: ActiveSession) -> Ending:
    """An ACTIVE session came to its `end_at`. It ends then, however much later that is noticed."""
    return _ending(session, at=session.end_at, fault=FailureReason.NONE, end_reason=EndReason.COMPLETED)


def decide_timeout(session: ActiveSession, now: datetime) -> Ending:
    """The host of an ACTIVE session was judged gone. One already past its `end_at` only expires: its host may have left after it."""
    at = _within(session, now)
    if at == session.end_at:
        return decide_expiry(session)
    return _ending(session, at=at, fault=FailureReason.HOST, end_reason=EndReason.HOST_TIMEOUT)


_PENDING_FAULTS: Final[Mapping[EndReason, tuple[Event, FailureReason]]] = {
    EndReason.CANCELLED: (Event.CANCEL, FailureReason.NONE),
    EndReason.NEVER_STARTED: (Event.FAIL, FailureReason.NONE),
    EndReason.HOST_TIMEOUT: (Event.FAIL, FailureReason.HOST),
}


def decide_pending(end_reason: EndReason, now: datetime) -> Ending:
    """A PENDING session won't start any more (full refund). ValueError for a reason that only an ACTIVE one can have."""
    if end_reason not in _PENDING_FAULTS:
        raise ValueError(f"a PENDING session can't end with {end_reason}")
    event, fault = _PENDING_FAULTS[end_reason]
    return Ending(
        status=NEXT[Status.PENDING, event],
        end_reason=end_reason,
        failure_reason=fault,
        claimed_failure_reason=None,
        ended_at=now,
        minutes_used=0,
    )


def _within(session: ActiveSession, now: datetime) -> datetime:
    return min(max(now, session.start_at), session.end_at)


def _fault(session: ActiveSession, request: EndRequest, at: datetime) -> FailureReason:
    """Whose fault counts: a caller can put it only on itself, unless an admin calls or the daemon saw it."""
    ran_its_time = at == session.end_at
    match request.who, request.claim:
        case Caller.ADMIN, claim:
            return claim or FailureReason.NONE
        case Caller.HOST, claim if not ran_its_time or claim is FailureReason.HOST:
            return FailureReason.HOST
        case Caller.CLIENT, FailureReason.HOST if _beats_stopped(session, request, at) or _left_relay(session, at):
            return FailureReason.HOST
        # Once it ran its time the client has all that was bought, so this word could only spoil the host's record.
        case Caller.CLIENT, FailureReason.CLIENT if not ran_its_time:
            return FailureReason.CLIENT
        case _:
            return FailureReason.NONE


def _beats_stopped(session: ActiveSession, request: EndRequest, at: datetime) -> bool:
    silent_from = session.start_at if session.last_beat_at is None else session.last_beat_at
    if request.listening_since is not None:
        silent_from = max(silent_from, request.listening_since)
    return at - silent_from > request.heartbeat_timeout


def _left_relay(session: ActiveSession, at: datetime) -> bool:
    seen = session.evidence
    if session.provider is not NetworkProvider.RELAY or seen is None:
        return False
    if seen.host_down_since is None or seen.client_up_since is None:
        return False
    until = at if seen.client_left_at is None else min(at, seen.client_left_at)
    if at - until > HUNG_UP_BEFORE:
        return False
    # The host's 30 s begin with the session: before, it had no reason to be there. A byte of it at a relay that has died since counts, too.
    begin = max(seen.host_down_since, seen.client_up_since, session.start_at, seen.last_byte_at or session.start_at)
    return until - begin >= RELAY_SILENCE


def _last_proof_of_life(session: ActiveSession, at: datetime) -> datetime:
    """Up to when the host is known to have delivered, within start_at..at."""
    byte_at = None if session.evidence is None else session.evidence.last_byte_at
    # Heartbeats of a host that the client can't see prove that its PC runs, not that anything was received.
    proofs = (byte_at,) if _left_relay(session, at) else (byte_at, session.last_beat_at)
    return min(at, max([session.start_at, *(proof for proof in proofs if proof is not None)]))


def _ending(
    session: ActiveSession,
    *,
    at: datetime,
    fault: FailureReason,
    end_reason: EndReason,
    claimed: FailureReason | None = None,
) -> Ending:
    event = Event.END if fault is FailureReason.NONE else Event.FAIL
    billed_until = _last_proof_of_life(session, at) if fault is FailureReason.HOST else at
    return Ending(
        status=NEXT[Status.ACTIVE, event],
        end_reason=end_reason,
        failure_reason=fault,
        claimed_failure_reason=claimed,
        ended_at=at,
        minutes_used=minutes_used(session.start_at, billed_until, session.minutes_purchased),
    )
