"""Durable work in PostgreSQL: added in the transaction that decides it, done later by one daemon at a time, in order within a key.

`table` adds, claims and finishes; `looking` tells, counts, replays and forgets; `runner` does what is due; `waiting` waits for one.
"""

from opendesk.network.jobs.looking import (
    Numbers,
    discard,
    discard_lane,
    forget_old,
    get,
    get_many,
    list_jobs,
    numbers,
    replay,
)
from opendesk.network.jobs.shapes import (
    STATES,
    Added,
    Again,
    Dead,
    Done,
    Ended,
    Job,
    JobView,
    NewJob,
    Outcome,
    Retries,
    State,
)
from opendesk.network.jobs.table import CHANNEL, DONE_CHANNEL, add, add_many

__all__ = [
    "CHANNEL",
    "DONE_CHANNEL",
    "STATES",
    "Added",
    "Again",
    "Dead",
    "Done",
    "Ended",
    "Job",
    "JobView",
    "NewJob",
    "Numbers",
    "Outcome",
    "Retries",
    "State",
    "add",
    "add_many",
    "discard",
    "discard_lane",
    "forget_old",
    "get",
    "get_many",
    "list_jobs",
    "numbers",
    "replay",
]
