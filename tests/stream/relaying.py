"""A relay to connect to: on a real server and a real database, with a client that speaks through wsproto."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from attrs import define, evolve, field
import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental.sessions import Session
from opendesk.stream.follow import follow_sessions
from opendesk.stream.relay import Relay, RelayLimits
from opendesk.stream.room import RoomLimits
from opendesk.stream.tokens import Role, own_token, shared_token, stream_id
from opendesk.web.http.certificate import Certificate
from opendesk.web.http.door import Upgrade
from tests.rental.builders import Stage
from tests.web.serving import Served, app_of, serving

KEY = bytes(range(32))
PATIENCE_S = 20
LIMITS = RelayLimits(
    attempts=100,
    attempts_window_s=10,
    room=RoomLimits(
        clients=8,
        host_bytes_per_s=25 * 2**20,
        client_messages_per_s=700,
        message_bytes=4 * 2**20,
        queue_bytes=4 * 2**20,
    ),
)


@define
class Socket:
    """A client's side. What came is in `heard`, texts and binaries whole."""

    stream: Any
    ws: Connection = field(factory=lambda: Connection(ConnectionType.CLIENT))
    heard: list[Event] = field(factory=list)
    was_reset: bool = False
    _whole: bytearray = field(factory=bytearray)
    _text: str = ""

    async def send(self, event: Event) -> None:
        await self.stream.send_all(self.ws.send(event))

    async def say(self, text: str) -> None:
        await self.send(TextMessage(text))

    async def picture(self, data: bytes) -> None:
        await self.send(BytesMessage(data))

    async def next(self) -> Any:
        """The next whole message, as str or bytes; the CloseConnection; or None when it is gone."""
        while True:
            for event in self.ws.events():
                self.heard.append(event)
                if (message := self._message(event)) is not None:
                    return message
            try:
                data = await self.stream.receive_some(2**16)
            except trio.BrokenResourceError:
                self.was_reset = True
                return None
            if not data:
                return None
            self.ws.receive_data(data)

    def _message(self, event: Event) -> Any:
        match event:
            case BytesMessage():
                self._whole += event.data
                if event.message_finished:
                    whole, self._whole = bytes(self._whole), bytearray()
                    return whole
            case TextMessage():
                self._text += event.data
                if event.message_finished:
                    text, self._text = self._text, ""
                    return text
            case CloseConnection() | Ping() | Pong():
                return event
        return None

    async def closed(self) -> tuple[int, str]:
        """Why it was closed; everything before that is passed over."""
        while True:
            got = await self.next()
            assert got is not None, "gone without a word"
            if isinstance(got, CloseConnection):
                await self.send(got.response())
                return int(got.code), got.reason or ""


def handshake(query: Mapping[str, str]) -> bytes:
    return (
        f"GET /stream/relay?{urlencode(query)} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )


async def shake_hands(stream: Any, query: Mapping[str, str]) -> Socket:
    await stream.send_all(handshake(query))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = await stream.receive_some(1)
        assert byte, head
        head += byte
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    return Socket(stream)


@define
class Relaying:
    relay: Relay
    served: Served
    session: Session
    stage: Stage
    host_user: UUID
    trusts: SSLContext | None = None
    _streams: list[trio.SocketStream] = field(factory=list)

    async def connect(self) -> Any:
        plain = await self.served.connect()
        self._streams.append(plain)
        if self.trusts is None:
            return plain
        stream = trio.SSLStream(plain, self.trusts, server_hostname="localhost", https_compatible=True)
        await stream.do_handshake()
        return stream

    def at(self, session: Session, stage: Stage) -> "Relaying":
        """The same relay, for the sockets of another session."""
        return evolve(self, session=session, stage=stage, host_user=stage.host.user)

    async def hang_up(self) -> None:
        for stream in self._streams:
            await trio.aclose_forcefully(stream)

    def query(self, role: Role, /, **changes: Any) -> dict[str, str]:
        user = self.stage.client if role is Role.CLIENT else self.host_user
        token = changes.pop("token", None) or own_token(KEY, self.session.id, role, user)
        asked = {
            "role": role.value,
            "sessionId": str(self.session.id),
            "streamId": stream_id(token),
            "token": token,
            "userId": str(user),
        }
        return {**asked, **{name: str(value) for name, value in changes.items()}}

    def shared(self) -> str:
        return shared_token(KEY, self.session.id)

    async def knock(self, query: dict[str, str]) -> Socket:
        """A socket whose handshake was answered; not yet welcome."""
        return await shake_hands(await self.connect(), query)

    async def enter(self, role: Role, /, **changes: Any) -> Socket:
        """One that is welcome."""
        socket = await self.knock(self.query(role, **changes))
        welcome = await socket.next()
        assert isinstance(welcome, str), welcome
        assert '"relay.welcome"' in welcome
        return socket

    async def refused(self, role: Role, /, **changes: Any) -> tuple[int, str]:
        return await (await self.knock(self.query(role, **changes))).closed()


async def allow(conn: TrioConnection, session: Session, *, for_s: float = 60) -> None:
    """As `stream/start` does."""
    await conn.run(
        """UPDATE sessions SET stream_expires_at = now() + %(s)s * interval '1 second', stream_node = %(node)s, stream_url = 'ws://x/'
            WHERE id = %(id)s""",
        {"s": for_s, "node": uuid4(), "id": session.id},
    )


@asynccontextmanager
async def relaying(
    conn: TrioConnection,
    pool: Pool,
    conninfo: str,
    stage: Stage,
    session: Session,
    *,
    tls: Certificate | None = None,
    trusts: SSLContext | None = None,
    address: Callable[[Upgrade], str] = lambda _: "203.0.113.1",
    upkeep: Pool | None = None,
    **limits: Any,
) -> AsyncIterator[Relaying]:
    room = evolve(LIMITS.room, **{name: value for name, value in limits.items() if name != "attempts"})
    relay = Relay(pool, upkeep or pool, KEY, evolve(LIMITS, room=room, attempts=limits.get("attempts", 100)), address)
    await allow(conn, session)

    async def connect() -> TrioConnection:
        return await TrioConnection.connect(conninfo, autocommit=True)

    with trio.fail_after(PATIENCE_S):
        async with (
            serving(app_of(_nothing), upgrade=relay.take_over, tls=tls) as served,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(follow_sessions, relay, connect)
            made = Relaying(relay, served, session, stage, stage.host.user, trusts)
            try:
                yield made
            finally:
                await made.hang_up()
                nursery.cancel_scope.cancel()


async def _nothing(_: Any, body: bytes) -> bytes:
    return body
