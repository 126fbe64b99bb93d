"""Two at once: what runs into a transaction under way comes out as if one had come after the other."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from attrs import field, frozen
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import pcs
from opendesk.rental.heartbeats import SAY_AGAIN
from opendesk.rental.lifecycle import Caller
from opendesk.rental.liveness import SilentPc
from opendesk.rental.sessions import Session
from tests.rental.builders import (
    MINUTE,
    Stage,
    add_client,
    balance,
    cancel,
    debit,
    end,
    last_seen,
    rent,
    reserve,
    set_stage,
    start,
)
from tests.rental.racing import DEADLINE_S, beats, expire, give_up, outcome, silent, time_out, until_one_waits

pytestmark = pytest.mark.books


@frozen
class World:
    """A PC with a session that is as the test wants it, another client who wants the PC, and another PC."""

    stage: Stage
    session: Session | None
    other: UUID
    elsewhere: Stage
    judged: SilentPc = field(kw_only=True)

    @property
    def live(self) -> Session:
        assert self.session is not None
        return self.session


Op = Callable[[TrioConnection, World], Awaitable[Any]]


OPS: dict[str, Op] = {
    "create": lambda c, w: reserve(c, w.stage),
    "create_other": lambda c, w: reserve(c, w.stage, client=w.other),
    "create_elsewhere": lambda c, w: reserve(c, w.elsewhere, client=w.stage.client),
    "start": lambda c, w: start(c, w.live),
    "cancel": lambda c, w: cancel(c, w.live.id),
    "give_up": lambda c, w: give_up(c, w.live),
    "end_client": lambda c, w: end(c, w.live.id, Caller.CLIENT),
    "end_host": lambda c, w: end(c, w.live.id, Caller.HOST),
    "expire": lambda c, w: expire(c, w.live),
    "time_out": lambda c, w: time_out(c, [w.judged]),
    "take_off": lambda c, w: beats(c, w.stage.host, w.stage.pc, "OFFLINE"),
    "delete": lambda c, w: pcs.delete(c, w.stage.pc),
    "debit": lambda c, w: debit(c, w.stage.client, 7000),
}
ON_FREE = ("create", "create_other", "create_elsewhere", "time_out", "take_off", "delete", "debit")
ON_PENDING = ("start", "cancel", "give_up", "create_other", "create_elsewhere", "time_out", "take_off", "delete")
ON_ACTIVE = ("end_client", "end_host", "expire", "create_other", "create_elsewhere", "time_out", "take_off", "delete")
CASES = [
    (status, first)
    for status, names in (("FREE", ON_FREE), ("PENDING", ON_PENDING), ("ACTIVE", ON_ACTIVE))
    for first in names
]


async def make_world(conn: TrioConnection, status: str) -> World:
    stage, elsewhere = await set_stage(conn), await set_stage(conn)
    session: Session | None = None
    if status == "PENDING":
        session = await reserve(conn, stage)
    if status == "ACTIVE":
        session = await rent(conn, stage, 60, used=29.5 * MINUTE)
    await last_seen(conn, stage.pc, 4 * MINUTE)
    judged = await silent(conn, stage)
    return World(stage, session, await add_client(conn), elsewhere, judged=judged)


async def state_of(conn: TrioConnection, world: World) -> tuple[Any, ...]:
    """All that the operations could have changed, without ids and times."""
    rows = await conn.fetch(
        """SELECT status, end_reason, failure_reason, minutes_used, retained, client_credit, host_payout FROM sessions
            WHERE pc_id = ANY (%s) ORDER BY id""",
        ([world.stage.pc, world.elsewhere.pc],),
    )
    pc = await conn.fetch_one(
        "SELECT status, taken_off AND deleted_at IS NULL, deleted_at IS NULL FROM pcs WHERE id = %s", (world.stage.pc,)
    )
    rated = "SELECT reliability_score, sessions_completed, sessions_dropped FROM hosts WHERE id = %s"
    host = await conn.fetch_one(rated, (world.stage.host.id,))
    owners = (world.stage.client, world.other, world.stage.host.user)
    return rows, pc, host, [await balance(conn, user) for user in owners]


Found = tuple[list[str], tuple[Any, ...]]


@pytest.fixture(scope="session")
def known() -> dict[tuple[str, ...], Found]:
    """What operations one after the other come to: always the same."""
    return {}


@frozen
class Pair:
    """Runs operations one after the other, or one inside the other."""

    conn: TrioConnection
    pool: Pool
    known: dict[tuple[str, ...], Found]

    async def in_turn(self, status: str, *names: str) -> Found:
        found = self.known.get((status, *names))
        if found is None:
            world = await make_world(self.conn, status)
            got = [await outcome(OPS[name](self.conn, world)) for name in names]
            found = self.known[status, *names] = got, await state_of(self.conn, world)
        return found

    async def inside(self, status: str, first: str, second: str) -> Found:
        """`first` is committed only when `second` waits for it, or is done."""
        world = await make_world(self.conn, status)
        got = ["", ""]
        done = trio.Event()

        async def run_second(conn: TrioConnection) -> None:
            got[1] = await outcome(OPS[second](conn, world))
            done.set()

        async with self.pool.connection() as a, self.pool.connection() as b, trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + DEADLINE_S
            async with a.transaction():
                got[0] = await outcome(OPS[first](a, world))
                nursery.start_soon(run_second, b)
                await until_one_waits(self.conn, or_done=done)
        assert done.is_set()
        return got, await state_of(self.conn, world)


@pytest.fixture
async def pair(conn: TrioConnection, pool: Pool, known: dict[tuple[str, ...], Found]) -> Pair:
    return Pair(conn, pool, known)


@pytest.mark.parametrize(("status", "first"), CASES)
async def test_what_runs_into_another_comes_out_as_if_one_came_after_the_other(
    pair: Pair, status: str, first: str
) -> None:
    wrong = []
    for second in {"FREE": ON_FREE, "PENDING": ON_PENDING, "ACTIVE": ON_ACTIVE}[status]:
        found = await pair.inside(status, first, second)
        back, state_back = await pair.in_turn(status, second, first)
        allowed = [await pair.in_turn(status, first, second), (back[::-1], state_back)]
        if second == "time_out":  # it passes over what someone works on, for its next look
            (alone,), state_alone = await pair.in_turn(status, first)
            allowed.append(([alone, "spared"], state_alone))
        if second == "take_off":  # a beat waits for nobody: its host is told to say it again
            (alone,), state_alone = await pair.in_turn(status, first)
            allowed.append(([alone, SAY_AGAIN], state_alone))
        if found not in allowed:
            wrong.append((second, found, allowed))
    assert not wrong
