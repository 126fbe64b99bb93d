"""What all calls have in common: ids of requests, methods, browsers, lists. Each answer here is also judged by the document."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.web.site import ORIGIN, PC, RELAY_TOKEN, Person, Site, problem, serving_site

OTHER = "https://elsewhere.example"


# Ids of requests


SANE = ["abc-123", "00-4bf92f3577b34da6-01", "a.b_c:d", "x" * 64]


async def test_a_sane_request_id_is_echoed(site: Site) -> None:
    for sent in SANE:
        for path in ("/health/live", "/nowhere", "/auth/me"):
            answer = await site.client.get(path, headers={"X-Request-ID": sent})
            assert answer.headers.get_list("x-request-id") == [sent], path


ODD = ["", "x" * 65, "a b", "a\tb", "ä", 'a"b', "a,b", "{}", "<b>"]


async def test_an_odd_request_id_is_replaced(site: Site) -> None:
    for sent in ODD:
        answer = await site.client.get("/auth/me", headers=[(b"X-Request-ID", sent.encode("latin-1"))])
        assert problem(answer) == (401, "UNAUTHENTICATED")
        assert len(answer.headers["x-request-id"]) == 32, sent


async def test_two_request_ids_are_none(site: Site) -> None:
    answer = await site.client.get("/health/live", headers=[("X-Request-ID", "a"), ("X-Request-ID", "b")])
    assert len(answer.headers["x-request-id"]) == 32


async def test_each_request_without_an_id_gets_its_own(site: Site) -> None:
    ids = [(await site.client.get("/health/live")).headers["x-request-id"] for _ in range(5)]
    assert len(set(ids)) == 5


async def test_the_log_of_a_request_has_its_id_and_route(site: Site) -> None:
    pc = await site.pc(await site.host())
    await site.client.get(f"/pcs/{pc}", headers={"X-Request-ID": "find-me"})
    (line,) = [line for line in site.lines() if line.get("traceId") == "find-me"]
    assert (line["event"], line["method"], line["route"], line["status"]) == ("http.request", "GET", "/pcs/{id}", 200)


# Paths and methods


UNKNOWN = ["/", "/nowhere", "/auth", "/PCS", "/pcs//x", "/pcs/x/y", "/favicon.ico"]


async def test_an_unknown_path_is_404(site: Site) -> None:
    for path in UNKNOWN:
        answer = await site.client.get(httpx.URL(site.url).copy_with(raw_path=path.encode()))
        assert problem(answer) == (404, "NOT_FOUND"), path


WRONG_METHODS = [
    ("DELETE", "/pcs", "GET, HEAD, POST"),
    ("GET", "/sessions/x/start", "POST"),
    ("PATCH", "/pcs/x", "DELETE, GET, HEAD, PUT"),
    ("GET", "/hosts/018f9a2e-0000-7000-8000-000000000000/heartbeat", "POST"),
    ("POST", "/health/live", "GET, HEAD"),
    ("PUT", "/auth/login", "POST"),
]


async def test_a_wrong_method_is_405_and_says_which_are_right(site: Site) -> None:
    for method, path, allowed in WRONG_METHODS:
        answer = await site.client.request(method, path)
        assert problem(answer) == (405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == allowed, path


@pytest.mark.parametrize("path", ["/pcs", "/health/live", "/openapi.json", "/nowhere"])
async def test_head_is_get_without_a_body(site: Site, path: str) -> None:
    got, head = await site.client.get(path), await site.client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == got.headers[name]


# Browsers


def preflight(origin: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, x-request-id",
    }


@pytest.mark.parametrize("path", ["/sessions", "/pcs/018f9a2e-0000-7000-8000-000000000000", "/auth/login"])
async def test_a_preflight_of_an_allowed_origin_is_answered(site: Site, path: str) -> None:
    answer = await site.client.options(path, headers=preflight(ORIGIN))
    assert (answer.status_code, answer.content) == (204, b"")
    headers = answer.headers
    assert headers["access-control-allow-origin"] == ORIGIN
    assert headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE"
    allowed = headers["access-control-allow-headers"].lower().split(", ")
    assert allowed == ["authorization", "content-type", "idempotency-key", "x-request-id"]
    assert headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in headers


async def test_a_preflight_is_counted_and_logged_as_what_it_is(site: Site) -> None:
    path = "/sessions/018f9a2e-0000-7000-8000-000000000000/start"
    answer = await site.client.options(path, headers=preflight(ORIGIN))
    assert "allow" not in answer.headers
    figures = (await site.client.get("/metrics", headers={"Authorization": f"Bearer {RELAY_TOKEN}"})).text
    (counted,) = [line for line in figures.splitlines() if 'http_requests_total{method="OPTIONS"' in line]
    assert counted == 'opendesk_http_requests_total{method="OPTIONS",route="/sessions/{id}/start",status="204"} 1.0'
    (logged,) = [line for line in site.lines() if line.get("method") == "OPTIONS"]
    assert (logged["route"], logged["status"]) == ("/sessions/{id}/start", 204)


async def test_a_preflight_of_no_path_is_answered_as_well(site: Site) -> None:
    answer = await site.client.options("/nowhere", headers=preflight(ORIGIN))
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, ORIGIN)
    (logged,) = [line for line in site.lines() if line.get("method") == "OPTIONS"]
    assert (logged["route"], logged["status"]) == (None, 204)


async def test_a_refusal_of_the_front_door_can_be_read_by_a_page_too(site: Site) -> None:
    for origin, allowed in [(ORIGIN, ORIGIN), (OTHER, None)]:
        answer = await site.client.post("/auth/login", content=b"x" * (2**20 + 1), headers={"Origin": origin})
        assert problem(answer) == (413, "BODY_TOO_LARGE")
        assert answer.headers.get("access-control-allow-origin") == allowed
        assert answer.headers["vary"] == "Origin"


OTHER_ORIGINS = [OTHER, "null", ORIGIN.upper(), f"{ORIGIN}.evil.example", "*", f"{ORIGIN}/"]


async def test_a_preflight_of_another_origin_gets_nothing(site: Site) -> None:
    for origin in OTHER_ORIGINS:
        answer = await site.client.options("/sessions", headers=preflight(origin))
        assert problem(answer) == (405, "METHOD_NOT_ALLOWED")
        assert [name for name in answer.headers if name.startswith("access-control-")] == [], origin
        assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("path", ["/pcs", "/auth/me", "/nowhere"])
async def test_an_allowed_origin_may_read_answers_errors_too(site: Site, path: str) -> None:
    answer = await site.client.get(path, headers={"Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert set(exposed) == {"X-Request-ID", "Idempotent-Replayed", "Retry-After"}


@pytest.mark.parametrize("headers", [{}, {"Origin": OTHER}])
async def test_nobody_else_may_and_caches_know(site: Site, headers: dict[str, str]) -> None:
    answer = await site.client.get("/pcs", headers=headers)
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Origin"


async def test_without_origins_no_browser_may(conninfo: str) -> None:
    async with serving_site(conninfo, CORS_ORIGINS="") as site:
        answer = await site.client.options("/pcs", headers=preflight(ORIGIN))
        assert problem(answer) == (405, "METHOD_NOT_ALLOWED")
        assert [name for name in answer.headers if name.startswith("access-control-") or name == "vary"] == []


# Lists


async def hosts(site: Site) -> tuple[Person, str]:
    for _ in range(5):
        await site.host()
    return await site.user(), "/hosts"


async def pcs(site: Site) -> tuple[Person, str]:
    host = await site.host()
    for _ in range(5):
        await site.pc(host, online=False)
    return await site.user(), "/pcs"


async def pcs_of_a_host(site: Site) -> tuple[Person, str]:
    await pcs(site)
    host = await site.host()
    for _ in range(5):
        await site.pc(host, online=False)
    return await site.user(), f"/hosts/{host.host_id}/pcs"


async def transactions(site: Site) -> tuple[Person, str]:
    admin, ana = await site.admin(), await site.user()
    for amount in range(1, 6):
        move = {"type": "CREDIT", "amount": amount, "reason": "TOP_UP"}
        await admin.post(f"/wallets/{ana.id}/tx", json=move)
    return ana, f"/wallets/{ana.id}/transactions"


async def sessions(site: Site) -> tuple[Person, str]:
    host = await site.host()
    for _ in range(5):
        await site.reserved(await site.user(money=10_000), await site.pc(host))
    return host, "/sessions"


LISTS = [hosts, pcs, pcs_of_a_host, transactions, sessions]
List = Callable[[Site], Awaitable[tuple[Person, str]]]


async def pages(caller: Person, path: str, **query: str | int) -> list[list[str]]:
    """The ids on each page, to the last."""
    found: list[list[str]] = []
    cursor: dict[str, str] = {}
    while not found or cursor:
        answer = (await caller.get(path, params={**query, **cursor})).json()
        found.append([item["id"] for item in answer["items"]])
        cursor = {"cursor": answer["nextCursor"]} if answer["nextCursor"] else {}
    return found


@pytest.mark.parametrize("some", LISTS)
async def test_pages_have_everything_once_newest_first(site: Site, some: List) -> None:
    caller, path = await some(site)
    (everything,) = await pages(caller, path)
    assert len(everything) == 5
    assert everything == sorted(everything, reverse=True)
    for limit, sizes in [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (100, [5])]:
        found = await pages(caller, path, limit=limit)
        assert [len(page) for page in found] == sizes
        assert [item for page in found for item in page] == everything


async def test_a_page_has_twenty_items_unless_told_otherwise(site: Site) -> None:
    host = await site.host()
    for _ in range(21):
        await site.pc(host, online=False)
    assert [len(page) for page in await pages(host, "/pcs")] == [20, 1]


async def test_what_comes_in_between_does_not_disturb_the_pages_behind(site: Site) -> None:
    host = await site.host()
    old = [await site.pc(host, online=False) for _ in range(4)]
    first = (await host.get("/pcs", params={"limit": 2})).json()
    await host.delete(f"/pcs/{old[2]}")
    await site.pc(host, online=False)
    second = (await host.get("/pcs", params={"limit": 2, "cursor": first["nextCursor"]})).json()
    assert [pc["id"] for pc in second["items"]] == [old[1], old[0]]


@pytest.mark.parametrize("path", ["/hosts", "/pcs", "/sessions"])
async def test_an_empty_list_is_a_page_too(site: Site, path: str) -> None:
    ana = await site.user()
    assert (await ana.get(path)).json() == {"items": [], "nextCursor": None}


async def test_filters_and_pages_go_together(site: Site) -> None:
    host, other = await site.host(), await site.host()
    games = [await site.pc(host, online=False, categories=["games", "video"]) for _ in range(3)]
    await site.pc(other, online=False, categories=["games"])
    shown = await site.pc(host, categories=["video"])
    assert await pages(host, "/pcs", category="games", hostId=str(host.host_id), limit=2) == [games[:0:-1], games[:1]]
    assert await pages(host, "/pcs", status="ONLINE") == [[shown]]
    assert await pages(host, "/pcs", category="GAMES") == [[]]
    assert await pages(host, f"/hosts/{host.host_id}/pcs") == [[shown, *reversed(games)]]


async def test_a_price_of_nothing_and_of_most_are_both_integers(site: Site) -> None:
    host = await site.host()
    for price in (0, 10_000_000):
        answer = await host.post("/pcs", json={**PC, "pricePerHour": price})
        assert answer.json()["pc"]["pricePerHour"] == price
        assert f'"pricePerHour":{price},' in answer.text
