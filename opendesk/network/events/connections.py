"""Connections to the backend, kept: httpcore's own under httpx's interface, without a pool.

A pool goes over all of its connections at each request: at 30 at once that was two thirds of an ACK's CPU. Of the rest a pool of one each was a seventh,
and httpcore's own streams (limits for each reading and writing, three writes a request) a fifth.
"""

from collections import defaultdict
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
import math
import ssl
from typing import Any, Self

from attrs import define, field
import httpcore
import httpx
import trio

# By scheme, host and port.
_Origin = tuple[bytes, bytes, int | None]

# All that httpcore tells of a connection. httpx has each under the same name.
_FAILURES = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpcore.UnsupportedProtocol)


def _of_httpx(error: Exception) -> Exception:
    kind: type[httpx.TransportError] = getattr(httpx, type(error).__name__)
    return kind(str(error))


@define(eq=False)
class _Wire(httpcore.AsyncNetworkStream):
    """What httpcore's own does, with no limits for each reading and writing, and closed by who is cancelled while hands are shaken."""

    _stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]
    _socket: trio.socket.SocketType
    _unsent: bytes = b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - httpcore's
        """Head and body are small, and go in one system call, with the reading of the answer."""
        self._unsent += buffer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - httpcore's
        unsent, self._unsent = self._unsent, b""
        try:
            if unsent:
                # Who hangs up before it has heard all may have answered, as httpcore has it too.
                with suppress(trio.BrokenResourceError):
                    await self._stream.send_all(unsent)
            return bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError(str(error)) from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        assert isinstance(self._stream, trio.SocketStream)
        stream = trio.SSLStream(self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True)
        try:
            with trio.fail_after(math.inf if timeout is None else timeout):
                await stream.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(self._stream)
            if isinstance(error, trio.TooSlowError):
                raise httpcore.ConnectTimeout from error
            if isinstance(error, trio.BrokenResourceError):
                raise httpcore.ConnectError(str(error)) from error
            raise
        return _Wire(stream, self._socket)

    def get_extra_info(self, info: str) -> Any:
        return self._socket.is_readable() if info == "is_readable" else None


class _Wires(httpcore.AsyncNetworkBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - there are none
    ) -> httpcore.AsyncNetworkStream:
        try:
            with trio.fail_after(math.inf if timeout is None else timeout):
                stream = await trio.open_tcp_stream(host, port, local_address=local_address)
        except trio.TooSlowError as error:
            raise httpcore.ConnectTimeout from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        return _Wire(stream, stream.socket)


@define(eq=False)
class _Answer(httpx.AsyncByteStream):
    """An answer's body. Once it is closed, its connection is free for the next request."""

    _response: httpcore.Response
    _give_back: Callable[[], Awaitable[None]]
    _is_closed: bool = False

    def __attrs_post_init__(self) -> None:
        assert isinstance(self._response.stream, AsyncIterable)
        self._pieces = self._response.stream.__aiter__()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except _FAILURES as error:
            raise _of_httpx(error) from error

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._response.aclose()
        finally:
            await self._give_back()


@define(eq=False)
class KeptConnections(httpx.AsyncBaseTransport):
    """As many as there are requests at once. Whoever asks has a bound for that, and for the time that one takes: only connecting has one here.

    The one that was used last is used next: it is the likeliest to be open. One that the backend has closed meanwhile is dialled anew. The machine's
    proxies aren't heard.
    """

    _context: ssl.SSLContext
    _idle_s: float
    _free: defaultdict[_Origin, list[httpcore.AsyncHTTPConnection]] = field(factory=lambda: defaultdict(list))
    _all: set[httpcore.AsyncHTTPConnection] = field(factory=set)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        origin = url.raw_scheme, url.raw_host, url.port
        asked = httpcore.Request(
            request.method,
            httpcore.URL(scheme=origin[0], host=origin[1], port=origin[2], target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        connection = await self._kept(origin) or self._made(asked.url.origin)
        try:
            response = await connection.handle_async_request(asked)
        except BaseException as error:
            await self._give_back(origin, connection)
            if isinstance(error, _FAILURES):
                raise _of_httpx(error) from error
            raise
        answer = _Answer(response, partial(self._give_back, origin, connection))
        return httpx.Response(response.status, headers=response.headers, stream=answer)

    async def _kept(self, origin: _Origin) -> httpcore.AsyncHTTPConnection | None:
        free = self._free[origin]
        while free:
            connection = free.pop()
            if not connection.has_expired():
                return connection
            await self._close(connection)
        return None

    def _made(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        connection = httpcore.AsyncHTTPConnection(origin, self._context, self._idle_s, network_backend=_Wires())
        self._all.add(connection)
        return connection

    async def _give_back(self, origin: _Origin, connection: httpcore.AsyncHTTPConnection) -> None:
        # One that isn't of `_all` any more came when all were closed.
        if connection.is_available() and connection in self._all:
            self._free[origin].append(connection)
        else:
            await self._close(connection)

    async def _close(self, connection: httpcore.AsyncHTTPConnection) -> None:
        self._all.discard(connection)
        # Who is cancelled closes it all the same: trio's streams wait for nothing then.
        await connection.aclose()

    async def aclose(self) -> None:
        for connection in self._all.copy():
            await self._close(connection)
