"""A router in memory, as far as hotspots go: tables, ids, queries, what runs out, and phones that come back. Knows nothing of plans."""

from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address, ip_network
import re

from attrs import Factory, define, field

from opendesk.network.routeros.errors import Trap
from opendesk.network.routeros.session import Command, Result, Row

LISTS = "/ip/firewall/address-list"
BINDINGS = "/ip/hotspot/ip-binding"
SCHEDULERS = "/system/scheduler"
HOSTS = "/ip/hotspot/host"
ACTIVE = "/ip/hotspot/active"

UNIQUE = {LISTS: ("address", "list"), BINDINGS: ("address", "mac-address", "server"), SCHEDULERS: ("name",)}
DEFAULTS = {BINDINGS: {"type": "regular"}}
ANY = {"address": "0.0.0.0", "mac-address": "00:00:00:00:00:00", "server": "all"}
ALREADY = {LISTS: "failure: already have such entry", BINDINGS: "failure: such client already exists"}
# What our entries run, read with as much suspicion as a console would.
PROGRAM = re.compile(
    r":do \{/ip hotspot ip-binding remove (\*[0-9A-F]+)\} on-error=\{\}; /system scheduler remove \"([a-zA-Z0-9-]+)\""
)


class Cut(Exception):
    """The connection ended."""


@define
class Router:
    now_s: float = 0.0
    tables: dict[str, dict[str, Row]] = Factory(lambda: {m: {} for m in (LISTS, BINDINGS, SCHEDULERS, HOSTS, ACTIVE)})
    phones: set[tuple[str, str]] = field(factory=set)
    ends: dict[tuple[str, str], float] = field(factory=dict)  # when a list's row, or the next run of an entry, is due
    next_id: int = 1
    after_command: Callable[[Command], None] = lambda _: None
    sends: int = 0
    server: str = "hs0"  # that phones are on
    prints_any: bool = False  # whether a binding for any device says so
    is_strict: bool = False  # whether it takes one binding of a device, not one for each server

    # ---- as its API is used

    async def run_all(self, commands: Sequence[Command]) -> list[Result | Trap]:
        self.sends += 1
        return [self.run(command) for command in commands]

    def run(self, command: Command) -> Result | Trap:
        menu, verb = command.path.rsplit("/", 1)
        if verb == "print":
            return Result(tuple(self._print(menu, command)))
        answer = self._change(menu, verb, dict(command.attributes))
        self.after_command(command)
        return answer

    def _change(self, menu: str, verb: str, attributes: Row) -> Result | Trap:
        if verb == "add":
            return self._added(menu, attributes)
        table, row_id = self.tables[menu], attributes.pop(".id")
        if row_id not in table:
            return Trap(0, "no such item (4)")
        if verb == "remove":
            del table[row_id]
            self.ends.pop((menu, row_id), None)
            return Result()
        assert verb == "set"
        changed = table[row_id] | _stored(attributes)
        if self._is_taken(menu, changed, but=row_id):
            return Trap(None, ALREADY.get(menu, "failure: item with such name already exists"))
        table[row_id] = changed
        return Result()

    def _added(self, menu: str, attributes: Row) -> Result | Trap:
        row = {"disabled": "false", **_stored(attributes)}
        if self._is_taken(menu, row, but=None):
            return Trap(None, ALREADY.get(menu, "failure: item with such name already exists"))
        return Result(ret=self.put(menu, row))

    def put(self, menu: str, row: Row) -> str:
        row_id = f"*{self.next_id:X}"
        self.next_id += 1
        row = dict(row)
        runs_out = row.pop("timeout", None) or row.get("interval")
        if runs_out is not None:
            self.ends[menu, row_id] = self.now_s + int(runs_out.removesuffix("s"))
            if menu == LISTS:
                row["dynamic"] = "true"
        self.tables[menu][row_id] = row
        return row_id

    def _is_taken(self, menu: str, row: Row, *, but: str | None) -> bool:
        names = UNIQUE[menu][:2] if menu == BINDINGS and self.is_strict else UNIQUE.get(menu, ())
        key = [row.get(name) for name in names]
        rows = self.tables[menu].items()
        return bool(names) and any(i != but and [other.get(n) for n in names] == key for i, other in rows)

    def _print(self, menu: str, command: Command) -> Iterator[Row]:
        for row_id, stored in self.tables[menu].items():
            row = {".id": row_id, **(ANY if menu == BINDINGS and self.prints_any else {}), **stored}
            if menu == LISTS and (menu, row_id) in self.ends:
                row["timeout"] = spelled(self.ends[menu, row_id] - self.now_s)
            if _holds(command.queries, row):
                shown = {name: value for name, value in row.items() if DEFAULTS.get(menu, {}).get(name) != value}
                yield {name: value for name, value in shown.items() if name in command.proplist or not command.proplist}

    # ---- what happens by itself

    def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.ends and min(self.ends.values()) <= end_s:
            menu, row_id = min(self.ends, key=lambda key: self.ends[key])
            self.now_s = self.ends[menu, row_id]
            if menu == LISTS:
                del self.ends[menu, row_id], self.tables[menu][row_id]
            else:
                self._fire(row_id)
        self.now_s = end_s

    def _fire(self, row_id: str) -> None:
        row = self.tables[SCHEDULERS][row_id]
        self.ends[SCHEDULERS, row_id] += int(row["interval"].removesuffix("s"))
        if row["disabled"] == "true":
            return
        program = PROGRAM.fullmatch(row["on-event"])
        assert program is not None, row["on-event"]
        self.tables[BINDINGS].pop(program[1], None)
        for other_id, other in list(self.tables[SCHEDULERS].items()):
            if other["name"] == program[2]:
                del self.tables[SCHEDULERS][other_id], self.ends[SCHEDULERS, other_id]

    def reboot(self) -> None:
        """What runs out, and who is there, is forgotten; ids of what is gone are given out anew."""
        for menu, row_id in [key for key in self.ends if key[0] == LISTS]:
            del self.ends[menu, row_id], self.tables[menu][row_id]
        self.tables[HOSTS].clear()
        self.tables[ACTIVE].clear()
        ids = [int(row_id[1:], 16) for table in self.tables.values() for row_id in table]
        self.next_id = max(ids, default=0) + 1

    def packets(self) -> None:
        """Phones send: those that the hotspot doesn't know are looked at, the others go on as they were."""
        known = {(row["address"], row["mac-address"]) for row in self.tables[HOSTS].values()}
        for ip, mac in sorted(self.phones - known):
            bypassed = "true" if self.lets_through(ip, mac) else "false"
            self.put(HOSTS, {"address": ip, "mac-address": mac, "bypassed": bypassed, "server": self.server})

    def lets_through(self, ip: str, mac: str) -> bool:
        for row in self.tables[BINDINGS].values():
            is_here = row.get("server") in (None, self.server) and row.get("mac-address") in (None, mac)
            if is_here and _has(row.get("address"), ip) and row["disabled"] == "false":
                return row.get("type") == "bypassed"
        return False

    def is_online(self, ip: str, mac: str) -> bool:
        hosts = self.tables[HOSTS].values()
        bypassed = any((row["address"], row["mac-address"], row["bypassed"]) == (ip, mac, "true") for row in hosts)
        return bypassed and any(
            (row["address"], row["list"], row["disabled"]) == (ip, "paid_clients", "false")
            for row in self.tables[LISTS].values()
        )

    # ---- what an auditor asks

    def open_without_end(self, comments: set[str]) -> set[tuple[str, str]]:
        """Rows that let somebody through for one of these orders, and that the router doesn't end by itself."""
        ended = {
            program[1]
            for row in self.tables[SCHEDULERS].values()
            if row["disabled"] == "false" and (program := PROGRAM.fullmatch(row.get("on-event", "")))
        }
        of = {menu: self.tables[menu].items() for menu in (LISTS, BINDINGS)}
        return {
            (menu, row_id)
            for menu, rows in of.items()
            for row_id, row in rows
            if row.get("comment") in comments
            and row["disabled"] == "false"
            and (row.get("type") == "bypassed" if menu == BINDINGS else row["list"] == "paid_clients")
            and not (row_id in ended if menu == BINDINGS else (LISTS, row_id) in self.ends)
        }


def spelled(seconds: float) -> str:
    whole = int(seconds)
    days, rest = divmod(whole, 86_400)
    if whole % 2:  # as some versions and menus do
        return f"{days}d{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    parts = ((days, "d"), (rest // 3600, "h"), (rest // 60 % 60, "m"), (rest % 60, "s"))
    return "".join(f"{n}{unit}" for n, unit in parts if n) or "0s"


def _stored(attributes: Row) -> Row:
    return {name: {"yes": "true", "no": "false"}.get(value, value) for name, value in attributes.items()}


def _has(address: str | None, ip: str) -> bool:
    if address is None:
        return True
    if "-" in address:
        low, high = (int(ip_address(part)) for part in address.split("-"))
        return low <= int(ip_address(ip)) <= high
    return ip_address(ip) in ip_network(address)


def _holds(queries: Sequence[str], row: Row) -> bool:
    stack: list[bool] = []
    for query in queries:
        if query.startswith("?#"):
            for operation in query[2:]:
                last = stack.pop()
                stack.append(not last if operation == "!" else _both(operation, last, stack.pop()))
        elif query.startswith("?-"):
            stack.append(query[2:] not in row)
        else:
            name, _, value = query[1:].partition("=")
            stack.append(row.get(name) == value)
    return all(stack)


def _both(operation: str, one: bool, other: bool) -> bool:  # noqa: FBT001  # operands
    return (one or other) if operation == "|" else (one and other)
