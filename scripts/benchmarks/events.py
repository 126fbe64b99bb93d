"""`events`: taken from a backend, run on routers and acknowledged; against the straightforward program. How long from paid to online. What is known."""

from typing import Final

from attrs import frozen
import trio

from opendesk.postgres.driver import TrioConnection
from scripts.benchmarks.events_known import recognized_ms
from scripts.benchmarks.events_made import MIX
from scripts.benchmarks.events_world import POLL_MS, Ran, site
from scripts.benchmarks.measure import middle, percentile
from scripts.benchmarks.people import settle_down
from scripts.benchmarks.report import Report, Row, less_is_better, more_is_better, only_told
from scripts.benchmarks.routers_child import child
from scripts.benchmarks.routers_devices import LATENCY_S
from scripts.benchmarks.routers_peer import THREADS
from scripts.benchmarks.routers_world import Fleet
from scripts.benchmarks.servers import Database, database
from scripts.benchmarks.sizes import Size

RATE_BAR: Final = 500.0
P50_BAR_MS: Final = 500.0
P99_BAR_MS: Final = 1_500.0
KNOWN_BAR_MS: Final = 20.0

EVENTS: Final = 10_000
ROUTERS: Final = 100
# The peer gets fewer: it is asked how many a second, and takes longer for each.
_PEERS: Final = 2_000
_WARM_UP: Final = 1_000
# Spread so that no two are fetched together, but by chance, over the devices of some routers.
_SPREAD: Final = 300
_SPREAD_S: Final = 30.0
_SPREAD_ROUTERS: Final = 10
KNOWN: Final = 1_000_000
DUPLICATES: Final = 100
# At its slowest.
_PEER_S: Final = 240.0
# What comes with connecting to routers is over, and the daemon has fetched once.
_SETTLE_S: Final = 2.0

# Devices' numbers: a round has a range of its own.
_APART: Final = 20_000


@frozen
class _Peer:
    a_second: float
    cpu_us: float


async def measure(size: Size) -> Report:
    async with database() as base, base.connection() as conn:
        ours, peers, paid_ms = list[Ran](), list[_Peer](), list[float]()
        for number in range(size.rounds):
            ours.append(await _ours(base, conn, size, number))
            peers.append(await _peer(base, size, number))
            await settle_down(conn)
        for number in range(size.rounds):
            paid_ms += await _paid_to_online(base, size, number)
    known_ms = await recognized_ms(size.count(KNOWN), size.count(DUPLICATES), size.rounds)
    rows = [*_rate_rows(ours, peers, size), *_paid_rows(paid_ms), *_known_rows(known_ms, size)]
    return Report("events", rows, _notes(ours))


async def _ours(base: Database, conn: TrioConnection, size: Size, number: int) -> Ran:
    """Routers that hold nothing yet, each time: what a simulated one takes grows with what it holds."""
    first, count = 2 * number * _APART, size.count(_WARM_UP)
    async with site(base, Fleet(f"ours-{number}", size.count(ROUTERS), latency_s=0.0)) as found:
        await trio.sleep(size.seconds(_SETTLE_S))
        await found.run(first, count)
        await settle_down(conn)
        return await found.run(first + count, size.count(EVENTS))


async def _peer(base: Database, size: Size, number: int) -> _Peer:
    first, count = (2 * number + 1) * _APART, size.count(_PEERS)
    async with (
        child("events_backend") as backend,
        child("routers_simulated") as simulated,
        child("events_peer") as peer,
    ):
        told = {"name": "peer", "count": size.count(ROUTERS), "latency_s": 0.0, "black_holes": 0.0, "refusing": 0.0}
        nodes = (await simulated.ask(told))["nodes"]
        await simulated.ask({"ask": "phones", "first": first, "count": count})
        port, routers = await backend.ask({"ask": "port"}), [node["id"] for node in nodes]
        offer = {"ask": "offer", "kind": "mixed", "first": first, "count": count, "seconds": 0.0, "routers": routers}
        await backend.ask(offer)
        work = {"port": port, "nodes": nodes, "conninfo": base.conninfo, "count": count, "within_s": _PEER_S}
        done = await peer.ask(work, within_s=_PEER_S)
        acked = await backend.ask({"ask": "acked", "within_s": 1.0})
    if faults := [*done["failures"], *acked["faults"]]:
        raise RuntimeError(f"the peer failed: {faults[0]}")
    return _Peer(count / acked["seconds"], done["cpu_s"] / count * 1e6)


async def _paid_to_online(base: Database, size: Size, number: int) -> list[float]:
    first, count = (2 * size.rounds + number) * _APART, size.count(_SPREAD)
    async with site(base, Fleet(f"paid-{number}", size.count(_SPREAD_ROUTERS))) as found:
        await found.spread(first, size.count(_SPREAD), size.seconds(_SETTLE_S))
        took_s = await found.spread(first + count, count, size.seconds(_SPREAD_S))
    return [each * 1000 for each in took_s]


# ---- what is told


def _rate_rows(ours: list[Ran], peers: list[_Peer], size: Size) -> list[Row]:
    name = f"httpx, psycopg, routeros-api, {THREADS} threads"
    work = f"{size.count(EVENTS)} events over {size.count(ROUTERS)} routers with no latency: taken, run, acked"
    rate, cpu_us = [run.count / run.seconds for run in ours], [run.us(run.cpu.daemon) for run in ours]
    return [
        more_is_better(work, "events/s", middle(rate), RATE_BAR, "bar", bar=1.0),
        more_is_better(work, "events/s", middle(rate), middle([each.a_second for each in peers]), name),
        less_is_better(
            f"{work}: CPU, without PostgreSQL's",
            "µs each",
            middle(cpu_us),
            middle([each.cpu_us for each in peers]),
            name,
        ),
        only_told(f"{work}: CPU of PostgreSQL", "µs each", middle([run.us(run.cpu.postgres) for run in ours])),
    ]


def _paid_rows(paid_ms: list[float]) -> list[Row]:
    work = f"paid to online, router at {LATENCY_S * 1000:g} ms, poll {POLL_MS} ms, {len(paid_ms)} events"
    return [
        less_is_better(f"{work}: p50", "ms", middle(paid_ms), P50_BAR_MS, "bar", bar=1.0),
        less_is_better(f"{work}: p99", "ms", percentile(paid_ms), P99_BAR_MS, "bar", bar=1.0),
    ]


def _known_rows(known_ms: list[float], size: Size) -> list[Row]:
    work = f"{size.count(DUPLICATES)} duplicates among {size.count(KNOWN)} known events: recognized, their ACKs written"
    return [less_is_better(work, "ms", middle(known_ms), KNOWN_BAR_MS, "bar", bar=1.0)]


def _notes(ours: list[Ran]) -> list[str]:
    backend_us, routers_us = (
        middle([run.us(seconds) for run, seconds in zip(ours, found, strict=True)])
        for found in ([run.backend_s for run in ours], [run.routers_s for run in ours])
    )
    return [
        f"the events: {MIX}",
        f"on the same cores, for each event: the backend took {backend_us:.0f} µs, the simulated routers {routers_us:.0f} µs",
    ]
