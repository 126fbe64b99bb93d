"""A front door to knock at: what the tests of the server have in common."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
import json
import resource
from typing import Any

from attrs import define, field
import h11
import pytest
import trio

from opendesk.web.http.server import serve_http

App = Callable[..., Awaitable[None]]
Handler = Callable[[Any, bytes], Awaitable[bytes]]

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
# What a test that hangs is given; nothing is measured by it.
PATIENCE_S = 30


@define
class Served:
    url: str
    stop: trio.Event = field(factory=trio.Event)
    stopped: trio.Event = field(factory=trio.Event)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


@asynccontextmanager
async def serving(app: App, *, grace_s: float = PATIENCE_S, **options: Any) -> AsyncIterator[Served]:
    served = Served("")
    bind = options.pop("bind", ["127.0.0.1:0"])

    async def serve(task_status: trio.TaskStatus[list[str]]) -> None:
        await serve_http(app, bind=bind, stop=served.stop.wait, grace_s=grace_s, task_status=task_status, **options)
        served.stopped.set()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            (served.url,) = await nursery.start(serve)
            yield served
            served.stop.set()


def app_of(handler: Handler) -> App:
    """An ASGI app that answers with what the handler gives."""

    async def http(scope: Any, receive: Any, send: Any) -> None:
        answer = await handler(scope, (await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    return with_lifespan(http)


def with_lifespan(http: App) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await http(scope, receive, send)
            return
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})

    return app


async def echo(scope: Any, body: bytes) -> bytes:
    return b"%b %b" % (scope["path"].encode(), body)


ECHO = app_of(echo)


@define
class Answer:
    status: int
    fields: dict[bytes, bytes]
    body: bytes

    @property
    def problem(self) -> tuple[int, str]:
        """The status and code of a refusal, which says all that the contract wants and closes."""
        assert self.fields[b"content-type"] == b"application/problem+json"
        assert self.fields[b"connection"].startswith(b"close")
        assert self.fields[b"cache-control"] == b"no-store"
        assert self.fields[b"x-content-type-options"] == b"nosniff"
        problem = json.loads(self.body)
        assert {"type", "title", "status", "detail", "code", "error", "traceId"} <= problem.keys()
        assert problem["status"] == self.status
        assert self.fields[b"x-request-id"].decode() == problem["traceId"]
        return self.status, problem["code"]


async def answers(stream: trio.abc.ReceiveStream, count: int) -> list[Answer]:
    """So many answers and nothing else; h11 checks that they are HTTP."""
    data = b""
    found: list[Answer] = []
    while len(found) < count:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        if data:
            client.receive_data(data)
        found.append(await _answer(client, stream))
        data = client.trailing_data[0]
    assert data == b""
    return found


async def _answer(client: h11.Connection, stream: trio.abc.ReceiveStream) -> Answer:
    response, body = None, b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            client.receive_data(bytes(await stream.receive_some(65536)))
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.Response):
            response = event
        assert not isinstance(event, h11.ConnectionClosed), "closed without an answer"
    assert response is not None
    return Answer(response.status_code, dict(response.headers), body)


async def answer(stream: trio.abc.ReceiveStream) -> Answer:
    return (await answers(stream, 1))[0]


async def ask(stream: trio.abc.Stream, request: bytes = GET) -> Answer:
    await stream.send_all(request)
    return await answer(stream)


async def closed(stream: trio.abc.ReceiveStream) -> bool:
    """Wait for the end, and say whether nothing came before."""
    try:
        return await stream.receive_some(1) == b""
    except trio.BrokenResourceError:
        return True


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Raise trio.BrokenResourceError if the connection is reset."""
    data = b""
    while piece := await stream.receive_some(65536):
        data += piece
    return data


@contextmanager
def many_descriptors() -> Iterator[None]:
    """Both ends of a thousand connections are ours."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this user may have {hard} descriptors only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
