"""Killed at any moment, nothing is lost: what a client was told has happened, and what it asked for twice happened once."""

from collections.abc import Mapping, Sequence
import json
import os
from pathlib import Path
import random
import signal
from typing import Any, Final

from attrs import define, field
import psutil
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from tests.system.commands import opendesk
from tests.system.conftest import Start
from tests.system.crowd import Crowd, move_in
from tests.system.daemon import Daemon, database_of, postgres_of, until

# httpx's: what it was sending when the connection broke.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

# Reservations that nobody starts are given up soon, and what is due is looked for often.
SETTINGS: Final[Mapping[str, Any]] = {"SESSION_PENDING_TIMEOUT_MS": "1000", "SESSION_EXPIRATION_INTERVAL_MS": "300"}

# Far more than the interval, for a machine that does other things as well; far less than if nobody looked for it.
STUCK_S: Final = 10

VICTIMS: Final = ("daemon", "daemon and server", "server", "all of the server", "backend")

_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
_SOON_OVER = "UPDATE sessions SET end_at = now() + interval '100 ms' WHERE status = 'ACTIVE' RETURNING id"
# Who didn't get to start because of us is not to be shut out for an hour.
_LONG_AGO = """
    SET session_replication_role = replica;  -- no trigger forbids it
    UPDATE sessions SET created_at = created_at - interval '1 hour' WHERE status = 'FAILED';
"""
_STILL_LIVE = """
    SELECT count(*) FROM sessions WHERE id = ANY (%(ids)s) AND status = 'ACTIVE'
        OR status = 'PENDING' AND created_at < now() - interval '2 seconds'
"""


@define
class Town:
    """A daemon, and a crowd that rents from it while it is killed and started again."""

    start: Start
    data_dir: Path
    random: random.Random
    crowd: Crowd
    daemon: Daemon
    due: list[Any] = field(factory=list)

    async def strike(self, victim: str) -> None:
        """Kill in the midst of work; come back when there is a daemon that serves."""
        await self.crowd.works(self.random.randint(5, 60))
        async with database_of(self.data_dir) as conn:
            self.due = [row[0] for row in await (await conn.execute(_SOON_OVER)).fetchall()]
            await self.crowd.works(self.random.randint(0, 5))
            ready = len(self.daemon.said("postgres.ready"))
            for pid in await self._pids(victim, conn):
                os.kill(pid, signal.SIGKILL)
        if victim.startswith("daemon"):
            await self.daemon.kill()
            self.crowd.serve_from(None)
            self.daemon = await self.start(self.data_dir, **SETTINGS)
            self.crowd.serve_from(self.daemon.http)
        elif victim != "backend":
            await self.daemon.says("postgres.ready", after=ready)

    async def _pids(self, victim: str, conn: TrioConnection) -> Sequence[int]:
        server = postgres_of(self.data_dir)
        assert server is not None
        if victim == "backend":
            return [row[0] for row in await (await conn.execute(_BACKENDS)).fetchmany(1)]
        if victim == "all of the server":
            return [server, *(child.pid for child in psutil.Process(server).children())]
        return [server] if "server" in victim else []

    async def check(self) -> None:
        """With nobody at work: the books are right, what was answered is there, and what was due is over."""
        async with self.crowd.at_rest():
            done = await opendesk("ledger", "verify", "--json", data_dir=self.data_dir)
            assert done.code == 0, done
            assert json.loads(done.out)["ok"]
            await self._repeat()
            async with database_of(self.data_dir) as conn:
                await self._nothing_is_stuck(conn)
                await self.crowd.compare(conn)
                await conn.execute(_LONG_AGO.encode())

    async def _repeat(self) -> None:
        """The same answer, from whichever daemon, and marked as what it is."""
        for asked in self.random.sample(self.crowd.answered, min(25, len(self.crowd.answered))):
            headers = asked.person.headers(asked.key)
            again = await self.daemon.http.post(asked.path, json=asked.body, headers=headers)
            assert again.content == asked.answer
            assert again.headers["idempotent-replayed"] == "true"

    async def _nothing_is_stuck(self, conn: TrioConnection) -> None:
        async def all_are_over() -> bool:
            return await (await conn.execute(_STILL_LIVE, {"ids": self.due})).fetchone() == (0,)

        with trio.fail_after(STUCK_S):
            await until(all_are_over)


async def live_through(start: Start, data_dir: Path, victims: Sequence[str], seed: int) -> None:
    chance = random.Random(seed)
    daemon = await start(data_dir, **SETTINGS)
    async with database_of(data_dir) as conn:
        crowd = await move_in(daemon.http, conn, chance)
    town = Town(start, data_dir, chance, crowd, daemon)
    async with trio.open_nursery() as nursery:
        crowd.begin(nursery)
        for victim in victims:
            await town.strike(victim)
            await town.check()
        await crowd.go_home()
    async with database_of(data_dir) as conn:
        await crowd.compare(conn, exactly=True)
    assert await town.daemon.stop() == 0


async def test_nothing_is_lost_whoever_is_killed_under_load(start: Start, data_dir: Path) -> None:
    await live_through(start, data_dir, VICTIMS, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 10))
async def test_nothing_is_lost_however_often(start: Start, data_dir: Path, seed: int) -> None:
    victims = random.Random(seed).choices(VICTIMS, k=12)
    await live_through(start, data_dir, victims, seed)


async def test_the_books_are_proved_right_after_a_kill_before_anybody_serves(start: Start, data_dir: Path) -> None:
    """The command works off the server's log by itself."""
    daemon = await start(data_dir, **SETTINGS)
    async with database_of(data_dir) as conn:
        crowd = await move_in(daemon.http, conn, random.Random(0))
    async with trio.open_nursery() as nursery:
        crowd.begin(nursery)
        await crowd.works(30)
        server = postgres_of(data_dir)
        assert server is not None
        os.kill(server, signal.SIGKILL)
        await daemon.kill()
        nursery.cancel_scope.cancel()
    done = await opendesk("ledger", "verify", "--json", data_dir=data_dir)
    assert done.code == 0, done
    assert json.loads(done.out)["sessions"] >= len(crowd.created)
