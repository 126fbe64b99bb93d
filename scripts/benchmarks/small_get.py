"""`http`: a small GET with a token, the CPU that it takes."""

from typing import Final

from scripts.benchmarks.driving import Work, drive
from scripts.benchmarks.measure import middle
from scripts.benchmarks.people import add_renters
from scripts.benchmarks.report import Report, less_is_better, more_is_better
from scripts.benchmarks.servers import PEER, database, serving
from scripts.benchmarks.sizes import Size

PEER_NAME: Final = "hypercorn + quart-trio"
AIM: Final = 1.5

_CONNECTIONS: Final = 16
_SECONDS: Final = 4.0


async def measure(size: Size) -> Report:
    """The same handlers, on the same pool, behind two servers."""
    async with database() as base, base.connection() as conn:
        work = Work("wallets", await add_renters(conn, "get", _CONNECTIONS), _CONNECTIONS, size.seconds(_SECONDS))
        async with serving(base) as ours, serving(base, (*PEER, "stock", "batched")) as stock:
            for server in (ours, stock):
                await drive(server, size.warm_up(work))
            rounds = [(await drive(ours, work), await drive(stock, work)) for _ in range(size.rounds)]
    mine, theirs = zip(*rounds, strict=True)
    work_text = "GET /wallets/{userId} with a token"
    return Report(
        "http",
        [
            less_is_better(
                f"{work_text}: the server's CPU",
                "µs a request",
                middle([done.cpu_us(done.cpu.daemon) for done in mine]),
                middle([done.cpu_us(done.cpu.daemon) for done in theirs]),
                PEER_NAME,
                bar=AIM,
            ),
            less_is_better(
                f"{work_text}: with PostgreSQL's",
                "µs a request",
                middle([done.cpu_us(done.cpu.in_all) for done in mine]),
                middle([done.cpu_us(done.cpu.in_all) for done in theirs]),
                PEER_NAME,
            ),
            more_is_better(
                f"{work_text}: {_CONNECTIONS} connections, as fast as it goes",
                "requests/s",
                middle([done.jobs_a_second for done in mine]),
                middle([done.jobs_a_second for done in theirs]),
                PEER_NAME,
            ),
        ],
    )
