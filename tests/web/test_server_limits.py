"""Clients that take too much, too long, or nothing at all. Limits are short here, so that clients run into them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
import resource
import socket
from typing import Any

import pytest
from structlog.testing import capture_logs
import trio

from opendesk.web.http.limits import KIB, MIB, Limits
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
    read_all,
    serving,
    with_lifespan,
)

# Far longer than a test takes, far shorter than its patience.
SHORT_S = 0.2
DRIP_S = 0.05


@asynccontextmanager
async def dripping(stream: trio.SocketStream, start: bytes, drop: bytes) -> AsyncIterator[trio.SocketStream]:
    """Send a bit now and then for as long as this lasts."""
    await stream.send_all(start)

    async def drip() -> None:
        try:
            while True:
                await trio.sleep(DRIP_S)
                await stream.send_all(drop)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # cut, as it should be

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        yield stream
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n", b"G"])
async def test_a_head_that_drips_is_cut(start: bytes) -> None:
    limits = Limits(head_s=SHORT_S)
    async with serving(ECHO, limits=limits) as served, dripping(await served.connect(), start, b"x") as stream:
        assert (await answer(stream)).problem == (408, "REQUEST_TIMEOUT")
        assert await closed(stream)


async def test_the_head_of_a_later_request_may_not_drip_either() -> None:
    async with serving(ECHO, limits=Limits(head_s=SHORT_S)) as served, await served.connect() as stream:
        await ask(stream)
        async with dripping(stream, b"GET / HT", b"x"):
            assert (await answer(stream)).problem == (408, "REQUEST_TIMEOUT")


async def test_empty_lines_without_end_are_silence() -> None:
    limits = Limits(silence_s=SHORT_S)
    async with serving(ECHO, limits=limits) as served, dripping(await served.connect(), b"", b"\r\n") as stream:
        assert await closed(stream)


async def test_who_says_nothing_is_left_without_a_word() -> None:
    limits = Limits(silence_s=SHORT_S, idle_s=SHORT_S)
    async with serving(ECHO, limits=limits) as served, await served.connect() as silent, await served.connect() as idle:
        await ask(idle)
        assert await closed(silent)
        assert await closed(idle)


async def test_a_head_without_end_is_cut_by_its_size() -> None:
    async with serving(ECHO) as served, await served.connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 17 * KIB)
        assert (await answer(stream)).problem == (431, "HEAD_TOO_LARGE")
        assert await closed(stream)


@pytest.mark.parametrize(
    "start",
    [POST % 1000, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n"],
)
async def test_a_body_that_drips_is_cut(start: bytes) -> None:
    limits = Limits(body_s=SHORT_S)
    async with serving(ECHO, limits=limits) as served, dripping(await served.connect(), start, b"x") as stream:
        assert (await answer(stream)).problem == (408, "REQUEST_TIMEOUT")


async def test_a_body_that_never_ends_is_cut_by_its_size() -> None:
    chunk = b"10000\r\n" + b"x" * 64 * KIB + b"\r\n"

    async def pour(stream: trio.SocketStream) -> None:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                await stream.send_all(chunk)
        except trio.BrokenResourceError:
            pass  # cut, as it should be

    async with serving(ECHO) as served, await served.connect() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(pour, stream)
        assert (await answer(stream)).problem == (413, "BODY_TOO_LARGE")


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
async def test_a_body_announced_as_too_large_is_refused_unread(expect: bytes) -> None:
    request = b"POST / HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine\r\n%bContent-Length: %d\r\n\r\n"
    async with serving(ECHO) as served, await served.connect() as stream:
        got = await ask(stream, request % (expect, MIB + 1))
        assert got.problem == (413, "BODY_TOO_LARGE")
        assert got.fields[b"x-request-id"] == b"mine"
        assert await closed(stream)


async def test_a_refusal_is_read_even_by_a_client_that_sends_on() -> None:
    async with serving(ECHO) as served, await served.connect() as stream:
        await stream.send_all((POST % (4 * MIB)) + b"x" * 4 * MIB)
        assert (await answer(stream)).problem == (413, "BODY_TOO_LARGE")


async def test_a_body_of_just_the_limit_is_taken() -> None:
    async with serving(ECHO) as served, await served.connect() as stream:
        assert len((await ask(stream, (POST % MIB) + b"x" * MIB)).body) == MIB + 2


@pytest.mark.parametrize("connections", [2000, 100])
async def test_a_thousand_silent_connections_keep_nobody_out(connections: int) -> None:
    limits = Limits(connections=connections)
    with many_descriptors(), capture_logs() as logs:
        async with serving(ECHO, limits=limits) as served, AsyncExitStack() as opened:
            for _ in range(1000):
                await opened.enter_async_context(await served.connect())
            async with await served.connect() as stream:
                assert (await ask(stream)).body == b"/ "
    full = [line for line in logs if line["event"] == "http.full"]
    assert len(full) == (1 if connections == 100 else 0)


async def test_whoever_waited_longest_makes_room() -> None:
    async with serving(ECHO, limits=Limits(connections=2)) as served, AsyncExitStack() as opened:
        first, second, third = [await opened.enter_async_context(await served.connect()) for _ in range(3)]
        await ask(third)
        assert await closed(first)
        assert (await ask(second)).status == 200


async def test_a_half_said_head_makes_room_with_a_word() -> None:
    async with serving(ECHO, limits=Limits(connections=1)) as served, await served.connect() as slow:
        await ask(slow, GET + b"GET / HT")
        async with await served.connect() as stream:
            got = await answer(slow)
            assert (got.problem, got.fields[b"retry-after"]) == ((503, "OVERLOADED"), b"1")
            assert (await ask(stream)).status == 200


async def test_when_all_are_being_served_one_more_is_told_so() -> None:
    working, finish = trio.Event(), trio.Event()

    async def handler(scope: Any, body: bytes) -> bytes:
        working.set()
        await finish.wait()
        return await echo(scope, body)

    limits = Limits(connections=1, turned_away=1, linger_s=20)
    async with serving(app_of(handler), limits=limits) as served, await served.connect() as busy:
        await busy.send_all(GET)
        await working.wait()
        async with await served.connect() as second, await served.connect() as third:
            assert (await answer(second)).problem == (503, "OVERLOADED")
            assert await closed(third)
        finish.set()
        assert (await answer(busy)).status == 200


async def test_connections_stay_within_the_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        few = Limits().within_descriptors()
        assert 100 <= few.connections <= few.upgraded
        assert few.connections + few.upgraded < 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    small = Limits(connections=10, upgraded=10)
    assert small.within_descriptors() == small


def deaf_client(port: int) -> socket.socket:
    """Asks, and never reads: what the kernel holds for it is little."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(GET)
    return client


async def test_a_reader_that_stalls_is_cut() -> None:
    told: list[BaseException] = []
    over = trio.Event()

    async def http(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await send({"type": "http.response.body", "body": b"x" * 20 * MIB})
        except OSError as exc:
            told.append(exc)
            raise
        finally:
            over.set()

    with capture_logs() as logs:
        async with serving(with_lifespan(http), limits=Limits(send_s=SHORT_S)) as served:
            with deaf_client(served.port) as client:
                await over.wait()
                async with trio.SocketStream(trio.socket.from_stdlib_socket(client)) as stream:
                    with pytest.raises(trio.BrokenResourceError):
                        await read_all(stream)
    assert len(told) == 1
    assert [line["event"] for line in logs if line["log_level"] == "error"] == []


async def test_a_reader_that_stalls_does_not_hold_up_the_end() -> None:
    sending = trio.Event()

    async def handler(_scope: Any, _body: bytes) -> bytes:
        sending.set()
        return b"x" * 20 * MIB

    async with serving(app_of(handler), grace_s=SHORT_S, limits=Limits(send_s=600)) as served:
        with deaf_client(served.port):
            await sending.wait()
            served.stop.set()
            await served.stopped.wait()


async def test_a_slow_reader_gets_all() -> None:
    body = b"x" * 4 * MIB

    async def handler(_scope: Any, _body: bytes) -> bytes:
        return body

    async with serving(app_of(handler), limits=Limits(send_s=1)) as served:
        client = trio.socket.from_stdlib_socket(deaf_client(served.port))
        async with trio.SocketStream(client) as stream:
            assert (await answer(stream)).body == body
