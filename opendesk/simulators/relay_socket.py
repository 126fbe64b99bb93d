"""A side's way to the relay: what `stream/start` told it, and a WebSocket by a library that is not ours."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
import json
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from attrs import field, frozen
import trio
from trio_websocket import CloseReason, ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from opendesk.simulators.api_client import Api, PromiseBroken

# From the connection to the welcome: a hundredth of a second, and on a machine that does much else a second.
WELCOME_WITHIN_S: Final = 10.0

# A few messages wait for a reader that is busy; then TCP does.
_QUEUED: Final = 8
# Several frames at a time.
_READ_BYTES: Final = 64 * 1024

SESSION_CLOSED: Final = (1008, "session_closed")


class Closed(Exception):
    """The relay closed the socket, or it broke: code 1006."""

    def __init__(self, reason: CloseReason | None) -> None:
        self.why = (1006, "") if reason is None else (int(reason.code), reason.reason or "")
        super().__init__(f"closed with {self.why[0]} {self.why[1]}")


@frozen
class Ticket:
    """What one side was told. Words of control carry its ids, and so do those that come for it."""

    role: str
    user_id: str
    url: str
    session_id: str
    stream_id: str
    token: str = field(repr=False)

    @classmethod
    async def get(cls, api: Api, session_id: str, role: str, user_id: str) -> "Ticket":
        """Ask for it with the caller's token. Raise ApiError, ApiUnreachable."""
        told = (await api.post(f"/sessions/{session_id}/stream/start")).body["transport"]["relay"]
        return cls(role, user_id, told["url"], told["sessionId"], told["streamId"], told["token"])

    @property
    def ids(self) -> dict[str, str]:
        return {"sessionId": self.session_id, "streamId": self.stream_id}

    @property
    def query(self) -> str:
        return urlencode({"role": self.role, "userId": self.user_id, **self.ids, "token": self.token})


@frozen
class RelaySocket:
    """Opened by `at_the_relay`, and welcome there."""

    ticket: Ticket
    _stream: trio.SocketStream
    _ws: WebSocketConnection

    async def send(self, message: bytes) -> None:
        """Raise Closed."""
        try:
            await self._ws.send_message(message)
        except ConnectionClosed as closed:
            raise Closed(closed.reason) from None

    async def say(self, kind: str, **fields: Any) -> None:
        """A word of control with this side's ids. Raise Closed."""
        token = {"token": self.ticket.token} if self.ticket.role == "client" else {}
        try:
            await self._ws.send_message(json.dumps({"type": kind, **token, **self.ticket.ids, **fields}))
        except ConnectionClosed as closed:
            raise Closed(closed.reason) from None

    async def next(self) -> "bytes | Mapping[str, Any]":
        """A picture, or a word that is for this side. Raise Closed, PromiseBroken."""
        try:
            message = await self._ws.get_message()
        except ConnectionClosed as closed:
            raise Closed(closed.reason) from None
        if isinstance(message, bytes):
            return message
        word: dict[str, Any] = json.loads(message)
        expected = {**self.ticket.ids, **({"token": self.ticket.token} if "token" in word else {})}
        if any(word.get(name) != value for name, value in expected.items()):
            raise PromiseBroken(f"the relay brought a {self.ticket.role} a {word.get('type')} with ids of others")
        return word

    async def tear(self) -> None:
        """Without a word, as when the power goes."""
        await trio.aclose_forcefully(self._stream)


@asynccontextmanager
async def at_the_relay(ticket: Ticket) -> AsyncIterator[RelaySocket]:
    """A socket that is welcome. Raise PromiseBroken if it isn't, or OSError; in an ExceptionGroup."""
    try:
        async with trio.open_nursery() as reading:
            socket = await _opened(reading, ticket)
            try:
                yield socket
            finally:
                await socket.tear()
            reading.cancel_scope.cancel()
    except* HandshakeError as refused:
        raise PromiseBroken(f"no WebSocket for a {ticket.role}: {refused.exceptions}") from None


async def _opened(reading: trio.Nursery, ticket: Ticket) -> RelaySocket:
    url = urlsplit(ticket.url)
    if url.scheme != "ws" or url.hostname is None or url.port is None:
        raise PromiseBroken(f"a daemon on this machine's loopback sends its streams to {ticket.url}")
    with trio.move_on_after(WELCOME_WITHIN_S):
        stream = await trio.open_tcp_stream(url.hostname, url.port)
        try:
            ws = await wrap_client_stream(
                reading, stream, url.netloc, f"{url.path}?{ticket.query}",
                message_queue_size=_QUEUED, receive_buffer_size=_READ_BYTES,
            )  # fmt: skip
            socket = RelaySocket(ticket, stream, ws)
            await _welcomed(socket)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return socket
    raise PromiseBroken(f"the relay did not welcome a {ticket.role} within {WELCOME_WITHIN_S:g} s")


async def _welcomed(socket: RelaySocket) -> None:
    try:
        word = await socket.next()
    except Closed as closed:
        raise PromiseBroken(f"the relay refused a {socket.ticket.role}: {closed}") from None
    if isinstance(word, bytes) or (word["type"], word["role"]) != ("relay.welcome", socket.ticket.role):
        raise PromiseBroken(f"the relay welcomed a {socket.ticket.role} with {word!r:.200}")
