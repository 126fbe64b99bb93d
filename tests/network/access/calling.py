"""Calls of every kind of the network API, made up and served over real HTTP, behind the checks that the daemon has."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
import itertools
import time
from typing import Any, Final

from attrs import define, field, frozen
import httpx

from opendesk.network.access import RelayAccess
from opendesk.network.signatures import Signable, Stamp, plain_signature, signed
from opendesk.ops.metrics import Metrics
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.settings import load
from opendesk.web.app import make_app
from opendesk.web.auth import Tokens
from opendesk.web.endpoint import Access, Answer, Api, Call, Endpoint
from opendesk.web.responder import Origins, Proxies, Responder
from tests.web.serving import Served, serving
from tests.web.site import PATIENCE_S, problem

TOKEN: Final = "hush the relay token"
INTERNAL: Final = "hush the internal one"
SECRET: Final = "hush what calls are signed with"
ORIGIN: Final = "https://app.example"
GOOD: Final = b'{"name": "x"}'
ID: Final = "018f9a2e-0000-7000-8000-000000000000"

UNAUTHORIZED: Final = (401, "UNAUTHORIZED")
UNSIGNED: Final = (401, "INVALID_SIGNATURE")
FORBIDDEN: Final = (403, "FORBIDDEN")
LIMITED: Final = (429, "RATE_LIMITED")
OFF: Final = (503, "NETWORK_API_DISABLED")
NOT_CONFIGURED: Final = (403, "INTERNAL_TOKEN_NOT_CONFIGURED")

# Headers for `Calling.call`: no token.
NOBODY: Final[Mapping[str, str | None]] = {"x-relay-token": None}

_numbers = itertools.count()


@frozen
class Thing:
    name: str


@frozen
class ThingQuery:
    of: str | None = None


async def read_thing(call: Call, _: TrioConnection) -> Answer:
    return Answer(Thing(call.query.of or "none"))


async def keep_thing(call: Call) -> Answer:
    return Answer(call.body)


async def drop_thing(_: Call) -> Answer:
    return Answer(status=204)


def endpoints(access: Access, root: str) -> tuple[Endpoint, ...]:
    def e(method: str, path: str, **rest: Any) -> Endpoint:
        return Endpoint(method, root + path, "A thing", {200: Thing}, access=access, **rest)

    return (
        e("GET", "/things", unit=read_thing, query=ThingQuery),
        e("POST", "/things", handler=keep_thing, body=Thing, query=ThingQuery),
        e("PUT", "/things/{id}", handler=keep_thing, body=Thing),
        e("DELETE", "/things/{id}", handler=drop_thing),
    )


CALLS: Final = [("GET", "/things"), ("POST", "/things"), ("PUT", f"/things/{ID}"), ("DELETE", f"/things/{ID}")]


def stamp(*, off_ms: int = 0, nonce: str | None = None) -> Stamp:
    """One that was never made before, by a clock that is so much ahead."""
    return Stamp(time.time_ns() // 1_000_000 + off_ms, nonce or f"nonce-of-the-tests-{next(_numbers)}")


def signature(
    method: str, target: str, body: bytes, *, secret: str = SECRET, by: Stamp | None = None
) -> dict[str, str]:
    return signed(secret.encode(), Signable(method, target.encode("ascii"), body), by or stamp())


def plain(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"x-relay-signature": plain_signature(secret.encode(), body)}


@define(eq=False)
class Calling:
    """`call` calls as one who may; `headers` add to that, or take away what is None."""

    client: httpx.AsyncClient
    access: RelayAccess
    served: Served
    headers: Mapping[str, str] = field(factory=lambda: {"x-relay-token": TOKEN})

    async def call(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str | None] = {}
    ) -> httpx.Response:
        content = (GOOD if method in {"POST", "PUT"} else b"") if body is None else body
        sent = {name: value for name, value in {**self.headers, **headers}.items() if value is not None}
        return await self.client.request(method, target, content=content, headers=sent)

    async def signed(self, method: str, target: str, body: bytes | None = None, **how: Any) -> httpx.Response:
        content = (GOOD if method in {"POST", "PUT"} else b"") if body is None else body
        return await self.call(method, target, content, signature(method, target, content, **how))


def told(answer: httpx.Response) -> int | tuple[int, str]:
    """The status; of a problem with its code."""
    return problem(answer) if answer.is_error else answer.status_code


@asynccontextmanager
async def calling(pool: Pool, *, bind: str = "127.0.0.1:0", **environ: str) -> AsyncIterator[Calling]:
    """One daemon's, by these settings; several may have one database."""
    settings = load({"OPENDESK_DATA_DIR": "/nowhere", "RELAY_TOKEN": TOKEN, "CORS_ORIGINS": ORIGIN, **environ})
    access = RelayAccess.of(settings, pool)

    async def nobody(*_: object) -> None:
        return None

    api = Api(pool, Tokens(b"a secret of these tests, long enough", timedelta(hours=1)), nobody, access.admit)
    origins, proxies = Origins(frozenset(settings.cors_origins)), Proxies(settings.trusted_proxies)
    calls = (*endpoints(Access.RELAY, "/relay"), *endpoints(Access.INTERNAL, "/internal"))
    app: Any = make_app(calls, Responder(api, origins, proxies, Metrics()))
    async with (
        serving(app, bind=[bind]) as served,
        httpx.AsyncClient(base_url=served.url, timeout=PATIENCE_S) as client,
    ):
        yield Calling(client, access, served)
