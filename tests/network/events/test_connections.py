"""Connections to the backend: kept, given up when they should be, and never left open."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
import ssl

from attrs import define, field
import httpx
import pytest
import trio

from opendesk.network.events.connections import KeptConnections
from tests.network.events.pretending import PATIENCE_S

CERTIFICATES = Path(__file__).parents[2] / "web" / "certificates"
WELL = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

# Whether the connection stays.
Answer = Callable[[trio.abc.Stream], Awaitable[bool]]


def says(data: bytes, *, stays: bool) -> Answer:
    async def answer(stream: trio.abc.Stream) -> bool:
        await stream.send_all(data)
        return stays

    return answer


well = says(WELL, stays=True)
hangs_up = says(b"", stays=False)


async def silent(_stream: trio.abc.Stream) -> bool:
    await trio.sleep_forever()


@define
class Server:
    """`asked`: over which connection each request came, counted from 0. When it has no more answers, all is well."""

    answers: list[Answer]
    tls: ssl.SSLContext | None = None
    shakes_hands: trio.Event = field(factory=trio.Event)
    port: int = 0
    asked: list[int] = field(factory=list)
    connections: int = 0
    ended: set[int] = field(factory=set)

    async def serve(self, socket: trio.SocketStream) -> None:
        number, self.connections = self.connections, self.connections + 1
        stream: trio.abc.Stream = socket
        async with socket:
            try:
                if self.tls is not None:
                    await self.shakes_hands.wait()
                    stream = trio.SSLStream(socket, self.tls, server_side=True, https_compatible=True)
                while await whole_request(stream):
                    self.asked.append(number)
                    if not await (self.answers.pop(0) if self.answers else well)(stream):
                        break
            except trio.BrokenResourceError:
                pass
        self.ended.add(number)


async def whole_request(stream: trio.abc.Stream) -> bool:
    data = b""
    while not data.endswith(b"an ack"):
        piece = await stream.receive_some()
        if not piece:
            return False
        data += piece
    return True


@asynccontextmanager
async def served(*answers: Answer, tls: bool = False) -> AsyncIterator[Server]:
    server = Server(list(answers))
    if tls:
        server.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.tls.load_cert_chain(CERTIFICATES / "first.pem", CERTIFICATES / "first.key")
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1"))
            server.port = listener.socket.getsockname()[1]
            yield server
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def kept(tls: ssl.SSLContext | None = None) -> AsyncIterator[KeptConnections]:
    """Unless told otherwise, nobody's certificate is trusted."""
    connections = KeptConnections(tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), PATIENCE_S)
    yield connections
    await connections.aclose()


async def post(connections: KeptConnections, server: Server, *, scheme: str = "http") -> int:
    url = httpx.URL(f"{scheme}://localhost:{server.port}/acks")
    response = await connections.handle_async_request(httpx.Request("POST", url, content=b"an ack"))
    try:
        await response.aread()
        return response.status_code
    finally:
        await response.aclose()


async def until(happened: Callable[[], object]) -> None:
    while not happened():  # noqa: ASYNC110 - sockets tell nobody
        await trio.sleep(0.001)


async def test_the_one_that_was_used_last_is_used_next_and_the_others_rest() -> None:
    async with served() as server, kept() as connections:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(post, connections, server)
        assert sorted(server.asked) == [0, 1, 2]
        for _ in range(5):
            await post(connections, server)
        assert len(set(server.asked[3:])) == 1


async def test_one_that_the_server_closed_while_it_was_idle_is_dialled_anew() -> None:
    async with served(says(WELL, stays=False)) as server, kept() as connections:
        await post(connections, server)
        await until(lambda: server.ended)
        assert await post(connections, server) == 200
        assert server.asked == [0, 1]


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([hangs_up], id="no answer"),
        pytest.param([well, says(WELL[:-1], stays=False)], id="over a kept one, before the last byte"),
        pytest.param([well, says(b"SSH-2.0\r\n\r\n", stays=True)], id="over a kept one, with what is no HTTP"),
    ],
)
async def test_after_a_failure_the_next_request_is_well(answers: Sequence[Answer]) -> None:
    async with served(*answers) as server, kept() as connections:
        for _ in range(len(answers) - 1):
            await post(connections, server)
        with pytest.raises(httpx.RemoteProtocolError):
            await post(connections, server)
        assert await post(connections, server) == 200


async def test_who_is_cancelled_leaves_nothing_open() -> None:
    async with served(well, silent) as server, kept() as connections:
        await post(connections, server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post, connections, server)
            await until(lambda: len(server.asked) == 2)
            nursery.cancel_scope.cancel()
        assert await post(connections, server) == 200
        assert server.asked == [0, 0, 1]


async def test_who_is_cancelled_while_hands_are_shaken_leaves_nothing_open() -> None:
    async with served(tls=True) as server, kept() as connections:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(post, connections, server, scheme="https"))
            await until(lambda: server.connections)
            nursery.cancel_scope.cancel()
        assert not connections._all
        server.shakes_hands.set()
        await until(lambda: server.ended)


async def test_one_that_is_still_used_is_closed_with_all_others() -> None:
    async with served(silent) as server, kept() as connections, trio.open_nursery() as nursery:

        async def left_alone() -> None:
            with pytest.raises(httpx.TransportError):
                await post(connections, server)

        nursery.start_soon(left_alone)
        await until(lambda: server.asked)
        await connections.aclose()
        assert not connections._all


async def test_each_backend_has_its_own() -> None:
    async with served() as one, served() as other, kept() as connections:
        for server in (one, other) * 2:
            await post(connections, server)
        assert (one.asked, other.asked) == ([0, 0], [0, 0])


async def test_over_tls_they_are_kept_too() -> None:
    trusting = ssl.create_default_context(cafile=str(CERTIFICATES / "first.pem"))
    async with served(tls=True) as server, kept(trusting) as connections:
        server.shakes_hands.set()
        assert [await post(connections, server, scheme="https") for _ in range(2)] == [200] * 2
        assert server.asked == [0, 0]


async def test_who_has_no_certificate_that_the_machine_trusts_is_told_nothing() -> None:
    async with served(tls=True) as server, kept(ssl.create_default_context()) as connections:
        server.shakes_hands.set()
        with pytest.raises(httpx.ConnectError):
            await post(connections, server, scheme="https")
        assert not server.asked
