"""How the tests make races happen: many at once on connections of their own, or one that runs into another."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from attrs import evolve
from psycopg.conninfo import conninfo_to_dict, make_conninfo
import trio

from opendesk.errors import OpenDeskError
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import closing, sessions
from opendesk.rental.heartbeats import BeatAnswer
from opendesk.rental.lifecycle import Status
from opendesk.rental.liveness import SilentPc
from opendesk.rental.sessions import Session
from opendesk.rental.timers import host_timeout
from tests.rental.builders import Host, Stage, beat, expired

# Far over what any of this takes; reached, it is a deadlock or a wake-up lost.
DEADLINE_S = 30


async def outcome(unit: Awaitable[Any]) -> str:
    """What became of an operation, in one word: the code of its refusal, or what it returned says."""
    try:
        result = await unit
    except OpenDeskError as refusal:
        return refusal.code
    return result if isinstance(result, str) else "OK"


async def at_once(pool: Pool, units: Sequence[Callable[[TrioConnection], Awaitable[Any]]]) -> list[str]:
    """Run each on a connection of its own, all let go together."""
    outcomes = ["" for _ in units]
    ready, gone = [trio.Event() for _ in units], trio.Event()

    async def run(index: int) -> None:
        async with pool.connection() as conn:
            await conn.fetch("SELECT 1")
            ready[index].set()
            await gone.wait()
            outcomes[index] = await outcome(units[index](conn))

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for index in range(len(units)):
                nursery.start_soon(run, index)
            for event in ready:
                await event.wait()
            gone.set()
    return outcomes


_BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def until_one_waits(conn: TrioConnection, *, or_done: trio.Event | None = None) -> None:
    done = trio.Event() if or_done is None else or_done
    with trio.fail_after(DEADLINE_S):
        while not done.is_set() and await conn.fetch_one(_BLOCKED) == (0,):  # noqa: ASYNC110  # the server tells nobody
            await trio.sleep(0.002)


def with_settings(conninfo: str, options: str) -> str:
    return make_conninfo(conninfo, options=f"{conninfo_to_dict(conninfo)['options']} {options}")


# ---- what the timers do, said in a word


async def silent(conn: TrioConnection, stage: Stage) -> SilentPc:
    """As the time-out check saw it."""
    row = await conn.fetch_one("SELECT last_seen_at FROM pc_beats WHERE pc_id = %s", (stage.pc,))
    assert row is not None
    return SilentPc(stage.pc, stage.host.id, row[0], has_active_session=True)


async def time_out(conn: TrioConnection, gone: Sequence[SilentPc]) -> str:
    async with conn.transaction():
        closed, hosts = await host_timeout.time_out(conn, gone, set())
    return f"{len(closed)} closed" if hosts else "spared"


async def expire(conn: TrioConnection, session: Session) -> str:
    found = await sessions.snapshot(conn, session.id)
    if found.status != Status.ACTIVE:  # the timer would not have found it
        return "0 closed"
    return f"{len(await sessions.close(conn, [expired(found)]))} closed"


async def give_up(conn: TrioConnection, session: Session) -> str:
    """As the timer does, which has no fresher look than its own."""
    found = evolve(await sessions.snapshot(conn, session.id), status=Status.PENDING)
    return f"{len(await sessions.close(conn, [closing.give_up(found)]))} closed"


async def beats(conn: TrioConnection, host: Host, pc: UUID, said: str) -> str:
    result = await beat(conn, host, pc, said)
    return "OK" if isinstance(result, BeatAnswer) else str(result)
