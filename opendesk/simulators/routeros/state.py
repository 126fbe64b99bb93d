"""What a router holds, and what one change brings about elsewhere on it."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from attrs import define, field

from opendesk.simulators.routeros import durations, values
from opendesk.simulators.routeros.menus import (
    ADDRESS_LIST,
    GROUP,
    IDENTITY,
    MENUS,
    RESOURCE,
    SCHEDULER,
    USER,
)
from opendesk.simulators.routeros.tables import Row, Table
from opendesk.simulators.routeros.versions import Version

Clock = Callable[[], float]
# A menu, one of its rows, and whether the row is gone.
Watcher = Callable[[str, Row, bool], None]

GROUPS: Final = {
    "full": ",".join(values.POLICIES),
    "read": "local,telnet,ssh,reboot,read,test,winbox,password,web,sniff,sensitive,api,romon,rest-api",
    "write": "local,telnet,ssh,reboot,read,write,test,winbox,password,web,sniff,sensitive,api,romon,rest-api",
}


@define(eq=False)
class State:
    name: str
    version: Version
    clock: Clock
    tables: dict[str, Table]
    names: dict[str, tuple[str, ...]] = field(factory=dict)  # what DNS says
    booted_s: float = 0.0  # in the future while it is down
    watchers: list[Watcher] = field(factory=list)
    _next: "Due | None" = None
    _next_known: bool = False

    @classmethod
    def fresh(cls, name: str, version: str, clock: Clock, users: Mapping[str, tuple[str, str]]) -> "State":
        """A router as it comes: three groups, the users (each with its password and group), nothing else."""
        state = cls(name, Version.read(version), clock, {path: Table(menu) for path, menu in MENUS.items()})
        state.booted_s = clock()
        for group, granted in GROUPS.items():
            policy = values.policies("policy", granted)
            state.add(GROUP, {"name": group, "policy": policy, "skin": "default"})
        for user, (password, group) in users.items():
            state.add(USER, {"name": user, "group": group, "password": password, "disabled": "false"})
        state.add(IDENTITY, {"name": name})
        state.add(RESOURCE, {})
        return state

    def add(self, path: str, held: dict[str, str], before: Row | None = None) -> Row:
        now_s = self.clock()
        timeout = held.pop("timeout", None) if path == ADDRESS_LIST else None
        row = self.tables[path].add(held, now_s, before)
        if timeout is not None:
            row.due_s = _later(now_s, timeout)
        if path == SCHEDULER:
            row.due_s = first_run_s(row, now_s, self.booted_s)
        self._changed(path, row)
        self._resolve(path, row)
        return row

    def change(self, path: str, row: Row, held: dict[str, str]) -> None:
        if path == ADDRESS_LIST and "timeout" in held:
            row.due_s = _later(self.clock(), held.pop("timeout"))
        before = row.values
        self.tables[path].change(row, held)
        if path == SCHEDULER and any(before.get(name) != held.get(name) for name in _TIMES):
            row.due_s = first_run_s(row, self.clock(), self.booted_s)
        self._changed(path, row)

    def remove(self, path: str, row: Row) -> None:
        table = self.tables[path]
        table.remove(row)
        if row.is_parent:
            for child in table:
                if child.parent == row.number:
                    table.remove(child)
        self._changed(path, row, gone=True)

    def _changed(self, path: str, row: Row, *, gone: bool = False) -> None:
        if path in _TIMED:
            self._expect(path, row, gone=gone)
        for watcher in list(self.watchers):
            watcher(path, row, gone)

    def _resolve(self, path: str, row: Row) -> None:
        """A name in an address list has a dynamic row for each of its addresses."""
        if path != ADDRESS_LIST or row.parent is not None:
            return
        for address in self.names.get(row.values["address"], ()):
            held = {"address": address, "list": row.values["list"], "dynamic": "true", "disabled": "false"}
            child = self.tables[path].add({**held, "comment": row.values["address"]}, self.clock())
            child.parent = row.number
            row.is_parent = True

    def next_due(self) -> "Due | None":
        """What time does first: an address that goes, or a scheduler's entry that runs."""
        if not self._next_known:
            found = (due for path in _TIMED for row in self.tables[path] if (due := _due(path, row)) is not None)
            self._next, self._next_known = min(found, key=lambda due: due[0], default=None), True
        return self._next if self._next is not None and self._next[0] <= self.clock() else None

    def _expect(self, path: str, row: Row, *, gone: bool) -> None:
        """All rows are looked at anew only if the first changes, or another is due with it."""
        due, first = None if gone else _due(path, row), self._next
        if first is not None and (first[2] is row or (due is not None and due[0] == first[0])):
            self._next_known = False
        elif due is not None and (first is None or due[0] < first[0]):
            self._next = due

    def postpone(self, row: Row, due_s: float | None) -> None:
        row.due_s = due_s
        self._next_known = False

    @property
    def uptime_s(self) -> int:
        return max(int(self.clock() - self.booted_s), 0)


# When, in which menu, and what.
Due = tuple[float, str, Row]
# Of two that are due together those of the first are.
_TIMED: Final = (ADDRESS_LIST, SCHEDULER)


def _due(path: str, row: Row) -> Due | None:
    return None if row.due_s is None or (path == SCHEDULER and not row.is_enabled) else (row.due_s, path, row)


def _later(now_s: float, timeout: str) -> float | None:
    """No time at all is no end."""
    total = durations.seconds(timeout)
    return now_s + total if total else None


# What changes when an entry is run next: one that is enabled has missed what was due before.
_TIMES: Final = ("interval", "start-date", "start-time", "disabled")


def first_run_s(row: Row, now_s: float, booted_s: float) -> float | None:
    """An entry without a start began when it was made, and runs at each interval from then on; without an interval either, never."""
    interval = durations.seconds(row.values.get("interval", "0s")) or 0
    start_s = _start_s(row, booted_s)
    if start_s > now_s:
        return start_s
    return start_s + interval * (int((now_s - start_s) // interval) + 1) if interval else None


def _start_s(row: Row, booted_s: float) -> float:
    at = row.values.get("start-time", "")
    if at == "startup":
        return booted_s
    made = datetime.fromtimestamp(row.made_s, UTC)
    try:
        date = datetime.strptime(row.values.get("start-date", ""), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        date = made.replace(hour=0, minute=0, second=0, microsecond=0)
    since_midnight = durations.seconds(at)
    return row.made_s if since_midnight is None else date.timestamp() + since_midnight
