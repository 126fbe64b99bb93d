"""All routers: which there are, which of them this daemon drives, and a worker for each of those.

A router is driven by the daemon that holds its lease. All leases are taken and renewed in one statement; when that can't be done, every
worker is stopped before the leases end, so that two daemons never drive one router.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
import math
import random
from typing import Final
from uuid import UUID

from attrs import define, field
import structlog
import trio

from opendesk.network.routeros.client import connect
from opendesk.network.routers import registry, states
from opendesk.network.routers.breaker import Breaker
from opendesk.network.routers.hooks import Hooks
from opendesk.network.routers.lanes import lane_of, router_of
from opendesk.network.routers.link import Connect
from opendesk.network.routers.registry import OVER_DATABASE, RouterSpec
from opendesk.network.routers.roster import Roster
from opendesk.network.routers.states import Lease
from opendesk.network.routers.status import UNKNOWN, MikStatus, RouterStatus, status_of
from opendesk.network.routers.worker import Worker
from opendesk.network.routers.writing import StateWriter
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import AWAY
from opendesk.postgres.listening import listen
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying
from opendesk.settings import Settings
from opendesk.supervise import alive, every

log = structlog.get_logger()

# Leases are renewed this often in their time, so that two renewals may fail; workers stop when this part of it is left, which is far more
# than they take, and than two clocks differ in that time.
RENEWALS: Final = 3
STOP_BEFORE: Final = 1 / 6

# The registry is told of by NOTIFY; this is for what got lost.
LOOK_EVERY_S: Final = 30.0
# Who registers a thousand routers one by one has the registry read five times a second, not a thousand.
LOOKS_APART_S: Final = 0.2
# After the database was away.
RETRY_S: Final = 1.0
FORGET_EVERY_S: Final = 3600.0
# When the server's own line was cut, all routers come back in one look: those woken together, and until the next are.
WOKEN_TOGETHER: Final = 50
WAKINGS_APART_S: Final = 0.1
# At a stop. A mute database isn't waited for: leases end by themselves then.
LEAVE_S: Final = 1.0


async def _nobody(_router_id: str) -> None:
    pass


@define(eq=False)
class Fleet:
    """`run` is a service of the daemon. The callbacks may be set until then."""

    _pool: Pool
    _listen: Callable[[], Awaitable[TrioConnection]]
    _settings: Settings
    node: UUID
    connect: Connect = connect
    on_reboot: Callable[[str], Awaitable[None]] = _nobody  # asked again at the next look if the database is away
    lane_opened: Callable[[str], None] = field(default=lambda _lane: None)
    gone: Callable[[str], None] = field(default=lambda _router_id: None)  # it is registered no more
    silent_for: Callable[[str], float | None] = field(default=lambda _host: None)  # of a host behind a tunnel
    jitter: Callable[[], float] = random.random
    specs: Mapping[str, RouterSpec] = field(init=False, factory=dict)  # also those that others drive
    _roster: Roster = field(init=False)
    _leases: Mapping[str, Lease] = field(init=False, factory=dict)
    _held_until_s: float = field(init=False, default=0.0)
    _leased: trio.Event = field(init=False, factory=trio.Event)
    _news: trio.Event = field(init=False, factory=trio.Event)
    _look_at_s: float = field(init=False, default=0.0)
    _states: StateWriter = field(init=False)
    _said: frozenset[str] = field(init=False, default=frozenset())
    _back: set[str] = field(init=False, factory=set)  # hosts of devices, which are bounded
    _came_back: trio.Event = field(init=False, factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        recovery_s = self._settings.relay_breaker_recovery_ms / 1000
        fresh = Breaker(limit=self._settings.relay_breaker_failures, recovery_s=recovery_s)
        self._states = StateWriter(self._pool, self.node)
        hooks = Hooks(self._states.note, self._open_lane, self._rebooted, self.jitter, self._silent_for)
        self._roster = Roster(fresh, self.connect, hooks, dials=not self.dry_run)

    # ---- for the rest of the daemon

    @property
    def dry_run(self) -> bool:
        return self._settings.relay_dry_run

    @property
    def _ttl_s(self) -> float:
        return self._settings.relay_lock_ttl_ms / 1000

    def get(self, router_id: str) -> Worker | None:
        """Its worker; None where another daemon drives it, or nobody (yet)."""
        return self._roster.get(router_id)

    def open_lanes(self) -> Mapping[str, int]:
        """How many jobs each lane takes whose router this daemon drives; those that take none are left out."""
        rooms = self._roster.rooms()
        return {self.lane(router_id): room for router_id, room in rooms.items()} if self.dry_run else rooms

    def lane(self, router_id: str) -> str:
        return lane_of(router_id, dry_run=self.dry_run)

    async def knows(self, conn: TrioConnection, router_id: str) -> bool:
        """Also one that was registered this very moment, at another daemon."""
        return router_id in self.specs or await registry.get(conn, router_id, dry_run=self.dry_run) is not None

    async def circuit_open(self, conn: TrioConnection, router_id: str) -> bool:
        """Whoever drives it."""
        here = self.circuit_open_here(router_id)
        return await states.circuit_open(conn, router_id) if here is None else here

    def circuit_open_here(self, router_id: str) -> bool | None:
        """None where another daemon drives it, or nobody: then the database knows."""
        if self.dry_run:
            return False
        worker = self.get(router_id)
        return None if worker is None else not worker.health.breaker.is_closed

    def reachable_here(self) -> tuple[int, int]:
        """Of how many of the routers that this daemon drives the circuit is closed, and how many these are."""
        closed = [worker.health.breaker.is_closed for name in self.specs if (worker := self.get(name)) is not None]
        return sum(closed), len(closed)

    async def status(self, conn: TrioConnection, ids: Collection[str] | None = None) -> list[RouterStatus]:
        """Of these, or of all, by id. What this daemon drives is told as of now, the rest as it was written."""
        wanted = sorted(self.specs if ids is None else self.specs.keys() & set(ids))
        stored = await states.read(conn, wanted)
        return [status_of(self.specs[name], stored.get(name), self.get(name)) for name in wanted if name in self.specs]

    async def mik_status(self, conn: TrioConnection, router_id: str) -> MikStatus:
        known = [] if self.dry_run else await self.status(conn, [router_id])
        return known[0].mik_status if known else UNKNOWN

    def silent_here(self, router_id: str) -> bool:
        """Whether nothing has been heard of its tunnel for too long, as far as this daemon knows."""
        spec = self.specs.get(router_id)
        return spec is not None and self._silent_for(spec.host) is not None

    def tunnels_came_back(self, hosts: Collection[str]) -> None:
        """Whoever is reached there is tried soon."""
        self._back |= frozenset(hosts)
        self._came_back.set()

    def look_again(self) -> None:
        """At the registry: it has changed, or may have."""
        self._look_at_s = 0.0
        self._news.set()

    # ---- running

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear)
                nursery.start_soon(self._wake)
                nursery.start_soon(self._keep_leases)
                nursery.start_soon(self._states.run)
                nursery.start_soon(every, FORGET_EVERY_S, self._forget)
                await self._drive()
        finally:
            await self._leave()

    async def _hear(self) -> None:
        await listen(
            self._listen, [registry.CHANNEL], who="fleet", begun=self.look_again, heard=lambda _: self.look_again()
        )

    async def _wake(self) -> None:
        while True:
            alive("waking", wait_s=math.inf)
            await self._came_back.wait()
            self._came_back = trio.Event()
            while self._back:
                alive("waking")
                some = {self._back.pop() for _ in range(min(WOKEN_TOGETHER, len(self._back)))}
                self._roster.wake(some)
                await trio.sleep(WAKINGS_APART_S)

    async def _keep_leases(self) -> None:
        while True:
            alive("leases", wait_s=self._ttl_s)
            is_well = await self._within_a_renewal(self.read_registry) and await self._within_a_renewal(self._renew)
            with trio.move_on_after(self._ttl_s / RENEWALS if is_well else min(RETRY_S, self._ttl_s / RENEWALS)):
                await self._news.wait()
                await trio.sleep(LOOKS_APART_S)
            self._news = trio.Event()

    async def _within_a_renewal(self, step: Callable[[], Awaitable[None]]) -> bool:
        try:
            with trio.fail_after(self._ttl_s / RENEWALS / 2):
                await retrying(step)
        except (*AWAY, trio.TooSlowError) as error:
            log.warning("fleet.database_away", error=repr(error))
            return False
        return True

    async def read_registry(self) -> None:
        """Also before `run`, so that routers are known when the first call comes."""
        if trio.current_time() < self._look_at_s:
            return
        self._look_at_s = trio.current_time() + LOOK_EVERY_S
        is_read = False
        try:
            async with self._pool.connection() as conn:
                specs = await registry.load(conn, self._settings)
            is_read = True
        finally:
            if not is_read:
                self._look_at_s = 0.0
        gone, self.specs = self.specs.keys() - specs.keys(), specs
        for router_id in gone:
            self.gone(router_id)
        if (doubled := frozenset(i for i, spec in self.specs.items() if spec.source == OVER_DATABASE)) != self._said:
            self._said = doubled
            log.warning("fleet.environment_wins", routers=sorted(doubled))

    async def _renew(self) -> None:
        asked_s = trio.current_time()  # before the database's clock is read: so it ends here before it ends there
        async with self._pool.connection() as conn:
            # Who only pretends doesn't keep routers from those who drive them.
            ours = [self.lane(name) for name, spec in self.specs.items() if self._reaches(spec)]
            rows = await states.lease(conn, self.node, ours, self._ttl_s)
        self._leases = {router_of(row.router_id): row for row in rows}
        self._held_until_s = asked_s + self._ttl_s * (1 - STOP_BEFORE)
        self._leased.set()
        self._roster.arrange(self.specs, self._leases, until_s=self._held_until_s)

    def _reaches(self, spec: RouterSpec) -> bool:
        """What is behind a tunnel is for whoever has the interface."""
        return self.dry_run or not spec.is_tunnelled or self._settings.wg_interface is not None

    async def _drive(self) -> None:
        """Workers, for as long as the leases last; anew when there are some again."""
        while True:
            await self._leased.wait()
            await self._roster.run(self.specs, self._leases, until_s=self._held_until_s)
            log.error("fleet.cut_off", routers=len(self._leases))
            if trio.current_time() >= self._held_until_s:
                self._leased = trio.Event()

    # ---- what is written

    async def _forget(self) -> None:
        try:
            async with self._pool.connection() as conn:
                await states.forget_old(conn)
        except AWAY as error:
            log.warning("fleet.database_away", error=repr(error))

    async def _leave(self) -> None:
        """With all workers stopped: whoever takes over needn't wait. It is finished also when all else has been cancelled.

        Whoever runs it again begins without leases: those it had are anybody's from here on.
        """
        self._leases, self._held_until_s, self._leased = {}, 0.0, trio.Event()
        with trio.move_on_after(LEAVE_S, shield=True) as limit:
            await self._states.write_last(LEAVE_S / 2)
            try:
                async with self._pool.connection() as conn:
                    await states.give_up(conn, self.node)
            except AWAY as error:
                log.warning("fleet.left_without_a_word", error=repr(error))
        if limit.cancelled_caught:
            log.warning("fleet.left_without_a_word", error=f"no answer in {LEAVE_S} s")

    # ---- what workers tell

    def _silent_for(self, host: str) -> float | None:
        return None if self.dry_run else self.silent_for(host)

    def _open_lane(self, router_id: str) -> None:
        self.lane_opened(self.lane(router_id))

    async def _rebooted(self, router_id: str) -> None:
        await self.on_reboot(router_id)
