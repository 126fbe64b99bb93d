"""`routers`: hotspots at 50 ms, from one to a thousand of them, some dead; against `routeros-api` in a pool of threads."""

from typing import Final

from attrs import evolve, frozen
import trio

from scripts.benchmarks import job_queue
from scripts.benchmarks.measure import middle, percentile
from scripts.benchmarks.people import settle_down
from scripts.benchmarks.report import Report, Row, less_is_better, more_is_better, only_told
from scripts.benchmarks.routers_child import child
from scripts.benchmarks.routers_once import Once, once
from scripts.benchmarks.routers_peer import THREADS
from scripts.benchmarks.routers_world import Done, Fleet, Load, World, world
from scripts.benchmarks.servers import Database, database
from scripts.benchmarks.sizes import Size

ROUND_TRIPS_BAR: Final = 3.0
IDLE_CPU_BAR: Final = 5.0
IDLE_MEMORY_BAR_MIB: Final = 300.0
DEAD_BAR: Final = 1.5
PEER_BAR: Final = 5.0

ROUTERS: Final = 1_000
BLACK_HOLES: Final = 0.3
REFUSING: Final = 0.02

# One router: so many authorizations a round.
_ONCE: Final = 20
# A thousand of them: until what comes with the connecting is over; then so long a window. The daemon looks at each router every 30 s.
_SETTLE_S: Final = 10.0
_IDLE_S: Final = 30.0
# With dead ones among them: authorizations a second over all, for so long. Dead ones hold up their callers for 8 s.
_RATE: Final = 50.0
_CONNECTIONS: Final = 400
_DEAD_S: Final = 30.0
# Against the peer.
_PEER_ROUTERS: Final = 200
_CALLERS: Final = 256
_PEER_S: Final = 8.0
_PHONES: Final = 6_000
_WARM_UP_S: Final = 2.0

# Devices' numbers: a round has a range of its own.
_APART: Final = 20_000


@frozen
class _Idle:
    cpu_percent: float
    postgres_percent: float
    memory_mib: float


@frozen
class _Peer:
    a_second: float
    cpu_us: float


async def measure(size: Size) -> Report:
    async with database() as base, base.connection() as conn:
        onces = await _one_router(base, size)
        await settle_down(conn)
        idles = await _kept_connected(base, size)
        dead = [await _some_dead(base, size, number) for number in range(size.rounds)]
        await settle_down(conn)
        ours, peers = await _against_the_peer(base, size)
    jobs = await job_queue.measure(size)
    rows = [*_once_rows(onces), *_idle_rows(idles, size), *_dead_rows(dead, size), *_peer_rows(ours, peers, size)]
    return Report("routers", [*rows, *jobs.rows], _notes(idles, dead, ours))


async def _one_router(base: Database, size: Size) -> list[Once]:
    async with world(base, Fleet("one", 1)) as found:
        await once(found, 0, 3)
        return [await once(found, (number + 1) * _APART, size.count(_ONCE)) for number in range(size.rounds)]


async def _kept_connected(base: Database, size: Size) -> list[_Idle]:
    async with world(base, Fleet("idle", size.count(ROUTERS))) as found:
        await trio.sleep(size.seconds(_SETTLE_S))
        return [await _idle(found, size.seconds(_IDLE_S)) for _ in range(size.rounds)]


async def _idle(found: World, seconds: float) -> _Idle:
    before, begun_s = found.served.cpu(), trio.current_time()
    await trio.sleep(seconds)
    used, took_s = found.served.cpu() - before, trio.current_time() - begun_s
    memory_mib = found.served.process.memory_info().rss / 2**20
    return _Idle(used.daemon / took_s * 100, used.postgres / took_s * 100, memory_mib)


async def _some_dead(base: Database, size: Size, number: int) -> tuple[Done, Done]:
    """The same load, without dead ones and with them, from when all that live are connected to: no circuit is open yet."""
    count = size.count(ROUTERS)
    async with world(base, Fleet(f"well-{number}", count)) as found:
        without = await _at_a_rate(found, number, size)
    async with world(base, Fleet(f"sick-{number}", count, BLACK_HOLES, REFUSING)) as found:
        return without, await _at_a_rate(found, number, size)


async def _at_a_rate(found: World, number: int, size: Size) -> Done:
    load = Load(2 * number * _APART, size.count(_CONNECTIONS), size.seconds(_DEAD_S), _RATE)
    await found.drive(evolve(load, first=load.first + _APART, seconds=size.seconds(_WARM_UP_S)))
    return await found.drive(load)


async def _against_the_peer(base: Database, size: Size) -> tuple[list[Done], list[_Peer]]:
    ours, peers = list[Done](), list[_Peer]()
    async with world(base, Fleet("peer", size.count(_PEER_ROUTERS))) as found:
        await found.drive(_flat_out(1, size, size.seconds(_WARM_UP_S)))
        for number in range(size.rounds):
            ours.append(await found.drive(await _with_phones(found, 2 * number + 2, size)))
            peers.append(await _peer(found, 2 * number + 3, size))
    return ours, peers


def _flat_out(number: int, size: Size, seconds: float) -> Load:
    return Load(number * _APART, size.count(_CALLERS), seconds)


async def _with_phones(found: World, number: int, size: Size) -> Load:
    await found.phones(number * _APART, size.count(_PHONES))
    return _flat_out(number, size, size.seconds(_PEER_S))


async def _peer(found: World, number: int, size: Size) -> _Peer:
    await found.phones(number * _APART, size.count(_PHONES))
    async with child("routers_peer") as peer:
        told = {"first": number * _APART, "nodes": found.nodes, "seconds": size.seconds(_PEER_S)}
        heard = await peer.ask(told, within_s=size.seconds(_PEER_S))
    if heard["failures"]:
        raise RuntimeError(f"the peer failed: {heard['failures'][0]}")
    count = len(heard["took_s"])
    return _Peer(count / heard["seconds"], heard["cpu_s"] / max(count, 1) * 1e6)


# ---- what is told


def _once_rows(found: list[Once]) -> list[Row]:
    work = "authorize, one router at 50 ms, warm: from HTTP request to answer"
    return [
        less_is_better(
            work, "round trips", middle([each.round_trips for each in found]), ROUND_TRIPS_BAR, "bar", bar=1.0
        ),
        only_told(work, "ms", middle([each.ms for each in found])),
    ]


def _idle_rows(found: list[_Idle], size: Size) -> list[Row]:
    work = f"{size.count(ROUTERS)} routers kept connected, idle"
    return [
        less_is_better(
            f"{work}: CPU", "% of a core", middle([each.cpu_percent for each in found]), IDLE_CPU_BAR, "bar", bar=1.0
        ),
        less_is_better(
            f"{work}: memory", "MiB", max(each.memory_mib for each in found), IDLE_MEMORY_BAR_MIB, "bar", bar=1.0
        ),
    ]


def _dead_rows(found: list[tuple[Done, Done]], size: Size) -> list[Row]:
    """As far as the bar allows: 1 is 1.5 times as long as without dead ones."""
    without, with_dead = [[percentile(each.took_s) * 1000 for each in side] for side in zip(*found, strict=True)]
    work = f"{size.count(ROUTERS)} routers, {BLACK_HOLES:.0%} black holes: p99 of healthy ones' authorizations"
    return [
        less_is_better(work, "ms", middle(with_dead), middle(without), "none dead", bar=1 / DEAD_BAR),
    ]


def _peer_rows(ours: list[Done], peers: list[_Peer], size: Size) -> list[Row]:
    name = f"routeros-api, {THREADS} threads, a connection each time"
    work = f"authorizations over {size.count(_PEER_ROUTERS)} routers"
    return [
        more_is_better(
            work,
            "a second",
            middle([len(done.took_s) / done.seconds for done in ours]),
            middle([peer.a_second for peer in peers]),
            name,
            bar=PEER_BAR,
        ),
        less_is_better(
            f"{work}: CPU, without PostgreSQL's",
            "µs each",
            middle([done.cpu_us(done.cpu.daemon) for done in ours]),
            middle([peer.cpu_us for peer in peers]),
            name,
        ),
        only_told(f"{work}: CPU of PostgreSQL", "µs each", middle([done.cpu_us(done.cpu.postgres) for done in ours])),
        only_told(f"{work}: p99", "ms", middle([percentile(done.took_s) * 1000 for done in ours])),
    ]


def _notes(idles: list[_Idle], dead: list[tuple[Done, Done]], ours: list[Done]) -> list[str]:
    refused = dead[-1][1].refused
    healthy = len(dead[-1][1].took_s)
    simulators = middle([done.simulators_s / done.seconds for done in ours])
    return [
        f"idle: PostgreSQL took {middle([each.postgres_percent for each in idles]):.1f} % of a core besides",
        f"{healthy} authorizations of healthy routers; callers of dead ones were told "
        + ", ".join(f"{status} ({count})" for status, count in sorted(refused.items())),
        f"against routeros-api: the simulated routers took {simulators:.0%} of a core while ours was measured",
    ]
