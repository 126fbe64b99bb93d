"""Closing time: who is idle goes, who is being served is served."""

from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from tests.web.serving import (
    ECHO,
    GET,
    POST,
    answer,
    app_of,
    ask,
    closed,
    echo,
    many_descriptors,
    serving,
    with_lifespan,
)

# Long enough that nothing in these tests may last until then: it would run into the tests' patience.
ETERNITY_S = 3600


async def test_a_request_in_flight_is_answered_and_is_the_last() -> None:
    working, finish = trio.Event(), trio.Event()

    async def handler(scope: Any, body: bytes) -> bytes:
        working.set()
        await finish.wait()
        return await echo(scope, body)

    async with serving(app_of(handler), grace_s=ETERNITY_S) as served, await served.connect() as stream:
        await stream.send_all(GET)
        await working.wait()
        served.stop.set()
        await refused(served.port)
        finish.set()
        got = await answer(stream)
        assert (got.status, got.fields[b"connection"]) == (200, b"close")
        assert await closed(stream)


async def refused(port: int) -> None:
    """Wait until nobody listens there."""
    while True:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            return
        async with stream:
            await closed(stream)


async def test_a_body_on_its_way_is_waited_for() -> None:
    async with serving(ECHO, grace_s=ETERNITY_S) as served, await served.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await stream.receive_some(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        served.stop.set()
        await refused(served.port)
        await stream.send_all(b"hi")
        assert (await answer(stream)).body == b"/ hi"


async def test_five_hundred_idle_connections_are_closed_at_once() -> None:
    with many_descriptors():
        await _close_idle_ones(500)


async def _close_idle_ones(count: int) -> None:
    async with serving(ECHO, grace_s=ETERNITY_S) as served, AsyncExitStack() as opened:
        streams = [await opened.enter_async_context(await served.connect()) for _ in range(count)]
        for stream in streams[::2]:
            await ask(stream)
        served.stop.set()
        await served.stopped.wait()
        for stream in streams:
            assert await closed(stream)


async def test_a_handler_without_end_is_cut_at_the_end_of_the_grace() -> None:
    working, cut = trio.Event(), trio.Event()

    async def handler(_scope: Any, _body: bytes) -> bytes:
        working.set()
        try:
            await trio.Event().wait()
        finally:
            cut.set()
        return b""

    async with serving(app_of(handler), grace_s=0.1) as served, await served.connect() as stream:
        await stream.send_all(GET)
        await working.wait()
        served.stop.set()
        await served.stopped.wait()
        assert cut.is_set()
        assert await closed(stream)


async def test_requests_in_a_row_end_with_the_one_in_flight() -> None:
    working, finish = trio.Event(), trio.Event()

    async def handler(scope: Any, body: bytes) -> bytes:
        working.set()
        await finish.wait()
        return await echo(scope, body)

    async with serving(app_of(handler), grace_s=ETERNITY_S) as served, await served.connect() as stream:
        await stream.send_all(GET * 3)
        await working.wait()
        served.stop.set()
        await refused(served.port)
        finish.set()
        assert (await answer(stream)).fields[b"connection"] == b"close"
        assert await closed(stream)


async def test_cancelling_ends_everything_at_once() -> None:
    working = trio.Event()

    async def handler(_scope: Any, _body: bytes) -> bytes:
        working.set()
        await trio.Event().wait()
        return b""

    with trio.CancelScope() as scope:
        async with serving(app_of(handler)) as served, await served.connect() as stream:
            await stream.send_all(POST % 0)
            await working.wait()
            scope.cancel()
    assert scope.cancelled_caught


async def test_the_app_hears_of_the_start_before_and_of_the_end_after_all_requests() -> None:
    heard: list[str] = []

    async def http(scope: Any, receive: Any, send: Any) -> None:
        heard.append("request")
        await ECHO(scope, receive, send)

    inner = with_lifespan(http)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await inner(scope, receive, send)
            return

        async def listening() -> Any:
            message = await receive()
            heard.append(message["type"])
            return message

        await inner(scope, listening, send)

    async with serving(app) as served, await served.connect() as stream:
        await ask(stream)
    assert heard == ["lifespan.startup", "request", "lifespan.shutdown"]


async def test_an_app_that_can_not_start_is_an_error_of_ours() -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.RaisesGroup(pytest.RaisesExc(Exception, match="no database"), flatten_subgroups=True):
        async with serving(app):
            pass
