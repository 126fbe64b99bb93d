"""The rental application, served over real HTTP on a database of the test's own, and the people who use it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
import io
import json
from typing import Any, Final
from uuid import UUID

from attrs import define, field, frozen
import httpx
import trio

from opendesk import database
from opendesk.ops import logging
from opendesk.ops.metrics import Metrics
from opendesk.postgres.pool import Pool
from opendesk.rental import users, wallets
from opendesk.rental.shapes import TxType
from opendesk.settings import Settings, load
from opendesk.web.app import Application
from opendesk.web.auth import Tokens, utc_now
from opendesk.web.http.server import serve_http
from opendesk.wiring import wire
from tests.web.conformance import Conformance

Json = dict[str, Any]

# What a test that hangs is given; nothing is measured by it.
PATIENCE_S: Final = 60

JWT_SECRET: Final = "what the tests of the web sign with, and nobody else"
RELAY_TOKEN: Final = "the token that sees the figures"
INTERNAL_TOKEN: Final = "the token of calls from within"
HOLDER: Final = {"X-Relay-Token": RELAY_TOKEN}
ORIGIN: Final = "https://app.example"
SETTINGS: Final = {
    "OPENDESK_DATA_DIR": "/nowhere",
    "JWT_SECRET": JWT_SECRET,
    "RELAY_TOKEN": RELAY_TOKEN,
    "CORS_ORIGINS": ORIGIN,
    "METRICS_ALLOW": "127.0.0.1",
}

PASSWORD: Final = "correct horse battery"
# Of PASSWORD, by argon2id at its cheapest: tests that log in are not about how long it takes.
PASSWORD_HASH: Final = "$argon2id$v=19$m=8,t=1,p=1$2W3HZzFLMxEOpgZM1kujAQ$foRFX4BuRgjplUDaw/souz+MQO3UjmKoThIDNcOrGfY"

PC: Final[Json] = {
    "name": "Rig",
    "level": "A",
    "cpu": "Ryzen 7",
    "ramGb": 32,
    "gpu": "RTX 4070",
    "vramGb": 12,
    "storageType": "SSD",
    "internetUploadMbps": 100,
    "pricePerHour": 2400,
}


@frozen
class Person:
    """A user with a token. `get`, `post` … call as them."""

    id: UUID
    email: str
    username: str
    host_id: UUID | None
    token: str
    client: httpx.AsyncClient

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def call(self, method: str, path: str, *, headers: Mapping[str, str] = {}, **rest: Any) -> httpx.Response:
        return await self.client.request(method, path, headers={**self.authorization, **headers}, **rest)

    async def get(self, path: str, **rest: Any) -> httpx.Response:
        return await self.call("GET", path, **rest)

    async def post(self, path: str, **rest: Any) -> httpx.Response:
        return await self.call("POST", path, **rest)

    async def put(self, path: str, **rest: Any) -> httpx.Response:
        return await self.call("PUT", path, **rest)

    async def delete(self, path: str, **rest: Any) -> httpx.Response:
        return await self.call("DELETE", path, **rest)

    async def balance(self) -> int:
        balance: int = (await self.get(f"/wallets/{self.id}")).json()["balance"]
        return balance


@define(eq=False)
class Site:
    """`client` calls as nobody; each of its answers is judged by the document."""

    url: str
    pool: Pool
    tokens: Tokens
    conformance: Conformance
    client: httpx.AsyncClient
    app: Application
    stop: trio.Event
    log: io.StringIO
    # Whether errors in the log are what the test is about.
    errors_expected: bool = False
    _people: int = field(default=0, init=False)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @staticmethod
    def now() -> datetime:
        return utc_now()

    def lines(self) -> list[Json]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    async def user(self, role: str = "CLIENT", *, money: int = 0, name: str | None = None) -> Person:
        self._people += 1
        username = name or f"{role.lower()}-{self._people}"
        async with self.pool.connection() as conn:
            account = await users.add(
                conn,
                email=f"{username}@example.org",
                username=username,
                display_name=None,
                role=role,
                password_hash=PASSWORD_HASH,
            )
            if money:
                await wallets.move(conn, account.id, TxType.CREDIT, money, "TOP_UP")
        token = self.tokens.issue(account.id, role, account.token_version, now=utc_now())
        return Person(account.id, account.email, username, account.host_id, token, self.client)

    async def host(self, name: str | None = None) -> Person:
        return await self.user("HOST", name=name)

    async def admin(self) -> Person:
        return await self.user("ADMIN")

    async def pc(self, host: Person, *, online: bool = True, **fields: Any) -> str:
        """The id of a PC of this host's; ONLINE as if it had just beaten."""
        pc: str = (await host.post("/pcs", json={**PC, **fields})).json()["pc"]["id"]
        if online:
            async with self.pool.connection() as conn:
                await conn.run("UPDATE pcs SET status = 'ONLINE' WHERE id = %(id)s", {"id": pc})
                await conn.run("INSERT INTO pc_beats (pc_id, last_seen_at) VALUES (%(id)s, now())", {"id": pc})
        return pc

    async def reserved(self, client: Person, pc: str, minutes: int = 60) -> str:
        """The id of a PENDING session."""
        answer = await client.post("/sessions", json={"pcId": pc, "minutesPurchased": minutes})
        assert answer.status_code == 201, answer.text
        session: str = answer.json()["session"]["id"]
        return session

    async def running(self, client: Person, pc: str, minutes: int = 60) -> str:
        """The id of an ACTIVE session."""
        session = await self.reserved(client, pc, minutes)
        assert (await client.post(f"/sessions/{session}/start")).status_code == 200
        return session


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, all of whose members fit together."""
    assert response.headers["content-type"] == "application/problem+json"
    told = response.json()
    assert told["status"] == response.status_code
    assert told["type"] == "about:blank"
    assert told["error"] == told["detail"]
    assert told["traceId"] == response.headers["x-request-id"]
    return told["status"], told["code"]


def pointers(response: httpx.Response) -> list[str]:
    return [fault["pointer"] for fault in response.json()["errors"]]


async def _all_is_well() -> Mapping[str, bool]:
    return {"database": True}


@asynccontextmanager
async def serving_site(
    conninfo: str, *, ready: Callable[[], Awaitable[Mapping[str, bool]]] = _all_is_well, **settings: str
) -> AsyncIterator[Site]:
    """On leaving, look through the log: no error that the test didn't expect, and no secret at all."""
    stream = io.StringIO()
    logs = logging.configure("debug", "json", stream, environ={})
    try:
        async with _served(conninfo, load({**SETTINGS, **settings}), ready, stream) as site:
            yield site
    finally:
        logs.close()
    errors = [line for line in site.lines() if line["level"] in {"error", "critical"}]
    assert site.errors_expected or not errors, errors
    found = secrets_in(stream.getvalue())
    assert not found, found


# The first part of every token of ours, and the words of which only secrets here consist.
TELLTALES: Final = ("eyJ", JWT_SECRET, RELAY_TOKEN, PASSWORD, "$argon2", "hush")


def secrets_in(log: str) -> list[str]:
    """The lines that have a secret or a query string in them: whatever tests send that is to stay secret has one of these words."""
    return [line for line in log.splitlines() if "?" in line or any(word in line for word in TELLTALES)]


@asynccontextmanager
async def _served(
    conninfo: str, settings: Settings, ready: Callable[[], Awaitable[Mapping[str, bool]]], log: io.StringIO
) -> AsyncIterator[Site]:
    stop = trio.Event()
    async with database.open_pool(conninfo, settings) as pool, trio.open_nursery() as nursery:
        services = await wire(
            settings, pool, pool, pool, Metrics(), listen=partial(database.connect, conninfo), ready=ready
        )
        nursery.start_soon(services.heartbeats.run)
        serve = partial(
            serve_http,
            services.app,
            bind=["127.0.0.1:0"],
            stop=stop.wait,
            grace_s=1,
            upgrade=services.relay.take_over,
            origin_headers=services.responder.origins.headers,
        )
        (url,) = await nursery.start(serve)
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, verify=False) as client:
            conformance = await Conformance.published(client)

            async def check(response: httpx.Response) -> None:
                await response.aread()
                conformance.check(response)

            client.event_hooks = {"response": [check]}
            tokens = Tokens(JWT_SECRET.encode(), settings.jwt_expires_in)
            yield Site(url, pool, tokens, conformance, client, services.app, stop, log)
        nursery.cancel_scope.cancel()
