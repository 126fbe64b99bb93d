"""Every close of the contract, as a socket hears it, and which one it is where several things are wrong."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from attrs import frozen
import pytest
from wsproto.events import BytesMessage, CloseConnection

from opendesk.postgres.driver import TrioConnection
from opendesk.rental.lifecycle import Caller
from opendesk.stream import peer, relay
from opendesk.stream.admission import Reason
from opendesk.stream.counts import DISCONNECTS, FAULTS, REFUSALS
from opendesk.stream.tokens import Role, own_token, stream_id
from opendesk.web.http.door import Upgrade
from tests.rental.builders import Stage, add_client, add_pc, end, reserve
from tests.stream.conftest import Limited
from tests.stream.framing import BINARY, CLOSE, CONTINUATION, FIN, PING, TEXT, sent
from tests.stream.relaying import KEY, Relaying, Socket, allow

HOST, CLIENT = Role.HOST, Role.CLIENT
# What is counted of those to whom nothing could be said; and "closed", which is the other side's own word.
WORDLESS = {"gone", "silent", "host_left_midway", "interrupted", "closed"}


@frozen
class World:
    on: Relaying
    conn: TrioConnection
    patch: pytest.MonkeyPatch

    async def another_session(self) -> Relaying:
        """Of another client, on another PC of the same host."""
        host = self.on.stage.host
        stage = Stage(host, await add_pc(self.conn, host), await add_client(self.conn))
        session = await reserve(self.conn, stage)
        await allow(self.conn, session)
        return self.on.at(session, stage)


Close = tuple[int, str]
Story = Callable[[World], Awaitable[Close]]


@frozen
class Closing:
    code: int
    reason: str
    limits: dict[str, Any]
    story: Story


CLOSINGS: list[Closing] = []


def closes(code: int, reason: str, **limits: Any) -> Callable[[Story], Story]:
    """What follows ends so, in a relay with these limits."""

    def keep(story: Story) -> Story:
        CLOSINGS.append(Closing(code, reason, limits, story))
        return story

    return keep


def named(closing: Closing) -> str:
    return f"{closing.reason}: {closing.story.__name__}"


def elsewhere(_: Upgrade) -> str:
    """Each attempt comes from another address."""
    return uuid4().hex


# ---- who is not let in, in the contract's order


@closes(1013, "rate_limited", attempts=3)
async def too_many_attempts_of_an_address(world: World) -> Close:
    for _ in range(3):
        assert await world.on.refused(CLIENT, token="x" * 20) == (1008, "invalid_token")
    return await world.on.refused(CLIENT)


@closes(1008, "invalid_query")
async def a_role_that_there_is_not(world: World) -> Close:
    return await world.on.refused(CLIENT, role="admin")


@closes(1008, "invalid_query")
async def a_stream_that_is_too_short(world: World) -> Close:
    return await world.on.refused(CLIENT, streamId="short")


@closes(1008, "invalid_query")
async def no_query_at_all(world: World) -> Close:
    return await (await world.on.knock({})).closed()


@closes(1008, "invalid_token")
async def a_token_that_is_not_genuine(world: World) -> Close:
    return await world.on.refused(CLIENT, token="x" * 20)


@closes(1008, "invalid_token")
async def a_session_that_there_is_not(world: World) -> Close:
    return await world.on.refused(CLIENT, sessionId=uuid4())


@closes(1008, "expired_token")
async def a_token_that_is_too_old(world: World) -> Close:
    await allow(world.conn, world.on.session, for_s=-1)
    return await world.on.refused(CLIENT)


@closes(1008, "token_session_mismatch")
async def another_sessions_token(world: World) -> Close:
    other = await world.another_session()
    return await other.refused(HOST, token=own_token(KEY, world.on.session.id, HOST, world.on.host_user))


@closes(1008, "session_not_streamable")
async def a_session_that_is_over(world: World) -> Close:
    await end(world.conn, world.on.session.id, Caller.CLIENT)
    return await world.on.refused(CLIENT)


@closes(1008, "stream_mismatch")
async def a_stream_of_another_token(world: World) -> Close:
    return await world.on.refused(CLIENT, streamId=stream_id(world.on.shared()))


@closes(1008, "client_forbidden")
async def a_client_who_is_somebody_else(world: World) -> Close:
    return await world.on.refused(CLIENT, userId=uuid4())


@closes(1008, "client_forbidden")
async def a_client_with_the_hosts_token(world: World) -> Close:
    return await world.on.refused(CLIENT, token=own_token(KEY, world.on.session.id, HOST, world.on.host_user))


@closes(1008, "host_forbidden")
async def a_host_who_is_somebody_else(world: World) -> Close:
    return await world.on.refused(HOST, userId=uuid4())


@closes(1008, "host_forbidden")
async def a_host_with_the_clients_token(world: World) -> Close:
    return await world.on.refused(HOST, token=own_token(KEY, world.on.session.id, CLIENT, world.on.stage.client))


@closes(1008, "host_forbidden")
async def the_shared_token_where_the_host_is_there_with_its_own(world: World) -> Close:
    host, client = await world.on.enter(HOST), await world.on.enter(CLIENT)
    told = await world.on.refused(HOST, token=world.on.shared())
    await host.picture(b"still there")
    assert await client.next() == b"still there"
    return told


@closes(1013, "rate_limited", attempts=2, address=elsewhere)
async def too_many_attempts_of_a_user(world: World) -> Close:
    other = await world.another_session()
    await world.on.enter(HOST)
    await other.enter(HOST)
    told = await other.refused(HOST)
    await other.enter(CLIENT)  # of the session it is the second only
    return told


@closes(1013, "rate_limited", attempts=2, address=elsewhere)
async def too_many_attempts_at_a_session(world: World) -> Close:
    other, shared = await world.another_session(), world.on.shared()
    await world.on.enter(HOST, token=shared)
    await world.on.enter(CLIENT, token=shared)
    told = await world.on.refused(CLIENT, token=shared)
    await other.enter(HOST)
    for role in Role:  # whatever was tried with the shared token, who comes with their own has their own attempts
        await world.on.enter(role)
    return told


@closes(1013, "room_full", clients=2)
async def one_client_too_many(world: World) -> Close:
    first, _ = await world.on.enter(CLIENT), await world.on.enter(CLIENT)
    told = await world.on.refused(CLIENT)
    await first.send(CloseConnection(1000))
    assert isinstance(await first.next(), CloseConnection)
    await world.on.enter(CLIENT)  # where there is a place again
    return told


@closes(1013, "try_again_later")
async def a_look_at_the_database_that_takes_too_long(world: World) -> Close:
    world.patch.setattr(relay, "_LOOK_S", 0.1)
    async with world.conn.transaction():
        await world.conn.run("LOCK TABLE sessions")
        return await world.on.refused(CLIENT)


@closes(1012, "relay_shutdown")
async def who_comes_at_the_daemons_end(world: World) -> Close:
    world.on.relay.drain()
    return await world.on.refused(CLIENT)


# ---- who is put out


@closes(1008, "host_replaced")
async def a_second_host(world: World) -> Close:
    first = await world.on.enter(HOST)
    await world.on.enter(HOST)
    return await first.closed()


@closes(1008, "host_replaced")
async def a_host_with_its_own_token_after_one_with_the_shared(world: World) -> Close:
    first = await world.on.enter(HOST, token=world.on.shared())
    await world.on.enter(CLIENT, token=world.on.shared())
    await world.on.enter(HOST)
    return await first.closed()


@closes(1008, "session_closed")
async def an_end_of_the_session(world: World) -> Close:
    host, client = await world.on.enter(HOST), await world.on.enter(CLIENT)
    await end(world.conn, world.on.session.id, Caller.CLIENT)
    told = await host.closed()
    assert await client.closed() == told
    return told


@closes(1012, "relay_shutdown")
async def the_daemons_end(world: World) -> Close:
    host, client = await world.on.enter(HOST), await world.on.enter(CLIENT)
    world.on.relay.drain()
    told = await host.closed()
    assert await client.closed() == told
    return told


@closes(1013, "host_rate_limit", host_bytes_per_s=10_000)
async def pictures_over_the_rate(world: World) -> Close:
    host = await world.on.enter(HOST)
    for _ in range(3):
        await host.picture(bytes(5_000))
    return await host.closed()


@closes(1013, "host_rate_limit", host_bytes_per_s=2_000)
async def words_of_a_host_over_the_rate(world: World) -> Close:
    host = await world.on.enter(HOST)
    for _ in range(3):
        await host.say("x" * 900)
    return await host.closed()


@closes(1013, "client_rate_limit", client_messages_per_s=5)
async def words_of_a_client_over_the_rate(world: World) -> Close:
    client = await world.on.enter(CLIENT)
    for _ in range(6):
        await client.say("?")
    return await client.closed()


@closes(1013, "client_rate_limit", client_messages_per_s=5)
async def pictures_of_a_client_over_the_rate(world: World) -> Close:
    client = await world.on.enter(CLIENT)
    for _ in range(6):
        await client.picture(b"?")
    return await client.closed()


@closes(1013, "client_too_slow", queue_bytes=100_000, host_bytes_per_s=10**9)
async def a_client_that_takes_nothing(world: World) -> Close:
    assert peer.STUCK_S == 10
    world.patch.setattr(peer, "STUCK_S", 0.2)
    world.patch.setattr(peer, "PARTING_S", 15)
    host, stuck = await world.on.enter(HOST), await world.on.enter(CLIENT)
    (room,) = world.on.relay.rooms.values()
    while room.clients[0].parting is None:
        await host.picture(bytes(100_000))
    return await whole_until_the_close(stuck, bytes(100_000))


async def whole_until_the_close(stuck: Socket, picture: bytes) -> Close:
    while not isinstance(got := await stuck.next(), CloseConnection):
        assert got == picture
    await stuck.send(got.response())
    return int(got.code), got.reason or ""


@closes(1013, "client_too_slow", client_messages_per_s=10**9)
async def a_client_that_takes_no_pongs(world: World) -> Close:
    world.patch.setattr(peer, "PARTING_S", 15)
    world.patch.setattr(peer, "STUCK_S", 0.3)
    stuck = await world.on.enter(CLIENT)
    (room,) = world.on.relay.rooms.values()
    while room.clients[0].parting is None:
        await stuck.stream.send_all(sent(PING, bytes(125)) * 400)
    while not isinstance(got := await stuck.next(), CloseConnection):
        assert got is not None
    return int(got.code), got.reason or ""


@closes(1009, "message too big", message_bytes=10_000)
async def a_message_over_the_limit(world: World) -> Close:
    host = await world.on.enter(HOST)
    await host.picture(bytes(10_000))
    await host.picture(bytes(10_001))
    return await host.closed()


@closes(1009, "message too big", message_bytes=10_000)
async def fragments_over_the_limit_together(world: World) -> Close:
    host = await world.on.enter(HOST)
    await host.send(BytesMessage(bytes(5_000), message_finished=False))
    await host.send(BytesMessage(bytes(5_001), message_finished=True))
    return await host.closed()


@closes(1009, "message too big", message_bytes=10_000)
async def a_text_over_the_limit(world: World) -> Close:
    client = await world.on.enter(CLIENT)
    await client.say("x" * 20_000)
    return await client.closed()


def says(name: str, frame: bytes) -> Story:
    async def story(world: World) -> Close:
        """A host and a client are told the same."""
        host, client = await world.on.enter(HOST), await world.on.enter(CLIENT)
        for socket in (host, client):
            await socket.stream.send_all(frame)
        told = await host.closed()
        assert await client.closed() == told
        return told

    story.__name__ = name
    return story


for _code, _reason, _name, _frame in (
    (1002, "unmasked frame", "a_mask_that_is_missing", b"\x82\x03abc"),
    (1002, "reserved bits", "a_bit_of_an_extension", b"\xc2\x80\0\0\0\0"),
    (1002, "reserved opcode", "an_opcode_that_there_is_not", sent(3)),
    (1002, "continuation of nothing", "a_fragment_of_nothing", sent(CONTINUATION)),
    (1002, "message inside a message", "a_second_message", sent(TEXT, b"a", fin=False) + sent(TEXT, b"b")),
    (1002, "fragmented control frame", "a_piece_of_a_ping", sent(PING, fin=False)),
    (1002, "control frame too long", "a_long_ping", sent(PING, bytes(126))),
    (1002, "length not minimal", "a_length_that_is_too_wide", bytes((FIN | BINARY, 0xFE, 0, 5)) + bytes(9)),
    (1002, "invalid close code", "a_code_that_may_not_be_sent", sent(CLOSE, b"\x03\xed")),
    (1007, "invalid UTF-8", "a_text_that_is_none", sent(TEXT, b"\xff")),
    (1007, "invalid UTF-8", "a_reason_that_is_no_text", sent(CLOSE, b"\x03\xe8\xff")),
):
    closes(_code, _reason)(says(_name, _frame))


@pytest.mark.parametrize("closing", CLOSINGS, ids=named)
async def test_it_is_closed_with_its_code_and_reason(
    limited: Limited, conn: TrioConnection, closing: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with limited(**closing.limits) as on:
        assert await closing.story(World(on, conn, monkeypatch)) == (closing.code, closing.reason)


def test_no_close_that_the_relay_knows_is_left_out() -> None:
    told = {closing.reason for closing in CLOSINGS}
    faults = {closing.code for closing in CLOSINGS if closing.reason not in {*REFUSALS, *DISCONNECTS}}
    assert set(Reason) <= told
    assert told >= set(REFUSALS)
    assert told >= set(DISCONNECTS) - WORDLESS
    assert faults == set(FAULTS)


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_a_good_bye_is_answered_with_its_own_code(on: Relaying, code: int) -> None:
    for role in Role:
        socket = await on.enter(role)
        await socket.send(CloseConnection(code, "bye"))
        answer = await socket.next()
        assert isinstance(answer, CloseConnection)
        assert answer.code == code
        assert await socket.next() is None
        assert not socket.was_reset


# ---- the order. Of the checks in the midst, test_admission tries every combination


async def test_over_an_addresss_limit_nothing_else_is_looked_at(limited: Limited) -> None:
    async with limited(attempts=1) as on:
        await on.enter(CLIENT)
        for changes in ({}, {"role": "admin"}, {"token": "x" * 20}, {"sessionId": uuid4()}, {"streamId": "0" * 32}):
            assert await on.refused(CLIENT, **changes) == (1013, "rate_limited")


FORBIDDEN: list[tuple[dict[str, Any], str]] = [
    ({"role": "admin"}, "invalid_query"),
    ({"token": "x" * 20}, "invalid_token"),
    ({"streamId": "0" * 32}, "stream_mismatch"),
    ({"userId": uuid4()}, "client_forbidden"),
]


async def test_who_may_not_come_hears_so_though_the_user_and_the_session_are_over_their_limits(
    limited: Limited, conn: TrioConnection
) -> None:
    async with limited(attempts=1, address=elsewhere) as on:
        await on.enter(CLIENT)
        assert await on.refused(CLIENT) == (1013, "rate_limited")
        for changes, why in FORBIDDEN:
            assert await on.refused(CLIENT, **changes) == (1008, why)
        await allow(conn, on.session, for_s=-1)
        assert await on.refused(CLIENT) == (1008, "expired_token")
        await allow(conn, on.session)
        await end(conn, on.session.id, Caller.CLIENT)
        assert await on.refused(CLIENT) == (1008, "session_not_streamable")


async def test_attempts_of_strangers_are_not_counted_as_the_users(limited: Limited) -> None:
    async with limited(attempts=1, address=elsewhere) as on:
        for changes, why in FORBIDDEN:
            assert await on.refused(CLIENT, **changes) == (1008, why)
        await on.enter(CLIENT)


async def test_a_limit_comes_before_a_room_that_is_full(limited: Limited) -> None:
    async with limited(attempts=2, clients=1, address=elsewhere) as on:
        await on.enter(CLIENT)
        assert await on.refused(CLIENT) == (1013, "room_full")
        assert await on.refused(CLIENT) == (1013, "rate_limited")


async def test_who_may_not_come_hears_so_though_the_room_is_full(limited: Limited) -> None:
    async with limited(clients=1) as on:
        await on.enter(CLIENT)
        for changes, why in FORBIDDEN:
            assert await on.refused(CLIENT, **changes) == (1008, why)
