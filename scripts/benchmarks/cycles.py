"""One rental, create to end, without HTTP: by our modules on a pool, and by pgbench with the very same statements."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
import os
from pathlib import Path
import re
import subprocess
from typing import Final

from psycopg.conninfo import conninfo_to_dict
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying
from opendesk.rental import closing, sessions
from opendesk.rental.lifecycle import Caller
from opendesk.rental.sessions import CLOSE, CREATE, SNAPSHOT, START, Session
from scripts.benchmarks.people import Renter

MINUTES: Final = 60
FEE_RATE: Final = Decimal("0.1")
PENALTY_RATE: Final = Decimal("0.3")
_HEARTBEAT_TIMEOUT: Final = timedelta(hours=1)

# What `settle` finds for one minute used of an hour at 600 with a fee of 10 %; a test of the database's would notice another sum.
_SETTLED: Final = {
    "proportional": 10, "platform_fee": 1, "host_payout": 9, "penalty": 0, "client_credit": 0, "retained": 590,
}  # fmt: skip
# After its last transaction.
_PGBENCH_PATIENCE_S: Final = 30.0


async def rent(pool: Pool, renter: Renter) -> None:
    """As three requests do it: each takes a connection of the pool, and is tried again when the database asks for it."""
    made = await _in_unit(pool, lambda conn: _create(conn, renter))
    await _in_unit(pool, lambda conn: sessions.start(conn, made.id, renter.user, admin=False))
    await _in_unit(pool, lambda conn: _end(conn, made))


async def _in_unit(pool: Pool, unit: Callable[[TrioConnection], Awaitable[Session]]) -> Session:
    async with pool.connection() as conn:
        return await retrying(lambda: unit(conn))


async def _create(conn: TrioConnection, renter: Renter) -> Session:
    return await sessions.create(conn, renter.user, renter.pc, MINUTES, fee_rate=FEE_RATE, penalty_rate=PENALTY_RATE)


async def _end(conn: TrioConnection, made: Session) -> Session:
    found = await sessions.snapshot(conn, made.id)
    decided = closing.end(found, Caller.CLIENT, None, heartbeat_timeout=_HEARTBEAT_TIMEOUT, listening_since=None)
    closed = await sessions.close(conn, [decided])
    return closed[0]


async def rent_for(pool: Pool, renters: Sequence[Renter], seconds: float) -> float:
    """Everybody rents again and again. Rentals a second."""
    done = 0

    async def again_and_again(renter: Renter) -> None:
        nonlocal done
        while trio.current_time() < end_s:
            await rent(pool, renter)
            done += 1

    begun_s = trio.current_time()
    end_s = begun_s + seconds
    async with trio.open_nursery() as nursery:
        for renter in renters:
            nursery.start_soon(again_and_again, renter)
    return done / (trio.current_time() - begun_s)


# ---- pgbench


async def prepare_pgbench(conn: TrioConnection, renters: Sequence[Renter]) -> None:
    """Who each client of pgbench is: it knows its number only."""
    await conn.run("CREATE TABLE IF NOT EXISTS public.renters (n int PRIMARY KEY, client uuid, pc uuid)")
    await conn.run(
        """INSERT INTO public.renters SELECT n - 1, client, pc
             FROM unnest(%(clients)s::uuid[], %(pcs)s::uuid[]) WITH ORDINALITY AS r (client, pc, n)""",
        {"clients": [r.user for r in renters], "pcs": [r.pc for r in renters]},
    )


def pgbench_script() -> str:
    """The statements of our modules, with pgbench's spelling of parameters; what one gives the next needs is kept."""
    one = {name: f"ARRAY[:{name}]" for name in _ONE_OF_EACH}
    closing_values = {**one, **{name: f"ARRAY[{value}]" for name, value in _fixed_values().items()}}
    create = {
        "client": ":client",
        "pc_id": ":pc",
        "minutes": str(MINUTES),
        "fee_rate": str(FEE_RATE),
        "penalty_rate": str(PENALTY_RATE),
    }
    return "\n".join(
        [
            r"\if :known = 0",
            r"SELECT client, pc FROM public.renters WHERE n = :client_id \gset",
            r"\set known 1",
            r"\endif",
            _spelled(CREATE, create) + r" \gset",
            _spelled(START, {"id": ":id", "caller": ":client", "admin": "false"}) + ";",
            _spelled(SNAPSHOT, {"id": ":id"}) + r" \gset",
            _spelled(CLOSE, closing_values) + ";",
            "",
        ]
    )


_ONE_OF_EACH: Final = ("id", "pc_id")


def _fixed_values() -> Mapping[str, str]:
    settled = {name: str(value) for name, value in _SETTLED.items()}
    words = {"was": "'ACTIVE'", "status": "'ENDED'", "end_reason": "'ENDED_BY_CLIENT'", "failure_reason": "'NONE'"}
    record = {"minutes_used": "1", "score": "1", "completed": "1", "dropped": "0", "gone": "false", "claimed": "NULL"}
    return {"ended_at": ":now", **settled, **words, **record}


def _spelled(statement: str, values: Mapping[str, str]) -> str:
    return re.sub(r"%\((\w+)\)s", lambda match: values[match[1]], statement).strip()


async def pgbench(program: Path, conninfo: str, script: Path, *, clients: int, seconds: int) -> float:
    """Transactions a second, each a whole rental. Raise RuntimeError with what pgbench says of a failure."""
    parts = conninfo_to_dict(conninfo)
    environ = {**os.environ, "PGOPTIONS": str(parts["options"])}
    place = ["-h", str(parts["host"]), "-p", str(parts["port"]), "-U", str(parts["user"])]
    how = ["-n", "-M", "prepared", "-c", str(clients), "-T", str(seconds), "-D", "known=0", "-f", str(script)]
    with trio.fail_after(seconds + _PGBENCH_PATIENCE_S):
        told = await trio.run_process(
            [str(program), *place, *how, str(parts["dbname"])],
            env=environ, check=False, capture_stdout=True, stderr=subprocess.STDOUT,
        )  # fmt: skip
    text = told.stdout.decode()
    match = re.search(r"^tps = ([\d.]+)", text, re.MULTILINE)
    if told.returncode != 0 or match is None:
        raise RuntimeError(f"pgbench failed: {text[-2000:]}")
    return float(match[1])
