"""Jobs that wait, and those that failed for good."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from attrs import frozen

from opendesk.console.shapes import Action, Figure, Plot, Row, Section, State, Table
from opendesk.console.texts import NOTHING, clock, cut, number, span
from opendesk.network.jobs.looking import COUNT_AT_MOST, Numbers
from opendesk.network.jobs.shapes import JobView
from opendesk.network.routers.lanes import router_of

DEAD_SHOWN: Final = 100

# A router that is away for a moment is no reason to worry.
_OLD_S: Final = 300.0
_REPLAY: Final = Action(
    "replay", "Try again", "Have this job tried again, with all its attempts, before what came later to its key?"
)


@frozen(kw_only=True)
class JobFacts:
    numbers: Numbers | None = None
    dead: Sequence[JobView] = ()


def jobs(facts: JobFacts, plot: Plot, now: datetime) -> Section:
    shown = facts.dead[:DEAD_SHOWN]
    table = Table(
        "dead",
        "Dead letters",
        ("Job", "Type", "Router", "About", "Ended", "Attempts", "Last error"),
        tuple(_dead(job, now) for job in shown),
        "Nothing has failed for good.",
        max(0, (facts.numbers.dead if facts.numbers else 0) - len(shown)),
        _REPLAY,
        order="the last first",
    )
    return Section("jobs", "Jobs", _figures(facts.numbers), (plot,), (table,))


def _figures(found: Numbers | None) -> tuple[Figure, ...]:
    due, later, running, dead = (
        (None, None, None, None) if found is None else (found.due, found.scheduled, found.running, found.dead)
    )
    oldest_s = None if found is None or not found.due else found.oldest_due_s
    is_old = oldest_s is not None and oldest_s > _OLD_S
    note = "" if not later else f"{number(later, most=COUNT_AT_MOST)} more for later"
    return (
        Figure("due", "Due", number(due, most=COUNT_AT_MOST), State.WARN if is_old else State.OK, note),
        Figure("running", "Running", number(running)),
        Figure(
            "oldest", "Oldest due", NOTHING if oldest_s is None else span(oldest_s), State.WARN if is_old else State.OK
        ),
        Figure("dead", "Dead letters", number(dead, most=COUNT_AT_MOST), State.WARN if dead else State.OK),
    )


def _dead(job: JobView, now: datetime) -> Row:
    error = cut((job.last_error or "").partition("\n")[0])
    cells = (
        str(job.id), cut(job.type), cut(router_of(job.lane)), cut(job.key), clock(job.finished_at, now), number(job.attempts), error,
    )  # fmt: skip
    return Row(str(job.id), cells, State.BAD, why=str(job.id), can_act=True)
