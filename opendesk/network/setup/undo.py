"""A change that takes itself back: an entry of the router's scheduler that reverts it, unless it is disarmed before.

The entry is there before the change begins, and goes once the tunnel was seen alive after it. When nobody comes, since the tunnel is cut or this
daemon is gone, the router holds what it held before.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import count
import re
from typing import Final

from attrs import frozen

from opendesk.network.hotspots.found import seconds
from opendesk.network.routeros.console import identifier, quoted
from opendesk.network.routeros.session import Command, Row
from opendesk.network.setup.script import COMMENT
from opendesk.network.setup.steps import Step

SCHEDULERS: Final = "/system/scheduler"
# Several times what a tunnel may take to come back after a change, and what a driver may be without one.
UNDO_S: Final = 300

# No more than it takes: a user who has less than all rights couldn't make the entry otherwise.
_POLICY: Final = ("read", "write")
_NAME: Final = re.compile(r"opendesk-undo-[0-9]{1,9}")

QUERY: Final = Command(
    f"{SCHEDULERS}/print",
    {},
    (f"?comment={COMMENT}",),
    (".id", "name", "interval", "on-event", "policy", "disabled", "run-count"),
)


@frozen
class Undo:
    """As it is on a router. One that isn't `armed` won't run, or has run and couldn't go."""

    id: str
    name: str
    program: str
    interval_s: float | None
    policy: frozenset[str] | None
    armed: bool


def understood(rows: Iterable[Row]) -> tuple[Undo, ...]:
    return tuple(undo for undo in map(_undo, rows) if undo is not None)


def arm(steps: Sequence[Step], taken: Collection[str]) -> Step:
    """Takes back all of them, the last one first. `taken` are names that other entries have."""
    name = next(name for number in count(1) if (name := f"opendesk-undo-{number}") not in taken)
    attributes = {
        "name": name,
        "interval": f"{UNDO_S}s",
        "on-event": program(name, steps),
        "policy": ",".join(_POLICY),
        "comment": COMMENT,
    }
    return Step(SCHEDULERS, "add", "the router takes the change back unless it is proven", attributes=attributes)


def disarm(undo: Undo) -> Step:
    return Step(SCHEDULERS, "remove", "the change is proven", undo.id)


def is_as_told(undo: Undo, step: Step) -> bool:
    """Whether the entry is what `arm` asked for, and will run."""
    may = undo.policy is None or undo.policy.issuperset(_POLICY)
    same = undo.name == step.attributes["name"] and undo.program.split() == step.attributes["on-event"].split()
    return undo.armed and may and same and undo.interval_s == UNDO_S


def is_of(undo: Undo, steps: Sequence[Step]) -> bool:
    """Whether it would take back just these. If they are still to do, it has nothing to take back."""
    return undo.program.split() == program(undo.name, steps).split()


def program(name: str, steps: Sequence[Step]) -> str:
    """Console text: of ids, names of ours and quoted values only. What can't be taken back keeps nothing else from it."""
    reverts = [f":do {{{step.revert}}} on-error={{}}" for step in reversed(steps) if step.revert]
    return "; ".join([*reverts, f"/system scheduler remove {quoted(name)}"])


def _undo(row: Row) -> Undo | None:
    name = row.get("name", "")
    try:
        row_id = identifier(row.get(".id", ""))
    except ValueError:
        return None
    if not _NAME.fullmatch(name):
        return None
    return Undo(
        id=row_id,
        name=name,
        program=row.get("on-event", ""),
        interval_s=seconds(row.get("interval", "")),
        policy=frozenset(row["policy"].split(",")) if "policy" in row else None,
        armed=row.get("disabled") not in {"yes", "true"} and row.get("run-count", "0") == "0",
    )
