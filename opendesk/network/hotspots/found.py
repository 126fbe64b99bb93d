"""What a router holds for some places: which rows are asked for, and what they say."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
import re
from typing import Final, TypeVar

from attrs import evolve, field, frozen

from opendesk.network.hotspots.place import OWN, Place
from opendesk.network.routeros.session import Command, Row

LISTS: Final = "/ip/firewall/address-list"
BINDINGS: Final = "/ip/hotspot/ip-binding"
SCHEDULERS: Final = "/system/scheduler"
HOSTS: Final = "/ip/hotspot/host"
ACTIVE: Final = "/ip/hotspot/active"

PAID: Final = "paid_clients"

# Names of the scheduler's entries: the id of the binding that it ends, how long that was off when it was made, and when it is.
_NAME: Final = re.compile(r"opendesk-([0-9A-F]{1,8})(?:-([0-9]{1,9}))?-([0-9]{1,12})", re.ASCII)

# `1w2d3h4m5s600ms`, in newer versions; days and a clock's reading, in older ones and in some menus.
_UNITS_S: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_DURATION: Final = re.compile(
    r"((?:[0-9]{1,9}(?:ms|[wdhms]))*)(?:([0-9]{1,4}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,9})?)?"
)
_PART: Final = re.compile(r"([0-9]+)(ms|[wdhms])")

# RouterOS' words for any.
_ANY_IP: Final = ("", "0.0.0.0")  # noqa: S104  # nothing is bound to it
_ZERO_MAC: Final = "00:00:00:00:00:00"
_ANY_MAC: Final = ("", _ZERO_MAC)
_ANY_SERVER: Final = ("", "all")

T = TypeVar("T")


@frozen
class ListRow:
    id: str
    ip: str
    comment: str
    timeout_s: float | None
    is_disabled: bool
    is_own: bool


@frozen
class Binding:
    """`ip` and `mac` are None where the row says any; `ip` may be a range or a prefix."""

    id: str
    ip: str | None
    mac: str | None
    server: str | None
    is_bypassing: bool
    is_disabled: bool
    comment: str
    is_own: bool

    def matches(self, ip: str, mac: str, server: str | None) -> bool:
        if self.is_disabled or self.mac not in (None, mac) or self.server not in (None, server):
            return False
        return self.ip in (None, ip) or _is_within(ip, self.ip or "")


@frozen
class Schedule:
    """An entry of ours, by its name: that says which binding it removes, how long it was to wait for that, and when it is. `interval_s`,
    `program` and `policy` are what it really does, `policy` None where the router doesn't tell.
    """

    id: str
    name: str
    binding_id: str
    named_s: int | None
    interval_s: float | None
    program: str
    policy: frozenset[str] | None
    comment: str
    is_disabled: bool


@frozen
class Host:
    """A device that the hotspot sees, or that is logged in."""

    id: str
    ip: str
    mac: str
    server: str | None
    is_bypassed: bool


@frozen
class Actual:
    """Bindings are in the order of their table: the first that matches decides. `seen` are devices and their servers, as `hosts` had
    them in earlier looks: who is sent away to come back isn't there for a moment.
    """

    lists: tuple[ListRow, ...] = ()
    bindings: tuple[Binding, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    hosts: tuple[Host, ...] = ()
    active: tuple[Host, ...] = ()
    seen: frozenset[tuple[str, str, str]] = field(factory=frozenset)

    def server_of(self, ip: str, mac: str) -> str | None:
        """The one that a device was seen on; None if it wasn't, or on several."""
        servers = {server for *device, server in self._sightings() if device == [ip, mac]}
        return servers.pop() if len(servers) == 1 else None

    def later(self, elapsed_s: float) -> "Actual":
        """As it would be some time after it was looked at: timeouts run on, and who was seen once is remembered."""
        lists = tuple(
            row if row.timeout_s is None else evolve(row, timeout_s=max(0.0, row.timeout_s - elapsed_s))
            for row in self.lists
        )
        return evolve(self, lists=lists, seen=self._sightings())

    def _sightings(self) -> frozenset[tuple[str, str, str]]:
        return self.seen | {(host.ip, host.mac, host.server) for host in self.hosts if host.server is not None}


def queries(places: Sequence[Place]) -> dict[str, Command]:
    """How to read what `plan` needs to know of them, by menu. Only of these places, however much the router holds."""
    ips = _distinct(place.ip for place in places)
    macs = _distinct(place.mac for place in places)
    comments = _distinct(place.schedule_comment for place in places if None not in (place.ip, place.mac))
    with_ip = [f"?address={ip}" for ip in ips]
    with_mac = [f"?mac-address={mac}" for mac in macs]
    # Of a device whose IP nobody knows.
    devices = with_ip + [f"?mac-address={mac}" for mac in _distinct(place.mac for place in places if place.ip is None)]
    asked = (
        (LISTS, [f"?list={PAID}", *_any(with_ip)] if ips else [], ("address", "list", "comment", "timeout", "dynamic", "disabled")),
        # Before what an entry closes when its turn comes: who no longer sees it sees that, too.
        (SCHEDULERS, _any([f"?comment={comment}" for comment in comments]), ("name", "interval", "on-event", "policy", "comment", "disabled")),
        # For any MAC, however a version says that: ranges, which no question for an address finds.
        (BINDINGS, _any([*with_ip, *with_mac, "?-mac-address", f"?mac-address={_ZERO_MAC}"]), ("address", "mac-address", "server", "type", "comment", "disabled")),
        (HOSTS, _any(devices), ("address", "mac-address", "server", "bypassed")),
        (ACTIVE, _any(devices), ("address", "mac-address", "server")),
    )  # fmt: skip
    return {menu: Command(f"{menu}/print", {}, tuple(words), (".id", *names)) for menu, words, names in asked if words}


def understood(tables: Mapping[str, Sequence[Row]], before: Actual = Actual()) -> Actual:
    """What the rows of each menu say; of those that weren't looked at, what they said `before`. What has no id, or isn't what was
    asked for, says nothing.
    """
    return Actual(
        lists=_of(tables, LISTS, _list_row, before.lists),
        bindings=_of(tables, BINDINGS, _binding, before.bindings),
        schedules=_of(tables, SCHEDULERS, _schedule, before.schedules),
        hosts=_of(tables, HOSTS, _host, before.hosts),
        active=_of(tables, ACTIVE, _host, before.active),
        seen=before.seen,
    )


def widened(places: Sequence[Place], actual: Actual) -> tuple[Place, ...]:
    """With the whole places of own bindings that places with one address alone cover: the rest of what is theirs is found by both."""
    whole = [
        Place(row.ip, row.mac)
        for row in actual.bindings
        if row.is_own and row.ip and row.mac and any(place.covers(row.ip, row.mac) for place in places)
    ]
    return tuple(dict.fromkeys([*places, *whole]))


def seconds(text: str) -> float | None:
    """A duration as RouterOS prints it; None for what isn't one."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    parts, hours, minutes, rest = match.groups()
    clock = 0 if hours is None else int(hours) * 3600 + int(minutes) * 60 + int(rest)
    return clock + sum(int(count) * _UNITS_S[unit] for count, unit in _PART.findall(parts))


def _any(words: Sequence[str]) -> list[str]:
    """Words of which one must hold."""
    return [*words, *(["?#" + "|" * (len(words) - 1)] if len(words) > 1 else [])]


def _distinct(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value is not None))


def _of(
    tables: Mapping[str, Sequence[Row]], menu: str, read: Callable[[Row], T | None], before: tuple[T, ...]
) -> tuple[T, ...]:
    if menu not in tables:
        return before
    rows = [read(row) for row in tables[menu] if ".id" in row]
    return tuple(row for row in rows if row is not None)


def _list_row(row: Row) -> ListRow | None:
    if row.get("list") != PAID:
        return None
    timeout, comment = row.get("timeout"), row.get("comment", "")
    # What has no timeout and is dynamic all the same was made by a script, or by the name of a site.
    is_own = comment.startswith(OWN) and (timeout is not None or not _is_true(row, "dynamic"))
    # One that can't be read is over: an own row is then made anew.
    timeout_s = None if timeout is None else seconds(timeout) or 0.0
    address = row.get("address", "").removesuffix("/32")
    return ListRow(row[".id"], address, comment, timeout_s, _is_true(row, "disabled"), is_own)


def _binding(row: Row) -> Binding:
    comment, is_bypassing = row.get("comment", ""), row.get("type") == "bypassed"
    ip, mac, server = row.get("address", ""), row.get("mac-address", "").upper(), row.get("server", "")
    return Binding(
        id=row[".id"],
        ip=None if ip in _ANY_IP else ip.removesuffix("/32"),
        mac=None if mac in _ANY_MAC else mac,
        server=None if server in _ANY_SERVER else server,
        is_bypassing=is_bypassing,
        is_disabled=_is_true(row, "disabled"),
        comment=comment,
        is_own=is_bypassing and comment.startswith(OWN),
    )


def _schedule(row: Row) -> Schedule | None:
    name = row.get("name", "")
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return Schedule(
        id=row[".id"],
        name=name,
        binding_id=f"*{match[1]}",
        named_s=None if match[2] is None else int(match[2]),
        interval_s=seconds(row.get("interval", "")),
        program=row.get("on-event", ""),
        policy=frozenset(row["policy"].split(",")) if "policy" in row else None,
        comment=row.get("comment", ""),
        is_disabled=_is_true(row, "disabled"),
    )


def _host(row: Row) -> Host:
    server = row.get("server")
    return Host(
        row[".id"], row.get("address", ""), row.get("mac-address", "").upper(), server, _is_true(row, "bypassed")
    )


def _is_true(row: Row, name: str) -> bool:
    return row.get(name) in ("true", "yes")


def _is_within(ip: str, text: str) -> bool:
    """Whether a prefix or a range has it."""
    try:
        if "-" in text:
            first, last = text.split("-")
            return ip_address(first.strip()) <= ip_address(ip) <= ip_address(last.strip())  # type: ignore[operator]  # IPv4 both
        return ip_address(ip) in ip_network(text, strict=False)
    except (ValueError, TypeError):
        return False
