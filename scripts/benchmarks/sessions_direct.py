"""`sessions`: rentals a second on the database, 16 at once, against pgbench with the very same statements."""

from pathlib import Path
from typing import Final

from opendesk.postgres.embedded import account
from opendesk.postgres.embedded.binaries import find
from opendesk.postgres.pool import Pool
from scripts.benchmarks.cycles import pgbench, pgbench_script, prepare_pgbench, rent_for
from scripts.benchmarks.measure import middle
from scripts.benchmarks.people import add_renters, settle_down
from scripts.benchmarks.report import Report, more_is_better
from scripts.benchmarks.servers import database, folder
from scripts.benchmarks.sizes import Size

AT_ONCE: Final = 16
BAR: Final = 0.5
_SECONDS: Final = 5.0


async def measure(size: Size) -> Report:
    """Everybody has a PC and a host of their own; pgbench has as many connections as the pool."""
    with folder() as place:
        return await _measure(size, place)


async def _measure(size: Size, place: Path) -> Report:
    async with database() as base, base.connection() as conn:
        ours, peers = [await add_renters(conn, name, AT_ONCE) for name in ("ours", "pgbench")]
        await prepare_pgbench(conn, peers)
        script = place / "cycle.pgbench"
        script.write_text(pgbench_script())
        program = find(account.choose(place), place).folder / "pgbench"
        seconds = size.seconds(_SECONDS)
        pool = Pool(base.as_served, size=AT_ONCE)
        try:
            await rent_for(pool, ours, seconds)
            await settle_down(conn)
            rounds = [
                (
                    await rent_for(pool, ours, seconds),
                    await pgbench(program, base.as_served, script, clients=AT_ONCE, seconds=max(1, round(seconds))),
                )
                for _ in range(size.rounds)
            ]
        finally:
            await pool.aclose()
    mine, theirs = zip(*rounds, strict=True)
    row = more_is_better(
        f"create + start + end (SNAPSHOT and CLOSE), {AT_ONCE} at once",
        "cycles/s",
        middle(mine),
        middle(theirs),
        "pgbench -M prepared",
        bar=BAR,
    )
    return Report("sessions", [row], ["one process on Trio against pgbench; both share the cores with PostgreSQL"])
