"""A stream through whole daemons: from `stream/start` over HTTP to the sockets of host and client, and to their end."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from tests.stream.relaying import Socket, shake_hands
from tests.system.conftest import Start
from tests.system.daemon import PATIENCE_S, connection, database_of, url_of
from tests.system.people import Person, Rented, good, settle_in

pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")


async def streamed(caller: Person, session: str) -> dict[str, Any]:
    """What `stream/start` says of the relay."""
    told: dict[str, Any] = good(await caller.post(f"/sessions/{session}/stream/start"))["transport"]["relay"]
    return told


@asynccontextmanager
async def at_the_relay(told: dict[str, Any], role: str, user: str) -> AsyncIterator[Socket]:
    """A socket that is welcome where it was told to go."""
    url = urlsplit(told["url"])
    assert (url.scheme, url.path) == ("ws", "/stream/relay")
    assert url.hostname is not None
    query = {"role": role, "userId": user, **{name: told[name] for name in ("sessionId", "streamId", "token")}}
    async with AsyncExitStack() as opened:
        stream = await trio.open_tcp_stream(url.hostname, url.port or 80)
        opened.push_async_callback(trio.aclose_forcefully, stream)
        socket = await shake_hands(stream, query)
        assert "relay.welcome" in await socket.next()
        yield socket


async def reserved(people: Rented) -> str:
    """A session on a PC that is reached through the relay."""
    good(await people.host.post(f"/pcs/{people.pc_id}/network", {"networkProvider": "RELAY"}))
    made = good(await people.client.post("/sessions", {"pcId": people.pc_id, "minutesPurchased": 60}))
    return str(made["session"]["id"])


async def test_a_picture_goes_from_host_to_client_until_the_session_ends(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir)
    async with database_of(data_dir) as conn:
        people = await settle_in(daemon.http, conn)
    session = await reserved(people)
    hosts, clients = await streamed(people.host, session), await streamed(people.client, session)
    with trio.fail_after(PATIENCE_S):
        async with (
            at_the_relay(hosts, "host", people.host.id) as host,
            at_the_relay(clients, "client", people.client.id) as client,
        ):
            await host.picture(bytes(100_000))
            assert await client.next() == bytes(100_000)
            good(await people.client.post(f"/sessions/{session}/end", {}))
            assert await host.closed() == await client.closed() == (1008, "session_closed")
    assert await daemon.stop() == 0


async def test_sockets_hear_of_the_daemons_end(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir)
    async with database_of(data_dir) as conn:
        people = await settle_in(daemon.http, conn)
    told = await streamed(people.client, await reserved(people))
    with trio.fail_after(PATIENCE_S):
        async with at_the_relay(told, "client", people.client.id) as client, trio.open_nursery() as nursery:
            nursery.start_soon(daemon.stop)
            assert await client.closed() == (1012, "relay_shutdown")
    assert await daemon.ended() == 0


async def test_an_end_at_another_daemon_reaches_the_sockets(start: Start, folder: Path, empty_conninfo: str) -> None:
    url = url_of(empty_conninfo)
    first = await start(folder / "1", DATABASE_URL=url)
    second = await start(folder / "2", DATABASE_URL=url)
    async with connection(empty_conninfo) as conn:
        people = await settle_in(first.http, conn)
    session = await reserved(people)
    told = await streamed(people.client, session)
    with trio.fail_after(PATIENCE_S):
        async with at_the_relay(told, "client", people.client.id) as client:
            elsewhere = Person(second.http, people.client.id, people.client.email, people.client.token, None)
            assert (await streamed(elsewhere, session))["url"] == told["url"]
            good(await elsewhere.post(f"/sessions/{session}/end", {}))
            assert await client.closed() == (1008, "session_closed")
