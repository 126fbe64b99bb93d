"""`sessions-http`: the same rental over HTTP: the CPU that it takes, and how long answers take while half of what is possible is asked for."""

from typing import Final

from attrs import evolve

from scripts.benchmarks.driving import Done, Work, drive
from scripts.benchmarks.measure import middle
from scripts.benchmarks.people import add_renters, settle_down
from scripts.benchmarks.report import Report, Row, less_is_better, more_is_better
from scripts.benchmarks.servers import PEER, Served, database, serving
from scripts.benchmarks.sizes import Size

PEER_NAME: Final = "hypercorn + quart-trio"
AT_ONCE: Final = 16
_SECONDS: Final = 5.0
# Of the most that a server does in the same round.
_LOAD: Final = 0.5


async def measure(size: Size) -> Report:
    """Each client has a PC and a host of its own. The same handlers behind two servers, each on its own half load."""
    async with database() as base, base.connection() as conn:
        renters = [await add_renters(conn, name, AT_ONCE) for name in ("ours", "peer")]
        works = [Work("cycles", people, AT_ONCE, size.seconds(_SECONDS)) for people in renters]
        async with serving(base) as ours, serving(base, (*PEER, "stock", "batched")) as stock:
            both = list(zip((ours, stock), works, strict=True))
            for server, work in both:
                await drive(server, size.warm_up(work))
            await settle_down(conn)
            rounds = [[await _round(server, work) for server, work in both] for _ in range(size.rounds)]
    return Report("sessions-http", _rows([list(found) for found in zip(*rounds, strict=True)]))


async def _round(server: Served, work: Work) -> tuple[Done, Done]:
    flat_out = await drive(server, work)
    return flat_out, await drive(server, evolve(work, rate=max(1.0, flat_out.jobs_a_second * _LOAD)))


def _rows(found: list[list[tuple[Done, Done]]]) -> list[Row]:
    (flat, half), (their_flat, their_half) = [tuple(zip(*rounds, strict=True)) for rounds in found]
    return [
        less_is_better(
            "create + start + end: the server's CPU",
            "µs a cycle",
            middle([done.cpu_us(done.cpu.daemon) for done in flat]),
            middle([done.cpu_us(done.cpu.daemon) for done in their_flat]),
            PEER_NAME,
        ),
        less_is_better(
            "create + start + end: with PostgreSQL's",
            "µs a cycle",
            middle([done.cpu_us(done.cpu.in_all) for done in flat]),
            middle([done.cpu_us(done.cpu.in_all) for done in their_flat]),
            PEER_NAME,
        ),
        more_is_better(
            f"create + start + end, {AT_ONCE} at once",
            "cycles/s",
            middle([done.jobs_a_second for done in flat]),
            middle([done.jobs_a_second for done in their_flat]),
            PEER_NAME,
        ),
        less_is_better(
            f"p99 of a request at {_LOAD:.0%} of each one's most",
            "ms",
            middle([done.p99_ms for done in half]),
            middle([done.p99_ms for done in their_half]),
            PEER_NAME,
        ),
    ]
