"""What goes through the relay, who gets in, and who is put out: over real sockets, with a real session in the database."""

import json
from pathlib import Path
import ssl
from typing import Any

import pytest
import trio
import trio.testing
from wsproto.events import BytesMessage, Ping, Pong

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental.lifecycle import Caller
from opendesk.stream import peer
from opendesk.stream.tokens import Role, stream_id
from opendesk.web.http.certificate import Certificate
from tests.rental.builders import Stage, cancel, end, rent, reserve, start
from tests.stream.conftest import Limited
from tests.stream.relaying import PATIENCE_S, Relaying, Socket, relaying
from tests.web import serving

HOST, CLIENT = Role.HOST, Role.CLIENT
CERTIFICATES = Path(__file__).parents[1] / "web" / "certificates"


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


# ---- who is put out: with which word, test_closings looks at


async def test_a_cancelled_reservation_closes_its_room(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage
) -> None:
    session = await reserve(conn, stage)
    async with relaying(conn, pool, conninfo, stage, session) as on:
        client = await on.enter(CLIENT)
        await cancel(conn, session.id)
        assert await client.closed() == (1008, "session_closed")


async def test_a_host_that_dies_inside_a_message_takes_its_clients_connections_along(on: Relaying) -> None:
    """Half a message can't be ended, so its receivers are cut off, not closed; who waits for a whole one stays."""
    host, client = await on.enter(HOST), await on.enter(CLIENT)
    await host.send(BytesMessage(b"half of it", message_finished=False))
    while not any(isinstance(event, BytesMessage) for event in client.heard):
        with trio.move_on_after(0.05):
            await client.next()
    await host.stream.aclose()
    assert await client.next() is None


async def test_what_is_no_handshake_is_refused_as_http(on: Relaying) -> None:
    stream = await on.connect()
    await stream.send_all(b"GET /stream/relay HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 400 ")
    stream = await on.connect()
    query = on.query(CLIENT)
    assert stream_id(query["token"]) == query["streamId"]
    await stream.send_all(b"GET /elsewhere HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 404 ")


async def test_five_hundred_sockets_hear_of_the_end_though_some_have_nothing_to_say(
    limited: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the daemon: the relay says good-bye, and the server is through when all are gone, without force."""
    monkeypatch.setattr(peer, "PARTING_S", 0.5)
    async with limited(clients=499, attempts=1000) as on:
        sockets = [await on.enter(HOST)]

        async def come() -> None:
            sockets.append(await on.enter(CLIENT))

        for at_once in (*[25] * 19, 24):
            async with trio.open_nursery() as nursery:
                for _ in range(at_once):
                    nursery.start_soon(come)
        assert len(sockets) == 500
        assert PATIENCE_S < serving.PATIENCE_S, "what takes all of the grace fails here"
        on.relay.drain()
        on.served.stop.set()
        mute, others = sockets[1:100], [sockets[0], *sockets[100:]]
        assert {await socket.closed() for socket in others} == {(1012, "relay_shutdown")}
        await on.served.stopped.wait()
        assert not on.relay.rooms
        assert {await socket.closed() for socket in mute} == {(1012, "relay_shutdown")}
        with pytest.raises(OSError, match="attempts to connect"):
            await on.connect()
