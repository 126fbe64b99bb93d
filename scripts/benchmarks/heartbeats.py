"""`heartbeats`: many hosts that beat over HTTP, and the CPU that a beat takes of the server and of PostgreSQL together."""

from contextlib import AsyncExitStack
from typing import Final

from attrs import evolve

from benchmarks.driving import Done, Work, drive
from benchmarks.measure import middle
from benchmarks.people import add_hosts, settle_down
from benchmarks.report import Report, Row, less_is_better, only_told
from benchmarks.servers import OURS, PEER, database, serving
from benchmarks.sizes import Size

HOSTS: Final = 10_000
PERIOD_S: Final = 10
BAR: Final = 3.0

# Kept open, each for the beats of ten hosts in turn, as behind a proxy that keeps its connections: one a host would be more
# than what a daemon holds at once.
CONNECTIONS: Final = 1_000
_SECONDS: Final = 20.0

# The peers get one host in so many: with all of them the slower one only queues, which takes more CPU a beat, not less.
PEERS_PART: Final = 2

_SERVERS: Final = {
    "ours": OURS,
    "one UPDATE, hypercorn + quart-trio": (*PEER, "stock", "single"),
    "one UPDATE, our own server": (*PEER, "ours", "single"),
}


async def measure(size: Size) -> Report:
    """The peers look up who beats and write it down by one UPDATE, the least that a beat written for itself can be."""
    hosts = size.of(HOSTS)
    async with database() as base, base.connection() as conn, AsyncExitStack() as stack:
        people = await add_hosts(conn, "beat", hosts)
        await settle_down(conn)
        work = Work("beats", people, size.of(CONNECTIONS), size.of(_SECONDS), rate=hosts / PERIOD_S)
        part = evolve(
            work,
            people=people[: max(1, hosts // PEERS_PART)],
            connections=max(1, work.connections // PEERS_PART),
            rate=hosts / PERIOD_S / PEERS_PART,
        )
        servers = {
            name: await stack.enter_async_context(serving(base, command, environ=_PATIENT))
            for name, command in _SERVERS.items()
        }
        works = dict(zip(servers, (work, part, part), strict=True))
        for name, server in servers.items():
            await drive(server, evolve(works[name], seconds=size.of(float(PERIOD_S))))  # every host once
        rounds = [{name: await drive(servers[name], works[name]) for name in works} for _ in range(size.rounds)]
    found = {name: [done[name] for done in rounds] for name in servers}
    mine, stock, single = found.values()
    notes = [
        f"{hosts} hosts every {PERIOD_S} s on {work.connections} kept connections, {work.seconds:g} s a round",
        f"the peers get {part.rate:g} beats a second on {part.connections} connections: at {work.rate:g} one of them falls behind",
    ]
    return Report("heartbeats", [*_rows(mine, stock, single)], notes)


# Who is silent while the others are measured is no news.
_PATIENT: Final = {"HOST_HEARTBEAT_TIMEOUT_MS": "3600000"}


def _rows(mine: list[Done], stock: list[Done], single: list[Done]) -> list[Row]:
    names = list(_SERVERS)[1:]
    in_all, daemon = "a beat: CPU of server and PostgreSQL", "a beat: CPU of the server alone"
    rows = [
        less_is_better(in_all, "µs a beat", _in_all(mine), _in_all(theirs), name, bar=BAR)
        for name, theirs in zip(names, (stock, single), strict=True)
    ]
    rows += [
        less_is_better(daemon, "µs a beat", _of_server(mine), _of_server(theirs), name)
        for name, theirs in zip(names, (stock, single), strict=True)
    ]
    return [*rows, only_told("a beat: until it is answered, p99", "ms", middle([done.p99_ms for done in mine]))]


def _in_all(rounds: list[Done]) -> float:
    return middle([done.cpu_us(done.cpu.in_all) for done in rounds])


def _of_server(rounds: list[Done]) -> float:
    return middle([done.cpu_us(done.cpu.daemon) for done in rounds])
