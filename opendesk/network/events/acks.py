"""ACKs: a job each, from the transaction that decides its event until the backend has taken it, or for a week."""

from collections.abc import Awaitable, Callable
import json
import random
from typing import Any, Final

from attrs import define, frozen
import structlog
import trio

from opendesk.network.backoff import pause_s
from opendesk.network.events.refusals import NotTaken
from opendesk.network.jobs.shapes import LONGEST_PAUSE_S, Again, Dead, Done, Job, NewJob, Outcome
from opendesk.ops.audit import Audit
from opendesk.settings import Settings

log = structlog.get_logger()

# Where they wait: no router's id has a slash. `lane_of` it, since those of a dry run are a world of their own.
ACK_LANE: Final = "/acks"
# The type of job. The database makes them, too (`decide_events`).
ACK_EVENT: Final = "ACK_EVENT"

# Under way at a time: 600/s to a backend at 50 ms. Its client has as many connections, and some for the fetch.
AT_ONCE: Final = 30
# No quick retry begins later than this: with the client's longest wait for an answer it is less than what the runner lets an attempt take.
QUICK_S: Final = 100.0

# The contract's: for so long the backend is tried.
PATIENCE_S: Final = 7 * 86_400.0
# And no less often than this: a daemon that was away for the week, or a clock that was set, is no reason to give up a backend that is there.
# With the pauses in between that is hours.
FEWEST_TRIES: Final = 10
# As many as a week has: the measure for an ACK that is younger than now, since the clock was set back.
TRIES_OF_A_WEEK: Final = round(PATIENCE_S / LONGEST_PAUSE_S)


def ack_job(
    id_hash: bytes,
    event_id: str,
    ok: bool,  # noqa: FBT001 - as the ACK has it
    payload: dict[str, Any],
    *,
    lane: str,
    trace_id: str | None,
) -> NewJob:
    """It joins one that is still to be sent; those of one event go out in order. Raises ValueError for what is no JSON."""
    # ASCII: an id that was refused comes back as it came, whatever characters it has.
    body = json.dumps({"eventId": event_id, "ok": ok, "payload": payload}, allow_nan=False, separators=(",", ":"))
    return NewJob(ACK_EVENT, lane, id_hash.hex(), {"body": body}, dedupe="ack", trace_id=trace_id)


def is_over(tries: int, age_s: float) -> bool:
    """Whether an ACK that was tried so often, and is so old by the database's clock, is given up."""
    if age_s < 0:
        return tries >= TRIES_OF_A_WEEK
    return age_s >= PATIENCE_S and tries >= FEWEST_TRIES


@frozen
class AckTerms:
    """BACKEND_ACK_RETRIES, BACKEND_ACK_RETRY_DELAY_MS, RELAY_JOB_BACKOFF_BASE_MS."""

    quick_retries: int
    quick_pause_s: float
    first_pause_s: float

    @classmethod
    def of(cls, settings: Settings) -> "AckTerms":
        return cls(
            settings.backend_ack_retries,
            settings.backend_ack_retry_delay_ms / 1000,
            settings.relay_job_backoff_base_ms / 1000,
        )


@define(eq=False)
class Acks:
    """`perform` is a handler of the runner's. `acknowledge` brings the bytes, raising NotTaken; `count` is told what became of each attempt."""

    _acknowledge: Callable[[bytes], Awaitable[int]]
    _audit: Audit
    _count: Callable[[str], None]
    _terms: AckTerms

    async def perform(self, job: Job) -> Outcome:
        """An attempt that fails uses none up: how long it goes on is said by the job's age."""
        try:
            status = await self._bring(job.payload["body"].encode())
        except NotTaken as error:
            return self._not_taken(job, str(error))
        except Exception as error:  # a fault of ours must not bury it before its time either
            log.exception("events.ack_failed", job=str(job.id), traceId=_trace(job))
            return self._not_taken(job, repr(error))
        self._count("taken")
        self._audit.success("EVENT", _trace(job), stage="acked", jobId=str(job.id), status=status)
        return Done({"status": status})

    async def _bring(self, body: bytes) -> int:
        last_begins_s = trio.current_time() + QUICK_S
        for _ in range(self._terms.quick_retries):
            try:
                return await self._acknowledge(body)
            except NotTaken:
                if trio.current_time() + self._terms.quick_pause_s > last_begins_s:
                    raise
            await trio.sleep(self._terms.quick_pause_s)
        return await self._acknowledge(body)

    def _not_taken(self, job: Job, error: str) -> Outcome:
        tries = job.outcomes + 1
        given_up = is_over(tries, job.age_s)
        self._count("dead" if given_up else "failed")
        self._audit.failure("EVENT", _trace(job), error=error, stage="acked", jobId=str(job.id), attempt=tries)
        if given_up:
            told = {"job": str(job.id), "event_hash": job.key, "traceId": _trace(job)}
            log.warning("events.ack_given_up", **told, tries=tries, error=error)
            return Dead(error)
        jitter = random.random()  # noqa: S311 - no secret
        pause = pause_s(tries, first_s=self._terms.first_pause_s, longest_s=LONGEST_PAUSE_S, jitter=jitter)
        return Again(error, after_s=pause, counts=False)


def _trace(job: Job) -> str:
    return job.trace_id or str(job.id)
