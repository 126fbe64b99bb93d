"""What a session's end says of its host, and what clients are shown of a host's record."""

from enum import StrEnum
from typing import Final

from attrs import frozen

from opendesk.rental.lifecycle import Ending, EndReason, Status
from opendesk.rental.settlement import FailureReason

BADGE_FROM_SESSIONS: Final = 5
RELIABLE_FROM_PERCENT: Final = 90


class Badge(StrEnum):
    """How far a host can be relied upon."""

    NOVO = "NOVO"
    CONFIAVEL = "CONFIAVEL"
    INSTAVEL = "INSTAVEL"


@frozen
class ReliabilityChange:
    """What happened adds to a host's record, whose score stays within 0..100."""

    score: int = 0
    completed: int = 0
    dropped: int = 0


SESSION_DONE: Final = ReliabilityChange(score=1, completed=1)
FAILED_BY_HOST: Final = ReliabilityChange(score=-2, dropped=1)
# A time-out lowers the score once a host and silence, however many sessions and PCs it took: not again for each of them.
DROPPED_BY_TIMEOUT: Final = ReliabilityChange(dropped=1)
HOST_TIMED_OUT: Final = ReliabilityChange(score=-10)
SAYS_NOTHING: Final = ReliabilityChange()


def reliability_change(ending: Ending) -> ReliabilityChange:
    """What one session's end says of its host. One that failed by the client or the platform, or that its client never started, says nothing.

    A reservation that was lost because its host fell silent counts as dropped: the client was let down.
    """
    if ending.status is Status.ENDED:
        return SESSION_DONE
    if ending.failure_reason is not FailureReason.HOST:
        return SAYS_NOTHING
    return DROPPED_BY_TIMEOUT if ending.end_reason is EndReason.HOST_TIMEOUT else FAILED_BY_HOST


def badge(total: int, completed: int) -> Badge:
    """Of all sessions that say something of the host, so many were completed."""
    if total < BADGE_FROM_SESSIONS:
        return Badge.NOVO
    return Badge.CONFIAVEL if completed * 100 >= total * RELIABLE_FROM_PERCENT else Badge.INSTAVEL
