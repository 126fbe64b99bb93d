"""The hotspots of a day: simulated routers on ports of this machine, their clock turned with the day's, and proof of what they did."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
import json
import secrets
import time
from typing import Any, Final

from attrs import define, field, frozen
import trio

from opendesk.simulators.api_client import Api
from opendesk.simulators.backend import Backend
from opendesk.simulators.books import Check
from opendesk.simulators.guest_plan import PRAIA, ROUTERS
from opendesk.simulators.routeros import Router
from opendesk.simulators.routeros.fleet import Served, serve_all

# Of a round trip: what a router behind a tunnel in the same country takes.
LATENCY_S: Final = 0.02

# The router that dies is given up soon, and tried again soon: a day has seconds. It is far over what one that is well takes.
_DIES_TIMEOUT_MS: Final = 500
_PATIENCE: Final = {
    "RELAY_BREAKER_FAILURES": "2",
    "RELAY_BREAKER_RECOVERY_MS": "1000",
    "RELAY_JOB_BACKOFF_BASE_MS": "1000",
    # On a machine that does much else; a call that is told to wait would count as one that went wrong.
    "RELAY_ACTION_TIMEOUT_MS": "20000",
}

# The menus that access is made of.
BINDINGS: Final = "/ip/hotspot/ip-binding"
LISTS: Final = "/ip/firewall/address-list"
SCHEDULERS: Final = "/system/scheduler"

# Somebody else's, and none of our business.
_PRINTER: Final = {"mac-address": "02:00:00:00:00:01", "type": "bypassed", "comment": "printer, keep out of it"}

# What has to be true, each time that it is looked at.
OFF_BEFORE: Final = "phones were off before their order was paid"
ONLINE: Final = "phones whose order is paid are online"
ENDED_BY_ROUTER: Final = "routers ended access by themselves when its time was over"
OFF_AFTER: Final = "phones whose time is over, or whose order is revoked, are off"
MOVED: Final = "phones with another address are online there, and nowhere else"
DEAD_SAID: Final = "of a dead router it is said that its circuit is open, and a repeat joins the job"
MEANWHILE: Final = "beside a dead router another opens the way"
WAITED: Final = "orders that waited for a dead router were done when it was back"


class TurnedClock:
    """The time here, and what it was turned forward by. Seconds of the Unix epoch."""

    def __init__(self) -> None:
        self.turned_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.turned_s


@frozen
class HotspotSums:
    """What came of a day's orders so far; `online` and `dead` are as of now, `waited` are answers of 503."""

    online: int
    orders: int
    ended: int
    revoked: int
    moved: int
    waited: int
    calls: int
    dead: tuple[str, ...]


@define
class _Access:
    """What was bought: open until that minute, unless it is taken away before."""

    router: Router
    mac: str
    ip: str
    until: int

    @property
    def is_online(self) -> bool:
        return self.router.is_online(self.mac, self.ip)


@define(eq=False)
class Hotspots:
    """Made by `served_hotspots`. Who looks at a phone asks its router, not the daemon."""

    _served: Mapping[str, Served]
    _clock: TurnedClock
    token: str = field(repr=False)
    secret: str = field(repr=False)
    revoked: int = 0
    moved: int = 0
    waited: int = 0
    played: int = 0
    _orders: int = 0
    _access: dict[str, _Access] = field(factory=dict)  # by order
    _proofs: dict[str, list[bool]] = field(factory=dict)
    _backends: list[Backend] = field(factory=list)
    _before: list[dict[str, str]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self._before = self._rows()

    @property
    def settings(self) -> dict[str, str]:
        """What the daemon has to know. It takes no call that isn't signed, or that it has seen before."""
        nodes: list[dict[str, Any]] = [served.node for served in self._served.values()]
        for node in nodes:
            if node["id"] == PRAIA:
                node["timeoutMs"] = _DIES_TIMEOUT_MS
        return {
            "MIKROTIK_NODES": json.dumps(nodes),
            "RELAY_TOKEN": self.token,
            "RELAY_API_SECRET": self.secret,
            "RELAY_INTERNAL_TOKEN": secrets.token_urlsafe(),
            "RELAY_STRICT_SECURITY": "1",
            **_PATIENCE,
        }

    def backend(self, api: Api) -> Backend:
        self._backends.append(Backend(api, self.token, self.secret))
        return self._backends[-1]

    def router(self, name: str) -> Router:
        return self._served[name].router

    @property
    def dead(self) -> tuple[str, ...]:
        return tuple(name for name in self._served if self.router(name).faults.black_hole)

    def kill(self, name: str) -> None:
        """From now on it takes connections, and answers nothing."""
        router = self.router(name)
        router.faults.black_hole = True
        for hang_up in list(router.hang_ups):
            hang_up()

    def revive(self, name: str) -> None:
        self.router(name).faults.black_hole = False

    def opened(self, order: str, router: str, mac: str, ip: str, *, until: int) -> None:
        """The daemon says that the way is open."""
        self._orders += 1
        self._access[order] = _Access(self.router(router), mac, ip, until)
        self.prove(ONLINE, ok=self._access[order].is_online)

    def goes_on(self, order: str, ip: str) -> None:
        """It says that it is so at another address."""
        self.moved += 1
        access = self._access[order]
        was_ip, access.ip = access.ip, ip
        self.prove(MOVED, ok=access.is_online and not access.router.is_online(access.mac, was_ip))

    def closed(self, order: str) -> None:
        """It says that the way is shut, or it should be by now."""
        access = self._access.pop(order)
        rows = [row for row in self._rows() if row.get("comment") == f"pedido:{order}"]
        self.prove(OFF_AFTER, ok=not access.is_online and not rows)

    def turn(self, minutes: int, minute: int) -> None:
        """It becomes that minute for routers, before it does for the daemon: so what they do by themselves is seen."""
        self._clock.turned_s += minutes * 60
        for access in self._access.values():
            if access.until <= minute:
                self.prove(ENDED_BY_ROUTER, ok=not access.is_online)

    def prove(self, states: str, *, ok: bool) -> None:
        self._proofs.setdefault(states, []).append(ok)

    def checks(self, *, guests: int) -> tuple[Check, ...]:
        """All that was looked at, and that nothing but what was there before is left."""
        return (
            *(Check(states, sum(proofs), len(proofs)) for states, proofs in self._proofs.items()),
            Check("every guest's story was played", self.played, guests),
            Check("routers hold what they held before", int(self._rows() == self._before), 1),
        )

    def sums(self) -> HotspotSums:
        return HotspotSums(
            online=sum(access.is_online for access in self._access.values()),
            orders=self._orders,
            ended=sum(self._proofs.get(ENDED_BY_ROUTER, ())),
            revoked=self.revoked,
            moved=self.moved,
            waited=self.waited,
            calls=sum(backend.calls for backend in self._backends),
            dead=self.dead,
        )

    def _rows(self) -> list[dict[str, str]]:
        return [
            row
            for served in self._served.values()
            for menu in (BINDINGS, LISTS, SCHEDULERS)
            for row in served.router.rows(menu)
        ]


@asynccontextmanager
async def served_hotspots() -> AsyncIterator[Hotspots]:
    """Their routers answer until this ends."""
    clock = TurnedClock()
    routers = [Router(name, clock=clock) for name in ROUTERS]
    for router in routers:
        router.run(f"{BINDINGS}/add", _PRINTER)
    async with trio.open_nursery() as nursery:
        served: list[Served] = await nursery.start(serve_all_slowly, routers)
        by_name = {each.router.name: each for each in served}
        yield Hotspots(by_name, clock, secrets.token_urlsafe(), secrets.token_urlsafe())
        nursery.cancel_scope.cancel()


async def serve_all_slowly(routers: list[Router], *, task_status: trio.TaskStatus[list[Served]]) -> None:
    await serve_all(routers, latency_s=LATENCY_S, task_status=task_status)
