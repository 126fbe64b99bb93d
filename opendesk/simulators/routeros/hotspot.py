"""Phones behind the hotspot: what rows their packets make, and whether these reach the internet."""

from ipaddress import IPv4Address, IPv4Network

from attrs import define, field

from opendesk.simulators.routeros import values
from opendesk.simulators.routeros.menus import ACTIVE, BINDING, HOST
from opendesk.simulators.routeros.state import State
from opendesk.simulators.routeros.tables import Row

# A MAC and an IP.
Place = tuple[str, str]


@define(eq=False)
class Phone:
    """A chatty one always has a packet under way: its host row, once removed, is back before the next command."""

    _hotspot: "Hotspot"
    mac: str
    ip: str
    server: str = "hotspot1"
    is_chatty: bool = True

    def packet(self) -> None:
        self._hotspot.packet(self)

    @property
    def is_online(self) -> bool:
        return self._hotspot.is_online(self.mac, self.ip)

    @property
    def place(self) -> Place:
        return self.mac, self.ip

    def move(self, ip: str) -> None:
        """Get another address. The row of the old one stays until it is removed or the router restarts."""
        self._hotspot.move(self, ip)

    def login(self, user: str = "guest") -> None:
        """As by the hotspot's login page."""
        self._hotspot.login(self, user)

    def leave(self) -> None:
        self._hotspot.leave(self)


@define(eq=False)
class Hotspot:
    """Whether a host is bypassed is decided when its row is made, by the bindings of that time: a new binding changes no row.

    Taking a binding away takes the hosts with it that were bypassed by it, unless `follows_bindings` is off: reports of real routers
    go either way, and who closes an access does better to remove the hosts too.
    """

    state: State
    follows_bindings: bool
    _phones: dict[Place, Phone] = field(factory=dict)
    _hosts: dict[Place, Row] = field(factory=dict)
    _without_host: set[Place] = field(factory=set)
    _bindings: dict[int, dict[str, str]] = field(factory=dict)  # as they were when they last changed

    def phone(self, mac: str, ip: str, *, server: str, is_chatty: bool) -> Phone:
        phone = Phone(self, values.mac_address("mac-address", mac), ip, server, is_chatty)
        self._phones[phone.place] = phone
        phone.packet()
        return phone

    def move(self, phone: Phone, ip: str) -> None:
        del self._phones[phone.place]
        phone.ip = ip
        self._phones[phone.place] = phone
        self._without_host.add(phone.place)

    def leave(self, phone: Phone) -> None:
        self._phones.pop(phone.place, None)
        if row := self._hosts.get(phone.place):
            self.state.remove(HOST, row)

    def packets(self) -> None:
        while self._without_host:
            phone = self._phones.get(self._without_host.pop())
            if phone is not None and phone.is_chatty:
                self.packet(phone)

    def packet(self, phone: Phone) -> None:
        if phone.place in self._hosts:
            return
        binding = self.binding_for(phone.mac, phone.ip, phone.server)
        kind = None if binding is None else binding.values.get("type", "regular")
        comment = {} if binding is None or "comment" not in binding.values else {"comment": binding.values["comment"]}
        self.state.add(
            HOST,
            {
                "mac-address": phone.mac,
                "address": phone.ip,
                "to-address": phone.ip if binding is None else binding.values.get("to-address", phone.ip),
                "server": phone.server,
                "uptime": "0s",
                "idle-time": "0s",
                "authorized": "false",
                "bypassed": str(kind == "bypassed").lower(),
                "blocked": str(kind == "blocked").lower(),
                **comment,
            },
        )

    def binding_for(self, mac: str, ip: str, server: str) -> Row | None:
        """The first enabled one that fits counts."""
        bindings = self.state.tables[BINDING]
        may_fit = bindings.among(bindings.having("mac-address", mac) | bindings.having("mac-address", None))
        return next((row for row in may_fit if row.is_enabled and _fits(row, mac, ip, server)), None)

    def is_online(self, mac: str, ip: str) -> bool:
        """One that isn't here would get what its first packet gets."""
        phone = self._phones.get((mac, ip)) or Phone(self, mac, ip)
        if phone.place in self._phones:
            phone.packet()
        host = self._hosts.get(phone.place)
        if host is not None:
            return "true" in {host.values["bypassed"], host.values["authorized"]}
        binding = self.binding_for(mac, ip, phone.server)
        return binding is not None and binding.values.get("type") == "bypassed"

    def login(self, phone: Phone, user: str) -> None:
        phone.packet()
        host = self._hosts[phone.place]
        self.state.change(HOST, host, {**host.values, "authorized": "true"})
        self.state.add(
            ACTIVE,
            {
                "server": phone.server,
                "user": user,
                "address": phone.ip,
                "mac-address": phone.mac,
                "login-by": "http-chap",
                "uptime": "0s",
                "bytes-in": "0",
                "bytes-out": "0",
            },
        )

    def changed(self, path: str, row: Row, gone: bool) -> None:  # noqa: FBT001  # a Watcher
        if path == BINDING and self.follows_bindings:
            self._drop_unbound(self._hosts_of(row, gone=gone))
        elif path == HOST and not gone:
            self._hosts[_place(row)] = row
        elif path == HOST:
            self._hosts.pop(_place(row), None)
            self._without_host.add(_place(row))
            for active in self._same_device(ACTIVE, row):
                self.state.remove(ACTIVE, active)
        elif path == ACTIVE and gone and (host := self._hosts.get(_place(row))):
            self.state.change(HOST, host, {**host.values, "authorized": "false"})

    def _hosts_of(self, binding: Row, *, gone: bool) -> list[Row]:
        """Those that it may be about, or was before it changed: all only if it is for any MAC."""
        before = self._bindings.pop(binding.number, binding.values)
        if not gone:
            self._bindings[binding.number] = binding.values
        hosts = self.state.tables[HOST]
        if "mac-address" not in before or "mac-address" not in binding.values:
            return list(hosts)
        return hosts.among(
            hosts.having("mac-address", before["mac-address"])
            | hosts.having("mac-address", binding.values["mac-address"])
        )

    def _drop_unbound(self, hosts: list[Row]) -> None:
        for host in hosts:
            held = host.values
            if held["bypassed"] == "true":
                binding = self.binding_for(held["mac-address"], held["address"], held["server"])
                if binding is None or binding.values.get("type") != "bypassed":
                    self.state.remove(HOST, host)

    def _same_device(self, path: str, row: Row) -> list[Row]:
        table = self.state.tables[path]
        same_mac = table.among(table.having("mac-address", row.values["mac-address"]))
        return [other for other in same_mac if _place(other) == _place(row)]


def _place(row: Row) -> Place:
    return row.values["mac-address"], row.values["address"]


def _fits(binding: Row, mac: str, ip: str, server: str) -> bool:
    held = binding.values
    return (
        held.get("mac-address", mac) == mac
        and held.get("server", server) == server
        and ("address" not in held or _within(ip, held["address"]))
    )


def _within(ip: str, places: str) -> bool:
    if ip == places:
        return True
    address = IPv4Address(ip)
    if "-" in places:
        low, high = (IPv4Address(part) for part in places.split("-"))
        return low <= address <= high
    return address in IPv4Network(places)
