"""Reading from a client's socket: what came, of that connection, and no memory for more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import tracemalloc

import trio

from opendesk.web.http.limits import KIB, Limits
from opendesk.web.http.transport import Transport


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[trio.SocketStream, Transport]]:
    """A client's end, and ours."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with (
        listener,
        await trio.open_tcp_stream(*listener.socket.getsockname()) as client,
        await listener.accept() as ours,
    ):
        yield client, Transport(ours, Limits())


async def test_what_one_connection_sent_stays_as_it_was_when_another_sends() -> None:
    async with connected() as (first, ours), connected() as (second, others):
        await first.send_all(b"first")
        heard = await ours.receive()
        await second.send_all(b"other")
        assert await others.receive() == b"other"
        assert heard == b"first"
        await first.send_eof()
        assert await ours.receive() == b""


async def test_a_small_request_takes_little_memory() -> None:
    async with connected() as (client, ours):
        await client.send_all(b"x" * KIB)
        with trio.fail_after(10):
            await trio.lowlevel.wait_readable(ours._socket)
        tracemalloc.start()
        try:
            assert len(await ours.receive()) == KIB
            assert tracemalloc.get_traced_memory()[1] < 32 * KIB
        finally:
            tracemalloc.stop()
