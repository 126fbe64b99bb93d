"""Routers that answer, refuse, fall silent or hang up, as `connect` would give them; without a socket."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from attrs import define, field
import trio

from opendesk.network.routeros.errors import LoginRefused, TimedOut, Trap, Unreachable
from opendesk.network.routeros.session import Command, Result
from opendesk.network.routeros.transport import Target
from opendesk.network.routers.breaker import Breaker
from opendesk.network.routers.health import Health
from opendesk.network.routers.hooks import Hooks
from opendesk.network.routers.registry import RouterSpec
from opendesk.network.routers.worker import Worker
from opendesk.settings.secret import Secret

PING = Command("/system/clock/print")
LIMIT, RECOVERY_S, TIMEOUT_S = 3, 60.0, 5.0


@define(eq=False)
class FakeRouter:
    """`mood`: well, refusing (no connection), silent (a black hole once connected), deaf (connects never), lockout, broken (our fault)."""

    mood: str = "well"
    booted_s: float = -1000.0  # by the clock of whoever looks
    identity: str = "fake"
    latency_s: float = 0.0
    dialled: int = 0
    commands: list[str] = field(factory=list)
    open: list["FakeApi"] = field(factory=list)
    most_open: int = 0
    targets: list[Target] = field(factory=list)

    @asynccontextmanager
    async def connect(self, target: Target) -> AsyncIterator["FakeApi"]:
        self.dialled += 1
        self.targets.append(target)
        await trio.sleep(self.latency_s)
        await self._let_in(target)
        api = FakeApi(self, target.timeout_s)
        self.open.append(api)
        self.most_open = max(self.most_open, len(self.open))
        try:
            yield api
        finally:
            self.open.remove(api)
            api.gone.set()

    async def _let_in(self, target: Target) -> None:
        if self.mood == "refusing":
            raise Unreachable("connection refused")
        if self.mood == "lockout":
            raise LoginRefused("invalid user name or password (6)")
        if self.mood == "broken":
            raise RuntimeError("a fault of ours")
        if self.mood == "deaf":
            await trio.sleep(target.timeout_s)
            raise TimedOut(f"nobody let in within {target.timeout_s:g} s")

    def hang_up(self) -> None:
        for api in list(self.open):
            api.gone.set()

    def reboot(self) -> None:
        self.booted_s = trio.current_time()
        self.hang_up()


@define(eq=False)
class FakeApi:
    router: FakeRouter
    timeout_s: float
    gone: trio.Event = field(factory=trio.Event)

    async def run(self, command: Command, *, timeout_s: float | None = None) -> Result:
        [outcome] = await self.run_all((command,), timeout_s=timeout_s)
        if isinstance(outcome, Trap):
            raise outcome
        return outcome

    async def run_all(self, commands: Sequence[Command], *, timeout_s: float | None = None) -> list[Result | Trap]:
        await self._answer_or_not(self.timeout_s if timeout_s is None else timeout_s)
        self.router.commands += [command.path for command in commands]
        return [self._outcome(command) for command in commands]

    async def wait_closed(self) -> None:
        await self.gone.wait()

    async def _answer_or_not(self, timeout_s: float) -> None:
        with trio.move_on_after(timeout_s if self.router.mood == "silent" else self.router.latency_s):
            await self.gone.wait()
        if self.gone.is_set():
            raise Unreachable("The connection is gone")
        if self.router.mood == "silent":
            raise TimedOut(f"no answer within {timeout_s:g} s")

    def _outcome(self, command: Command) -> Result | Trap:
        if command.path == "/system/resource/print":
            up_s = int(trio.current_time() - self.router.booted_s)
            return Result(({"uptime": f"{up_s}s", "version": "7.16 (stable)"},))
        if command.path == "/system/identity/print":
            return Result(({"name": self.router.identity},))
        if command.path == "/trapped":
            return Trap(0, "no such command")
        return Result()


@define
class Heard:
    """What workers told."""

    changed: list[str] = field(factory=list)
    opened: list[str] = field(factory=list)
    rebooted: list[str] = field(factory=list)

    def hooks(self) -> Hooks:
        return Hooks(self._change, self.opened.append, self._reboot, lambda: 0.5)

    def _change(self, router_id: str, _health: Health) -> None:
        self.changed.append(router_id)

    async def _reboot(self, router_id: str) -> None:
        self.rebooted.append(router_id)


def spec_of(router_id: str = "r1", *, host: str = "10.0.0.1", fault: str | None = None) -> RouterSpec:
    return RouterSpec(
        id=router_id, host=host, port=8728, tls=False, tls_sha256=None, user="api", password=Secret("geheim"),
        timeout_s=TIMEOUT_S, source="database", fault=fault,
    )  # fmt: skip


def worker_of(router: FakeRouter, heard: Heard | None = None, spec: RouterSpec | None = None) -> Worker:
    health = Health(breaker=Breaker(limit=LIMIT, recovery_s=RECOVERY_S))
    return Worker(spec or spec_of(), health, router.connect, (heard or Heard()).hooks())
