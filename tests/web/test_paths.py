"""Paths with names in them: texts that aren't UUIDs, and such as may hold slashes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any, Final

from attrs import frozen
import httpx
from msgspec import Meta
import pytest

from opendesk.ops.metrics import Metrics
from opendesk.web.app import make_app
from opendesk.web.auth import Tokens
from opendesk.web.endpoint import Access, Answer, Api, Call, Endpoint
from opendesk.web.openapi import document
from opendesk.web.paths import Name
from opendesk.web.responder import Origins, Proxies, Responder
from tests.web.serving import PATIENCE_S, serving
from tests.web.site import Json, problem

ID: Final = "018f9a2e-0000-7000-8000-000000000000"
# Base64 has slashes, also at its beginning, two in a row, and at its end.
KEYS: Final = ["/" * 43 + "=", "a//b/" + "c" * 38 + "=", "+" * 42 + "/" + "="]
NOT_FOUND: Final = (404, "NOT_FOUND")

Word = Annotated[str, Meta(pattern=r"^[a-z.-]{1,8}$", title="a word")]
Key = Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/]{43}=$", title="a key")]


@frozen
class Seen:
    ids: dict[str, str]
    names: dict[str, str]


async def see(call: Call) -> Answer:
    return Answer(Seen({name: str(value) for name, value in call.ids.items()}, dict(call.names)))


def e(method: str, path: str, **names: Name) -> Endpoint:
    return Endpoint(method, path, "A thing", {200: Seen}, handler=see, access=Access.ANYONE, names=names)


ENDPOINTS: Final = (
    e("GET", "/things/{id}", id=Name(Word)),
    e("DELETE", "/things/{id}", id=Name(Word)),
    e("GET", "/things/{id}/of/{of}", id=Name(Word)),
    e("GET", "/things/list"),
    e("DELETE", "/keys/{publicKey}", publicKey=Name(Key, takes_rest=True)),
    e("GET", "/keys/all"),
)


@asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    nobody: Any = None
    api = Api(nobody, Tokens(b"a secret of these tests, long enough", timedelta(hours=1)), nobody)
    app: Any = make_app(ENDPOINTS, Responder(api, Origins(frozenset()), Proxies(()), Metrics()))
    async with serving(app) as served, httpx.AsyncClient(base_url=served.url, timeout=PATIENCE_S) as calling:
        yield calling


async def test_a_name_is_read_as_it_is() -> None:
    async with client() as calling:
        assert (await calling.get("/things/a.b-c")).json() == {"ids": {}, "names": {"id": "a.b-c"}}
        assert (await calling.get("/things/%61")).json()["names"] == {"id": "a"}
        assert (await calling.get(f"/things/abc/of/{ID}")).json() == {"ids": {"of": ID}, "names": {"id": "abc"}}
        assert (await calling.get("/things/list")).json()["names"] == {}
        assert (await calling.delete("/things/list")).json()["names"] == {"id": "list"}


@pytest.mark.parametrize("name", ["A", "x" * 9, "%00", "a%0A", "%FF", "a%2Fb", "%20", "\u00e9", "a%00", "%ED%A0%80"])
async def test_there_is_nothing_at_a_name_that_does_not_fit(name: str) -> None:
    async with client() as calling:
        assert problem(await calling.get(f"/things/{name}")) == NOT_FOUND
        assert problem(await calling.get(f"/things/abc/of/{name}")) == NOT_FOUND


@pytest.mark.parametrize("key", KEYS)
async def test_a_key_may_hold_slashes_escaped_or_not(key: str) -> None:
    escaped = key.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    async with client() as calling:
        assert (await calling.delete(f"/keys/{escaped}")).json()["names"] == {"publicKey": key}
        assert (await calling.delete(f"/keys/{key}")).json()["names"] == {"publicKey": key}


@pytest.mark.parametrize("rest", ["all", "a/b/c", "%2F", "x" * 43 + "%3D/", "", "%00" * 44])
async def test_what_is_no_key_is_not_found(rest: str) -> None:
    async with client() as calling:
        answer = await calling.request("DELETE", f"/keys/{rest}")
        assert problem(answer) == ((405, "METHOD_NOT_ALLOWED") if rest == "all" else NOT_FOUND)


async def test_a_path_of_another_method_is_still_told_of() -> None:
    async with client() as calling:
        answer = await calling.get(f"/keys/{KEYS[0]}")
        assert (problem(answer), answer.headers["allow"]) == ((405, "METHOD_NOT_ALLOWED"), "DELETE")
        assert (await calling.get("/keys/all")).status_code == 200


def test_the_document_says_what_a_name_may_be() -> None:
    paths: Json = document(ENDPOINTS)["paths"]
    (word,) = paths["/things/{id}"]["get"]["parameters"]
    assert (word["in"], word["required"], word["schema"]["pattern"]) == ("path", True, "^[a-z.-]{1,8}$")
    assert [p["schema"].get("format") for p in paths["/things/{id}/of/{of}"]["get"]["parameters"]] == [None, "uuid"]
