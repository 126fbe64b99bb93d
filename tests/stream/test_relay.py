"""What goes through the relay, who gets in, and who is put out: over real sockets, with a real session in the database."""

from collections.abc import AsyncIterator
import json
from pathlib import Path
import ssl
from typing import Any
from uuid import uuid4

import pytest
import trio
import trio.testing
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental.lifecycle import Caller
from opendesk.stream import peer
from opendesk.stream.tokens import Role, own_token, stream_id
from opendesk.web.http.certificate import Certificate
from tests.rental.builders import Stage, cancel, end, rent, reserve, set_stage, start
from tests.stream.relaying import KEY, Relaying, Socket, allow, relaying

HOST, CLIENT = Role.HOST, Role.CLIENT
CERTIFICATES = Path(__file__).parents[1] / "web" / "certificates"


@pytest.fixture
async def stage(conn: TrioConnection) -> Stage:
    return await set_stage(conn)


@pytest.fixture
async def on(conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage) -> AsyncIterator[Relaying]:
    async with relaying(conn, pool, conninfo, stage, await rent(conn, stage)) as made:
        yield made


def ping(socket: Relaying, **changes: Any) -> str:
    query = socket.query(CLIENT)
    ids = {name: query[name] for name in ("token", "sessionId", "streamId")}
    return json.dumps({"type": "stream_ping", "pingId": 1, "sentAtUs": 2, **ids, **changes})


# ---- what goes through


async def test_pictures_reach_every_client_byte_for_byte_and_in_order(on: Relaying) -> None:
    host, *clients = await on.enter(HOST), await on.enter(CLIENT), await on.enter(CLIENT)
    sent = [
        bytes([n % 251]) * size for n, size in enumerate([0, 1, 125, 126, 1200, 65_535, 65_536, 300_000, 1_000_000])
    ]
    async with trio.open_nursery() as nursery:
        for data in sent:
            nursery.start_soon(_all_of, clients, data)
            await host.picture(data)
            await trio.testing.wait_all_tasks_blocked(0.01)


async def _all_of(clients: list[Socket], data: bytes) -> None:
    for client in clients:
        assert await client.next() == data


async def test_fragments_stay_fragments_with_words_of_ours_around_them(on: Relaying) -> None:
    host, client = await on.enter(HOST), await on.enter(CLIENT)
    await host.send(BytesMessage(b"one ", message_finished=False))
    await host.send(Ping(b"in between"))
    await host.send(BytesMessage(b"two", message_finished=True))
    assert await client.next() == b"one two"
    answer = await host.next()
    assert isinstance(answer, Pong)
    assert bytes(answer.payload) == b"in between"
    assert [event.message_finished for event in client.heard if isinstance(event, BytesMessage)].count(True) == 1


async def test_a_ping_goes_to_the_host_under_its_own_ids_and_its_pong_comes_back(on: Relaying) -> None:
    host, client = await on.enter(HOST), await on.enter(CLIENT)
    await client.say(ping(on))
    heard = json.loads(await host.next())
    mine = on.query(HOST)
    assert heard == {
        "type": "stream_ping",
        "pingId": 1,
        "sentAtUs": 2,
        **{n: mine[n] for n in ("token", "sessionId", "streamId")},
    }
    await host.say(
        json.dumps({"type": "stream_pong", "pingId": 1, "sessionId": mine["sessionId"], "streamId": mine["streamId"]})
    )
    pong = json.loads(await client.next())
    assert pong == {
        "type": "stream_pong",
        "pingId": 1,
        "sessionId": mine["sessionId"],
        "streamId": on.query(CLIENT)["streamId"],
    }


async def test_what_is_not_for_the_host_is_counted_and_dropped(on: Relaying) -> None:
    host, client = await on.enter(HOST), await on.enter(CLIENT)
    for text in ("nonsense", ping(on, token="x" * 20), ping(on, pingId=-1), ping(on, type="stream_pong")):
        await client.say(text)
    await client.picture(b"a client sends no pictures")
    await client.say(ping(on, pingId=7))
    assert json.loads(await host.next())["pingId"] == 7
    (room,) = on.relay.rooms.values()
    assert room.counts.client_dropped == {"invalid": 5}


async def test_it_is_the_same_in_tls(conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage) -> None:
    certificate = Certificate(CERTIFICATES / "first.pem", CERTIFICATES / "first.key")
    trusts = ssl.create_default_context(cafile=str(CERTIFICATES / "first.pem"))
    session = await rent(conn, stage)
    async with relaying(conn, pool, conninfo, stage, session, tls=certificate, trusts=trusts) as on:
        host, client = await on.enter(HOST), await on.enter(CLIENT)
        for size in (1, 1200, 70_000, 1_000_000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_all_of, [client], bytes([size % 251]) * size)
                await host.picture(bytes([size % 251]) * size)
        await client.say(ping(on))
        assert json.loads(await host.next())["type"] == "stream_ping"
        await end(conn, session.id, Caller.CLIENT)
        assert await host.closed() == await client.closed() == (1008, "session_closed")


async def test_input_is_carried_only_while_the_session_is_active(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage
) -> None:
    session = await reserve(conn, stage)
    async with relaying(conn, pool, conninfo, stage, session) as on:
        host, client = await on.enter(HOST), await on.enter(CLIENT)
        ids = {name: on.query(CLIENT)[name] for name in ("token", "sessionId", "streamId")}
        move = json.dumps({"type": "input_event", "event": {"type": "mouse_move", "dx": 1, "dy": 2}, **ids})
        await client.say(move)
        await client.say(ping(on))
        assert json.loads(await host.next())["type"] == "stream_ping"
        await start(conn, session)
        (room,) = on.relay.rooms.values()
        while not room.is_active:  # noqa: ASYNC110  # the database tells the relay, and the relay nobody
            await trio.sleep(0.01)
        await client.say(move)
        assert json.loads(await host.next())["type"] == "input_event"
        assert room.counts.client_dropped == {"not_active": 1}


async def test_a_slow_client_sheds_its_own_and_holds_up_nobody(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage
) -> None:
    async with relaying(
        conn, pool, conninfo, stage, await rent(conn, stage), queue_bytes=200_000, host_bytes_per_s=10**9
    ) as on:
        host, slow, fast = await on.enter(HOST), await on.enter(CLIENT), await on.enter(CLIENT)
        pictures = [n.to_bytes(4, "big") * 25_000 for n in range(200)]
        for picture in pictures:
            await host.picture(picture)
            assert await fast.next() == picture
        got: list[Any] = []
        while not got or got[-1] != pictures[-1]:
            got.append(await slow.next())
        assert [pictures.index(each) for each in got] == sorted({pictures.index(each) for each in got})
        assert len(got) < len(pictures)


# ---- who gets in


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"role": "admin"}, (1008, "invalid_query")),
        ({"streamId": "short"}, (1008, "invalid_query")),
        ({"token": "x" * 20}, (1008, "invalid_token")),
        ({"sessionId": uuid4()}, (1008, "invalid_token")),
        ({"streamId": "0" * 32}, (1008, "stream_mismatch")),
        ({"userId": uuid4()}, (1008, "client_forbidden")),
    ],
)
async def test_who_does_not_belong_is_told_why(on: Relaying, changes: dict[str, Any], why: tuple[int, str]) -> None:
    assert await on.refused(CLIENT, **changes) == why


async def test_an_expired_token_admits_nobody(on: Relaying, conn: TrioConnection) -> None:
    await allow(conn, on.session, for_s=-1)
    assert await on.refused(CLIENT) == (1008, "expired_token")


async def test_the_hosts_own_token_makes_nobody_a_client(on: Relaying) -> None:
    theirs = own_token(KEY, on.session.id, HOST, on.host_user)
    assert await on.refused(CLIENT, token=theirs) == (1008, "client_forbidden")
    ours = own_token(KEY, on.session.id, CLIENT, on.stage.client)
    assert await on.refused(HOST, token=ours) == (1008, "host_forbidden")


async def test_the_shared_token_admits_both_but_puts_no_host_out(on: Relaying) -> None:
    first = await on.enter(HOST, token=on.shared())
    await on.enter(CLIENT, token=on.shared())
    await on.enter(HOST)
    assert await first.closed() == (1008, "host_replaced")
    assert await on.refused(HOST, token=on.shared()) == (1008, "host_forbidden")


async def test_a_room_has_so_many_places(conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage) -> None:
    async with relaying(conn, pool, conninfo, stage, await rent(conn, stage), clients=2) as on:
        first, _ = await on.enter(CLIENT), await on.enter(CLIENT)
        assert await on.refused(CLIENT) == (1013, "room_full")
        await first.send(CloseConnection(1000))
        assert isinstance(await first.next(), CloseConnection)
        await on.enter(CLIENT)


async def test_attempts_of_an_address_are_limited(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage
) -> None:
    async with relaying(conn, pool, conninfo, stage, await rent(conn, stage), attempts=3) as on:
        for _ in range(3):
            assert await on.refused(CLIENT, token="x" * 20) == (1008, "invalid_token")
        assert await on.refused(CLIENT) == (1013, "rate_limited")


# ---- who is put out


async def test_both_sides_are_closed_when_the_session_ends(on: Relaying, conn: TrioConnection) -> None:
    host, client = await on.enter(HOST), await on.enter(CLIENT)
    await end(conn, on.session.id, Caller.CLIENT)
    assert await host.closed() == await client.closed() == (1008, "session_closed")
    assert await on.refused(CLIENT) == (1008, "session_not_streamable")


async def test_a_cancelled_reservation_closes_its_room(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage
) -> None:
    session = await reserve(conn, stage)
    async with relaying(conn, pool, conninfo, stage, session) as on:
        client = await on.enter(CLIENT)
        await cancel(conn, session.id)
        assert await client.closed() == (1008, "session_closed")


async def test_a_host_over_its_rate_is_closed(conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage) -> None:
    async with relaying(conn, pool, conninfo, stage, await rent(conn, stage), host_bytes_per_s=10_000) as on:
        host = await on.enter(HOST)
        for _ in range(3):
            await host.picture(bytes(5_000))
        assert await host.closed() == (1013, "host_rate_limit")


async def test_a_client_over_its_rate_is_closed(conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage) -> None:
    async with relaying(conn, pool, conninfo, stage, await rent(conn, stage), client_messages_per_s=5) as on:
        client = await on.enter(CLIENT)
        for _ in range(6):
            await client.say(ping(on))
        assert await client.closed() == (1013, "client_rate_limit")


async def test_a_message_over_the_limit_closes_its_host(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage
) -> None:
    async with relaying(conn, pool, conninfo, stage, await rent(conn, stage), message_bytes=10_000) as on:
        host = await on.enter(HOST)
        await host.picture(bytes(10_000))
        await host.picture(bytes(10_001))
        assert (await host.closed())[0] == 1009


async def test_a_host_that_dies_inside_a_message_takes_its_clients_connections_along(on: Relaying) -> None:
    """Half a message can't be ended, so its receivers are cut off, not closed; who waits for a whole one stays."""
    host, client = await on.enter(HOST), await on.enter(CLIENT)
    await host.send(BytesMessage(b"half of it", message_finished=False))
    while not any(isinstance(event, BytesMessage) for event in client.heard):
        with trio.move_on_after(0.05):
            await client.next()
    await host.stream.aclose()
    assert await client.next() is None


async def test_everybody_is_told_at_the_daemons_end(on: Relaying) -> None:
    host, client = await on.enter(HOST), await on.enter(CLIENT)
    on.relay.drain()
    assert await host.closed() == await client.closed() == (1012, "relay_shutdown")


async def test_what_is_no_handshake_is_refused_as_http(on: Relaying) -> None:
    stream = await on.connect()
    await stream.send_all(b"GET /stream/relay HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 400 ")
    stream = await on.connect()
    query = on.query(CLIENT)
    assert stream_id(query["token"]) == query["streamId"]
    await stream.send_all(b"GET /elsewhere HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x82\x03abc", 1002),  # not masked
        (b"\xc2\x80\0\0\0\0", 1002),  # a reserved bit
        (b"\x83\x80\0\0\0\0", 1002),  # a reserved opcode
        (b"\x80\x80\0\0\0\0", 1002),  # the continuation of nothing
        (b"\x81\x81\0\0\0\0\xff", 1007),  # no UTF-8
        (b"\x88\x82\0\0\0\0\x03\xed", 1002),  # a close with a code that may not be sent
    ],
)
async def test_bad_frames_are_answered_with_their_code(on: Relaying, frame: bytes, code: int) -> None:
    client = await on.enter(CLIENT)
    await client.stream.send_all(frame)
    assert (await client.closed())[0] == code


async def test_a_client_that_takes_nothing_is_closed(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "STUCK_S", 0.2)
    monkeypatch.setattr(peer, "PARTING_S", 0.2)
    async with relaying(
        conn, pool, conninfo, stage, await rent(conn, stage), queue_bytes=100_000, host_bytes_per_s=10**9
    ) as on:
        host, stuck = await on.enter(HOST), await on.enter(CLIENT)
        (room,) = on.relay.rooms.values()
        while room.clients:
            await host.picture(bytes(100_000))
        assert room.host is not None
        assert room.counts.shed_messages > 0
        assert stuck.heard


async def test_five_hundred_sockets_hear_of_the_end(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage
) -> None:
    async with relaying(conn, pool, conninfo, stage, await rent(conn, stage), clients=500, attempts=1000) as on:
        sockets = list[Socket]()

        async def come() -> None:
            sockets.append(await on.enter(CLIENT))

        for _ in range(25):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(come)
        on.relay.drain()
        assert {await socket.closed() for socket in sockets} == {(1012, "relay_shutdown")}
        while on.relay.rooms:  # noqa: ASYNC110  # they leave one by one
            await trio.sleep(0.01)


async def test_a_host_that_floods_with_words_meets_its_limit(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage
) -> None:
    async with relaying(conn, pool, conninfo, stage, await rent(conn, stage), host_bytes_per_s=2_000) as on:
        host = await on.enter(HOST)
        for _ in range(3):
            await host.say("x" * 900)
        assert await host.closed() == (1013, "host_rate_limit")
