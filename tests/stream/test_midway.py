"""A room that is closed while a picture is on its way: the picture is finished, then the good-bye is said."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from structlog.testing import capture_logs
import trio
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong

from opendesk.postgres.driver import TrioConnection
from opendesk.rental.lifecycle import Caller
from opendesk.stream.events import Burst
from opendesk.stream.tokens import Role
from tests.rental.builders import end
from tests.stream.conftest import Limited
from tests.stream.framing import BINARY, CONTINUATION, sent
from tests.stream.relaying import Relaying, Socket
from tests.stream.scripted import Spy, client_at

HOST, CLIENT = Role.HOST, Role.CLIENT
PICTURE = bytes(range(256)) * 1_000


Closing = Callable[[Relaying, TrioConnection], Awaitable[tuple[int, str]]]


async def drain(on: Relaying, _: TrioConnection) -> tuple[int, str]:
    on.relay.drain()
    return 1012, "relay_shutdown"


async def end_session(on: Relaying, conn: TrioConnection) -> tuple[int, str]:
    await end(conn, on.session.id, Caller.CLIENT)
    return 1008, "session_closed"


async def until_closed(client: Socket) -> tuple[int, str]:
    while (got := await client.next()) == PICTURE:
        pass
    assert isinstance(got, CloseConnection), "cut off without a word"
    await client.send(got.response())
    return int(got.code), got.reason or ""


@pytest.mark.parametrize("close", [drain, end_session])
async def test_the_rest_of_a_picture_that_comes_in_time_still_goes(
    on: Relaying, conn: TrioConnection, close: Closing
) -> None:
    host, client = await on.enter(HOST), await on.enter(CLIENT)
    frame = sent(BINARY, PICTURE)
    await host.stream.send_all(frame[:1000])
    (room,) = on.relay.rooms.values()
    while not room.is_inside:  # noqa: ASYNC110  # the relay tells nobody
        await trio.sleep(0.01)
    why = await close(on, conn)
    assert isinstance(await host.next(), CloseConnection)  # and answers when it has finished its frame
    await host.stream.send_all(frame[1000:])
    assert await until_closed(client) == why


@pytest.mark.parametrize("close", [drain, end_session])
async def test_a_client_of_a_host_that_never_pauses_is_told_why(
    limited: Limited, conn: TrioConnection, close: Closing
) -> None:
    async with limited(host_bytes_per_s=10**9) as on:
        host, client = await on.enter(HOST), await on.enter(CLIENT)
        frame = sent(BINARY, PICTURE)

        async def stream() -> None:
            with suppress(trio.BrokenResourceError):  # it is closed
                while True:
                    await host.stream.send_all(frame)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream)
            for _ in range(20):
                assert await client.next() == PICTURE
            why = await close(on, conn)
            assert await until_closed(client) == why
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("close", [drain, end_session])
async def test_between_two_fragments_the_good_bye_is_said_at_once(
    on: Relaying, conn: TrioConnection, close: Closing
) -> None:
    host, client = await on.enter(HOST), await on.enter(CLIENT)
    await host.stream.send_all(sent(BINARY, PICTURE, fin=False))
    while not any(isinstance(event, BytesMessage) and event.frame_finished for event in client.heard):
        client.ws.receive_data(await client.stream.receive_some(2**16))
        client.heard.extend(client.ws.events())
    why = await close(on, conn)
    assert await client.closed() == why
    assert await host.closed() == why


async def test_pings_are_answered_between_two_fragments(on: Relaying) -> None:
    host, client = await on.enter(HOST), await on.enter(CLIENT)
    await host.stream.send_all(sent(BINARY, b"one ", fin=False))
    await client.send(Ping(b"still there?"))
    answer = await client.next()
    assert isinstance(answer, Pong)
    assert bytes(answer.payload) == b"still there?"
    await host.stream.send_all(sent(CONTINUATION, b"two"))
    assert await client.next() == b"one two"


async def test_who_never_hears_of_the_rest_is_cut_off_and_not_said_to_have_been_told(
    on: Relaying, conn: TrioConnection
) -> None:
    host, client = await on.enter(HOST), await on.enter(CLIENT)
    await host.stream.send_all(sent(BINARY, PICTURE)[:1000])
    (room,) = on.relay.rooms.values()
    while not room.is_inside:  # noqa: ASYNC110  # the relay tells nobody
        await trio.sleep(0.01)
    with capture_logs() as said:
        await end_session(on, conn)
        assert await client.next() is None
        assert client.was_reset
        while on.relay.rooms:  # noqa: ASYNC110  # the host has its time for an answer
            await trio.sleep(0.01)
    told = {line["role"]: (line["code"], line["reason"]) for line in said if line["event"] == "relay.disconnected"}
    assert told == {HOST: (1008, "session_closed"), CLIENT: (None, "session_closed")}


async def test_nothing_of_the_next_host_follows_half_a_message_before_its_client_is_gone() -> None:
    spy = Spy([])
    client = client_at(spy)
    client.pass_on(Burst(goes_on=False, pieces=[b"half of"], size=7, frame_left=5))
    client.host_left()
    client.pass_on(Burst(goes_on=False, pieces=[b"another"], ends=[1], size=7))
    await client.serve()
    assert bytes(spy.sent) == b"half of"
