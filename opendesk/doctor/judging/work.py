"""What is to be done and isn't: jobs, events and their ACKs; and the proof of the books."""

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from opendesk.doctor.finding import Finding, bad, ok, warn

# A job is due for milliseconds; for seconds when a thousand come at once.
_LATE_S: Final = 60.0
_STUCK_S: Final = 600.0


@frozen(kw_only=True)
class Jobs:
    """`stuck` are running ones whose lease is over and that nobody took over; `late_lanes` have waited longest."""

    due: int
    oldest_due_s: float
    dead: int
    stuck: int
    late_lanes: Sequence[str] = ()


@frozen(kw_only=True)
class Events:
    """`unacked_s` is for how long the oldest ACK has waited; None where none waits."""

    waiting: int
    oldest_waiting_s: float
    acks_waiting: int
    oldest_ack_s: float
    ack_error: str | None = None


@frozen(kw_only=True)
class Backend:
    """`fault` is why it can't be reached."""

    name: str
    fault: str | None = None
    status: int | None = None


def judge_jobs(found: Jobs) -> Iterator[Finding]:
    wrong = list(_jobs(found))
    yield from wrong or [ok("jobs.work", f"{found.due} are due, none for long; there is no dead letter")]


def _jobs(found: Jobs) -> Iterator[Finding]:
    if found.dead:
        yield warn(
            "jobs.dead",
            f"{found.dead} have failed for good",
            "`opendesk jobs list --state dead` tells why; `opendesk jobs replay ID` tries one again",
        )
    if found.stuck:
        yield bad(
            "jobs.stuck", f"{found.stuck} have been left running by a daemon that died", "systemctl restart opendesk"
        )
    if found.oldest_due_s > _LATE_S:
        state = bad if found.oldest_due_s > _STUCK_S else warn
        where = f" (routers {', '.join(found.late_lanes)})" if found.late_lanes else ""
        yield state(
            "jobs.late",
            f"the oldest has been due for {found.oldest_due_s:.0f} s{where}",
            "`opendesk router list` tells which routers are away; if none is, see that the daemon runs",
        )


def judge_events(found: Events) -> Iterator[Finding]:
    wrong = list(_events(found))
    yield from wrong or [ok("events.work", f"{found.waiting} wait, and {found.acks_waiting} ACKs, none for long")]


def _events(found: Events) -> Iterator[Finding]:
    if found.oldest_waiting_s > _STUCK_S:
        yield warn(
            "events.late",
            f"{found.waiting} wait, the oldest for {found.oldest_waiting_s:.0f} s",
            "`opendesk events --state waiting`, then `opendesk why ID` tells what it waits for",
        )
    if found.oldest_ack_s > _LATE_S:
        said = f": {found.ack_error}" if found.ack_error else ""
        state = bad if found.oldest_ack_s > _STUCK_S else warn
        yield state(
            "events.acks",
            f"{found.acks_waiting} ACKs wait, the oldest for {found.oldest_ack_s:.0f} s{said}",
            "see that the backend at BACKEND_ACK_URL runs and has the same BACKEND_HMAC_SECRET",
        )


def judge_backend(found: Backend) -> Iterator[Finding]:
    if found.fault is None:
        yield ok("backend.reachable", f"{found.name} answers")
    else:
        yield bad(
            "backend.reachable",
            f"{found.name} can't be reached: {found.fault}",
            "see that the backend runs, and that its name, certificate and firewall let this machine in",
        )


def judge_ledger(*, entries: int, wrong: Sequence[str]) -> Iterator[Finding]:
    for states in wrong:
        yield bad(
            "ledger.proof",
            f"the books are wrong: not {states}",
            "stop paying out, keep a backup of now, and look: `opendesk ledger verify`",
        )
    if not wrong:
        yield ok("ledger.proof", f"{entries} entries prove right")
