"""The backend over HTTP: events fetched, ACKs brought.

The transport of httpx is used without its client: an ACK costs half the CPU, and redirects, cookies, proxies of the environment and
decompression are out of the question here anyway.
"""

from collections.abc import Callable, Mapping
import ssl
import time
from typing import Final, Self

from attrs import define, field
import httpx
import trio

from opendesk.network.events.connections import KeptConnections
from opendesk.network.events.refusals import NotFetched, NotTaken
from opendesk.network.signatures import BACKEND_HMAC, RELAY_HMAC, TIMESTAMP, is_signed, plain_signature
from opendesk.settings import Settings
from opendesk.settings.secret import Secret

# A backend that is well takes a connection within a round trip; past this it is down, or its network is.
CONNECT_S: Final = 5.0
# Of a whole fetch, from connecting to the last byte: 8 MiB at 280 KiB/s. One that drips is cut off, and asked again later.
FETCH_S: Final = 30.0
# Of a whole ACK. It has its own retries, so that a slow backend costs a place among those under way, never the event.
ACK_S: Final = 10.0
# Some 30,000 events; a backend with more of them gives the rest when these are acknowledged.
MAX_BODY: Final = 8 * 2**20
# h11 takes some 10 µs for each: a body in chunks of a byte would hold the daemon for the whole 30 s. An event or so each is well inside.
MAX_PIECES: Final = 2**16
# What the answer to an ACK says is of no use to us; more than this, and the connection isn't worth keeping.
MAX_ANSWER: Final = 16 * 2**10
# Shorter than servers' own (5 s with Node): a connection that the server is just closing fails the request.
IDLE_S: Final = 4.0
# Of an error that is logged, and kept with an ACK.
MAX_ERROR: Final = 200
# The others of a stop need no longer either.
CLOSE_S: Final = 1.0
# A batch without members.
NOTHING: Final = b"[]"

# Reading and writing are bounded as a whole: FETCH_S, ACK_S.
_TIMEOUT: Final = {"connect": CONNECT_S, "pool": CONNECT_S}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def real_transport() -> httpx.AsyncBaseTransport:
    return KeptConnections(ssl.create_default_context(), IDLE_S)


@define(eq=False)
class BackendClient:
    """Of one backend; connections are kept. Whoever made it closes it."""

    _events_url: httpx.URL | None
    _ack_url: httpx.URL | None
    _secrets: tuple[Secret[str], ...] = ()
    _transport: httpx.AsyncBaseTransport = field(factory=real_transport)
    _now_ms: Callable[[], int] = now_ms
    _fetch_s: float = FETCH_S
    _ack_s: float = ACK_S
    _closing: bool = field(default=False, init=False)
    _under_way: int = field(default=0, init=False)
    _ended: trio.Event = field(factory=trio.Event, init=False)

    @classmethod
    def of(
        cls,
        settings: Settings,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], int] = now_ms,
    ) -> "BackendClient":
        """`clock` tells Unix milliseconds."""
        return cls(
            _url(settings.backend_events_url),
            _url(settings.backend_ack_url),
            settings.backend_hmac_secret,
            transport or real_transport(),
            clock,
        )

    async def aclose(self) -> None:
        """What is under way is waited for, since a connection that is made after its pool was closed is nobody's; nothing new begins."""
        self._closing = True
        with trio.move_on_after(CLOSE_S):
            while self._under_way:
                await self._ended.wait()
        await self._transport.aclose()

    async def fetch(self) -> bytes:
        """A batch as it came, proven to be the backend's where there is a secret. Raise NotFetched."""
        assert self._events_url is not None
        stamp = str(self._now_ms())
        headers = {TIMESTAMP: stamp, **self._signature(stamp.encode()), "accept-encoding": "identity"}
        request = _request("GET", self._events_url, headers, b"")
        try:
            with trio.fail_after(self._fetch_s):
                response, body = await self._send(request, MAX_BODY)
        except trio.TooSlowError:
            raise NotFetched("failed", f"the backend took more than {self._fetch_s:g} s") from None
        except (httpx.TransportError, UnicodeError) as error:
            raise NotFetched("failed", _root_of(error)) from error
        return self._checked(response, body)

    async def acknowledge(self, body: bytes) -> int:
        """Bring an ACK; the status (2xx) of the answer. Raise NotTaken: then it may have been taken all the same."""
        assert self._ack_url is not None
        headers = {TIMESTAMP: str(self._now_ms()), **self._signature(body), "content-type": "application/json"}
        request = _request("POST", self._ack_url, headers, body)
        try:
            with trio.fail_after(self._ack_s):
                response, _ = await self._send(request, MAX_ANSWER)
        except trio.TooSlowError:
            raise NotTaken(f"the backend took more than {self._ack_s:g} s") from None
        except (httpx.TransportError, UnicodeError) as error:
            raise NotTaken(_root_of(error)) from error
        if not response.is_success:
            raise NotTaken(f"the backend answered {response.status_code}", response.status_code)
        return response.status_code

    def _signature(self, text: bytes) -> Mapping[str, str]:
        return {RELAY_HMAC: plain_signature(self._secrets[0].reveal_bytes(), text)} if self._secrets else {}

    async def _send(self, request: httpx.Request, most: int) -> tuple[httpx.Response, bytes | None]:
        """The answer and its body, or None for one that is too long."""
        if self._closing:
            raise httpx.PoolTimeout("we are closing")
        self._under_way += 1
        try:
            response = await self._transport.handle_async_request(request)
            try:
                return response, await _read(response, most if response.is_success else MAX_ANSWER)
            finally:
                await response.aclose()
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._ended.set()
                self._ended = trio.Event()

    def _checked(self, response: httpx.Response, body: bytes | None) -> bytes:
        status, headers = response.status_code, response.headers
        if status not in {httpx.codes.OK, httpx.codes.NO_CONTENT}:
            raise NotFetched("failed" if response.is_server_error else "refused", f"the backend answered {status}")
        if body is None:
            raise NotFetched(
                "refused", f"the answer is longer than {MAX_BODY} bytes, or in more than {MAX_PIECES} pieces"
            )
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise NotFetched("refused", "the answer is compressed, which was not asked for")
        keys = [secret.reveal_bytes() for secret in self._secrets]
        if keys and not is_signed(body, headers.get(BACKEND_HMAC), keys):
            raise NotFetched("refused", f"{BACKEND_HMAC} is {'wrong' if BACKEND_HMAC in headers else 'missing'}")
        return NOTHING if status == httpx.codes.NO_CONTENT else body


class _Whole(httpx.AsyncByteStream):
    """A request's body. That of httpx is a generator, and whoever is cancelled while it is sent leaves it open."""

    def __init__(self, body: bytes) -> None:
        self._rest = [body]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        return self._rest.pop()


def _request(method: str, url: httpx.URL, headers: Mapping[str, str], body: bytes) -> httpx.Request:
    framed = {"host": url.netloc.decode(), **headers} | ({"content-length": str(len(body))} if body else {})
    return httpx.Request(method, url, headers=framed, stream=_Whole(body), extensions={"timeout": _TIMEOUT})


async def _read(response: httpx.Response, most: int) -> bytes | None:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    pieces: list[bytes] = []
    size = 0
    # Who leaves the loop leaves generators within generators of httpx open; who is cancelled inside the innermost closes all of them.
    with trio.CancelScope() as scope:
        async for piece in response.stream:
            size += len(piece)
            pieces.append(piece)
            if size > most or len(pieces) > MAX_PIECES:
                scope.cancel()
    return None if scope.cancel_called else b"".join(pieces)


def _root_of(error: BaseException) -> str:
    """What it comes of: httpx wraps what its transport wraps, and the outermost often says nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    # What h11 can't read it quotes.
    return repr(error).partition("bytearray(")[0][:MAX_ERROR]


def _url(text: str | None) -> httpx.URL | None:
    return None if text is None else httpx.URL(text)
