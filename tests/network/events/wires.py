"""A backend that is nothing but a socket: what comes over the wire is kept as it came, and answered as a test says."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from attrs import define, field, frozen
import trio

Answer = Callable[[trio.SocketStream], Awaitable[None]]

_MOST_BYTES = 100_000


@frozen
class Request:
    head: bytes
    headers: dict[str, str]
    body: bytes


@define
class RawBackend:
    """The first answer is for the first request, and so on; the last for all that come after."""

    answers: list[Answer]
    url: str = ""
    requests: list[Request] = field(factory=list)

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            while (request := await _read(stream)) is not None:
                self.requests.append(request)
                answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
                try:
                    await answer(stream)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return


async def _read(stream: trio.SocketStream) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := await _some(stream)):
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lines = (line.partition(":") for line in head.decode().split("\r\n")[1:])
    headers = {name.lower(): value.strip() for name, _, value in lines}
    while len(body) < int(headers.get("content-length", "0")):
        if not (piece := await _some(stream)):
            return None
        body += piece
    assert len(body) < _MOST_BYTES
    return Request(head, headers, body)


async def _some(stream: trio.SocketStream) -> bytes:
    try:
        return bytes(await stream.receive_some())
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return b""


@asynccontextmanager
async def raw_backend(*answers: Answer) -> AsyncIterator[RawBackend]:
    backend = RawBackend(list(answers))
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, backend.serve, 0, host="127.0.0.1"))
        backend.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/acks"
        yield backend
        nursery.cancel_scope.cancel()


def status(code: int, *headers: str) -> Answer:
    async def answer(stream: trio.SocketStream) -> None:
        lines = [f"HTTP/1.1 {code} So", "content-length: 2", *headers, "", "ok"]
        await stream.send_all("\r\n".join(lines).encode())

    return answer


async def cut(stream: trio.SocketStream) -> None:
    """It has the ACK, and hangs up before it says so."""
    await stream.aclose()


async def cut_amid_the_head(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 20")
    await stream.aclose()


async def stall(_stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def drip(stream: trio.SocketStream) -> None:
    """Ever more of an answer that has no end."""
    await stream.send_all(b"HTTP/1.1 200 So\r\ncontent-length: 9999\r\n\r\n")
    while True:
        await stream.send_all(b".")
        await trio.sleep(0.01)
