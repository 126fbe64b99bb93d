"""Work that many want is done once for all who asked before it began."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from opendesk.network.tunnels.keeping.rounds import Rounds


class Work:
    def __init__(self) -> None:
        self.begun = self.at_once = self.most_at_once = 0
        self.fails: set[int] = set()

    async def __call__(self) -> int:
        self.begun += 1
        mine = self.begun
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await trio.sleep(1)
        finally:
            self.at_once -= 1
        if mine in self.fails:
            raise OSError(mine)
        return mine


async def test_who_comes_while_a_round_runs_is_told_by_the_next(autojump_clock: MockClock) -> None:
    work = Work()
    rounds, told = Rounds(work), []

    async def ask() -> None:
        told.append(await rounds.ask())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        for _ in range(50):
            nursery.start_soon(ask)
    assert (told, work.begun, work.most_at_once) == ([1] + [2] * 50, 2, 1)


async def test_a_leader_that_gives_up_leaves_the_round_to_the_next(autojump_clock: MockClock) -> None:
    work = Work()
    rounds = Rounds(work)
    async with trio.open_nursery() as nursery:

        async def in_a_hurry() -> None:
            with trio.move_on_after(0.5):
                await rounds.ask()

        nursery.start_soon(in_a_hurry)
        await wait_all_tasks_blocked()
        assert await rounds.ask() == 2


async def test_a_failure_is_its_leaders_and_the_next_tries_again(autojump_clock: MockClock) -> None:
    work = Work()
    work.fails = {1, 2}
    rounds, told = Rounds(work), []

    async def ask() -> None:
        try:
            told.append(await rounds.ask())
        except OSError as error:
            told.append(-error.args[0])

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ask)
    assert sorted(told) == [-2, -1, 3, 3]
    work.fails = {4}
    with pytest.raises(OSError, match="4"):
        await rounds.ask()
