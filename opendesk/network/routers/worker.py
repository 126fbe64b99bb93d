"""One router's worker: keeps a connection to it, and lets those who want something of it have it.

What goes wrong with a router is its own worker's business: nobody waits here for another router, and a fault of ours ends one
worker's turn, not the daemon.
"""

from collections.abc import Awaitable, Callable
import math
from typing import Final, TypeVar

from attrs import define, evolve, field
import structlog
import trio

from opendesk.network.backoff import pause_s
from opendesk.network.routeros.errors import LoginRefused, TimedOut, Trap
from opendesk.network.routers.blame import Blame
from opendesk.network.routers.errors import CircuitOpen, RouterUnavailable, TunnelSilent
from opendesk.network.routers.health import Health
from opendesk.network.routers.hooks import Hooks
from opendesk.network.routers.link import DIAL_FAILURES, FAILURES, Api, Connect, is_gone_within, look, target_of
from opendesk.network.routers.places import Places, Turn
from opendesk.network.routers.registry import RouterSpec
from opendesk.postgres.errors import AWAY

log = structlog.get_logger()
T = TypeVar("T")

# Jobs at once on one router: a small one answers some 200 commands a second, and a job has three round trips.
MAX_AT_ONCE: Final = 8

# How often an idle connection is looked at, give or take a third: a router that rebooted or fell silent is noticed within that, and a
# thousand of them cost 33 commands a second.
LOOK_EVERY_S: Final = 30.0
LOOK_SPREAD: Final = 1 / 3

# Pauses between tries to connect. The circuit opens before they get long; they count for connections that come and go.
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
# A connection that held for so long was no accident: the next is tried at once.
STEADY_S: Final = 30.0

TAKEN_OVER: Final = "another worker takes over"

# The driver bounds dialling and login itself, each by the router's time-out; this is for one that doesn't.
DIAL_TIMEOUTS: Final = 3

# Routers whose circuits opened together aren't probed together: each up to this part of the recovery time later.
PROBE_SPREAD: Final = 0.1

# Who is told of a tunnel that is heard of again is woken; this is for what got lost.
SILENCE_LOOK_S: Final = 30.0


@define(eq=False)
class Worker:
    """`run` is the fleet's; `use`, `holding` and `room` are for those who have work for the router."""

    spec: RouterSpec
    health: Health
    _connect: Connect
    _hooks: Hooks
    places: Places = field(factory=Places)
    dials: bool = True  # not in a dry run
    _api: Api | None = None
    _serving: trio.CancelScope | None = None
    _blame: Blame = field(factory=Blame)
    _tried: trio.Event = field(factory=trio.Event)  # the end of the try that is under way or next
    _wanted: trio.Event = field(factory=trio.Event)
    _tries: int = 0  # since the last connection that held
    _uses: set[trio.CancelScope] = field(factory=set)
    _is_stopped: bool = False

    # ---- for those who have work

    @property
    def is_connected(self) -> bool:
        return self._api is not None

    @property
    def silent_s(self) -> float | None:
        """For how long nothing has been heard of its tunnel, if that is too long to try."""
        return self._hooks.silent_for(self.spec.host)

    @property
    def room(self) -> int:
        """How many jobs more it takes: none while its circuit isn't closed, or its tunnel is silent."""
        if self._is_stopped or not self.health.breaker.is_closed or self.silent_s is not None:
            return 0
        return max(0, MAX_AT_ONCE - self.places.holders)

    def holding(self, keys: frozenset[str]) -> Turn:
        """Wait until nobody else works on these places, with `async with`. Who is in there, or waits, takes up room."""
        return self.places.holding(keys, self._left)

    def _left(self) -> None:
        if self.room == 1:
            self._hooks.lane_opened(self.spec.id)

    async def use(self, act: Callable[[Api], Awaitable[T]]) -> T:
        """Do something with the router. Raise CircuitOpen, RouterUnavailable (TunnelSilent), or what `act` raises (a Trap is an answer, too).

        It waits for a connection while one is being made. When this daemon may no longer drive the router, `act` is cancelled.
        """
        assert self.dials, "in a dry run no router is used"
        with trio.CancelScope() as scope:
            self._uses.add(scope)
            try:
                return await self._judged(act, await self._ready())
            finally:
                self._uses.discard(scope)
        raise self._unavailable(TAKEN_OVER)

    def close_circuit(self) -> None:
        """By hand: somebody has mended the router."""
        self._become(evolve(self.health, breaker=self.health.breaker.reset()))
        self._wanted.set()

    def wake(self) -> None:
        """Its tunnel is heard of again: an open circuit is tried now, and who waits for room has it."""
        self.health = evolve(self.health, breaker=self.health.breaker.due(trio.current_time()))
        self._tries = 0
        self._wanted.set()
        if self.room:
            self._hooks.lane_opened(self.spec.id)

    def stop(self) -> None:
        """At once, without a checkpoint: nothing more is sent from here. `run` is cancelled besides."""
        self._is_stopped = True
        for scope in self._uses:
            scope.cancel()

    # ---- for the fleet

    async def run(self) -> None:
        """Until cancelled. A fault of ours is logged, and after a pause it goes on."""
        if not self.dials:
            await trio.sleep_forever()
        faults = 0
        try:
            while True:
                try:
                    await self._drive()
                except Exception:
                    faults += 1
                    log.exception("router.worker_failed", router=self.spec.id, failures=faults)
                await trio.sleep(self._pause_s(faults))
        finally:
            self.stop()

    async def _drive(self) -> None:
        while True:
            await self._wait_for_turn()
            tried = self._tried
            try:
                await self._try()
            finally:
                if self._tried is tried:  # else it was connected, and told so
                    self._tell_tried()

    async def _wait_for_turn(self) -> None:
        while True:
            with trio.move_on_after(self._wait_s()):
                await self._wanted.wait()
            self._wanted = trio.Event()
            if self.silent_s is None and self.health.breaker.may_try(trio.current_time()):
                return

    def _wait_s(self) -> float:
        breaker = self.health.breaker
        if self.silent_s is not None:
            return SILENCE_LOOK_S
        if breaker.open_until_s is not None:
            spread_s = breaker.recovery_s * PROBE_SPREAD * self._hooks.jitter()
            return max(0.0, breaker.open_until_s - trio.current_time()) + spread_s
        return self._pause_s(self._tries) if self._tries else 0.0

    def _pause_s(self, failures: int) -> float:
        return pause_s(failures, first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S, jitter=self._hooks.jitter())

    async def _try(self) -> None:
        """One connection, from dialling to its end."""
        self.health = evolve(self.health, breaker=self.health.breaker.begin_probe(trio.current_time()))
        self._tries += 1
        failure: Exception | None
        try:
            failure = await self._dial_and_serve()
        except DIAL_FAILURES as error:
            failure = error
        except Exception:
            self.health = evolve(self.health, breaker=self.health.breaker.abandoned())
            raise
        if failure is not None:
            self._failed(failure)

    async def _dial_and_serve(self) -> Exception | None:
        """What went wrong once it was connected, if anything did; raise what went wrong before."""
        if self.spec.fault is not None:
            raise OSError(self.spec.fault)
        with trio.CancelScope() as self._serving, trio.fail_after(self.spec.timeout_s * DIAL_TIMEOUTS) as limit:
            async with self._connect(target_of(self.spec)) as api:
                limit.deadline = math.inf
                return await self._serve(api)
        return None

    async def _serve(self, api: Api) -> Exception | None:
        """Until the connection is gone; what failed then, if it is news."""
        began_s = looked_s = trio.current_time()
        try:
            await self._look(api)
            self._blame.answered(api)
            self._api = api
            self._tell_tried()
            while not await is_gone_within(api, self._look_in_s()):
                looked_s = trio.current_time()
                await self._look(api)
        except FAILURES as error:
            return error if self._blame.is_news(error, api, looked_s, trio.current_time()) else None
        finally:
            self._api = None
            if trio.current_time() >= began_s + STEADY_S:
                self._tries = 0
        if not self._is_stopped:
            log.info("router.connection_lost", router=self.spec.id)
        return None

    def _look_in_s(self) -> float:
        return LOOK_EVERY_S * (1 + LOOK_SPREAD * (2 * self._hooks.jitter() - 1))

    async def _look(self, api: Api) -> None:
        seen = (await look(api)).without(self.spec.password)
        now_s, is_told = trio.current_time(), True
        if self.health.says_rebooted(seen, now_s):
            log.warning("router.rebooted", router=self.spec.id, uptime_s=seen.uptime_s, moved=self.health.moved)
            try:
                await self._hooks.rebooted(self.spec.id)
            except AWAY as error:
                log.warning("router.reboot_not_told", router=self.spec.id, error=repr(error))
                is_told = False
        self._become(self.health.seen(seen, now_s, is_told=is_told).answered(now_s))

    # ---- what comes of it

    async def _ready(self) -> Api:
        if self._is_stopped:
            raise self._unavailable(TAKEN_OVER)
        if not (breaker := self.health.breaker).is_closed:
            raise CircuitOpen(f"router {self.spec.id} failed {breaker.failures} times: {self.health.error}")
        if (silent_s := self.silent_s) is not None:
            raise TunnelSilent(f"router {self.spec.id}: nothing was heard of its tunnel for {silent_s:.0f} s")
        if self._api is None:
            self._wanted.set()
            await self._tried.wait()
        if self._api is None:
            raise self._unavailable(self.health.error or "the connection was lost")
        return self._api

    async def _judged(self, act: Callable[[Api], Awaitable[T]], api: Api) -> T:
        began_s = trio.current_time()
        try:
            result = await act(api)
        except Trap:
            self._become(self.health.answered(trio.current_time()))
            raise
        except FAILURES as error:
            if self._api is api and not isinstance(error, TimedOut):
                self._api = None  # whoever comes next waits for another, also if they come before `_serve` has noticed
            if not self._blame.is_old(api) and self._blame.is_news(error, api, began_s, trio.current_time()):
                self._failed(error)
            raise self._unavailable(TAKEN_OVER if self._is_stopped else str(error)) from error
        self._become(self.health.answered(trio.current_time()))
        return result

    def _tell_tried(self) -> None:
        self._tried.set()
        self._tried = trio.Event()

    def _failed(self, error: Exception) -> None:
        if self._is_stopped:
            return  # that is our own doing
        was_closed = self.health.breaker.is_closed
        is_refusal = isinstance(error, LoginRefused)
        self._become(self.health.failed(str(error) or repr(error), trio.current_time(), refused=is_refusal))
        breaker = self.health.breaker
        if was_closed and not breaker.is_closed:
            log.warning("router.circuit_opened", router=self.spec.id, failures=breaker.failures, error=repr(error))
            if self._serving is not None:
                self._serving.cancel()
        elif was_closed:
            log.warning("router.unavailable", router=self.spec.id, failures=breaker.failures, error=repr(error))

    def _become(self, health: Health) -> None:
        opens = health.breaker.is_closed and not self.health.breaker.is_closed
        self.health = health
        self._hooks.changed(self.spec.id, health)
        if opens:
            log.info("router.circuit_closed", router=self.spec.id)
            self._hooks.lane_opened(self.spec.id)

    def _unavailable(self, why: str) -> RouterUnavailable:
        return RouterUnavailable(f"router {self.spec.id}: {why}")
