"""One thing to do on a router, as data: it can be shown, compared and sent."""

from collections.abc import Mapping

from attrs import field, frozen

from opendesk.network.hotspots.found import BINDINGS, SCHEDULERS, Binding, Schedule
from opendesk.network.hotspots.place import Grant
from opendesk.network.routeros.console import identifier, quoted
from opendesk.network.routeros.session import Command


@frozen
class Step:
    """`row` is the id of the row that is set or removed; a row that is added has none yet."""

    menu: str
    verb: str
    why: str
    row: str | None = None
    attributes: Mapping[str, str] = field(factory=dict)

    @property
    def command(self) -> Command:
        row = {} if self.row is None else {".id": self.row}
        return Command(f"{self.menu}/{self.verb}", {**row, **self.attributes})


def add(menu: str, why: str, attributes: Mapping[str, str]) -> Step:
    return Step(menu, "add", why, attributes=attributes)


def change(menu: str, row: str, why: str, attributes: Mapping[str, str]) -> Step:
    return Step(menu, "set", why, row, attributes)


def remove(menu: str, row: str, why: str) -> Step:
    return Step(menu, "remove", why, row)


def add_binding(grant: Grant) -> Step:
    """Closed at first if it is to be closed again: its end is put in place before."""
    attributes = {"address": grant.ip, "mac-address": grant.mac, "type": "bypassed", "comment": grant.comment}
    if grant.until_unix is None:
        return add(BINDINGS, "open", attributes)
    return add(BINDINGS, "prepare, closed until its end is in place", attributes | {"disabled": "yes"})


def change_binding(binding: Binding, grant: Grant) -> Step:
    attributes = {} if binding.comment == grant.comment else {"comment": grant.comment}
    if binding.is_disabled:
        return change(BINDINGS, binding.id, "open", attributes | {"disabled": "no"})
    return change(BINDINGS, binding.id, "carry the order that ends last", attributes)


def close_binding(binding: Binding) -> Step:
    return change(BINDINGS, binding.id, "close, before its end is taken off", {"disabled": "yes"})


def schedule_name(binding: Binding, grant: Grant) -> str:
    return f"opendesk-{identifier(binding.id)[1:]}-{grant.until_unix}"


def add_schedule(binding: Binding, grant: Grant) -> Step:
    """What it runs is console text: of ids and numbers only."""
    name = schedule_name(binding, grant)
    program = f":do {{/ip hotspot ip-binding remove {identifier(binding.id)}}} on-error={{}}; /system scheduler remove {quoted(name)}"
    attributes = {
        "name": name,
        "interval": f"{grant.whole_seconds}s",
        "on-event": program,
        # No more than that takes: a user who has less than all rights couldn't make it otherwise.
        "policy": "read,write",
        "comment": grant.place.schedule_comment,
    }
    return add(SCHEDULERS, "the router itself ends it", attributes)


def enable_schedule(schedule: Schedule) -> Step:
    return change(SCHEDULERS, schedule.id, "the router itself ends it", {"disabled": "no"})
