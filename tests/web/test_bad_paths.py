"""Queries, ids, paths, methods and keys that don't fit. Bodies are in test_bad_input.py."""

import httpx

from tests.web.site import Site, pointers, problem

ID = "018f9a2e-0000-7000-8000-000000000000"
UNFIT = (422, "VALIDATION_FAILED")


# Queries


ODD_QUERIES = [
    ("limit=0", "/limit"),
    ("limit=101", "/limit"),
    ("limit=-1", "/limit"),
    ("limit=", "/limit"),
    ("limit", "/limit"),
    ("limit=x", "/limit"),
    ("limit=1.0", "/limit"),
    ("limit=1e1", "/limit"),
    ("limit=%20", "/limit"),
    ("limit=+5", "/limit"),
    ("limit=1_0", "/limit"),
    ("limit=%D9%A1", "/limit"),
    ("limit=" + "9" * 5000, "/limit"),
    ("limit=5&limit=5", "/limit"),
    ("limit=5&limit=6", "/limit"),
    ("limit[]=5", "/limit[]"),
    ("cursor=", "/cursor"),
    ("cursor=x", "/cursor"),
    ("cursor=" + "=" * 22, "/cursor"),
    ("cursor=" + "A" * 23, "/cursor"),
    ("cursor=" + ID, "/cursor"),
    ("cursor=" + "A" * 21 + "%0A", "/cursor"),
    ("status=online", "/status"),
    ("status=", "/status"),
    ("status=ONLINE,BUSY", "/status"),
    ("category=", "/category"),
    ("category=%00", "/category"),
    ("category=" + "x" * 201, "/category"),
    ("hostId=x", "/hostId"),
    ("hostId=null", "/hostId"),
    ("host_id=" + ID, "/host_id"),
    ("unknown=1", "/unknown"),
    ("=1", "/"),
    ("category=%FF", ""),
    ("category=%ED%A0%80", ""),
    ("&".join(f"p{n}=1" for n in range(50)), ""),
    ("a/b~c=1", "/a~1b~0c"),
]


async def test_a_query_that_does_not_fit_is_refused(site: Site) -> None:
    for query, where in ODD_QUERIES:
        answer = await site.client.get(f"/pcs?{query}")
        assert (problem(answer), pointers(answer)) == (UNFIT, [where]), query


FINE_QUERIES = ["", "&", "&&", "category=%F0%9F%98%80", "limit=007", "cursor=" + "_" * 22]


async def test_a_query_that_fits_in_an_odd_way_is_taken(site: Site) -> None:
    for query in FINE_QUERIES:
        assert (await site.client.get(f"/pcs?{query}")).status_code == 200, query


async def test_calls_without_a_query_take_none(site: Site) -> None:
    ana = await site.user()
    for path in ("/auth/me?verbose=1", "/health/live?x", f"/wallets/{ana.id}?userId={ID}"):
        assert problem(await ana.get(path)) == UNFIT
    answer = await ana.post("/sessions?pcId=hush", json={})
    assert (problem(answer), pointers(answer)) == (UNFIT, ["/pcId", "/minutesPurchased"])


# Ids and paths


NO_IDS = [
    "x",
    "1",
    "null",
    "me",
    ID.replace("-", ""),
    f"{{{ID}}}",
    f"{ID}x",
    "%00",
    "%ff",
    "%0a",
    "..%2f..%2fetc",
    "'--",
    "x" * 4000,
    "%2e%2e",
]


async def test_what_is_no_id_names_nothing(site: Site) -> None:
    ana, admin = await site.user(), await site.admin()
    for text in NO_IDS:
        for path in (f"/pcs/{text}", f"/hosts/{text}/pcs", f"/wallets/{text}", f"/sessions/{text}"):
            url = httpx.URL(site.url).copy_with(raw_path=path.encode())
            assert problem(await ana.get(str(url))) == (404, "NOT_FOUND"), path
        for path in (f"/hosts/{text}/heartbeat", f"/sessions/{text}/start", f"/wallets/{text}/tx"):
            url = httpx.URL(site.url).copy_with(raw_path=path.encode())
            answer = await admin.post(str(url), json={"type": "CREDIT", "amount": 1, "reason": "X"})
            assert problem(answer)[0] in {404, 422}, path


async def test_ids_are_read_in_either_case(site: Site) -> None:
    pc = await site.pc(await site.host())
    assert (await site.client.get(f"/pcs/{pc.upper()}")).json()["pc"]["id"] == pc


ODD_PATHS = [
    (b"/pcs%00", 404),
    (b"/%2e%2e/pcs", 404),
    (b"/pcs;jsessionid=1", 404),
    (b"/%ff", 404),
    (b"/" + b"a/" * 4000, 404),
    (b"/" + b"%41" * 4000, 404),
    (b"/" + b"a" * 17_000, 431),
    (b"/pcs%3Flimit=1", 404),
    (b"/pcs/", 404),
    (b"/pcs%2f", 404),
    (b"//pcs", 404),
    (b"/hosts/", 404),
    (b"/pcs/" + ID.encode() + b"/", 404),
    (b"/openapi.json/", 404),
    (b"/%70%63%73", 200),
]


async def test_odd_paths_do_no_harm(site: Site) -> None:
    for path, expected in ODD_PATHS:
        answer = await site.client.get(httpx.URL(site.url).copy_with(raw_path=path))
        assert answer.status_code == expected, path
        if expected != 200:
            problem(answer)


async def test_calls_that_change_something_have_one_path_as_well(site: Site) -> None:
    host = await site.host()
    for path in ("/pcs/", "/hosts/", f"/hosts/{host.host_id}/heartbeat/", "/auth/login/"):
        answer = await host.post(path, json={})
        assert problem(answer) == (404, "NOT_FOUND"), path


ODD_METHODS = ["TRACE", "CONNECT", "PROPFIND", "X" * 500, "M-SEARCH", "OPTIONS", "PATCH"]


async def test_odd_methods_are_405(site: Site) -> None:
    for method in ODD_METHODS:
        answer = await site.client.request(method, "/pcs")
        assert problem(answer) == (405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == "GET, HEAD, POST"


# Idempotency keys


ODD_KEYS = [b"", b"a b", b"\xff", b"x" * 256, b"a\tb", "é".encode()]


async def test_an_odd_idempotency_key_is_refused(site: Site) -> None:
    admin, ana = await site.admin(), await site.user()
    for key in ODD_KEYS:
        headers = [(b"Authorization", f"Bearer {admin.token}".encode()), (b"Idempotency-Key", key)]
        move = {"type": "CREDIT", "amount": 1, "reason": "TOP_UP"}
        answer = await site.client.post(f"/wallets/{ana.id}/tx", json=move, headers=headers)
        assert (problem(answer), pointers(answer)) == (UNFIT, ["/Idempotency-Key"]), key
    assert await ana.balance() == 0


async def test_two_idempotency_keys_are_none(site: Site) -> None:
    ana = await site.user()
    headers = [("Authorization", f"Bearer {ana.token}"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    answer = await site.client.post("/sessions", json={"pcId": ID, "minutesPurchased": 1}, headers=headers)
    assert (problem(answer), pointers(answer)) == (UNFIT, ["/Idempotency-Key"])
