"""Daemons that say they're alive, and those that don't any more."""

from uuid import UUID, uuid4

from attrs import define, field
import psycopg
import pytest
from structlog.testing import capture_logs
import trio
from trio.testing import MockClock

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.stream.nodes import ALIVE_S, BEAT_S, Nodes


async def alive(conn: TrioConnection) -> set[UUID]:
    return {row[0] for row in await conn.fetch("SELECT id FROM relay_nodes WHERE alive_until > now()")}


async def test_a_beat_keeps_a_daemon_alive_for_a_while(pool: Pool, conn: TrioConnection) -> None:
    nodes = Nodes(pool, uuid4())
    await nodes.beat()
    assert await alive(conn) == {nodes.own}
    query = "SELECT extract(epoch FROM alive_until - now())::float8 FROM relay_nodes"
    row = await conn.fetch_one(query)
    assert row is not None
    assert 0 < row[0] <= ALIVE_S


async def test_each_beat_moves_the_end(pool: Pool, conn: TrioConnection) -> None:
    nodes = Nodes(pool, uuid4())
    await nodes.beat()
    await conn.run("UPDATE relay_nodes SET alive_until = now() - interval '1 minute'")
    assert await alive(conn) == set()
    await nodes.beat()
    assert await alive(conn) == {nodes.own}


async def test_daemons_are_each_for_themselves(pool: Pool, conn: TrioConnection) -> None:
    both = Nodes(pool, uuid4()), Nodes(pool, uuid4())
    for nodes in both:
        await nodes.beat()
    assert await alive(conn) == {nodes.own for nodes in both}


@pytest.mark.parametrize(("dead_for", "kept"), [("59 minutes", True), ("61 minutes", False)])
async def test_the_dead_are_forgotten_in_time(pool: Pool, conn: TrioConnection, dead_for: str, *, kept: bool) -> None:
    dead = uuid4()
    await conn.run("INSERT INTO relay_nodes VALUES (%s, now() - %s::interval)", (dead, dead_for))
    await Nodes(pool, uuid4()).beat()
    rows = await conn.fetch("SELECT FROM relay_nodes WHERE id = %s", (dead,))
    assert bool(rows) is kept


async def test_one_that_was_away_for_long_is_itself_again(pool: Pool, conn: TrioConnection) -> None:
    """Its own row isn't deleted by the statement that writes it."""
    nodes = Nodes(pool, uuid4())
    await conn.run("INSERT INTO relay_nodes VALUES (%s, now() - interval '2 hours')", (nodes.own,))
    await nodes.beat()
    assert await alive(conn) == {nodes.own}


@define
class Timed(Nodes):
    """Notes when it beats, and fails as told."""

    failures: list[Exception] = field(factory=list)
    beats_s: list[float] = field(factory=list)

    async def beat(self) -> None:
        self.beats_s.append(trio.current_time())
        if self.failures:
            raise self.failures.pop()


async def test_the_service_beats_at_once_and_often_enough(pool: Pool, autojump_clock: MockClock) -> None:
    nodes = Timed(pool, uuid4())
    with trio.move_on_after(ALIVE_S):
        await nodes.run()
    assert nodes.beats_s == [0, BEAT_S, 2 * BEAT_S]


async def test_a_database_that_is_away_is_said_and_waited_for(pool: Pool, autojump_clock: MockClock) -> None:
    nodes = Timed(pool, uuid4(), failures=[psycopg.OperationalError("away")])
    with capture_logs() as said, trio.move_on_after(BEAT_S * 1.5):
        await nodes.run()
    assert nodes.beats_s == [0, BEAT_S]
    assert [line["event"] for line in said] == ["nodes.database_away"]


async def test_what_nobody_expected_is_for_the_supervisor(pool: Pool, autojump_clock: MockClock) -> None:
    with pytest.raises(psycopg.ProgrammingError):
        await Timed(pool, uuid4(), failures=[psycopg.ProgrammingError("a fault of ours")]).run()


async def test_who_leaves_is_gone_at_once_and_stays_so(pool: Pool, conn: TrioConnection) -> None:
    nodes, other = Nodes(pool, uuid4()), Nodes(pool, uuid4())
    for each in (nodes, other):
        await each.beat()
    await nodes.leave()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(nodes.run)
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.cancel_scope.cancel()
    assert await alive(conn) == {other.own}
