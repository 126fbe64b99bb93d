"""Hosts that send the smallest frames there are: a byte of theirs costs us more than another host's thousand."""

from uuid import uuid4

import pytest
import trio
from wsproto.events import CloseConnection

from opendesk.stream.admission import Admitted
from opendesk.stream.control import Scope
from opendesk.stream.outbox import Outbox
from opendesk.stream.outgoing import pong_frame
from opendesk.stream.peer import Peer
from opendesk.stream.tokens import Role
from opendesk.stream.wire import BUFFER_BYTES, MORSEL_BYTES
from tests.stream import framing
from tests.stream.conftest import Limited
from tests.stream.framing import BINARY, CONTINUATION, PING, PONG, TEXT, sent
from tests.stream.relaying import Socket
from tests.stream.scripted import Script, Spy, client_at

MIB = 2**20


async def told_why(socket: Socket, flood: bytes) -> tuple[int, str] | None:
    """What one hears who doesn't stop."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.stream.send_all, flood)
        while (got := await socket.next()) is not None and not isinstance(got, CloseConnection):
            pass
        nursery.cancel_scope.cancel()
    return None if got is None else (int(got.code), got.reason or "")


@pytest.mark.parametrize(
    "frame",
    [
        sent(BINARY),
        sent(BINARY, b"x"),
        sent(BINARY, fin=False) + sent(CONTINUATION),
        sent(TEXT),
        sent(TEXT, fin=False) + sent(CONTINUATION),
        sent(PING),
        sent(PONG),
    ],
    ids=["empty", "one byte", "in empty fragments", "text", "text in fragments", "ping", "pong"],
)
async def test_they_count_for_more_than_their_bytes(limited: Limited, frame: bytes) -> None:
    """1 MiB/s lets 2048 frames of any kind through, of which there are five times as many in a buffer."""
    async with limited(host_bytes_per_s=MIB) as on:
        host, client = await on.enter(Role.HOST), await on.enter(Role.CLIENT)
        (room,) = on.relay.rooms.values()
        assert await told_why(host, frame * (2 * MIB // len(frame))) == (1013, "host_rate_limit")
        assert (
            room.counts.host_messages <= 2 * 2048 + MORSEL_BYTES // 6
        )  # two seconds' worth, and what was read with the last
        on.relay.drain()
        assert await client.closed() == (1012, "relay_shutdown")


@pytest.mark.parametrize(
    "frames",
    [[sent(TEXT, fin=False), sent(CONTINUATION, fin=False)], [sent(PING)], [sent(PONG)]],
    ids=["empty fragments", "ping", "pong"],
)
async def test_clients_may_not_send_them_for_ever_either(limited: Limited, frames: list[bytes]) -> None:
    async with limited() as on:
        client = await on.enter(Role.CLIENT)
        first, last = frames[0], frames[-1]
        assert await told_why(client, first + last * 10_000) == (1013, "client_rate_limit")


async def test_packets_of_a_usual_size_count_for_their_bytes(limited: Limited) -> None:
    async with limited(host_bytes_per_s=MIB) as on:
        host, client = await on.enter(Role.HOST), await on.enter(Role.CLIENT)
        for n in range(800):
            await host.picture(bytes([n % 256]) * 1200)
            assert await client.next() == bytes([n % 256]) * 1200


async def test_they_are_read_in_morsels_and_larger_ones_by_whole_buffers() -> None:
    small, large = sent(BINARY, b"x") * 9000, sent(BINARY, bytes(30_000)) * 2
    script = Script([large, small, small, large, sent(TEXT, b"words")])
    admitted = Admitted(Role.HOST, own=True, scope=Scope("token", "session", "stream"), user_id=uuid4())
    await Peer(admitted, script, script, framing.frames(), Outbox(0, 0)).serve()
    assert script.wanted == [BUFFER_BYTES, MORSEL_BYTES, MORSEL_BYTES, BUFFER_BYTES, MORSEL_BYTES, 0]


async def test_a_clients_words_are_read_in_morsels() -> None:
    script = Script([sent(TEXT, b"words"), sent(BINARY, b"x") * 600])
    admitted = Admitted(Role.CLIENT, own=True, scope=Scope("token", "session", "stream"), user_id=uuid4())
    await Peer(admitted, script, script, framing.frames(swallow=True), Outbox(0, 0)).serve()
    assert script.wanted == [MORSEL_BYTES, MORSEL_BYTES, 0]


async def test_of_the_pings_of_one_read_the_last_is_answered() -> None:
    spy = Spy([sent(PING, b"1") + sent(PING, b"2") + sent(PING, b"3"), sent(PING, b"4")])
    await client_at(spy).serve()
    assert bytes(spy.sent) == pong_frame(b"3") + pong_frame(b"4")


async def test_who_floods_is_thrown_away_unread_after_the_read_that_was_too_much() -> None:
    spy = Spy([sent(TEXT, b"a") * 3, sent(TEXT, b"b") * 3, b"no frame at all"], stems_after=2)
    await client_at(spy).serve()
    assert spy.texts == 3
    assert spy.wanted == [MORSEL_BYTES, BUFFER_BYTES, BUFFER_BYTES, 0]


@pytest.mark.parametrize(
    ("role", "limits", "flood"),
    [
        pytest.param(Role.HOST, {"clients": 1, "client_messages_per_s": 10}, sent(TEXT, b"{}") * 30, id="a host's texts"),
        pytest.param(Role.HOST, {"host_bytes_per_s": MIB}, sent(TEXT, bytes(MIB)) * 4, id="a host's texts that are too long"),
        pytest.param(Role.CLIENT, {"message_bytes": MIB}, sent(BINARY, bytes(MIB)) * 6, id="a client's binary messages"),
    ],
)  # fmt: skip
async def test_what_is_never_carried_has_its_limit_as_well(
    limited: Limited, role: Role, limits: dict[str, int], flood: bytes
) -> None:
    async with limited(**limits) as on:
        socket = await on.enter(role)
        assert await told_why(socket, flood) == (1013, f"{role}_rate_limit")


async def test_one_of_the_largest_that_is_never_carried_costs_nobody_their_place(limited: Limited) -> None:
    async with limited() as on:
        client = await on.enter(Role.CLIENT)
        (room,) = on.relay.rooms.values()
        await client.picture(bytes(4 * MIB))
        while not room.counts.client_dropped["invalid"]:  # noqa: ASYNC110  # the relay tells nobody
            await trio.sleep(0.01)
        assert room.clients[0].parting is None
