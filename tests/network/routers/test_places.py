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


async def test_who_comes_later_waits_behind_who_waits() -> None:
    places, order = Places(), []

    async def hold(name: str) -> None:
        async with places.holding(frozenset({IP})):
            order.append(name)

    async with trio.open_nursery() as nursery:
        async with places.holding(frozenset({IP})):
            for name in ("first", "second"):
                nursery.start_soon(hold, name)
                await wait_all_tasks_blocked()
        async with places.holding(frozenset({IP})):  # it is theirs already
            order.append("third")
    assert order == ["first", "second", "third"]
    assert places == Places()


async def test_who_was_given_a_place_and_is_cancelled_hands_it_on() -> None:
    places, reached = Places(), []

    async def hold(name: str, scope: trio.CancelScope) -> None:
        with scope:
            async with places.holding(frozenset({IP})):
                await trio.lowlevel.checkpoint()
                reached.append(name)

    first = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        async with places.holding(frozenset({IP})):
            for name, scope in (("first", first), ("second", trio.CancelScope())):
                nursery.start_soon(hold, name, scope)
                await wait_all_tasks_blocked()
        first.cancel()
    assert reached == ["second"]
    assert places == Places()
