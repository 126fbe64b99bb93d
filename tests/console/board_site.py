"""The console, served over real HTTP with the API beside it, on a database of the test's own; and browsers of a sort."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
import io
import json
import re
from typing import Any, Final

from attrs import define, field
import h11
import httpx
import trio

from opendesk import database
from opendesk.ops import logging
from opendesk.ops.metrics import Metrics
from opendesk.postgres.pool import Pool
from opendesk.rental import users
from opendesk.rental.users import Account
from opendesk.settings import load
from opendesk.web.http.server import serve_http
from opendesk.wiring import Services, wire
from tests.web.site import PASSWORD, PASSWORD_HASH, SETTINGS, secrets_in

# What a test that hangs is given; nothing is measured by it.
PATIENCE_S: Final = 30

_CSRF: Final = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


@define(eq=False)
class Browser:
    """Keeps cookies, follows no redirects, and knows the token of the form that it saw last."""

    client: httpx.AsyncClient
    origin: str
    csrf: str = ""

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return self._seen(await self.client.get(path, headers=headers))

    async def post(self, path: str, form: Mapping[str, str] = {}, **headers: str) -> httpx.Response:
        told = {"Origin": self.origin, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self._seen(await self.client.post(path, data={"csrf": self.csrf, **form}, headers=told))

    async def log_in(self, email: str, password: str = PASSWORD) -> httpx.Response:
        await self.get("/console/login")
        return await self.post("/console/login", {"email": email, "password": password})

    def _seen(self, response: httpx.Response) -> httpx.Response:
        if found := _CSRF.search(response.text):
            self.csrf = found[1]
        return response

    @asynccontextmanager
    async def live(self) -> AsyncIterator["Live"]:
        """The stream's events, with their data."""
        port = int(self.origin.rpartition(":")[2])
        cookies = "; ".join(f"{name}={value}" for name, value in self.client.cookies.items())
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            http = h11.Connection(h11.CLIENT)
            headers = [("Host", f"127.0.0.1:{port}"), ("Cookie", cookies or "none=1")]
            request = h11.Request(method="GET", target="/console/live", headers=headers)
            await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
            yield Live(stream, http)


@define(eq=False)
class Live:
    """What an EventSource would hear: names and data, to the end of the stream."""

    _stream: trio.SocketStream
    _http: h11.Connection
    _lines: bytes = b""

    def __aiter__(self) -> "Live":
        return self

    async def __anext__(self) -> tuple[str, Any]:
        with trio.fail_after(PATIENCE_S):
            while True:
                block, is_whole, rest = self._lines.partition(b"\n\n")
                if not is_whole:
                    await self._read()
                    continue
                self._lines = rest
                fields = dict(line.split(": ", 1) for line in block.decode().splitlines())
                if "event" in fields:
                    return fields["event"], json.loads(fields["data"])

    async def _read(self) -> None:
        event = self._http.next_event()
        if event is h11.NEED_DATA:
            self._http.receive_data(bytes(await self._stream.receive_some(65_536)))
        elif isinstance(event, h11.Response):
            assert event.status_code == 200, event
        elif isinstance(event, h11.Data):
            self._lines += bytes(event.data)
        else:
            raise StopAsyncIteration


@define(eq=False)
class BoardSite:
    url: str
    pool: Pool
    services: Services
    stop: trio.Event
    log: io.StringIO
    errors_expected: bool = False
    _browsers: list[httpx.AsyncClient] = field(factory=list)
    _people: int = 0

    def browser(self, **headers: str) -> Browser:
        client = httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S, headers=headers)
        self._browsers.append(client)
        return Browser(client, self.url)

    async def user(self, role: str = "ADMIN", name: str | None = None) -> Account:
        self._people += 1
        username = name or f"{role.lower()}-{self._people}"
        async with self.pool.connection() as conn:
            return await users.add(
                conn,
                email=f"person-{self._people}@example.org",
                username=username,
                display_name=username,
                role=role,
                password_hash=PASSWORD_HASH,
            )

    async def admin(self) -> Browser:
        """One who is logged in."""
        account, browser = await self.user(), self.browser()
        assert (await browser.log_in(account.email)).status_code == 303
        return browser

    def lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    async def close(self) -> None:
        for client in self._browsers:
            await client.aclose()


@asynccontextmanager
async def serving_board(conninfo: str, **settings: str) -> AsyncIterator[BoardSite]:
    """On leaving, look through the log: no error that the test didn't expect, and no secret at all."""
    stream = io.StringIO()
    logs = logging.configure("debug", "json", stream, environ={})
    try:
        async with _served(conninfo, settings, stream) as site:
            yield site
    finally:
        logs.close()
    errors = [
        line for line in map(json.loads, stream.getvalue().splitlines()) if line["level"] in {"error", "critical"}
    ]
    assert site.errors_expected or not errors, errors
    assert not secrets_in(stream.getvalue())


async def _all_is_well() -> Mapping[str, bool]:
    return {"database": True}


@asynccontextmanager
async def _served(conninfo: str, given: Mapping[str, str], log: io.StringIO) -> AsyncIterator[BoardSite]:
    settings, stop = load({**SETTINGS, **given}), trio.Event()
    async with database.open_pool(conninfo, settings) as pool, trio.open_nursery() as nursery:
        listen = partial(database.connect, conninfo)
        services = await wire(settings, pool, pool, pool, Metrics(), listen=listen, ready=_all_is_well)
        for service in (services.heartbeats.run, services.network.fleet.run, *services.console.services.values()):
            nursery.start_soon(service)

        async def closing_time() -> None:
            await stop.wait()
            services.console.stop()

        serve = partial(serve_http, services.app, bind=["127.0.0.1:0"], stop=closing_time, grace_s=PATIENCE_S)
        (url,) = await nursery.start(serve)
        site = BoardSite(url, pool, services, stop, log)
        try:
            yield site
        finally:
            with trio.CancelScope(shield=True):
                await site.close()
        nursery.cancel_scope.cancel()
