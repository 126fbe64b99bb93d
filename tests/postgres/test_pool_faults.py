"""Servers that go away and borrowers that are cancelled: the pool recovers at once, and nothing leaks."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
import random
import shutil
from typing import Any, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict
import pytest
import trio
import trio.testing

from opendesk import database
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.embedded.lifetime import embedded_server
from opendesk.postgres.pool import Pool, PoolStats
from opendesk.postgres.settling import SETTLE_LIMIT_S
from tests.postgres.lending import SLOW, Eventually, Gate, Look, Running, SessionsBecome, a_pool, answers, lend_all


@pytest.fixture(autouse=True)
def _distrust(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection used a moment ago is lent unseen, and these tests may take less than that moment."""
    monkeypatch.setattr("opendesk.postgres.pool.TRUSTED_S", 0.0)


# A server that goes away


async def test_a_session_ended_while_idle_fails_nobody(
    conninfo: str, nursery: trio.Nursery, look: Look, sessions_become: SessionsBecome
) -> None:
    async with a_pool(conninfo, size=3) as pool:
        for event in await lend_all(pool, 3, nursery):
            event.set()
        await trio.testing.wait_all_tasks_blocked()
        look(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )

        await sessions_become(0)
        assert await answers(pool)
        assert pool.stats == PoolStats(size=1, idle=1, waiting=0)


async def test_the_first_broken_connection_takes_the_idle_ones_along(
    gate: Gate, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opendesk.postgres.driver.SETTLE_LIMIT_S", 0.02)
    async with a_pool(gate.conninfo, size=4) as pool:
        for event in await lend_all(pool, 4, nursery):
            event.set()
        await trio.testing.wait_all_tasks_blocked()
        gate.hold()  # a network that swallows everything: no socket shows it
        with trio.move_on_after(0.02):
            await answers(pool)
        assert pool.stats == PoolStats(size=0, idle=0, waiting=0)
        gate.release()
        assert await answers(pool)


async def test_a_server_that_was_away_is_used_again_at_once(gate: Gate, nursery: trio.Nursery) -> None:
    async with a_pool(gate.conninfo, size=4) as pool:
        failed = trio.Event()

        async def hold_on() -> None:
            async with pool.connection() as conn:
                with pytest.raises(psycopg.OperationalError):
                    await conn.fetch(SLOW)
            failed.set()

        nursery.start_soon(hold_on)
        for event in await lend_all(pool, 3, nursery):
            event.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        await gate.shut()
        with trio.fail_after(5):
            await failed.wait()
        for _ in range(5):
            with pytest.raises(psycopg.OperationalError):
                await answers(pool)
        await gate.open()
        for _ in range(5):
            assert await answers(pool)


async def test_a_probe_of_a_mute_server_says_no_in_its_time(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that is cancelled gets seconds to stop; who only asks whether the server is there doesn't wait for that."""
    monkeypatch.setattr(database, "PING_S", 0.3)
    async with a_pool(gate.conninfo) as pool:
        assert await database.answers(pool)
        gate.hold()
        with trio.fail_after(SETTLE_LIMIT_S - 1):
            assert not await database.answers(pool)


@pytest.fixture
def data_dir(open_folders: Callable[[], Path]) -> Iterator[Path]:
    folder = open_folders()
    yield folder / "data"
    shutil.rmtree(folder)


async def test_a_server_stopped_and_started_is_used_again_at_once(data_dir: Path, eventually: Eventually) -> None:
    failures: list[str] = []
    done = 0

    async def work(pool: Pool, stop: trio.Event) -> None:
        nonlocal done
        while not stop.is_set():
            try:
                async with pool.connection() as conn:
                    await conn.fetch("SELECT 1")
                done += 1
            except psycopg.OperationalError as exc:
                failures.append(str(exc))
                await trio.sleep(0.005)

    def more_than(wanted: int) -> Callable[[], Awaitable[bool]]:
        async def reached() -> bool:
            return done > wanted

        return reached

    async def failing() -> bool:
        return bool(failures)

    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        async with embedded_server(data_dir) as conninfo:
            pool = Pool(conninfo, size=4)
            for _ in range(8):
                nursery.start_soon(work, pool, stop)
            await eventually(more_than(100))
        await eventually(failing)
        async with embedded_server(data_dir) as again:
            assert conninfo_to_dict(again) == conninfo_to_dict(conninfo)
            await eventually(more_than(done + 100))
            stop.set()
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert pool.stats.size == pool.stats.idle <= 4
            await pool.aclose()


# Whatever happens


async def sleep(conn: TrioConnection, table: str) -> None:
    await conn.fetch("SELECT pg_sleep(0.02)")


async def give_up_a_transaction(conn: TrioConnection, table: str) -> None:
    async with conn.transaction():
        await conn.run(f"INSERT INTO {table} SELECT random() * 1e9, 'x'")
        await conn.fetch("SELECT pg_sleep(0.01)")
        raise psycopg.Rollback


async def fail_in_a_savepoint(conn: TrioConnection, table: str) -> None:
    async with conn.transaction(), conn.transaction():
        await conn.execute("SELECT pg_sleep(0.005)")
        await trio.sleep(0.005)
        raise ZeroDivisionError


async def leave_a_transaction_open(conn: TrioConnection, table: str) -> None:
    await conn.execute("BEGIN")
    await conn.execute("SELECT pg_sleep(0.01)")


async def pipe(conn: TrioConnection, table: str) -> None:
    async with conn.pipeline(), conn.transaction():
        for _ in range(20):
            await conn.execute("SELECT pg_sleep(0.001)")


async def run_many(conn: TrioConnection, table: str) -> None:
    await conn.cursor().executemany("SELECT pg_sleep(%s)", [(0.001,)] * 20)


async def copy_out(conn: TrioConnection, table: str) -> None:
    async with conn.cursor().copy("COPY (SELECT generate_series(1, 50000)) TO STDOUT") as copy:
        async for _row in copy:
            pass


async def fail_in_a_copy(conn: TrioConnection, table: str) -> None:
    async with conn.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
        for _ in range(200):
            await copy.write("x" * 2000)
        await trio.sleep(0.01)
        raise ZeroDivisionError


async def stream(conn: TrioConnection, table: str) -> None:
    async with aclosing(cast("Any", conn.cursor().stream("SELECT generate_series(1, 5000)"))) as rows:
        async for _row in rows:
            pass


ROAMINGS = (
    sleep,
    give_up_a_transaction,
    fail_in_a_savepoint,
    leave_a_transaction_open,
    pipe,
    run_many,
    copy_out,
    fail_in_a_copy,
    stream,
)


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_leaks_however_borrowers_are_cancelled(
    *, conninfo: str, table: str, running: Running, eventually: Eventually, look: Look, seed: int
) -> None:
    lot = random.Random(seed)

    async def roam(pool: Pool) -> None:
        with trio.move_on_after(lot.random() * 0.03), suppress(ZeroDivisionError, psycopg.Rollback):
            async with pool.connection() as conn:
                await lot.choice(ROAMINGS)(conn, table)

    async def at_rest() -> bool:
        return await running() == []

    async with a_pool(conninfo, size=4) as pool:
        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for _ in range(8):  # twice as many as there are connections
                    nursery.start_soon(roam, pool)
        await eventually(at_rest)
        assert pool.stats.waiting == 0
        assert pool.stats.size == pool.stats.idle <= 4
        async with trio.open_nursery() as nursery:  # all its places are there, and work
            events = await lend_all(pool, 4, nursery)
            assert pool.stats.size == 4
            for event in events:
                event.set()
        for _ in range(4):
            assert await answers(pool)
    assert look(f"SELECT count(*) FROM {table}") == [0]
