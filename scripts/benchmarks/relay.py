"""`relay`: what a message costs and how long it takes on its way, against relays on Node, and against a plain copy, in the same run."""

from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from attrs import define, field

from opendesk.web.http.limits import Limits
from scripts.benchmarks.measure import middle
from scripts.benchmarks.relay_peers import (
    NODE,
    NODE_NATIVE,
    NODE_TLS,
    OURS,
    OURS_TLS,
    Party,
    Serving,
    add_parties,
    ours,
    relays,
)
from scripts.benchmarks.relay_proxies import HAPROXY, SOCAT, proxies
from scripts.benchmarks.relay_sockets import raise_descriptor_limit
from scripts.benchmarks.report import Report, Row, less_is_better, more_is_better, only_told
from scripts.benchmarks.servers import Database, database
from scripts.benchmarks.sizes import Size

KIB: Final = 1024
MIB: Final = 1024 * KIB

SIZES: Final = (1200, 16 * KIB, 256 * KIB)
STREAM_BYTES: Final = 16 * KIB
STREAM_RATE: Final = 1600.0  # 25 MiB/s
SMALL_BYTES: Final = 1200
SMALL_RATE: Final = 5000.0
# Each of the small ones wakes the loop, which costs Trio more than Node.
SMALL_BAR: Final = 1 / 1.5

ROOMS: Final = 200
ROOM_RATE: Final = 16.0  # 256 KiB/s in messages of 16 KiB
PINGS_A_SECOND: Final = 500.0
ROOMS_S: Final = 6.0
CONTROL_BAR_MS: Final = 10.0

FAIR_ROOMS: Final = 50
FAIR_S: Final = 5.0
FAIR_BAR: Final = 0.98
# So few that shares still mean something, where things are quick.
_LEAST_FAIR_ROOMS: Final = 4

IDLE: Final = 10_000
IDLE_BAR_MIB: Final = 640.0

_RUN_S: Final = 2.5
_WARM_UP_S: Final = 0.7
# What takes the samples of one run apart from none at all, where a run is a blink.
_QUICK_RUN_S: Final = 0.3

# What a pair of sockets does, with messages of so many bytes, so many a second.
Kind = tuple[str, int, float]
_SATURATED: Final[list[Kind]] = [("saturate", size, 0.0) for size in SIZES]
_STREAM: Final[Kind] = ("pace", STREAM_BYTES, STREAM_RATE)
_SMALL: Final[Kind] = ("pace", SMALL_BYTES, SMALL_RATE)
_AS_A_STREAM: Final[Kind] = ("saturate", STREAM_BYTES, 0.0)

_ALL: Final = (*_SATURATED, _STREAM, _SMALL)
# Of what isn't a relay as ours without TLS is.
_TOLD: Final = (_AS_A_STREAM, _STREAM)


@define
class Found:
    """Of each work and each relay, what its rounds came to."""

    _runs: dict[tuple[Kind, str], list[dict[str, Any]]] = field(factory=dict)

    def add(self, work: Kind, name: str, done: dict[str, Any]) -> None:
        self._runs.setdefault((work, name), []).append(done)

    def has(self, name: str) -> bool:
        return any(name == other for _, other in self._runs)

    def names(self, work: Kind) -> list[str]:
        return [name for of, name in self._runs if of == work]

    def cpu_us(self, work: Kind, name: str) -> float:
        return self._middle(work, name, lambda run: run["cpu_s"] / max(run["messages"], 1) * 1e6)

    def cpu_percent(self, work: Kind, name: str) -> float:
        return self._middle(work, name, lambda run: run["cpu_s"] / run["seconds"] * 100)

    def load_percent(self, work: Kind, name: str) -> float:
        """What the load took itself: where that is its whole core, the relay could have done more."""
        return self._middle(work, name, lambda run: run["load_cpu_s"] / run["seconds"] * 100)

    def rate(self, work: Kind, name: str) -> float:
        return self._middle(work, name, lambda run: run["messages"] / run["seconds"])

    def figure(self, work: Kind, name: str, which: str) -> float:
        return self._middle(work, name, lambda run: run[which])

    def _middle(self, work: Kind, name: str, of: Any) -> float:
        return middle([of(run) for run in self._runs[work, name]])


async def measure(size: Size) -> Report:
    """Medians of the rounds; many rooms and idle sockets are ours alone, and the latter done once."""
    sockets, rooms, fair_rooms = _counts(size)
    found = Found()
    async with database() as base:
        parties = await add_parties(base, max(rooms, fair_rooms, sockets // 2))
        async with AsyncExitStack() as stack:
            served, notes = await stack.enter_async_context(relays(base, peers=size.divisor == 1))
            plain, missing = await stack.enter_async_context(proxies())
            for _ in range(size.rounds):
                for relay, work in ((relay, work) for work in _ALL for relay in (*served, *plain)):
                    if work in _works(relay):
                        found.add(work, relay.name, await _pair(relay, parties[0], work, size))
            crowd = [await _rooms(served[0], parties[:rooms], size) for _ in range(size.rounds)]
            shares = [await _shares(served[0], parties[:fair_rooms], size) for _ in range(size.rounds)]
        idle = await _idle(base, parties[: sockets // 2])
    rows = [*_saturated(found), *_streaming(found), *_small(found), *_tls(found), *_ceiling(found)]
    rows += _many(crowd, shares, idle)
    return Report("relay", rows, [*notes, *missing, *_told(found), *_told_of_many(crowd[0], shares[0])])


def _counts(size: Size) -> tuple[int, int, int]:
    """How many sockets are idle, and how many rooms there are of the two sorts."""
    raise_descriptor_limit()
    # As many as our relay lets in with the descriptors there are.
    idle = min(size.count(IDLE), Limits().within_descriptors().upgraded)
    return idle, size.count(ROOMS), max(size.count(FAIR_ROOMS), _LEAST_FAIR_ROOMS)


def _works(relay: Serving) -> Sequence[Kind]:
    return _ALL if relay.name in {OURS, NODE, NODE_NATIVE} else _TOLD


# ---- the runs


async def _pair(relay: Serving, party: Party, work: Kind, size: Size) -> dict[str, Any]:
    kind, message_bytes, rate = work
    times = {"warm_up": size.seconds(_WARM_UP_S), "seconds": max(size.seconds(_RUN_S), _QUICK_RUN_S)}
    done = await relay.load(kind, [party], size=message_bytes, rate=rate, **times)
    if not done["messages"]:
        raise RuntimeError(f"{relay.name} relayed nothing of {message_bytes} bytes")
    return done


async def _rooms(relay: Serving, parties: Sequence[Party], size: Size) -> dict[str, Any]:
    return await relay.load(
        "rooms",
        parties,
        scopes=[(party.host.scope, party.client.scope) for party in parties],
        size=STREAM_BYTES,
        rate=ROOM_RATE * len(parties),
        pings=max(PINGS_A_SECOND / size.divisor, 20.0),
        seconds=max(size.seconds(ROOMS_S), _QUICK_RUN_S),
    )


async def _shares(relay: Serving, parties: Sequence[Party], size: Size) -> dict[str, Any]:
    times = {"warm_up": size.seconds(_WARM_UP_S), "seconds": max(size.seconds(FAIR_S), _QUICK_RUN_S)}
    return await relay.load("fairness", parties, size=STREAM_BYTES, **times)


async def _idle(base: Database, parties: Sequence[Party]) -> dict[str, Any]:
    """On a relay that has done nothing else."""
    async with ours(base, {}) as relay:
        return await relay.load("idle", parties)


# ---- the rows


def _peers(found: Found, *names: str) -> list[str]:
    return [name for name in names or (NODE, NODE_NATIVE) if found.has(name)]


def _against(work: str, unit: str, our_own: float, peers: dict[str, float], bar: float | None) -> Iterator[Row]:
    if not peers:
        yield only_told(work, unit, our_own)
    for name, theirs in peers.items():
        yield less_is_better(work, unit, our_own, theirs, name, bar=bar)


def _saturated(found: Found) -> Iterator[Row]:
    for work in _SATURATED:
        yield from _cpu_a_message(found, work, f"saturated, {_size(work[1])}", OURS, _peers(found), bar=1.0)


def _streaming(found: Found) -> Iterator[Row]:
    yield from _stream(found, "25 MiB/s in 16 KiB", OURS, _peers(found, NODE_NATIVE), bar=1.0)


def _small(found: Found) -> Iterator[Row]:
    peers = {name: found.cpu_percent(_SMALL, name) for name in _peers(found)}
    title = f"{SMALL_RATE:g} messages of {SMALL_BYTES} B a second: the relay's CPU"
    yield from _against(title, "% of a core", found.cpu_percent(_SMALL, OURS), peers, SMALL_BAR)


def _tls(found: Found) -> Iterator[Row]:
    peers = _peers(found, NODE_TLS)
    yield from _cpu_a_message(found, _AS_A_STREAM, "TLS, saturated, 16 KiB", OURS_TLS, peers)
    yield from _stream(found, "TLS, 25 MiB/s in 16 KiB", OURS_TLS, peers)


def _ceiling(found: Found) -> Iterator[Row]:
    """Ours again, beside what only copies: no relay does less."""
    peers = _peers(found, HAPROXY, SOCAT)
    if peers:
        yield from _cpu_a_message(found, _AS_A_STREAM, "ceiling, saturated, 16 KiB", OURS, peers)
        yield from _stream(found, "ceiling, 25 MiB/s in 16 KiB", OURS, peers)


def _cpu_a_message(
    found: Found, work: Kind, title: str, our_own: str, peers: Sequence[str], *, bar: float | None = None
) -> Iterator[Row]:
    theirs = {name: found.cpu_us(work, name) for name in peers}
    yield from _against(f"{title}: the relay's CPU", "µs a message", found.cpu_us(work, our_own), theirs, bar)


def _stream(found: Found, title: str, our_own: str, peers: Sequence[str], *, bar: float | None = None) -> Iterator[Row]:
    cpu = {name: found.cpu_percent(_STREAM, name) for name in peers}
    yield from _against(f"{title}: the relay's CPU", "% of a core", found.cpu_percent(_STREAM, our_own), cpu, bar)
    for which in ("p50", "p99"):
        took = {name: found.figure(_STREAM, name, f"{which}_us") for name in peers}
        our_figure = found.figure(_STREAM, our_own, f"{which}_us")
        yield from _against(f"{title}: on its way, {which}", "µs", our_figure, took, bar)


def _many(crowd: Sequence[dict[str, Any]], shares: Sequence[dict[str, Any]], idle: dict[str, Any]) -> Iterator[Row]:
    p99_ms = middle([run["p99_us"] for run in crowd]) / 1000
    title = f"{crowd[0]['rooms']} rooms at 256 KiB/s: control messages, p99"
    yield less_is_better(title, "ms", p99_ms, CONTROL_BAR_MS, "bar", bar=1.0)
    title = f"{shares[0]['rooms']} saturating rooms: Jain's index of bytes relayed"
    yield more_is_better(title, "index", middle([run["index"] for run in shares]), FAIR_BAR, "bar", bar=1.0)
    title = f"{idle['sockets']:,} idle sockets: resident memory"
    yield less_is_better(title, "MiB", idle["rss_bytes"] / MIB, IDLE_BAR_MIB, "bar", bar=1.0)


# ---- what there is no bar for


def _told(found: Found) -> Iterator[str]:
    for work in _SATURATED:
        for name in found.names(work):
            share, load = found.cpu_percent(work, name), found.load_percent(work, name)
            yield (
                f"saturated, {_size(work[1])}, {name}: {found.rate(work, name):,.0f} messages/s; "
                f"the relay took {share:.0f} % of a core, the load {load:.0f} %"
            )


def _told_of_many(rooms: dict[str, Any], shares: dict[str, Any]) -> Iterator[str]:
    p50_ms = rooms["p50_us"] / 1000
    yield (
        f"rooms: {rooms['controls']} control messages, p50 {p50_ms:.2f} ms; {rooms['pictures']} pictures; {_taken(rooms)}"
    )
    least, most = (shares[which] / MIB / shares["seconds"] for which in ("least", "most"))
    rate = shares["bytes"] / MIB / shares["seconds"]
    yield f"saturating rooms: {rate:,.0f} MiB/s, from {least:.2f} to {most:.2f} each; {_taken(shares)}"


def _taken(run: dict[str, Any]) -> str:
    relay, load = (run[which] / run["seconds"] * 100 for which in ("cpu_s", "load_cpu_s"))
    return f"the relay took {relay:.0f} % of a core, the load {load:.0f} %"


def _size(count: int) -> str:
    return f"{count // KIB} KiB" if count % KIB == 0 else f"{count} B"
