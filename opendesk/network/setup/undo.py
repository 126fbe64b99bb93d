"""A change that takes itself back: entries of the router's scheduler that revert it, unless they are disarmed before.

They are there before the change begins, and go once the tunnel was seen alive after it. When nobody comes, since the tunnel is cut or this daemon
is gone, the router holds what it held before. There are two of them: one runs after a while by the router's clock, and the other when it boots,
since the clock may be set back meanwhile, and most routers have none that outlasts a reboot.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import count
import re
from typing import Final

from attrs import evolve, frozen

from opendesk.network.hotspots.found import seconds
from opendesk.network.routeros.console import identifier, quoted
from opendesk.network.routeros.session import Command, Row
from opendesk.network.setup.redialling import POLICY, SCHEDULERS
from opendesk.network.setup.script import COMMENT
from opendesk.network.setup.steps import Step

# Several times what a tunnel may take to come back after a change, and what a driver may be without one.
UNDO_S: Final = 300

_AT_BOOT: Final = "-boot"
_STARTUP: Final = "startup"
_NAME: Final = re.compile(rf"opendesk-undo-[0-9]{{1,9}}(?:{_AT_BOOT})?")

QUERY: Final = Command(
    f"{SCHEDULERS}/print",
    {},
    (f"?comment={COMMENT}",),
    (".id", "name", "interval", "start-time", "on-event", "policy", "disabled", "run-count"),
)
# Those of others too: no two entries have one name.
NAMES: Final = Command(f"{SCHEDULERS}/print", {}, (), (".id", "name", "comment"))


@frozen
class Undo:
    """As it is on a router. One that isn't `armed` won't run, or has run and couldn't go."""

    id: str
    name: str
    program: str
    interval_s: float | None
    is_at_boot: bool
    policy: frozenset[str] | None
    armed: bool


def understood(rows: Iterable[Row]) -> tuple[Undo, ...]:
    """One at boot whose partner is gone has nothing to take back: that ran, or somebody has removed it."""
    found = [undo for undo in map(_undo, rows) if undo is not None]
    names = {undo.name for undo in found}
    return tuple(evolve(undo, armed=undo.armed and undo.name.removesuffix(_AT_BOOT) in names) for undo in found)


def arm(steps: Sequence[Step], taken: AbstractSet[str]) -> tuple[Step, Step]:
    """Both take back all of them, the last one first. `taken` are names that other entries have."""
    names = (f"opendesk-undo-{number}" for number in count(1))
    name = next(name for name in names if taken.isdisjoint({name, name + _AT_BOOT}))
    return (
        _entry(name, steps, {"interval": f"{UNDO_S}s"}),
        _entry(name + _AT_BOOT, steps, {"interval": "0s", "start-time": _STARTUP}),
    )


def _entry(name: str, steps: Sequence[Step], when: Mapping[str, str]) -> Step:
    attributes = {
        "name": name,
        **when,
        "on-event": program(name, steps),
        "policy": ",".join(POLICY),
        "comment": COMMENT,
    }
    return Step(SCHEDULERS, "add", "the router takes the change back unless it is proven", attributes=attributes)


def disarm(undos: Iterable[Undo]) -> tuple[Step, ...]:
    """Those at boot first: one of these that stayed alone would take back at any later time what was proven."""
    ordered = sorted(undos, key=lambda undo: not undo.is_at_boot)
    return tuple(Step(SCHEDULERS, "remove", "the change is proven", undo.id) for undo in ordered)


def are_as_told(undos: Sequence[Undo], steps: Iterable[Step]) -> bool:
    """Whether the entries are what `arm` asked for, and will run."""
    return all(any(_is_as_told(undo, step) for undo in undos) for step in steps)


def _is_as_told(undo: Undo, step: Step) -> bool:
    wanted = step.attributes
    may = undo.policy is None or undo.policy.issuperset(POLICY)
    same = undo.name == wanted["name"] and undo.program.split() == wanted["on-event"].split()
    when = undo.interval_s == seconds(wanted["interval"]) and undo.is_at_boot == ("start-time" in wanted)
    return undo.armed and may and same and when


def is_of(undo: Undo, steps: Sequence[Step]) -> bool:
    """Whether it would take back just these. If they are still to do, it has nothing to take back."""
    return undo.program.split() == program(undo.name, steps).split()


def program(name: str, steps: Sequence[Step]) -> str:
    """Console text: of ids, names of ours and quoted values only. What can't be taken back keeps nothing else from it. It goes itself at the end,
    after the other one of its pair.
    """
    other = name.removesuffix(_AT_BOOT) if name.endswith(_AT_BOOT) else name + _AT_BOOT
    reverts = [f":do {{{step}}} on-error={{}}" for step in (*_reverts(steps), _goes(other))]
    return "; ".join([*reverts, _goes(name)])


def _goes(name: str) -> str:
    return f"/system scheduler remove [find name={quoted(name)} comment={quoted(COMMENT)}]"


def _reverts(steps: Sequence[Step]) -> Iterable[str]:
    return (step.revert for step in reversed(steps) if step.revert)


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
        interval_s=seconds(row.get("interval", "0s")),
        is_at_boot=row.get("start-time") == _STARTUP,
        policy=frozenset(row["policy"].split(",")) if "policy" in row else None,
        armed=row.get("disabled") not in {"yes", "true"} and row.get("run-count", "0") == "0",
    )
