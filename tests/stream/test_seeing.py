"""What an operator sees of the relay: its figures, its rooms, its log lines."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
import json
from typing import Any
from uuid import UUID

import attrs
from attrs import fields_dict
import pytest
from structlog.testing import capture_logs
import trio
from wsproto.events import CloseConnection, Ping, Pong

from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.rental.lifecycle import Caller
from opendesk.stream.admission import Reason
from opendesk.stream.control import Kind
from opendesk.stream.counts import CLIENT_DROPS, DISCONNECTS, REFUSALS, Counts, Pace, Tally
from opendesk.stream.figures import RelayFigures
from opendesk.stream.relay import Relay
from opendesk.stream.rooms_api import RelayClientDrops, RelayClientForwarded
from opendesk.stream.tokens import Role
from opendesk.web.wire import camel
from tests.rental.builders import end
from tests.stream.conftest import Limited
from tests.stream.relaying import Relaying, Socket, shake_hands
from tests.web.site import Json, Person, Site, problem, serving_site

HOST, CLIENT = Role.HOST, Role.CLIENT


# ---- counting


def test_every_count_is_added_up() -> None:
    """Also one that is yet to be thought of."""
    one, sums = Counts(), Counts()
    for number, name in enumerate(attrs.fields_dict(Counts), 1):
        if isinstance(getattr(one, name), int):
            setattr(one, name, number)
        else:
            getattr(one, name).update({"a word": number})
    sums.add(one)
    assert sums == one
    assert sums.client_dropped is not one.client_dropped
    sums.add(one)
    assert sums.relayed_bytes == 2 * one.relayed_bytes
    assert sums.client_forwarded["a word"] == 2 * one.client_forwarded["a word"]


def rates(pace: Pace) -> tuple[int | None, int | None]:
    return pace.messages_per_s, pace.bytes_per_s


def test_a_pace_is_of_what_came_between_two_looks() -> None:
    pace, counts = Pace(100.0), Counts()
    assert rates(pace) == (None, None)
    pace.look(counts, 100.0)
    assert rates(pace) == (None, None)
    counts.host_messages, counts.host_bytes = 300, 5_000_000
    pace.look(counts, 105.0)
    assert rates(pace) == (60, 1_000_000)
    pace.look(counts, 110.0)
    assert rates(pace) == (0, 0)


def test_every_refusal_of_admission_has_its_word() -> None:
    assert set(Reason) <= set(REFUSALS)


def test_reasons_become_fixed_words() -> None:
    tally = Tally()
    for reason in ("room_full", "whatever a stranger says", "another thing"):
        tally.refuse(reason)
    assert tally.refused == {"room_full": 1, "other": 2}
    for code, reason in (
        (1002, "closed"),
        (1002, "reserved bits"),
        (1009, "message too big"),
        (None, "?"),
        (4000, "!"),
    ):
        tally.disconnect(HOST, code, reason)
    words = {"closed": 1, "protocol_error": 1, "too_big": 1, "other": 2}
    assert tally.disconnected == {(HOST, word): count for word, count in words.items()}


# ---- figures


def figures_of(relay: Relay) -> Metrics:
    metrics = Metrics()
    metrics.registry.register(RelayFigures(relay))
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(f"opendesk_relay_{name}", labels)
    assert found is not None, (name, labels)
    return found


async def heard_out(socket: Socket) -> None:
    """All that it sent before is done with."""
    await socket.send(Ping(b"done?"))
    while not isinstance(got := await socket.next(), Pong):
        assert got is not None


async def socket_closed(socket: Socket) -> int:
    while not isinstance(got := await socket.next(), CloseConnection):
        assert got is not None
    return int(got.code)


async def empty(relay: Relay) -> None:
    while relay.rooms:  # noqa: ASYNC110  # the relay tells nobody
        await trio.sleep(0.01)


def said(on: Relaying, role: Role, **message: Any) -> str:
    query = on.query(role)
    return json.dumps({**{name: query[name] for name in ("token", "sessionId", "streamId")}, **message})


async def a_game(on: Relaying) -> tuple[Socket, Socket]:
    """One of each: 1 picture for nobody, 2 for a client, and words of both, good and bad."""
    host = await on.enter(HOST)
    await host.picture(bytes(50))
    await heard_out(host)
    client = await on.enter(CLIENT)
    for _ in range(2):
        await host.picture(bytes(100))
        assert await client.next() == bytes(100)
    for text in (said(on, CLIENT, type="stream_ping", pingId=1, sentAtUs=2), said(on, CLIENT, type="reconnect"), "?"):
        await client.say(text)
    await heard_out(client)
    pong = {name: on.query(HOST)[name] for name in ("sessionId", "streamId")}
    for text in (json.dumps({"type": "stream_pong", "pingId": 1, **pong}), "?", "?"):
        await host.say(text)
    await heard_out(host)
    return host, client


COUNTED: dict[tuple[str, str], float] = {
    ("host_messages_total", ""): 3,
    ("host_bytes_total", ""): 50 + 2 * 100 + 3 * 2,
    ("host_dropped_total", "reason=no_client"): 1,
    ("host_dropped_total", "reason=rate"): 0,
    ("host_dropped_total", "reason=slow_client"): 0,
    ("host_control_total", "outcome=forwarded"): 1,
    ("host_control_total", "outcome=invalid"): 2,
    ("relayed_messages_total", ""): 2,
    ("relayed_bytes_total", ""): 2 * 100 + 2 * 2,
    ("client_messages_total", ""): 3,
    ("client_forwarded_total", "kind=stream_ping"): 1,
    ("client_forwarded_total", "kind=reconnect"): 1,
    ("client_forwarded_total", "kind=input_event"): 0,
    **{("client_dropped_total", f"reason={reason}"): float(reason == "invalid") for reason in CLIENT_DROPS},
}


def counted(metrics: Metrics) -> dict[tuple[str, str], float]:
    return {
        (name, label): value(metrics, name, **dict([label.split("=")] if label else []))  # one label, or none
        for name, label in COUNTED
    }


async def test_what_a_room_counted_stays_in_the_sums_when_it_is_closed(on: Relaying) -> None:
    metrics = figures_of(on.relay)
    assert set(counted(metrics).values()) == {0}
    host, client = await a_game(on)
    assert counted(metrics) == COUNTED
    assert (
        value(metrics, "rooms")
        == value(metrics, "sockets", role="host")
        == value(metrics, "sockets", role="client")
        == 1
    )
    for socket in (client, host):
        await socket.send(CloseConnection(1000))
        assert await socket_closed(socket) == 1000
    await empty(on.relay)
    assert counted(metrics) == COUNTED
    assert (
        value(metrics, "rooms")
        == value(metrics, "sockets", role="host")
        == value(metrics, "sockets", role="client")
        == 0
    )
    assert value(metrics, "disconnects_total", role="host", reason="closed") == 1
    await a_game(on)
    assert counted(metrics) == {what: 2 * count for what, count in COUNTED.items()}


async def test_a_room_is_closed_and_counted_once_though_a_replaced_host_is_still_going(on: Relaying) -> None:
    metrics = figures_of(on.relay)
    with capture_logs() as logs:
        first = await on.enter(HOST)
        second = await on.enter(HOST)
        await second.picture(bytes(100))
        await heard_out(second)
        await second.stream.aclose()
        await empty(on.relay)
        assert await first.closed() == (1008, "host_replaced")
        while value(metrics, "disconnects_total", role="host", reason="host_replaced") < 1:  # noqa: ASYNC110  # it tells nobody
            await trio.sleep(0.01)
    assert value(metrics, "host_messages_total") == 1
    assert [line["event"] for line in logs].count("relay.room_closed") == 1


async def test_what_slow_clients_shed_is_counted_while_they_are_there(limited: Limited) -> None:
    async with limited(queue_bytes=100_000, host_bytes_per_s=10**9) as on:
        metrics = figures_of(on.relay)
        host, slow = await on.enter(HOST), await on.enter(CLIENT)
        while value(metrics, "host_dropped_total", reason="slow_client") < 2:
            await host.picture(bytes(90_000))
            await heard_out(host)
        (room,) = on.relay.rooms.values()
        shed = room.sums()
        assert (room.counts.shed_messages, shed.shed_bytes) == (0, value(metrics, "shed_bytes_total"))
        await slow.stream.aclose()
        while room.clients:  # noqa: ASYNC110  # it tells nobody
            await trio.sleep(0.01)
        assert room.counts.shed_messages == value(metrics, "host_dropped_total", reason="slow_client") >= 2


async def test_who_is_not_let_in_and_who_is_put_out_is_counted_by_reason(on: Relaying, conn: TrioConnection) -> None:
    metrics = figures_of(on.relay)
    assert await on.refused(CLIENT, token="x" * 20) == (1008, "invalid_token")
    assert await on.refused(CLIENT, role="nonsense") == (1008, "invalid_query")
    host, client = await on.enter(HOST), await on.enter(CLIENT)
    await end(conn, on.session.id, Caller.CLIENT)
    assert await host.closed() == await client.closed() == (1008, "session_closed")
    await empty(on.relay)
    assert value(metrics, "refused_total", reason="invalid_token") == 1
    assert value(metrics, "refused_total", reason="invalid_query") == 1
    assert value(metrics, "refused_total", reason="other") == 0
    for role in Role:
        counts = {reason: value(metrics, "disconnects_total", role=role, reason=reason) for reason in DISCONNECTS}
        assert counts == {reason: int(reason == "session_closed") for reason in DISCONNECTS}


async def test_labels_name_nobody_and_do_not_grow(on: Relaying) -> None:
    metrics = figures_of(on.relay)
    before = metrics.render().decode().count("opendesk_relay_")
    await a_game(on)
    text = metrics.render().decode()
    assert text.count("opendesk_relay_") == before
    for role in Role:
        assert not [each for name, each in on.query(role).items() if name != "role" and each in text]


# ---- lines


async def test_each_socket_has_its_lines_and_the_room_its_sums(on: Relaying) -> None:
    secrets = [on.query(role)["token"] for role in Role] + [on.query(role)["streamId"] for role in Role]
    with capture_logs() as logs:
        await a_game(on)
        on.relay.drain()
        await on.hang_up()
        await empty(on.relay)
    room = {"log_level": "info", "session": str(on.session.id)}
    lines = [line for line in logs if line["event"].startswith("relay.")]
    assert lines[:2] == [{"event": "relay.connected", "role": role, "own": True, **room} for role in Role]
    disconnects = [line for line in lines if line["event"] == "relay.disconnected"]
    assert sorted((line["role"], line["code"], line["reason"]) for line in disconnects) == [
        (CLIENT, 1012, "relay_shutdown"),
        (HOST, 1012, "relay_shutdown"),
    ]
    sums = dict.fromkeys(("dropped_rate", "dropped_slow_client"), 0) | {"dropped_no_client": 1}
    sums |= {"host_messages": 3, "host_bytes": 256, "relayed_messages": 2, "relayed_bytes": 204}
    sums |= {"host_control": 1, "host_control_invalid": 2, "client_messages": 3, "client_forwarded": 2}
    assert lines[-1] == {"event": "relay.room_closed", **sums, "client_dropped": {"invalid": 1}, **room}
    assert not [line for line in logs for secret in secrets if secret in repr(line)]


# ---- rooms


@pytest.fixture
async def site(conninfo: str) -> AsyncIterator[Site]:
    async with serving_site(conninfo) as served:
        yield served


Enter = Callable[[Person, Role, str], Awaitable[Socket]]


@pytest.fixture
async def enter(site: Site) -> AsyncIterator[Enter]:
    """As a real host and a real client do: by what `stream/start` tells them."""
    async with AsyncExitStack() as streams:

        async def enter_one(person: Person, role: Role, session: str) -> Socket:
            told = (await person.post(f"/sessions/{session}/stream/start")).json()["transport"]["relay"]
            ids = {"sessionId": session, "streamId": told["streamId"], "userId": person.id}
            stream = await streams.enter_async_context(await trio.open_tcp_stream("127.0.0.1", site.port))
            socket = await shake_hands(stream, {"role": role, "token": told["token"], **ids})
            assert '"relay.welcome"' in await socket.next()
            return socket

        yield enter_one


async def a_streamed_session(site: Site) -> tuple[str, Person, Person]:
    host, client = await site.host(), await site.user(money=10_000)
    pc = await site.pc(host, connectionHost="203.0.113.7")
    return await site.reserved(client, pc), host, client


async def test_an_admin_sees_a_room_and_what_went_through_it(site: Site, enter: Enter) -> None:
    admin = await site.admin()
    assert (await admin.get("/stream/rooms")).json() == {"items": [], "nextCursor": None}
    session, host_user, client_user = await a_streamed_session(site)
    host = await enter(host_user, HOST, session)
    await host.picture(bytes(10))
    await heard_out(host)
    (shown,) = (await admin.get("/stream/rooms")).json()["items"]
    assert (shown["active"], shown["clients"], shown["lastByteAgeMs"]) == (False, [], None)
    client = await enter(client_user, CLIENT, session)
    await host.picture(bytes(100))
    assert await client.next() == bytes(100)
    await client.say("nonsense")
    own = (await client_user.post(f"/sessions/{session}/stream/start")).json()["transport"]["relay"]
    scope = {name: own[name] for name in ("token", "sessionId", "streamId")}
    await client.say(json.dumps({**scope, "type": "stream_ping", "pingId": 1, "sentAtUs": 2}))
    assert '"stream_ping"' in await host.next()
    await host.say("nonsense")
    await heard_out(host)
    (shown,) = (await admin.get("/stream/rooms")).json()["items"]
    assert shown.pop("openedAt").endswith("Z")
    assert shown.pop("lastByteAgeMs") >= 0
    assert {shown.pop("messagesPerS") is None, shown.pop("bytesPerS") is None} in ({True}, {False})
    assert shown.pop("active") in {True, False}  # the news that it was started may still be on its way
    assert shown == {
        "sessionId": session,
        "host": {"own": True},
        "clients": [{"own": True, "queuedBytes": 0, "shedMessages": 0, "shedBytes": 0}],
        "hostMessages": 2,
        "hostBytes": 12 + 102,
        "relayedMessages": 1,
        "relayedBytes": 102,
        "dropped": {"rate": 0, "noClient": 1, "slowClient": 0},
        "hostControl": {"forwarded": 0, "invalid": 1},
        "clientMessages": 2,
        "clientForwarded": {**dict.fromkeys(map(camel, fields_dict(RelayClientForwarded)), 0), "streamPing": 1},
        "clientDropped": {"rate": 0, "noHost": 0, "slowHost": 0, "invalid": 1, "notActive": 0},
    }
    assert 'opendesk_relay_sockets{role="client"} 1.0' in (await site.client.get("/metrics")).text


def test_a_room_shows_every_kind_that_is_passed_on_and_every_reason_why_not() -> None:
    assert set(fields_dict(RelayClientForwarded)) == {kind.value for kind in Kind} - {Kind.STREAM_PONG}
    assert set(fields_dict(RelayClientDrops)) == set(CLIENT_DROPS)


async def test_rooms_come_a_page_at_a_time_newest_first(site: Site, enter: Enter) -> None:
    made = [await a_streamed_session(site) for _ in range(3)]
    for session, _, client in (made[1], made[2], made[0]):
        await enter(client, CLIENT, session)
    admin = await site.admin()
    pages: list[Json] = []
    while not pages or pages[-1]["nextCursor"] is not None:
        cursor = {"cursor": pages[-1]["nextCursor"]} if pages else {}
        pages.append((await admin.get("/stream/rooms", params={"limit": 2, **cursor})).json())
    seen = [[item["sessionId"] for item in page["items"]] for page in pages]
    newest = sorted((session for session, _, _ in made), key=UUID, reverse=True)
    assert seen == [newest[:2], newest[2:]]


async def test_rooms_are_for_admins_alone(site: Site) -> None:
    for person in (await site.host(), await site.user()):
        assert problem(await person.get("/stream/rooms")) == (403, "FORBIDDEN")
    assert problem(await site.client.get("/stream/rooms"))[0] == 401
    assert problem(await (await site.admin()).get("/stream/rooms?limit=0"))[0] == 422


async def test_no_secret_of_a_stream_gets_into_the_log(site: Site, enter: Enter) -> None:
    """The site itself looks for query strings when it closes."""
    session, _, client = await a_streamed_session(site)
    told = (await client.post(f"/sessions/{session}/stream/start")).json()
    await enter(client, CLIENT, session)
    log = site.log.getvalue()
    assert "relay.connected" in log
    assert not [each for each in (told["token"], told["transport"]["relay"]["token"], told["streamId"]) if each in log]
