"""How beats are gathered: pure Trio, with a database that answers at once, or doesn't."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
import itertools
from typing import Any, cast
from uuid import UUID

from attrs import define, field
import psycopg
import pytest
from structlog.testing import capture_logs
import trio
import trio.testing

from opendesk.errors import DatabaseUnavailable, Overloaded
from opendesk.ops.metrics import Metrics
from opendesk.postgres.pool import Pool
from opendesk.rental import heartbeats
from opendesk.rental.heartbeats import BATCH_INTERVAL_S, Beat, BeatAnswer, Heartbeats
from opendesk.web.auth import Claims


@define
class FakeDatabase:
    """Answers every beat; keeps when it was asked, and for how many."""

    writes: list[tuple[float, int]] = field(factory=list)
    takes_s: float = 0.0
    fails: Callable[[], Exception] | None = None
    running: int = 0

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["FakeDatabase"]:
        yield self

    async def fetch(self, query: str, values: dict[str, list[Any]]) -> list[tuple[Any, ...]]:
        if "user_id" not in values:  # the look for live sessions, of which there are none
            return []
        self.writes.append((trio.current_time(), len(values["host_id"])))
        self.running += 1
        assert self.running == 1, "two writes at once"
        await trio.sleep(self.takes_s)
        self.running -= 1
        if self.fails is not None:
            raise self.fails()
        return [(n + 1, True, True, True, True, False, NOW) for n in range(len(values["host_id"]))]


def gathering(database: FakeDatabase, metrics: Metrics | None = None) -> Heartbeats:
    return Heartbeats(cast("Pool", database), metrics or Metrics())


NOW = datetime(2025, 6, 1, tzinfo=UTC)


def beat_of(host: int) -> Beat:
    return Beat(Claims(UUID(int=1), 1), UUID(int=host), None, None)


BEAT = beat_of(2)


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


async def test_a_lone_beat_is_written_at_once(
    database: FakeDatabase, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    hearing = gathering(database)
    nursery.start_soon(hearing.run)
    begun_s = trio.current_time()
    await hearing.beat(BEAT)
    assert database.writes == [(begun_s, 1)]


async def test_however_many_beat_there_are_two_writes_a_second(
    database: FakeDatabase, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    metrics = Metrics()
    hearing = gathering(database, metrics)
    nursery.start_soon(hearing.run)

    async def host(number: int) -> None:
        await trio.sleep(number * 0.0071)
        for _ in range(4):
            begun_s = trio.current_time()
            await hearing.beat(beat_of(number))
            assert trio.current_time() - begun_s <= BATCH_INTERVAL_S
            await trio.sleep(3.1)

    async with trio.open_nursery() as hosts:
        for number in range(500):
            hosts.start_soon(host, number)
    at = [when for when, _ in database.writes]
    assert all(b - a >= BATCH_INTERVAL_S for a, b in itertools.pairwise(at))
    assert sum(count for _, count in database.writes) == 2000
    assert metrics.registry.get_sample_value("opendesk_heartbeats_total") == 2000
    assert metrics.registry.get_sample_value("opendesk_heartbeat_batches_total") == len(at)


async def test_a_slow_database_is_asked_one_thing_at_a_time(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    database = FakeDatabase(takes_s=2.0)
    hearing = gathering(database)
    nursery.start_soon(hearing.run)
    async with trio.open_nursery() as hosts:
        for number in range(100):
            hosts.start_soon(hearing.beat, beat_of(number))
            await trio.sleep(0.1)
    assert sum(count for _, count in database.writes) == 100


async def test_more_than_a_batch_goes_with_the_next(
    database: FakeDatabase,
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeats, "BATCH_SIZE", 10)
    hearing = gathering(database)
    async with trio.open_nursery() as hosts:
        for number in range(25):
            hosts.start_soon(hearing.beat, beat_of(number))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(hearing.run)
    assert [count for _, count in database.writes] == [10, 10, 5]


async def test_who_comes_to_a_full_house_is_told_to_come_back(
    database: FakeDatabase,
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeats, "MAX_WAITING", 3)
    hearing = gathering(database)
    async with trio.open_nursery() as hosts:
        for number in range(3):
            hosts.start_soon(hearing.beat, beat_of(number))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded) as caught:
            await hearing.beat(BEAT)
        assert caught.value.retry_after_s
        nursery.start_soon(hearing.run)
    assert [count for _, count in database.writes] == [3]


async def test_a_host_that_hung_up_is_heard_all_the_same(
    database: FakeDatabase, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    hearing = gathering(database)
    with trio.move_on_after(0):
        await hearing.beat(BEAT)
    nursery.start_soon(hearing.run)
    await trio.testing.wait_all_tasks_blocked()
    assert [count for _, count in database.writes] == [1]


async def test_an_unreachable_database_is_told_to_all_of_the_batch(
    database: FakeDatabase, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    database.fails = lambda: psycopg.OperationalError("away")
    hearing = gathering(database)
    told = list[Exception]()

    async def host() -> None:
        with pytest.raises(DatabaseUnavailable) as caught:
            await hearing.beat(BEAT)
        told.append(caught.value)

    nursery.start_soon(hearing.run)
    with capture_logs() as logs:
        async with trio.open_nursery() as hosts:
            for _ in range(5):
                hosts.start_soon(host)
    assert len(told) == 5
    assert {line["event"] for line in logs} == {"heartbeats.not_written"}
    assert hearing.lost


async def test_a_database_that_came_back_is_written_to(
    database: FakeDatabase, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    hearing = gathering(database)
    nursery.start_soon(hearing.run)
    database.fails = lambda: psycopg.OperationalError("away")
    with capture_logs(), pytest.raises(DatabaseUnavailable):
        await hearing.beat(BEAT)
    database.fails = None
    assert isinstance(await hearing.beat(BEAT), BeatAnswer)
    assert hearing.lost, "it is the time-out check's to forget"


async def test_a_database_that_does_not_answer_is_not_waited_for_without_end(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    hearing = gathering(FakeDatabase(takes_s=10_000))
    nursery.start_soon(hearing.run)
    with capture_logs(), pytest.raises(DatabaseUnavailable):
        await hearing.beat(BEAT)
    assert hearing.lost


async def test_a_fault_of_ours_is_told_to_all_and_the_next_batch_is_written(
    database: FakeDatabase, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    database.fails = lambda: ValueError("ours")
    hearing = gathering(database)
    nursery.start_soon(hearing.run)
    with capture_logs() as logs, pytest.raises(DatabaseUnavailable):
        await hearing.beat(BEAT)
    assert [line["event"] for line in logs] == ["heartbeats.failed"]
    assert hearing.lost
    database.fails = None
    assert isinstance(await hearing.beat(BEAT), BeatAnswer)


async def test_beats_that_say_the_same_count_once(
    database: FakeDatabase, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    hearing = gathering(database)
    async with trio.open_nursery() as hosts:
        for number in range(30):
            hosts.start_soon(hearing.beat, beat_of(number % 3))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(hearing.run)
    assert [count for _, count in database.writes] == [3]


async def test_a_daemon_that_stops_leaves_no_host_waiting(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    hearing = gathering(FakeDatabase(takes_s=2.0))
    told = trio.Event()

    async def host() -> None:
        with pytest.raises(DatabaseUnavailable):
            await hearing.beat(BEAT)
        told.set()

    nursery.start_soon(host)
    with trio.move_on_after(1):
        await hearing.run()
    await told.wait()


async def test_the_time_out_check_has_waiting_beats_written_first(
    database: FakeDatabase, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    hearing = gathering(database)
    nursery.start_soon(hearing.beat, BEAT)
    await trio.testing.wait_all_tasks_blocked()
    await hearing.flush()
    assert [count for _, count in database.writes] == [1]
    await hearing.flush()
    assert len(database.writes) == 1
    nursery.start_soon(hearing.run)
    await hearing.beat(BEAT)
    assert len(database.writes) == 2
