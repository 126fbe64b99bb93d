"""What a job is, what may become of an attempt at it, and what is written of that."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
import json
from typing import Any, Final, Literal
from uuid import UUID

from attrs import field, frozen

from opendesk.errors import Overloaded
from opendesk.network.backoff import pause_s

State = Literal["due", "running", "done", "dead"]
STATES: Final[tuple[State, ...]] = ("due", "running", "done", "dead")

# Names of lanes, keys and kinds: a router's id, a device's addresses. They go into indexes, whose rows hold 2.7 kB.
MAX_NAME: Final = 500
# Of a payload or a result as JSON: some numbers and names. What is larger belongs into a table of its own.
MAX_JSON_BYTES: Final = 64 * 1024
# Of an error that is kept: what is told first says most.
MAX_ERROR: Final = 2_000

# Who is refused since too many jobs wait for one key: some of them are done by then, if its router is there.
CROWDED_RETRY_S: Final = 30

# A wait between two attempts is no longer than this (before jitter): who mends a router sees within the hour that it was of use.
LONGEST_PAUSE_S: Final = 3600.0
# What a handler asks for itself: no job sleeps longer than this without having been looked at.
LONGEST_AFTER_S: Final = 86_400.0


def _check_name(_instance: object, attribute: Any, value: Any) -> None:
    if value is not None and not 0 < len(value) <= MAX_NAME:
        raise ValueError(f"a job's {attribute.name} has 1 to {MAX_NAME} characters, not {len(value)}")


@frozen
class NewJob:
    """A job to add. Jobs of one key in one lane run one after the other, in the order in which they were added.

    It joins the last unfinished one of its key if that has the same `dedupe`; with `joins=False` it does not: what it is to do may be news to
    one that runs already. To one that still waits, nothing is: with `within` any such one of its type is joined whose payload has all of that
    (as jsonb contains jsonb), and then it is tried as often as a new one. A `bounded` one may be refused: see Crowded.
    """

    type: str = field(validator=_check_name)
    lane: str = field(validator=_check_name)
    key: str = field(validator=_check_name)
    payload: dict[str, Any]
    run_at: datetime | None = None  # as soon as may be
    dedupe: str | None = field(default=None, validator=_check_name)
    joins: bool = True
    within: dict[str, Any] | None = None
    bounded: bool = False
    trace_id: str | None = field(default=None, validator=_check_name)


@frozen
class Added:
    """The job that was added, or joined; `outcomes` is how many attempts at it had ended before."""

    id: UUID
    joined: bool
    outcomes: int


@frozen
class Job:
    """A job that was claimed: whoever has it holds its lease, and `fence` says of which claim."""

    id: UUID
    fence: int
    type: str
    lane: str
    key: str
    payload: dict[str, Any]
    attempts: int  # this one included
    run_at: datetime
    trace_id: str | None
    outcomes: int = 0  # of attempts before this one, those that used none included
    age_s: float = 0.0  # by the database's clock, as it was claimed


@frozen
class Found:
    """What a look took, and of each lane that has jobs for later: how many seconds to the first of them."""

    jobs: Sequence[Job]
    next_due_in_s: Mapping[str, float]


class Crowded(Overloaded):
    """Too much is waiting here already; try again later."""

    def __init__(self, keys: Collection[tuple[str, str]]) -> None:
        """`keys`: lanes and keys that have as many unfinished jobs as they may."""
        super().__init__("too many actions wait for this device; try again later", retry_after_s=CROWDED_RETRY_S)
        self.keys = frozenset(keys)


@frozen
class JobView:
    """A job as it is told. `outcomes` counts the attempts that ended, whichever way."""

    id: UUID
    type: str
    lane: str
    key: str
    state: State
    attempts: int
    outcomes: int
    run_at: datetime
    last_error: str | None
    result: Any
    trace_id: str | None
    created_at: datetime
    finished_at: datetime | None


def told_of(job: Job) -> dict[str, str | None]:
    """What each line of the log says of it."""
    return {"job": str(job.id), "type": job.type, "lane": job.lane, "traceId": job.trace_id}


# ---- what became of an attempt


@frozen
class Done:
    result: Any = None


@frozen
class Again:
    """It failed, or it is too early (`counts=False`: that uses no attempt). Without `after_s` the wait is reckoned."""

    error: str
    after_s: float | None = None
    counts: bool = True


@frozen
class Dead:
    """It failed, and to try again is of no use."""

    error: str
    result: Any = None


Outcome = Done | Again | Dead


@frozen
class Retries:
    """RELAY_JOB_MAX_ATTEMPTS, RELAY_JOB_BACKOFF_BASE_MS. `patience_s`: types of which none that is younger dies of its attempts."""

    max_attempts: int
    base_s: float
    patience_s: Mapping[str, float] = field(factory=dict)

    def are_used_up(self, job: Job) -> bool:
        patience_s = self.patience_s.get(job.type)
        return job.attempts >= self.max_attempts and (patience_s is None or job.age_s >= patience_s)


@frozen
class Ended:
    """What is written of an attempt."""

    id: UUID
    fence: int
    lane: str
    state: State
    error: str | None = None
    result: str | None = None  # JSON
    after_s: float | None = None
    counts: bool = True


def ended(job: Job, outcome: Outcome, retries: Retries, *, jitter: float) -> Ended:
    """Raise ValueError or TypeError for a result that can't be written."""
    match outcome:
        case Done(result):
            return Ended(job.id, job.fence, job.lane, "done", result=_json_or_nothing(result))
        case Dead(error, result):
            return Ended(job.id, job.fence, job.lane, "dead", error=told(error), result=_json_or_nothing(result))
        case Again(error, counts=True) if retries.are_used_up(job):
            return Ended(job.id, job.fence, job.lane, "dead", error=told(error))
        case Again(error, after_s, counts):
            if after_s is None:
                after_s = pause_s(job.attempts, first_s=retries.base_s, longest_s=LONGEST_PAUSE_S, jitter=jitter)
            after_s = min(max(after_s, 0.0), LONGEST_AFTER_S)
            return Ended(job.id, job.fence, job.lane, "due", error=told(error), after_s=after_s, counts=counts)


def unwritable(job: Job, why: str) -> Ended:
    """For an outcome that the database, or JSON, refuses: to run the job again would end the same way."""
    return Ended(job.id, job.fence, job.lane, "dead", error=told(f"what became of it could not be written: {why}"))


def told(error: str) -> str:
    """The error as the database takes it: no NUL, no half characters, no novels."""
    return error[:MAX_ERROR].replace("\0", "\\0").encode(errors="backslashreplace").decode()


def _json_or_nothing(value: object) -> str | None:
    return None if value is None else as_json(value)


def as_json(value: object) -> str:
    """Raise ValueError or TypeError for what is not JSON, or too much of it."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    if (size := len(text.encode())) > MAX_JSON_BYTES:
        raise ValueError(f"{size} bytes of JSON are more than a job may carry ({MAX_JSON_BYTES})")
    return text
