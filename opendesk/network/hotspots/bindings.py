"""What has to happen to the bindings of one device, and to the scheduler's entries that end them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from attrs import evolve, field, frozen

from opendesk.network.hotspots.found import BINDINGS, SCHEDULERS, Actual, Binding, Schedule
from opendesk.network.hotspots.place import Grant, Place
from opendesk.network.hotspots.steps import (
    Step,
    add_binding,
    add_schedule,
    change_binding,
    close_binding,
    enable_schedule,
    remove,
    schedule_name,
)

# The id of a binding that isn't on the router yet, in what is foreseen.
NEW: Final = ""


@frozen
class Bound:
    """The steps of one device. Once they are done, `foreseen` stands for the bindings whose ids are `gone`."""

    steps: tuple[Step, ...] = ()
    foreseen: tuple[Binding, ...] = ()
    is_open: bool = False
    gone: frozenset[str] = field(factory=frozenset)


def decider(bindings: Iterable[Binding], ip: str, mac: str) -> Binding | None:
    """The first that matches a device, of those that aren't for other servers. One of exactly this device counts in any case."""
    matching = (row for row in bindings if _is_exactly(row, ip, mac) or row.matches(ip, mac, None))
    return next((row for row in matching if not row.is_disabled), None)


def bind(wanted: Grant | None, ip: str | None, mac: str | None, own: Sequence[Binding], actual: Actual) -> Bound:
    """`own` are its bindings of ours, `wanted` is the grant that they are to carry."""
    comment = Place(ip, mac).schedule_comment
    schedules = [entry for entry in actual.schedules if entry.comment == comment]
    orphans = list(_without_binding(schedules, own))
    gone = frozenset(row.id for row in own)
    if wanted is None:
        closing = [_closed(row, schedules) for row in own]
        return Bound(
            (*(step for _, steps in closing for step in steps), *orphans), tuple(row for row, _ in closing), gone=gone
        )
    if not own:
        bound = _first(wanted, actual)
        return evolve(bound, steps=(*bound.steps, *orphans))
    kept, *spare = sorted(own, key=lambda row: (row.is_disabled, row.comment != wanted.comment, len(row.id), row.id))
    closing = [_closed(row, schedules) for row in spare]
    foreseen, steps = _kept(kept, wanted, [entry for entry in schedules if entry.binding_id == kept.id])
    return Bound(
        (*(step for _, steps_ in closing for step in steps_), *steps, *orphans),
        (foreseen, *(row for row, _ in closing)),
        not foreseen.is_disabled,
        gone,
    )


def _closed(row: Binding, schedules: Sequence[Schedule]) -> tuple[Binding, list[Step]]:
    """Its end goes before it and after it is closed: an end that is left alone would hit whichever row gets its id."""
    ends = [entry for entry in schedules if entry.binding_id == row.id]
    closed = evolve(row, is_disabled=True)
    if not ends:
        return closed, [remove(BINDINGS, row.id, "nothing is granted here by it")]
    if not row.is_disabled:
        return closed, [close_binding(row)]
    return closed, [remove(SCHEDULERS, entry.id, "its binding goes") for entry in ends]


def _first(wanted: Grant, actual: Actual) -> Bound:
    """Nothing of ours is there. What somebody else made stays, and is enough if it does what is wanted."""
    foreign = [row for row in actual.bindings if not row.is_own]
    first = decider(foreign, wanted.ip, wanted.mac)
    if first is not None:
        return Bound(is_open=first.is_bypassing)
    if any(_is_exactly(row, wanted.ip, wanted.mac) for row in foreign):
        return Bound()  # disabled, and the router takes no second one of the same device
    is_open = wanted.until_unix is None
    made = Binding(
        id=NEW,
        ip=wanted.ip,
        mac=wanted.mac,
        server=None,
        is_bypassing=True,
        is_disabled=not is_open,
        comment=wanted.comment,
        is_own=True,
    )
    return Bound((add_binding(wanted),), (made,), is_open)


def _kept(kept: Binding, wanted: Grant, schedules: Sequence[Schedule]) -> tuple[Binding, list[Step]]:
    name = None if wanted.until_unix is None else schedule_name(kept, wanted)
    ends = [entry for entry in schedules if entry.name == name]
    steps: list[Step] = []
    if name is not None and not ends:
        steps.append(add_schedule(kept, wanted))
    steps += [enable_schedule(entry) for entry in ends if entry.is_disabled]
    has_its_end = name is None or any(not entry.is_disabled for entry in ends)
    if not has_its_end:
        return kept, steps
    if kept.is_disabled or kept.comment != wanted.comment:
        # Ends of other orders go when the row was seen to carry this one.
        return evolve(kept, is_disabled=False, comment=wanted.comment), [*steps, change_binding(kept, wanted)]
    others = [entry for entry in schedules if entry.name != name]
    return kept, steps + [remove(SCHEDULERS, entry.id, "another end holds") for entry in others]


def _without_binding(schedules: Sequence[Schedule], own: Sequence[Binding]) -> Iterator[Step]:
    """Their id may be given to a row of somebody else, so they are never left."""
    ids = {row.id for row in own}
    for entry in schedules:
        if entry.binding_id not in ids:
            yield remove(SCHEDULERS, entry.id, "its binding is gone")


def _is_exactly(row: Binding, ip: str, mac: str) -> bool:
    return (row.ip, row.mac) == (ip, mac)
