"""A reader that stalls beside a fast one."""

import pytest
import trio
from wsproto.events import CloseConnection

from opendesk.stream import peer
from opendesk.stream.tokens import Role
from tests.stream.conftest import Limited
from tests.stream.framing import BINARY, sent
from tests.stream.relaying import Socket

HOST, CLIENT = Role.HOST, Role.CLIENT
# Together some times what the queue and the buffers of the system hold.
PICTURES = [n.to_bytes(4, "big") * (2_000 + 211 * (n % 173)) for n in range(1_200)]
QUEUE_BYTES = 1_000_000
LIMITS = {"queue_bytes": QUEUE_BYTES, "host_bytes_per_s": 10**9}


async def numbers_until(socket: Socket, last: int) -> list[int]:
    """Of the pictures that come, all of them whole."""
    numbers: list[int] = []
    while not numbers or numbers[-1] != last:
        got = await socket.next()
        assert isinstance(got, bytes), got
        numbers.append(int.from_bytes(got[:4], "big"))
        assert got == PICTURES[numbers[-1]]
    return numbers


async def test_a_stalled_reader_sheds_its_oldest_and_a_fast_one_gets_all(limited: Limited) -> None:
    async with limited(**LIMITS) as on:
        host, stalled, fast = await on.enter(HOST), await on.enter(CLIENT), await on.enter(CLIENT)
        for number, picture in enumerate(PICTURES):
            # Neither the host nor the fast one waits for anybody: the stalled one reads nothing before they are through.
            await host.picture(picture)
            assert await numbers_until(fast, number) == [number]
        (room,) = on.relay.rooms.values()
        shed = room.sums()
        assert room.clients[0].outbox.queued_bytes <= QUEUE_BYTES
        got = await numbers_until(stalled, len(PICTURES) - 1)
        # What the buffers took before it stalled, and the newest that the queue holds; what is between is counted as shed.
        oldest_kept = next(number for at, number in enumerate(got) if number != at)
        missing = set(range(len(PICTURES))) - set(got)
        assert got == [*range(min(missing)), *range(oldest_kept, len(PICTURES))]
        assert len(missing) == shed.shed_messages > 0
        assert shed.shed_bytes > sum(len(PICTURES[number]) for number in missing)  # headers count, too
        # It goes on as before, and nothing is shed any more.
        await host.picture(PICTURES[0])
        for socket in (stalled, fast):
            assert await numbers_until(socket, 0) == [0]
        assert room.sums().shed_messages == len(missing)


async def test_a_stalled_reader_sheds_again_and_again(limited: Limited) -> None:
    """It reads a little now and then: whatever comes is whole and newer than what came before."""
    async with limited(**LIMITS) as on:
        host, stalled, fast = await on.enter(HOST), await on.enter(CLIENT), await on.enter(CLIENT)
        got: list[int] = []
        for number, picture in enumerate(PICTURES):
            await host.picture(picture)
            assert await numbers_until(fast, number) == [number]
            if number % 100 == 99:
                got += await next_numbers(stalled, 20)  # so many there are at least: the queue holds more
        got += await numbers_until(stalled, len(PICTURES) - 1)
        assert got == sorted(set(got))
        (room,) = on.relay.rooms.values()
        assert len(PICTURES) - len(got) == room.sums().shed_messages > 0


async def next_numbers(socket: Socket, count: int) -> list[int]:
    got = [await socket.next() for _ in range(count)]
    numbers = [int.from_bytes(each[:4], "big") for each in got]
    assert got == [PICTURES[number] for number in numbers]
    return numbers


async def test_one_that_is_stuck_is_closed_and_a_fast_one_gets_all(
    limited: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "STUCK_S", 0.3)
    monkeypatch.setattr(peer, "PARTING_S", 15)
    async with limited(**LIMITS) as on:
        host, stuck, fast = await on.enter(HOST), await on.enter(CLIENT), await on.enter(CLIENT)
        (room,) = on.relay.rooms.values()
        number = 0
        while room.clients[0].parting is None:
            await host.picture(PICTURES[number])
            assert await numbers_until(fast, number) == [number]
            number = (number + 1) % len(PICTURES)
        assert room.clients[0].parting == peer.Parting(1013, "client_too_slow")
        while not isinstance(
            got := await stuck.next(), CloseConnection
        ):  # which doesn't come into the midst of a picture
            assert got in PICTURES
        assert (got.code, got.reason) == (1013, "client_too_slow")
        await stuck.send(got.response())
        while len(room.clients) > 1:  # noqa: ASYNC110  # it tells nobody
            await trio.sleep(0.01)
        await host.picture(PICTURES[-1])
        assert await numbers_until(fast, len(PICTURES) - 1) == [len(PICTURES) - 1]


async def test_one_that_is_stuck_for_good_is_cut_off(limited: Limited, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the midst of a picture its good-bye can't be said: it is to take what came for a part of one."""
    monkeypatch.setattr(peer, "STUCK_S", 0.2)
    monkeypatch.setattr(peer, "PARTING_S", 0.2)
    # More than the buffers of the system hold.
    size = 2**25
    async with limited(host_bytes_per_s=10**9, message_bytes=size) as on:
        host, stuck = await on.enter(HOST), await on.enter(CLIENT)
        (room,) = on.relay.rooms.values()
        await host.stream.send_all(sent(BINARY, bytes(size)))
        while room.clients:  # noqa: ASYNC110  # it tells nobody
            await trio.sleep(0.01)
        assert room.host is not None
        assert await stuck.next() is None
        assert stuck.was_reset
