"""`relay`: what a message costs and how long it takes on its way, against relays on Node, in the same run."""

from collections.abc import Iterator, Sequence
import resource
from typing import Any, Final

from attrs import define, field

from scripts.benchmarks.measure import middle
from scripts.benchmarks.relay_peers import NODE, NODE_NATIVE, OURS, Party, Serving, add_parties, relays
from scripts.benchmarks.report import Report, Row, less_is_better, only_told
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

IDLE: Final = 10_000
IDLE_BAR_MIB: Final = 640.0
# Descriptors that the load and the relay need for other things.
_OTHER_DESCRIPTORS: Final = 512

_RUN_S: Final = 2.5
_WARM_UP_S: Final = 0.7
# What takes the samples of one run apart from none at all, where a run is a blink.
_QUICK_RUN_S: Final = 0.3

# What a pair of sockets does, with messages of so many bytes, so many a second.
Kind = tuple[str, int, float]
_SATURATED: Final[list[Kind]] = [("saturate", size, 0.0) for size in SIZES]
_STREAM: Final[Kind] = ("pace", STREAM_BYTES, STREAM_RATE)
_SMALL: Final[Kind] = ("pace", SMALL_BYTES, SMALL_RATE)


@define
class Found:
    """Of each work and each relay, what its rounds came to."""

    _runs: dict[tuple[Kind, str], list[dict[str, Any]]] = field(factory=dict)

    def add(self, work: Kind, name: str, done: dict[str, Any]) -> None:
        self._runs.setdefault((work, name), []).append(done)

    def has(self, name: str) -> bool:
        return any(name == other for _, other in self._runs)

    def cpu_us(self, work: Kind, name: str) -> float:
        return self._middle(work, name, lambda run: run["cpu_s"] / max(run["messages"], 1) * 1e6)

    def cpu_percent(self, work: Kind, name: str) -> float:
        return self._middle(work, name, lambda run: run["cpu_s"] / run["seconds"] * 100)

    def rate(self, work: Kind, name: str) -> float:
        return self._middle(work, name, lambda run: run["messages"] / run["seconds"])

    def figure(self, work: Kind, name: str, which: str) -> float:
        return self._middle(work, name, lambda run: run[which])

    def _middle(self, work: Kind, name: str, of: Any) -> float:
        return middle([of(run) for run in self._runs[work, name]])


async def measure(size: Size) -> Report:
    """Medians of the rounds; many rooms and idle sockets are ours alone, and the latter done once."""
    quick = size.divisor > 1
    sockets = min(size.count(IDLE), _possible_sockets())
    found = Found()
    async with database() as base:
        parties = await add_parties(base, max(size.count(ROOMS), sockets // 2))
        async with relays(base, peers=not quick) as (served, notes):
            for _ in range(size.rounds):
                for work in (*_SATURATED, _STREAM, _SMALL):
                    for relay in served:
                        found.add(work, relay.name, await _pair(relay, parties[0], work, size))
            crowd = [await _rooms(served[0], parties[: size.count(ROOMS)], size) for _ in range(size.rounds)]
        idle = await _idle(base, parties[: sockets // 2])
    rows = [*_saturated(found), *_streaming(found), *_small(found), *_many(crowd, idle)]
    return Report("relay", rows, [*notes, *_told(found, crowd)])


def _possible_sockets() -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return IDLE if most == resource.RLIM_INFINITY else max(2, most - _OTHER_DESCRIPTORS)


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


async def _idle(base: Database, parties: Sequence[Party]) -> dict[str, Any]:
    """On a relay that has done nothing else."""
    async with relays(base, peers=False) as (served, _):
        return await served[0].load("idle", parties)


# ---- the rows


def _peers(found: Found) -> list[str]:
    return [name for name in (NODE, NODE_NATIVE) if found.has(name)]


def _against(work: str, unit: str, ours: float, peers: dict[str, float], bar: float | None) -> Iterator[Row]:
    if not peers:
        yield only_told(work, unit, ours)
    for name, theirs in peers.items():
        yield less_is_better(work, unit, ours, theirs, name, bar=bar)


def _saturated(found: Found) -> Iterator[Row]:
    for work in _SATURATED:
        peers = {name: found.cpu_us(work, name) for name in _peers(found)}
        title = f"saturated, {_size(work[1])}: the relay's CPU"
        yield from _against(title, "µs a message", found.cpu_us(work, OURS), peers, 1.0)


def _streaming(found: Found) -> Iterator[Row]:
    peers = [name for name in _peers(found) if name == NODE_NATIVE]
    title = "25 MiB/s in 16 KiB"
    cpu = {name: found.cpu_percent(_STREAM, name) for name in peers}
    yield from _against(f"{title}: the relay's CPU", "% of a core", found.cpu_percent(_STREAM, OURS), cpu, 1.0)
    for which in ("p50", "p99"):
        took = {name: found.figure(_STREAM, name, f"{which}_us") for name in peers}
        yield from _against(
            f"{title}: on its way, {which}", "µs", found.figure(_STREAM, OURS, f"{which}_us"), took, 1.0
        )


def _small(found: Found) -> Iterator[Row]:
    peers = {name: found.cpu_percent(_SMALL, name) for name in _peers(found)}
    title = f"{SMALL_RATE:g} messages of {SMALL_BYTES} B a second: the relay's CPU"
    yield from _against(title, "% of a core", found.cpu_percent(_SMALL, OURS), peers, SMALL_BAR)


def _many(crowd: Sequence[dict[str, Any]], idle: dict[str, Any]) -> Iterator[Row]:
    p99_ms = middle([run["p99_us"] for run in crowd]) / 1000
    title = f"{crowd[0]['rooms']} rooms at 256 KiB/s: control messages, p99"
    yield less_is_better(title, "ms", p99_ms, CONTROL_BAR_MS, "bar", bar=1.0)
    title = f"{idle['sockets']:,} idle sockets: resident memory"
    yield less_is_better(title, "MiB", idle["rss_bytes"] / MIB, IDLE_BAR_MIB, "bar", bar=1.0)


def _told(found: Found, crowd: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What there is no bar for."""
    for work in _SATURATED:
        for name in (OURS, *_peers(found)):
            share, load_s = found.cpu_percent(work, name), found.figure(work, name, "load_cpu_s")
            yield (
                f"saturated, {_size(work[1])}, {name}: {found.rate(work, name):,.0f} messages/s; "
                f"the relay took {share:.0f} % of a core, the load {load_s:.1f} s"
            )
    rooms = crowd[0]
    cpu, p50_ms = rooms["cpu_s"] / rooms["seconds"] * 100, middle([run["p50_us"] for run in crowd]) / 1000
    yield (
        f"rooms: {rooms['controls']} control messages, p50 {p50_ms:.2f} ms; {rooms['pictures']} pictures; "
        f"the relay took {cpu:.0f} % of a core, the load {rooms['load_cpu_s']:.1f} s"
    )


def _size(count: int) -> str:
    return f"{count // KIB} KiB" if count % KIB == 0 else f"{count} B"
