"""A day of rentals against a running daemon: opened, played, and its books closed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Final, TypeVar

from attrs import define, frozen
import trio

from opendesk.postgres.pool import Pool, with_options
from opendesk.rental.ledger import Verification
from opendesk.simulators import accounts
from opendesk.simulators.api_client import Api, open_api
from opendesk.simulators.books import Books, Check, Totals, checks
from opendesk.simulators.clients import ClientSimulator
from opendesk.simulators.daemon_process import RunningDaemon
from opendesk.simulators.day_plan import CLOSES_AT, KINDS, OPENS_AT, ClientPlan, DayPlan, HostPlan
from opendesk.simulators.fast_clock import FastClock
from opendesk.simulators.guests import Guest
from opendesk.simulators.happenings import Happening
from opendesk.simulators.hosts import HostSimulator
from opendesk.simulators.hotspots import Hotspots, HotspotSums
from opendesk.simulators.operators import OperatorSimulator
from opendesk.simulators.people import Person
from opendesk.simulators.streams import Streams, StreamSums
from opendesk.simulators.time_shift import TimeShift
from opendesk.simulators.town import Town
from opendesk.simulators.views import PcView, SessionView
from opendesk.simulators.visits import Visitor

# What the daemon is told for a fast day. It looks often, because the clock is turned behind its back; a host is given 15 seconds of silence,
# which a machine that does much else stays under (six it has not), while one that fell silent has been so for a minute after the next turn.
PENDING_TIMEOUT_MS: Final = 900_000
SETTINGS: Final = {
    "SESSION_EXPIRATION_INTERVAL_MS": "50",
    "SESSION_PENDING_TIMEOUT_MS": str(PENDING_TIMEOUT_MS),
    "HOST_HEARTBEAT_TIMEOUT_MS": "15000",
    "HOST_HEARTBEAT_CHECK_INTERVAL_MS": "100",
    "SHUTDOWN_GRACE_MS": "5000",
    # Everybody comes from one address, and a client plays a day's sessions in seconds.
    "RELAY_CONNECT_LIMIT": "100000",
}

# Registrations at once: the daemon hashes two passwords at a time, and says 503 to a crowd.
_AT_ONCE: Final = 4

# Connections to the database: one turns the clock, one looks.
_POOL_SIZE: Final = 2

T = TypeVar("T")


@frozen
class Picture:
    """How things stand at a moment, as an operator sees it."""

    minute: int
    pcs: tuple[PcView, ...]
    live: tuple[SessionView, ...]
    totals: Totals
    beats: int
    streams: StreamSums
    hotspots: HotspotSums


@frozen
class Closing:
    """What a day came to."""

    currency: str
    books: Books
    checks: tuple[Check, ...]
    verification: Verification
    sessions: tuple[SessionView, ...]
    beats: int
    missed_beats: int
    streams: StreamSums
    hotspots: HotspotSums


@define(eq=False)
class Day:
    """Made by `opened_day`."""

    town: Town
    clients: tuple[ClientSimulator, ...]
    _visitors: tuple[Visitor, ...]
    _guests: tuple[Guest, ...]
    _hotspots: Hotspots
    _pool: Pool

    async def play(self) -> None:
        """From opening to closing time. Raise what goes wrong, such as ApiError, PromiseBroken, DaemonBehind."""
        for visitor in self._visitors:
            topped_up = partial(
                self.town.top_up, visitor.client.user_id, visitor.client.name, visitor.plan.first_top_up
            )
            self.town.clock.play(self.town.actors, topped_up, at=OPENS_AT)
            self.town.clock.play(self.town.actors, visitor.day, at=OPENS_AT)
        for guest in self._guests:
            self.town.clock.play(self.town.actors, guest.day, at=OPENS_AT)
        self.town.pay_hosts_out()
        await self.town.clock.run(CLOSES_AT)

    async def picture(self) -> Picture:
        pcs = [pc for host in self.town.hosts.values() for pc in host.pcs]
        status = {pc["id"]: PcView.of(pc) for pc in await self.town.operator.api.list_all("/pcs")}
        return Picture(
            minute=self.town.clock.minute,
            pcs=tuple(status[pc.id] for pc in pcs),
            live=tuple(await self.town.operator.live_sessions()),
            totals=await accounts.totals(self._pool),
            beats=self.beats,
            streams=self.streams,
            hotspots=self.hotspots,
        )

    @property
    def streams(self) -> StreamSums:
        return self.town.streams.sums()

    @property
    def hotspots(self) -> HotspotSums:
        return self._hotspots.sums()

    @property
    def beats(self) -> int:
        return sum(host.beats for host in self.town.hosts.values())

    async def close_books(self) -> Closing:
        hosts = tuple([await accounts.line_of_host(host) for host in self.town.hosts.values()])
        clients = tuple([await accounts.line_of_client(client) for client in self.clients])
        books = Books(clients, hosts, await accounts.totals(self._pool))
        sessions = await accounts.every_session(self.town.operator.api)
        me = await self.town.operator.api.get("/auth/me")
        return Closing(
            currency=me["wallet"]["currency"],
            books=books,
            checks=(*checks(books, sessions), *self._hotspots.checks(guests=len(self._guests))),
            verification=await accounts.verification(self._pool),
            sessions=sessions,
            beats=self.beats,
            missed_beats=sum(host.missed for host in self.town.hosts.values()),
            streams=self.streams,
            hotspots=self.hotspots,
        )


@asynccontextmanager
async def opened_day(
    daemon: RunningDaemon,
    plan: DayPlan,
    hotspots: Hotspots,
    *,
    seed: int,
    minute_s: float,
    sink: Callable[[Happening], None],
) -> AsyncIterator[Day]:
    """Everybody registered, every PC offered, every host beating and streaming until this ends. `minute_s` is how long a minute takes at least."""
    pool = Pool(with_options(await daemon.conninfo(), search_path="opendesk"), size=_POOL_SIZE)
    try:
        async with open_api(daemon.url) as api, trio.open_nursery() as beside, trio.open_nursery() as actors:
            operator = await _operator(daemon, api, seed)
            hosts = await _in_order([partial(_host, api, host) for host in plan.hosts])
            clients = await _in_order([partial(_client, api, client, seed) for client in plan.clients])
            shift = TimeShift(pool, PENDING_TIMEOUT_MS)
            await shift.prepare()

            async def turn(minutes: int) -> None:
                hotspots.turn(minutes, clock.minute)
                await shift.forward(minutes, silent=town.silent_pcs())

            clock, streams = FastClock(OPENS_AT, turn, minute_s), Streams(beside)
            town = Town(operator, {host.id: host for host in hosts}, streams, clock, actors, sink)
            for host in hosts:
                beside.start_soon(host.run)
            visitors = tuple(map(partial(_visitor, town, seed), clients, plan.clients))
            guests = tuple(Guest(town, hotspots, hotspots.backend(api), guest) for guest in plan.guests)
            yield Day(town, clients, visitors, guests, hotspots, pool)
            beside.cancel_scope.cancel()
    finally:
        await pool.aclose()


async def _operator(daemon: RunningDaemon, api: Api, seed: int) -> OperatorSimulator:
    admin = Person.named("operator")
    await daemon.command("admin", "create", admin.email, "--password-stdin", stdin=f"{admin.password}\n".encode())
    return await OperatorSimulator.log_in(api, admin, _keys(seed, admin.name))


async def _host(api: Api, plan: HostPlan) -> HostSimulator:
    host = await HostSimulator.join(api, Person.named(plan.name))
    for pc in plan.pcs:
        await host.offer({**KINDS[pc.kind], "name": pc.name, "localPcId": pc.name, "pricePerHour": pc.price_per_hour})
    await host.come_back()
    return host


async def _client(api: Api, plan: ClientPlan, seed: int) -> ClientSimulator:
    return await ClientSimulator.join(api, Person.named(plan.name), _keys(seed, plan.name))


def _visitor(town: Town, seed: int, client: ClientSimulator, plan: ClientPlan) -> Visitor:
    return Visitor(town, client, plan, Random(f"{seed}/{plan.name}/lot"))  # noqa: S311 - a game's, not a secret's


def _keys(seed: int, name: str) -> Callable[[], str]:
    """Idempotency-Keys of one person: the same in every day of this seed."""
    rng = Random(f"{seed}/{name}/keys")  # noqa: S311 - they are no secrets
    return lambda: f"{name}-{rng.getrandbits(64):016x}"


async def _in_order(jobs: Sequence[Callable[[], Awaitable[T]]]) -> tuple[T, ...]:
    """Some at a time; what each gives, in the order of the jobs."""
    results: dict[int, T] = {}
    limit = trio.CapacityLimiter(_AT_ONCE)

    async def do(n: int, job: Callable[[], Awaitable[T]]) -> None:
        async with limit:
            results[n] = await job()

    async with trio.open_nursery() as nursery:
        for n, job in enumerate(jobs):
            nursery.start_soon(do, n, job)
    return tuple(results[n] for n in range(len(jobs)))
