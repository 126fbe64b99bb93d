"""A router: its rows, its time, its phones and its faults. No I/O: `serve` puts it on a socket."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
import time
from typing import Final

from attrs import define, evolve

from opendesk.simulators.routeros import script
from opendesk.simulators.routeros.commands import Answer, Request, execute
from opendesk.simulators.routeros.faults import Faults
from opendesk.simulators.routeros.hotspot import Hotspot, Phone
from opendesk.simulators.routeros.menus import ACTIVE, ADDRESS_LIST, BINDING, HOST, PEER, SCHEDULER, WIREGUARD
from opendesk.simulators.routeros.refusals import Refused
from opendesk.simulators.routeros.shows import HANDSHAKE, RX, TX, shown
from opendesk.simulators.routeros.state import Clock, State, first_run_s
from opendesk.simulators.routeros.tables import Row

LATEST: Final = "7.24"
USER: Final = "admin"
PASSWORD: Final = "parallel-hedgehog"  # noqa: S105  # of routers that are none

# What is kept of the past, for those who look at it.
LOG_LENGTH: Final = 10_000

# An entry that runs every second isn't run for all of a leap of the clock at once.
MOST_RUNS_AT_ONCE: Final = 10_000


@define
class Counts:
    connections: int = 0
    logins: int = 0
    refused_logins: int = 0
    commands: int = 0
    # How often a connection that waited for nothing was sent something: what is sent without waiting for answers is one.
    round_trips: int = 0
    open: int = 0


@define
class HandClock:
    """A clock that stands still until it is moved."""

    now_s: float = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


class Router:
    """`clock` gives seconds of the Unix epoch. What time does is done when somebody looks."""

    def __init__(
        self,
        name: str = "router",
        *,
        version: str = LATEST,
        users: Mapping[str, tuple[str, str]] | None = None,  # name → password, group
        clock: Clock = time.time,
        follows_bindings: bool = True,
        strict_bindings: bool = False,  # an ip-binding is refused if another has its MAC or its address alone
        asks_challenge: bool = False,  # a login as before 6.43
        cancel_first: bool = False,  # the `!done` of a cancel comes before those of what it ends
    ) -> None:
        self.state = State.fresh(name, version, clock, users or {USER: (PASSWORD, "full")})
        self.state.tables[BINDING].is_strict = strict_bindings
        self.hotspot = Hotspot(self.state, follows_bindings)
        self.state.watchers.append(self.hotspot.changed)
        self.asks_challenge = asks_challenge
        self.cancel_first = cancel_first
        self.faults = Faults()
        self.counts = Counts()
        self.log: deque[Request] = deque(maxlen=LOG_LENGTH)
        self.script_errors: deque[str] = deque(maxlen=LOG_LENGTH)
        self.boots = 1
        self.hang_ups: set[Callable[[], None]] = set()  # of the connections that are open
        self.cut_when: Callable[[Router], bool] | None = None  # what it holds lets nobody through

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def is_up(self) -> bool:
        return self.state.clock() >= self.state.booted_s

    def is_cut_off(self) -> bool:
        """Nothing that is sent arrives, nor what is answered, until it holds something else."""
        if self.cut_when is None:
            return False
        self.settle()
        return self.cut_when(self)

    def rows(self, path: str) -> list[dict[str, str]]:
        self.settle()
        return [shown(self.state, path, row) for row in self.state.tables[path]]

    def run(self, command: str, attributes: Mapping[str, str] | None = None, *queries: str) -> Answer:
        """As somebody with all rights at the router's console. Raises `Refused`."""
        self.settle()
        path, _, verb = command.rpartition("/")
        return execute(self.state, Request(path, verb, attributes or {}, queries))

    def paste(self, lines: Iterable[str]) -> list[str]:
        """At its console, each line by itself. What it showed; what it refused is among the `script_errors`."""
        shown_: list[str] = []
        for line in lines:
            self.settle()
            try:
                script.run(line, lambda request: execute(self.state, request), say=shown_.append)
            except Refused as exc:
                self.script_errors.append(f"{line}: {exc.message}")
        return shown_

    def pretend(self, request: Request) -> Answer:
        """What would be answered; nothing is done."""
        return execute(evolve(self.state, tables=deepcopy(self.state.tables), watchers=[]), request)

    def phone(self, mac: str, ip: str, *, server: str = "hotspot1", is_chatty: bool = True) -> Phone:
        self.settle()
        return self.hotspot.phone(mac, ip, server=server, is_chatty=is_chatty)

    def is_online(self, mac: str, ip: str) -> bool:
        """Whether a packet of that phone's gets through now."""
        self.settle()
        return self.is_up and self.hotspot.is_online(mac, ip)

    def handshake(self, public_key: str, *, rx: int = 0, tx: int = 0) -> None:
        """A WireGuard peer is heard of, and bytes pass."""
        row = next(row for row in self.state.tables[PEER] if row.values.get("public-key") == public_key)
        sums = {key: str(int(row.values.get(key, "0")) + count) for key, count in ((RX, rx), (TX, tx))}
        self.state.change(PEER, row, {**row.values, **sums, HANDSHAKE: str(self.state.clock())})

    def settle(self) -> None:
        """Do what time has done since somebody last looked."""
        if not self.is_up:
            return
        for _ in range(MOST_RUNS_AT_ONCE):
            due = self.state.next_due()
            if due is None:
                break
            self._happen(*due)
        self.hotspot.packets()

    def _happen(self, due_s: float, path: str, row: Row) -> None:
        if path == ADDRESS_LIST:
            self.state.remove(path, row)
            return
        row.runs += 1
        self.state.postpone(row, first_run_s(row, due_s, self.state.booted_s))
        try:
            script.run(row.values.get("on-event", ""), lambda request: execute(self.state, request))
        except Refused as exc:
            self.script_errors.append(f"{row.values['name']}: {exc.message}")

    def reboot(self, down_s: float = 0.0) -> None:
        """Connections end; hosts, what is dynamic and what has a timeout is gone. An entry that was due while it was down has missed its turn."""
        self.settle()
        for path in (HOST, ACTIVE):
            for row in self.state.tables[path]:
                if row in self.state.tables[path]:
                    self.state.remove(path, row)
        for row in self.state.tables[ADDRESS_LIST]:
            if row.due_s is not None or (row.values.get("dynamic") == "true" and row.parent is None):
                self.state.remove(ADDRESS_LIST, row)
        self.boots += 1
        self.state.booted_s = self.state.clock() + down_s
        for path in (ADDRESS_LIST, BINDING, SCHEDULER, WIREGUARD, PEER):
            self.state.tables[path].restart()
        for row in self.state.tables[SCHEDULER]:
            # One that begins at startup is due right then, one with a past start at its next interval.
            at_startup = row.values.get("start-time") == "startup"
            self.state.postpone(
                row, self.state.booted_s if at_startup else first_run_s(row, self.state.booted_s, self.state.booted_s)
            )
        for hang_up in list(self.hang_ups):
            hang_up()
