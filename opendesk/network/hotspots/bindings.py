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
    is_end,
    remove,
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


def decider(bindings: Iterable[Binding], ip: str, mac: str, server: str | None) -> Binding | None:
    """The first that matches a device on `server`. As long as that isn't known, rows for one server let nobody through; one that
    keeps out exactly this device does so in any case.
    """
    for row in bindings:
        is_against = server is None and not row.is_bypassing and not row.is_disabled and _is_exactly(row, ip, mac)
        if is_against or row.matches(ip, mac, server):
            return row
    return None


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
    server = actual.server_of(wanted.ip, wanted.mac)
    usable = [row for row in own if row.server in (None, server)]
    usable.sort(key=lambda row: (row.is_disabled, row.comment != wanted.comment, len(row.id), row.id))
    closing = [_closed(row, schedules) for row in own if row not in usable[:1]]
    if not usable:
        bound = _first(wanted, actual)
        return evolve(
            bound,
            steps=(*(step for _, steps in closing for step in steps), *bound.steps, *orphans),
            foreseen=(*bound.foreseen, *(row for row, _ in closing)),
            gone=gone,
        )
    kept = usable[0]
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
    server = actual.server_of(wanted.ip, wanted.mac)
    first = decider(foreign, wanted.ip, wanted.mac, server)
    if first is not None:
        return Bound(is_open=first.is_bypassing)
    exact = [row for row in foreign if _is_exactly(row, wanted.ip, wanted.mac)]
    if any(row.server in (None, server) for row in exact):
        return Bound()  # disabled, and the router takes no second one of the same device
    # Beside one for another server it may take none: nothing else is opened before that is seen.
    is_open = wanted.until_unix is None and not exact
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
    return Bound((add_binding(wanted, is_open=is_open),), (made,), is_open)


def _kept(kept: Binding, wanted: Grant, schedules: Sequence[Schedule]) -> tuple[Binding, list[Step]]:
    is_timed = wanted.until_unix is not None
    end = next((entry for entry in schedules if is_timed and is_end(entry, kept, wanted)), None)
    if is_timed and end is None:
        return kept, [add_schedule(kept, wanted, {entry.name for entry in schedules})]
    if kept.is_disabled or kept.comment != wanted.comment:
        # Ends of other orders go when the row was seen to carry this one.
        return evolve(kept, is_disabled=False, comment=wanted.comment), [change_binding(kept, wanted)]
    others = [entry for entry in schedules if entry is not end]
    return kept, [remove(SCHEDULERS, entry.id, "another end holds", opens=wanted) for entry in others]


def _without_binding(schedules: Sequence[Schedule], own: Sequence[Binding]) -> Iterator[Step]:
    """Their id may be given to a row of somebody else, so they are never left."""
    ids = {row.id for row in own}
    for entry in schedules:
        if entry.binding_id not in ids:
            yield remove(SCHEDULERS, entry.id, "its binding is gone")


def _is_exactly(row: Binding, ip: str, mac: str) -> bool:
    return (row.ip, row.mac) == (ip, mac)
