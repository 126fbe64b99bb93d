"""A relay that does as a test wants, on a library's WebSocket server, and an API that sends everybody there."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
import json
from urllib.parse import parse_qsl, urlsplit

from attrs import define, field
import httpx
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from opendesk.simulators.api_client import Api
from opendesk.simulators.people import Account

SESSION = "0190b6a5-0000-7000-8000-000000000001"
SESSION_CLOSED = (1008, "session_closed")

Carry = Callable[[bytes | str], bytes | str | None]


def unchanged(message: bytes | str) -> bytes | str | None:
    return message


@define(eq=False)
class PretendedRelay:
    """Brings what the host says to the client, through `carry`, and the other way round with the host's ids."""

    carry: Carry = unchanged
    sockets: dict[str, WebSocketConnection] = field(factory=dict)  # by role
    came: list[str] = field(factory=list)  # roles, in order

    async def serve(self, request: WebSocketRequest) -> None:
        asked = dict(parse_qsl(urlsplit(request.path).query))
        socket, role = await request.accept(), asked["role"]
        self.sockets[role] = socket
        self.came.append(role)
        ids = {"sessionId": asked["sessionId"], "streamId": asked["streamId"]}
        try:
            await socket.send_message(json.dumps({"type": "relay.welcome", "role": role, **ids}))
            while True:
                await self._bring(role, await socket.get_message())
        except ConnectionClosed:
            return

    async def _bring(self, role: str, message: bytes | str) -> None:
        other = {"host": "client", "client": "host"}[role]
        carried = self.carry(message)
        if carried is None or other not in self.sockets:
            return
        if isinstance(carried, str):
            word = json.loads(carried)
            word["streamId"] = f"stream-of-{other}"
            if "token" in word:
                word["token"] = f"token-of-{other}"
            carried = json.dumps(word)
        await self.sockets[other].send_message(carried)

    async def close(self, code: int, reason: str) -> None:
        for socket in self.sockets.values():
            await socket.aclose(code, reason)


def account(role: str, url: str) -> Account:
    """One whom `stream/start` tells where the relay is."""
    told = {"url": url, "sessionId": SESSION, "streamId": f"stream-of-{role}", "token": f"token-of-{role}"}

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == f"/sessions/{SESSION}/stream/start"
        return httpx.Response(200, json={"transport": {"relay": told}})

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://pretended")
    return Account(Api(http), f"user-of-{role}", "host" if role == "host" else None)


@asynccontextmanager
async def pretended_relay(carry: Carry = unchanged) -> AsyncIterator[tuple[PretendedRelay, Account, Account]]:
    """With the accounts of a host and of a client."""
    relay = PretendedRelay(carry)
    handler: Callable[[WebSocketRequest], Awaitable[None]] = relay.serve
    async with trio.open_nursery() as serving:
        server = await serving.start(serve_websocket, handler, "127.0.0.1", 0, None)
        url = f"ws://127.0.0.1:{server.port}/stream/relay"
        yield relay, account("host", url), account("client", url)
        serving.cancel_scope.cancel()
