"""`heartbeats`: many hosts that beat over HTTP, and the CPU that a beat takes of the server and of PostgreSQL together."""

from contextlib import AsyncExitStack
from typing import Final

from attrs import evolve

from scripts.benchmarks.driving import Done, Work, drive
from scripts.benchmarks.measure import middle
from scripts.benchmarks.people import add_hosts, settle_down
from scripts.benchmarks.report import Report, Row, less_is_better, only_told
from scripts.benchmarks.servers import OURS, PEER, database, serving
from scripts.benchmarks.sizes import Size

HOSTS: Final = 10_000
PERIOD_S: Final = 10
BAR: Final = 3.0

# Kept open, each for the beats of ten hosts in turn, as behind a proxy that keeps its connections: one a host would be more
# than what a daemon holds at once.
CONNECTIONS: Final = 1_000
_SECONDS: Final = 20.0

# The peers get one host in so many: with all of them the slower one only queues, which takes more CPU a beat, not less.
PEERS_PART: Final = 2

_OURS: Final = "ours"
_STOCK: Final = "one UPDATE, hypercorn + quart-trio"
_OWN_SERVER: Final = "one UPDATE, our own server"
_FUSED: Final = "one fused statement, our hot path"
_SERVERS: Final = {
    _OURS: OURS,
    _STOCK: (*PEER, "stock", "ordinary"),
    _OWN_SERVER: (*PEER, "ours", "ordinary"),
    _FUSED: (*PEER, "ours", "fused"),
}
# The fused one is no way that anybody would write it: it is told to show what is due to the batch alone.
_WITH_BAR: Final = (_STOCK, _OWN_SERVER)


async def measure(size: Size) -> Report:
    """The peers are the daemon with another handler: it looks the caller up, as every call does, and writes by one UPDATE."""
    hosts = size.count(HOSTS)
    async with database() as base, base.connection() as conn, AsyncExitStack() as stack:
        people = await add_hosts(conn, "beat", hosts)
        await settle_down(conn)
        work = Work("beats", people, size.count(CONNECTIONS), size.seconds(_SECONDS), rate=hosts / PERIOD_S)
        part = evolve(
            work,
            people=people[: max(1, hosts // PEERS_PART)],
            connections=max(1, work.connections // PEERS_PART),
            rate=hosts / PERIOD_S / PEERS_PART,
        )
        servers = {name: await stack.enter_async_context(serving(base, command)) for name, command in _SERVERS.items()}
        works = {name: work if name == _OURS else part for name in servers}
        for name, server in servers.items():
            await drive(server, evolve(works[name], seconds=size.seconds(float(PERIOD_S))))  # every host once
        rounds = [{name: await drive(servers[name], works[name]) for name in works} for _ in range(size.rounds)]
    found = {name: [done[name] for done in rounds] for name in servers}
    notes = [
        f"{hosts} hosts every {PERIOD_S} s on {work.connections} kept connections, {work.seconds:g} s a round",
        f"the peers get {part.rate:g} beats a second on {part.connections} connections: at {work.rate:g} one of them falls behind",
    ]
    return Report("heartbeats", _rows(found), notes)


def _rows(found: dict[str, list[Done]]) -> list[Row]:
    mine = found[_OURS]
    peers = [name for name in found if name != _OURS]
    in_all = [
        less_is_better(
            "a beat: CPU of server and PostgreSQL",
            "µs a beat",
            _in_all(mine),
            _in_all(found[name]),
            name,
            bar=BAR if name in _WITH_BAR else None,
        )
        for name in peers
    ]
    daemon = [
        less_is_better("a beat: CPU of the server alone", "µs a beat", _of_server(mine), _of_server(found[name]), name)
        for name in peers
    ]
    return [
        *in_all,
        *daemon,
        only_told("a beat: until it is answered, p99", "ms", middle([done.p99_ms for done in mine])),
    ]


def _in_all(rounds: list[Done]) -> float:
    return middle([done.cpu_us(done.cpu.in_all) for done in rounds])


def _of_server(rounds: list[Done]) -> float:
    return middle([done.cpu_us(done.cpu.daemon) for done in rounds])
