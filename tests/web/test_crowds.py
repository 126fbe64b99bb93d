"""The whole daemon, with those who would keep others out: a crowd that says nothing, bodies without an end."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
import json
import signal

import httpx
import pytest
from structlog.testing import capture_logs
import trio

from opendesk import daemon
from opendesk.settings import load
from tests.system.daemon import url_of
from tests.web.serving import answer, closed, many_descriptors
from tests.web.site import PASSWORD, PATIENCE_S, PC, SETTINGS

HEAD = b"POST /auth/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def running(conninfo: str) -> AsyncIterator[str]:
    """The URL of a daemon in this process, which is stopped as systemd would."""
    settings = load({**SETTINGS, "DATABASE_URL": url_of(conninfo), "PORT": "0"})
    with capture_logs() as logs, trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(daemon.run, settings, environ={}))
            yield url
            signal.raise_signal(signal.SIGTERM)
    assert [line for line in logs if line["log_level"] in {"error", "critical"}] == []


@pytest.fixture
async def url(conninfo: str) -> AsyncIterator[str]:
    async with running(conninfo) as served:
        yield served


async def is_served(url: str, name: str) -> None:
    """A newcomer registers, offers a PC and finds it."""
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
        body = {"email": f"{name}@example.org", "username": name, "password": PASSWORD, "role": "HOST"}
        welcome = (await client.post("/auth/register", json=body)).json()
        client.headers["Authorization"] = f"Bearer {welcome['token']}"
        pc = (await client.post("/pcs", json=PC)).json()["pc"]
        await client.post(f"/hosts/{welcome['hostProfileId']}/heartbeat")
        found = (await client.get("/pcs", params={"status": "ONLINE", "hostId": pc["hostId"]})).json()
        assert [item["id"] for item in found["items"]] == [pc["id"]]


async def connect(url: str) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))


@pytest.mark.parametrize("said", [b"", b"GET /pcs HTTP/1.1\r\nHost:", HEAD + b"Content-Length: 5\r\n\r\n{"])
async def test_a_thousand_who_say_nothing_or_half_of_it_keep_nobody_out(url: str, said: bytes) -> None:
    with many_descriptors():
        async with AsyncExitStack() as opened:
            for _ in range(1000):
                stream = await opened.enter_async_context(await connect(url))
                if said:
                    await stream.send_all(said)
            await is_served(url, "ana")
            await is_served(url, "bob")


async def pour(stream: trio.SocketStream, start: bytes, drop: bytes) -> None:
    """For as long as it is taken."""
    try:
        await stream.send_all(start)
        while True:
            await stream.send_all(drop)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # cut, as it should be


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
        (HEAD + b"Content-Length: 1000000000000\r\n\r\n{", b" " * 65536),
    ],
)
async def test_bodies_without_an_end_are_cut_while_others_are_served(url: str, start: bytes, drop: bytes) -> None:
    async with AsyncExitStack() as opened, trio.open_nursery() as nursery:
        streams = [await opened.enter_async_context(await connect(url)) for _ in range(20)]
        for stream in streams:
            nursery.start_soon(pour, stream, start, drop)
        await is_served(url, "ana")
        for stream in streams:
            assert (await answer(stream)).problem == (413, "BODY_TOO_LARGE")


async def test_a_body_of_drops_holds_up_nobody(url: str) -> None:
    """Chunks of a byte: some time before they are a body they are too many."""
    async with await connect(url) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(pour, stream, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 100)
        await is_served(url, "ana")
        assert (await answer(stream)).problem == (413, "BODY_TOO_LARGE")


async def test_a_daemon_with_a_crowd_at_its_door_stops_when_told(conninfo: str) -> None:
    with many_descriptors():
        async with AsyncExitStack() as opened:
            async with running(conninfo) as url:
                streams = [await opened.enter_async_context(await connect(url)) for _ in range(200)]
                await is_served(url, "ana")
            for stream in streams:
                assert await closed(stream)


async def test_deep_json_in_a_crowd_is_refused_and_harms_nobody(url: str) -> None:
    deep = b'{"a":' * 150_000
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(deep) + deep
    async with AsyncExitStack() as opened:
        streams = [await opened.enter_async_context(await connect(url)) for _ in range(20)]
        for stream in streams:
            await stream.send_all(request)
        await is_served(url, "ana")
        for stream in streams:
            got = await answer(stream)
            assert (got.status, json.loads(got.body)["code"]) == (400, "INVALID_JSON")
