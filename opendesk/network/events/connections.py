"""Connections to the backend, each a transport of httpx's for itself.

One transport for all of them goes over all of its connections at each request: at 30 at once that was two thirds of an ACK's CPU.
"""

from collections.abc import AsyncIterator, Callable
from functools import partial
import ssl

from attrs import define, field
import httpx


@define(eq=False)
class _Answer(httpx.AsyncByteStream):
    """An answer's body. Once it is closed, its transport is free for the next request."""

    _stream: httpx.AsyncByteStream
    _give_back: Callable[[], None]
    _is_closed: bool = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._stream.aclose()
        finally:
            self._give_back()


@define(eq=False)
class KeptTransports(httpx.AsyncBaseTransport):
    """As many as there are requests at once, which whoever asks has a bound for. The one that was used last is used next: it is the likeliest to be
    open. One that the backend has closed meanwhile is dialled anew.
    """

    _make: Callable[[], httpx.AsyncBaseTransport]
    _free: list[httpx.AsyncBaseTransport] = field(factory=list)
    _all: list[httpx.AsyncBaseTransport] = field(factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        transport = self._free.pop() if self._free else self._made()
        try:
            response = await transport.handle_async_request(request)
        except BaseException:
            self._free.append(transport)  # whose connection is closed by then
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Answer(response.stream, partial(self._free.append, transport))
        return response

    def _made(self) -> httpx.AsyncBaseTransport:
        transport = self._make()
        self._all.append(transport)
        return transport

    async def aclose(self) -> None:
        for transport in self._all:
            await transport.aclose()


def one_connection(context: ssl.SSLContext, idle_s: float) -> httpx.AsyncBaseTransport:
    """The machine's proxies aren't heard."""
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=idle_s)
    return httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=limits)
