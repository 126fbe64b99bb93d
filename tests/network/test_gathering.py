"""Who comes alone waits for nobody; who comes meanwhile is in the next round; one's fault is one's own; who leaves takes nobody along."""

from collections.abc import Sequence

from attrs import define, field
import psycopg
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from opendesk.errors import Overloaded
from opendesk.network.gathering import ROUND_S, Gathering


class Refused(Exception):
    pass


@define(eq=False)
class Work:
    """Doubles numbers, when it is let; refuses negative ones; a round with 0 in it fails."""

    may: trio.Event = field(factory=trio.Event)
    rounds: list[list[int]] = field(factory=list)
    fault: Exception = field(factory=lambda: ValueError("not 0"))

    async def act(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.rounds.append(list(numbers))
        await self.may.wait()
        if 0 in numbers:
            raise self.fault
        return [Refused(number) if number < 0 else 2 * number for number in numbers]


async def ask_into(answers: dict[int, object], gathering: Gathering[int, int], number: int) -> None:
    try:
        answers[number] = await gathering.ask(number)
    except Exception as error:  # noqa: BLE001  # looked at by the tests
        answers[number] = error


async def asked(work: Work, first: int, *others: int, most: int = 10) -> dict[int, object]:
    gathering, answers = Gathering(work.act, most), dict[int, object]()
    async with trio.open_nursery() as nursery:
        for number in (first, *others):
            nursery.start_soon(ask_into, answers, gathering, number)
            await wait_all_tasks_blocked()
        work.may.set()
    return answers


async def test_those_who_come_meanwhile_are_the_next_round_in_their_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    work = Work()
    assert await asked(work, 1, 2, 3, 4, most=2) == {1: 2, 2: 4, 3: 6, 4: 8}
    assert work.rounds == [[1], [2, 3], [4]]


async def test_what_is_refused_is_refused_to_one(autojump_clock: trio.testing.MockClock) -> None:
    answers = await asked(Work(), 1, -2, 3)
    assert isinstance(answers.pop(-2), Refused)
    assert answers == {1: 2, 3: 6}


async def test_what_fails_together_is_done_by_each(autojump_clock: trio.testing.MockClock) -> None:
    work = Work()
    answers = await asked(work, 1, 0, 3)
    assert isinstance(answers.pop(0), ValueError)
    assert answers == {1: 2, 3: 6}


async def test_a_database_that_is_away_is_told_to_all_and_asked_once(autojump_clock: trio.testing.MockClock) -> None:
    work = Work(fault=psycopg.OperationalError("gone"))
    answers = await asked(work, 1, 0, 3)
    assert [type(answers[number]) for number in (0, 3)] == [psycopg.OperationalError] * 2
    assert answers[0] is not answers[3]
    assert work.rounds == [[1], [0, 3]]


async def test_a_round_without_an_end_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    gathering, begun_s = Gathering(Work().act, 10), trio.current_time()
    with pytest.raises(psycopg.OperationalError):
        await gathering.ask(1)
    assert trio.current_time() == begun_s + ROUND_S


@pytest.mark.parametrize("leaves", [0, 1, 2, 3])
async def test_who_leaves_takes_nobody_along(leaves: int, autojump_clock: trio.testing.MockClock) -> None:
    work, answers = Work(), dict[int, object]()
    gathering, scopes = Gathering(work.act, 2), [trio.CancelScope() for _ in range(4)]

    async def ask(number: int) -> None:
        with scopes[number]:
            await ask_into(answers, gathering, number + 1)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(ask, number)
            await wait_all_tasks_blocked()
        scopes[leaves].cancel()
        await wait_all_tasks_blocked()
        work.may.set()
    others = {number: 2 * number for number in range(1, 5) if number != leaves + 1}
    assert {number: answer for number, answer in answers.items() if number != leaves + 1} == others
    assert await gathering.ask(9) == 18


async def test_who_is_called_to_lead_and_leaves_at_that_moment_passes_it_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    work, answers = Work(), dict[int, object]()
    gathering, leaving = Gathering(work.act, 1), trio.CancelScope()

    async def leave() -> None:
        with leaving:
            await ask_into(answers, gathering, 2)

    async with trio.open_nursery() as nursery:
        for task in (lambda: ask_into(answers, gathering, 1), leave, lambda: ask_into(answers, gathering, 3)):
            nursery.start_soon(task)
            await wait_all_tasks_blocked()
        work.may.set()
        leaving.cancel()
    assert (answers[1], answers[3]) == (2, 6)
    assert await gathering.ask(9) == 18


async def test_a_crowd_is_refused_and_not_gathered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opendesk.network.gathering.MOST_WAITING", 2)
    go, answered = trio.Event(), list[int]()

    async def act(items: Sequence[int]) -> list[int]:
        await go.wait()
        return list(items)

    gathering: Gathering[int, int] = Gathering(act, 10)

    async def ask(item: int) -> None:
        answered.append(await gathering.ask(item))

    async with trio.open_nursery() as nursery:
        for item in range(3):  # one is under way, two wait
            nursery.start_soon(ask, item)
            await wait_all_tasks_blocked()
        with pytest.raises(Overloaded):
            await gathering.ask(3)
        go.set()
    assert sorted(answered) == [0, 1, 2]
