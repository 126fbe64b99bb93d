"""Two who want one place take turns; others don't wait for them."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from opendesk.network.routers.places import Places

IP, MAC = "ip:10.0.0.9", "mac:AA:BB:CC:DD:EE:FF"


async def test_one_place_is_held_by_one() -> None:
    places, inside, most = Places(), 0, 0

    async def hold(keys: frozenset[str]) -> None:
        nonlocal inside, most
        async with places.holding(keys):
            inside += 1
            most = max(most, inside)
            await wait_all_tasks_blocked()
            inside -= 1

    async with trio.open_nursery() as nursery:
        for keys in ({IP}, {IP, MAC}, {MAC, IP}, {IP}):
            nursery.start_soon(hold, frozenset(keys))
    assert most == 1
    assert places == Places()


async def test_another_place_is_free(autojump_clock: MockClock) -> None:
    places = Places()
    async with places.holding(frozenset({IP})):
        with trio.fail_after(1):
            async with places.holding(frozenset({MAC})):
                assert places.holders == 2


async def test_who_waits_for_two_and_gives_up_leaves_none_behind(autojump_clock: MockClock) -> None:
    places, reached = Places(), []

    async def give_up() -> None:
        with trio.move_on_after(1):
            async with places.holding(frozenset({IP, MAC})):
                reached.append(MAC)
        with trio.fail_after(1):
            async with places.holding(frozenset({IP})):
                reached.append(IP)

    async with trio.open_nursery() as nursery, places.holding(frozenset({MAC})):
        nursery.start_soon(give_up)
        await trio.sleep(5)
    assert reached == [IP]
    assert places == Places()


async def test_crossed_wishes_end(autojump_clock: MockClock) -> None:
    places, done = Places(), []

    async def hold(keys: tuple[str, str]) -> None:
        for _ in range(20):
            async with places.holding(frozenset(keys)):
                await trio.sleep(0.01)
        done.append(keys)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for keys in (("a", "b"), ("b", "a"), ("b", "c"), ("c", "a")):
                nursery.start_soon(hold, keys)
    assert len(done) == 4
