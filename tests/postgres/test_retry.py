"""Units of work that the database asks to run again."""

from collections.abc import Callable
from typing import Any

from psycopg import errors as e
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import ATTEMPTS, FIRST_PAUSE_S, retrying


class Unit:
    """Fails as told, then gives its number of attempts."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.attempts = 0

    async def __call__(self) -> int:
        self.attempts += 1
        if self.failures:
            raise self.failures.pop(0)
        return self.attempts


class Pauses(list[float]):
    async def sleep(self, pause_s: float) -> None:
        self.append(pause_s)


async def test_deadlocks_and_serialization_failures_are_tried_again() -> None:
    unit, pauses = Unit(e.DeadlockDetected(), e.SerializationFailure()), Pauses()
    assert await retrying(unit, sleep=pauses.sleep, jitter=lambda: 0.0) == 3
    assert pauses == [FIRST_PAUSE_S, FIRST_PAUSE_S * 2]


@pytest.mark.parametrize("attempts", [1, 2, ATTEMPTS])
async def test_the_last_failure_is_raised(attempts: int) -> None:
    failures = [e.DeadlockDetected(str(i)) for i in range(attempts + 5)]
    unit, pauses = Unit(*failures), Pauses()
    with pytest.raises(e.DeadlockDetected) as caught:
        await retrying(unit, attempts=attempts, sleep=pauses.sleep)
    assert caught.value is failures[attempts - 1]
    assert unit.attempts == attempts
    assert len(pauses) == attempts - 1


async def test_other_errors_are_raised_at_once() -> None:
    unit, pauses = Unit(e.UniqueViolation()), Pauses()
    with pytest.raises(e.UniqueViolation):
        await retrying(unit, sleep=pauses.sleep)
    assert unit.attempts == 1
    assert pauses == []


async def test_pauses_are_drawn_between_one_and_two_lengths() -> None:
    lots = iter([0.0, 0.5, 0.999])
    unit, pauses = Unit(*[e.DeadlockDetected()] * 3), Pauses()
    await retrying(unit, sleep=pauses.sleep, jitter=lambda: next(lots))
    assert pauses == pytest.approx([FIRST_PAUSE_S, FIRST_PAUSE_S * 3, FIRST_PAUSE_S * 7.996])


async def test_a_pause_can_be_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(FIRST_PAUSE_S / 2) as scope:
        await retrying(Unit(e.DeadlockDetected()))
    assert scope.cancelled_caught


async def test_two_transactions_that_lock_in_opposite_order_both_succeed(pool: Pool) -> None:
    async with pool.connection() as conn:
        await conn.execute("CREATE TABLE purses AS SELECT id, 0 AS balance FROM generate_series(1, 2) id")
    failed = 0
    met = trio.Event()

    async def transfer(conn: TrioConnection, first: int, second: int, both: Callable[[], Any]) -> None:
        nonlocal failed
        try:
            async with conn.transaction():
                await conn.run("SET LOCAL deadlock_timeout = '10ms'")
                await conn.run("UPDATE purses SET balance = balance + 1 WHERE id = %s", (first,))
                both()
                await met.wait()
                await conn.run("UPDATE purses SET balance = balance + 1 WHERE id = %s", (second,))
        except e.DeadlockDetected:
            failed += 1
            raise

    waiting = 0

    def meet() -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            met.set()

    async def unit(first: int, second: int) -> None:
        async with pool.connection() as conn:
            await retrying(lambda: transfer(conn, first, second, meet))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(unit, 1, 2)
        nursery.start_soon(unit, 2, 1)
    async with pool.connection() as conn:
        assert await conn.fetch("SELECT balance FROM purses") == [(2,), (2,)]
    assert failed == 1
