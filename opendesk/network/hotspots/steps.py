"""One thing to do on a router, as data: it can be shown, compared and sent."""

from collections.abc import Collection, Mapping
from typing import Final

from attrs import field, frozen

from opendesk.network.hotspots.found import ACTIVE, BINDINGS, HOSTS, LISTS, SCHEDULERS, Binding, Schedule
from opendesk.network.hotspots.place import Grant
from opendesk.network.routeros.console import identifier, quoted
from opendesk.network.routeros.session import Command

# No more than that takes: a user who has less than all rights couldn't make an entry of the scheduler otherwise.
_POLICY: Final = ("read", "write")

# What may be otherwise on a router once a menu was changed: it takes hosts away by itself with what let them through, logs out whom it
# takes away, and takes away whom it logs out. Before an entry of the scheduler was changed, or another added, it may have had its turn, and
# removed the binding.
_TOUCHED: Final[Mapping[str, frozenset[str]]] = {
    LISTS: frozenset({LISTS}),
    BINDINGS: frozenset({BINDINGS, HOSTS, ACTIVE}),
    SCHEDULERS: frozenset({SCHEDULERS, BINDINGS}),
    HOSTS: frozenset({HOSTS, ACTIVE}),
    ACTIVE: frozenset({HOSTS, ACTIVE}),
}


@frozen
class Step:
    """`row` is the id of the row that is set or removed; a row that is added has none yet. `opens` is whose way it opens, or for longer."""

    menu: str
    verb: str
    why: str
    row: str | None = None
    attributes: Mapping[str, str] = field(factory=dict)
    opens: Grant | None = field(default=None, eq=False, repr=False)

    @property
    def command(self) -> Command:
        row = {} if self.row is None else {".id": self.row}
        return Command(f"{self.menu}/{self.verb}", {**row, **self.attributes})

    @property
    def touched(self) -> frozenset[str]:
        """The menus that are looked at again after it."""
        if self.menu == BINDINGS and self.verb == "add" and self.opens is None:
            return frozenset({BINDINGS})  # closed: nobody goes another way because of it
        is_timed = self.opens is not None and self.opens.until_unix is not None
        # That its end is there is seen once more when the way is open: nothing may be open without.
        return _TOUCHED[self.menu] | {SCHEDULERS} if is_timed else _TOUCHED[self.menu]


def add(menu: str, why: str, attributes: Mapping[str, str], *, opens: Grant | None = None) -> Step:
    return Step(menu, "add", why, attributes=attributes, opens=opens)


def change(menu: str, row: str, why: str, attributes: Mapping[str, str], *, opens: Grant | None = None) -> Step:
    return Step(menu, "set", why, row, attributes, opens)


def remove(menu: str, row: str, why: str, *, opens: Grant | None = None) -> Step:
    return Step(menu, "remove", why, row, opens=opens)


def add_binding(grant: Grant, *, is_open: bool) -> Step:
    """Closed at first if it is to be closed again: its end is put in place before."""
    attributes = {"address": grant.ip, "mac-address": grant.mac, "type": "bypassed", "comment": grant.comment}
    if is_open:
        return add(BINDINGS, "open", attributes, opens=grant)
    return add(BINDINGS, "prepare, closed until it was seen to be in place", attributes | {"disabled": "yes"})


def change_binding(binding: Binding, grant: Grant) -> Step:
    attributes = {} if binding.comment == grant.comment else {"comment": grant.comment}
    if binding.is_disabled:
        return change(BINDINGS, binding.id, "open", attributes | {"disabled": "no"}, opens=grant)
    return change(BINDINGS, binding.id, "carry the order that ends last", attributes, opens=grant)


def close_binding(binding: Binding) -> Step:
    return change(BINDINGS, binding.id, "close, before its end is taken off", {"disabled": "yes"})


def add_schedule(binding: Binding, grant: Grant, taken: Collection[str]) -> Step:
    """Under a name that isn't `taken`: an entry that isn't right may have it, and goes only when this one is there."""
    whole = grant.whole_seconds or 1
    free = (left for left in range(whole, 0, -1) if _schedule_name(binding.id, grant.until_unix, left) not in taken)
    left = next(free, whole)
    name = _schedule_name(binding.id, grant.until_unix, left)
    attributes = {
        "name": name,
        "interval": f"{left}s",
        "on-event": _program(binding.id, name),
        "policy": ",".join(_POLICY),
        "comment": grant.place.schedule_comment,
    }
    return add(SCHEDULERS, "the router itself ends it", attributes)


def is_end(schedule: Schedule, binding: Binding, grant: Grant) -> bool:
    """Whether it is as `add_schedule` makes it, at whatever time that was. Its interval is that of its name: what was left then."""
    if schedule.is_disabled or schedule.named_s is None or schedule.interval_s != schedule.named_s:
        return False
    name = _schedule_name(binding.id, grant.until_unix, schedule.named_s)
    may = schedule.policy is None or schedule.policy.issuperset(_POLICY)
    return may and schedule.name == name and schedule.program.split() == _program(binding.id, name).split()


def _schedule_name(binding_id: str, until_unix: int | None, left_s: int) -> str:
    return f"opendesk-{identifier(binding_id)[1:]}-{left_s}-{until_unix}"


def _program(binding_id: str, name: str) -> str:
    """Console text: of ids and numbers only."""
    return f":do {{/ip hotspot ip-binding remove {identifier(binding_id)}}} on-error={{}}; /system scheduler remove {quoted(name)}"
