"""Requests that don't fit: each is answered with a problem that says what and where, and nothing is logged as an error."""

from collections.abc import Mapping
import json
from typing import Any

import httpx
import trio

from tests.web.serving import ask
from tests.web.site import PASSWORD, PC, Json, Site, pointers, problem

MIB = 1024 * 1024
ID = "018f9a2e-0000-7000-8000-000000000000"
NOT_JSON = (400, "INVALID_JSON")
UNFIT = (422, "VALIDATION_FAILED")

POST = b"POST /auth/register HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST /auth/register HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

REGISTER: Json = {"email": "ana@example.org", "password": PASSWORD, "username": "ana"}


async def register(site: Site, **fields: Any) -> httpx.Response:
    return await site.client.post("/auth/register", json={**REGISTER, **fields})


# Bodies that are not JSON


NO_JSON = [
    b"",
    b" ",
    b"{",
    b"{}{}",
    b"{'email': 1}",
    b"nonsense",
    b"NaN",
    b'{"email": NaN}',
    b'{"email": 1e400}',
    b'{"email": 0x10}',
    b'{"email": 01}',
    b'{"email": "\xff"}',
    b'{"email": "\xed\xa0\x80"}',
    b'{"email": "\\ud800"}',
    b'{"email": "\\udc00\\ud800"}',
    b'{"\\ud800": 1}',
    b'{"email": "a\x00b"}',
    b'{"email": "a\nb"}',
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    b"\x1f\x8b\x08\x00",
    b"email=ana%40example.org&password=hush",
    b"<email>ana@example.org</email>",
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"email": ' + b"9" * 5_000 + b"}",
]


async def test_a_body_that_is_not_json_is_400(site: Site) -> None:
    for body in NO_JSON:
        for path in ("/auth/register", "/auth/login"):
            assert problem(await site.client.post(path, content=body)) == NOT_JSON, body[:99]


async def test_that_goes_for_calls_without_a_body_too(site: Site) -> None:
    ana = await site.user()
    for path in ("/hosts", "/auth/logout", f"/sessions/{ID}/start", f"/sessions/{ID}/cancel"):
        assert problem(await ana.post(path, content=b"nonsense")) == NOT_JSON
        answer = await ana.post(path, content=b'{"now": true}')
        assert (problem(answer), pointers(answer)) == (UNFIT, ["/now"])


NO_OBJECTS = [b"null", b"[]", b"[{}]", b'"text"', b"1", b"true", b"9" * 300]


async def test_a_body_that_is_no_object_does_not_fit(site: Site) -> None:
    for body in NO_OBJECTS:
        answer = await site.client.post("/auth/register", content=body)
        assert (problem(answer), pointers(answer)) == (UNFIT, [""]), body


async def test_what_a_get_carries_is_not_looked_at(site: Site) -> None:
    for body in (b"nonsense", b'{"limit": 1}'):
        assert (await site.client.request("GET", "/pcs", content=body)).status_code == 200


KINDS = [
    None,
    "application/json",
    "text/plain",
    "application/x-www-form-urlencoded",
    "image/png",
    "x",
    ";;",
    "a/b" * 99,
]


async def test_the_body_counts_and_not_what_it_is_called(site: Site) -> None:
    for number, kind in enumerate(KINDS):
        headers = {} if kind is None else {"Content-Type": kind}
        body = {**REGISTER, "email": f"ana{number}@example.org", "username": f"ana{number}"}
        answer = await site.client.post("/auth/register", content=json.dumps(body).encode(), headers=headers)
        assert answer.status_code == 201, kind


async def test_a_body_is_utf_8_even_if_it_says_otherwise(site: Site) -> None:
    body = json.dumps({**REGISTER, "username": "José"}, ensure_ascii=False)
    headers = {"Content-Type": "application/json; charset=iso-8859-1"}
    answer = await site.client.post("/auth/register", content=body.encode("latin-1"), headers=headers)
    assert problem(answer) == NOT_JSON
    answer = await site.client.post("/auth/register", content=body.encode(), headers=headers)
    assert answer.json()["user"]["username"] == "José"


async def test_a_body_over_a_mebibyte_is_413(site: Site) -> None:
    body = json.dumps({"x": "y" * (MIB - len('{"x": ""}'))}).encode()
    assert len(body) == MIB
    assert problem(await site.client.post("/auth/register", content=body)) == UNFIT
    for start in (POST % (MIB + 1) + body, POST % 10**15, CHUNKED + b"%x\r\n" % MIB + body + b"\r\n1\r\n \r\n"):
        async with await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
            assert (await ask(stream, start)).problem == (413, "BODY_TOO_LARGE")


# Fields


ODD_FIELDS: list[tuple[Json, list[str]]] = [
    ({"email": 5}, ["/email"]),
    ({"email": None}, ["/email"]),
    ({"email": ["a@b.c"]}, ["/email"]),
    ({"email": {"$ne": None}}, ["/email"]),
    ({"email": ""}, ["/email"]),
    ({"email": "ana"}, ["/email"]),
    ({"email": "ana@localhost"}, ["/email"]),
    ({"email": "a b@example.org"}, ["/email"]),
    ({"email": "ana@example.org\n"}, ["/email"]),
    ({"email": "ana@example.org\x00"}, ["/email"]),
    ({"email": "ana@@example.org"}, ["/email"]),
    ({"email": "a" * 250 + "@b.c"}, []),
    ({"email": "a" * 251 + "@b.c"}, ["/email"]),
    ({"email": "@" * 100_000}, ["/email"]),
    ({"password": "short"}, ["/password"]),
    ({"password": "x" * 1001}, ["/password"]),
    ({"password": "with a \x00 in it"}, ["/password"]),
    ({"username": "ab"}, ["/username"]),
    ({"username": "a" * 31}, ["/username"]),
    ({"username": "  ana  "}, ["/username"]),
    ({"username": "ana\n"}, ["/username"]),
    ({"username": "a\tna"}, ["/username"]),
    ({"username": "ana\x7f"}, ["/username"]),
    ({"username": "a\x1b[2Jna"}, ["/username"]),
    ({"username": "ana\u0085"}, ["/username"]),
    ({"username": "\ufeffana"}, ["/username"]),
    ({"displayName": ""}, ["/displayName"]),
    ({"displayName": "x" * 81}, ["/displayName"]),
    ({"role": "ADMIN"}, ["/role"]),
    ({"role": ["HOST"]}, ["/role"]),
    ({"role": 1}, ["/role"]),
    ({"isAdmin": True}, ["/isAdmin"]),
    ({"": 1}, ["/"]),
    ({"a/b": 1}, ["/a~1b"]),
    ({"a~b": 1}, ["/a~0b"]),
    ({"display_name": "Ana"}, ["/display_name"]),
    ({"é": 1}, ["/é"]),
    ({"__class__": "x", "__init__": "y"}, ["/__class__", "/__init__"]),
]


async def test_a_field_that_does_not_fit_is_pointed_at(site: Site) -> None:
    for fields, where in ODD_FIELDS:
        answer = await register(site, **fields)
        if where:
            assert (problem(answer), pointers(answer)) == (UNFIT, where), fields
        else:
            assert answer.status_code == 201, fields


async def test_all_faults_are_told_at_once(site: Site) -> None:
    answer = await site.client.post("/auth/register", json={"password": "x", "username": 1, "more": 2})
    assert (problem(answer), sorted(pointers(answer))) == (UNFIT, ["/email", "/more", "/password", "/username"])
    told = {fault["pointer"]: fault["detail"] for fault in answer.json()["errors"]}
    assert told["/email"] == "is missing"
    assert told["/username"] == "must be a string"


async def test_of_very_many_faults_the_first_are_told(site: Site) -> None:
    answer = await register(site, **{f"field{n}": n for n in range(1000)}, **{"long" * 1000: 1})
    assert problem(answer) == UNFIT
    assert len(pointers(answer)) == 20
    assert max(map(len, pointers(answer))) < 100


async def test_what_was_sent_is_not_sent_back(site: Site) -> None:
    for fields in ({"password": "hush"}, {"email": "hush hush"}, {"role": "hush"}):
        answer = await register(site, **fields)
        assert problem(answer) == UNFIT
        assert "hush" not in answer.text


ODD_PCS: list[tuple[Json, str]] = [
    ({"ramGb": "16"}, "/ramGb"),
    ({"ramGb": 16.5}, "/ramGb"),
    ({"ramGb": True}, "/ramGb"),
    ({"ramGb": 0}, "/ramGb"),
    ({"ramGb": -1}, "/ramGb"),
    ({"ramGb": 2**63}, "/ramGb"),
    ({"ramGb": 10**300}, "/ramGb"),
    ({"pricePerHour": 10_000_001}, "/pricePerHour"),
    ({"pricePerHour": 1e8}, "/pricePerHour"),
    ({"level": "D"}, "/level"),
    ({"level": ""}, "/level"),
    ({"categories": "games"}, "/categories"),
    ({"categories": None}, "/categories"),
    ({"categories": {"0": "games"}}, "/categories"),
    ({"categories": ["x"] * 31}, "/categories"),
    ({"categories": ["games", 5]}, "/categories/1"),
    ({"categories": ["games", "x" * 51]}, "/categories/1"),
    ({"softwareTags": [["x"]]}, "/softwareTags/0"),
    ({"softwareTags": ["a", "b", "\x00"]}, "/softwareTags/2"),
    ({"description": "x" * 4001}, "/description"),
    ({"description": "\x00"}, "/description"),
    ({"connectionPort": 65536}, "/connectionPort"),
    ({"connectionPort": "22"}, "/connectionPort"),
    ({"connectionHost": "a b"}, "/connectionHost"),
    ({"connectionHost": "host.example.org\n"}, "/connectionHost"),
    ({"connectionHost": "x" * 262}, "/connectionHost"),
    ({"hostId": ID}, "/hostId"),
    ({"status": "ONLINE"}, "/status"),
    ({"currency": "USD"}, "/currency"),
]


async def test_a_pc_that_does_not_fit_is_refused(site: Site) -> None:
    host = await site.host()
    pc = await site.pc(host)
    for fields, where in ODD_PCS:
        for method, path in [("POST", "/pcs"), ("PUT", f"/pcs/{pc}")]:
            answer = await host.call(method, path, json={**PC, **fields})
            assert (problem(answer), pointers(answer)) == (UNFIT, [where]), fields


async def test_a_pc_lacks_nothing_that_it_needs(site: Site) -> None:
    host = await site.host()
    for name in PC:
        answer = await host.post("/pcs", json={key: value for key, value in PC.items() if key != name})
        assert (problem(answer), pointers(answer)) == (UNFIT, [f"/{name}"])


ODD_IDS = [
    "",
    "x",
    ID[:-1],
    f"{ID}0",
    f"{{{ID}}}",
    f"urn:uuid:{ID}",
    ID.replace("-", ""),
    f"0x{ID[2:]}",
    " " * 36,
    5,
    None,
]


async def test_an_id_in_a_body_is_spelt_in_the_usual_way(site: Site) -> None:
    ana = await site.user()
    for text in ODD_IDS:
        answer = await ana.post("/sessions", json={"pcId": text, "minutesPurchased": 60})
        assert (problem(answer), pointers(answer)) == (UNFIT, ["/pcId"]), text


async def test_heartbeats_are_as_strict(site: Site) -> None:
    host = await site.host()
    for body, where in [
        ({"status": "AWAY"}, "/status"),
        ({"pcId": "x"}, "/pcId"),
        ({"seq": "1"}, "/seq"),
        ({"timestamp": True}, "/timestamp"),
        ({"timestamp": []}, "/timestamp"),
        ({"intervalMs": False}, "/intervalMs"),
        ({"sentAtMs": "1.5"}, "/sentAtMs"),
        ({"load": 1}, "/load"),
    ]:
        answer = await host.post(f"/hosts/{host.host_id}/heartbeat", json=body)
        assert (problem(answer), pointers(answer)) == (UNFIT, [where])
    assert problem(await host.post(f"/hosts/{host.host_id}/heartbeat", content=b"[")) == NOT_JSON


# The log


async def test_no_secret_nor_query_reaches_the_log(site: Site) -> None:
    """What each test here looks for at its end; here is that it would be found."""
    ana = await site.user()
    secret: Mapping[str, str] = {"token": ana.token, "q": "hush"}
    for path in ("/pcs", "/auth/me", "/nowhere", f"/wallets/{ana.id}", "/metrics"):
        await ana.get(path, params=secret, headers={"X-Relay-Token": "hush", "Cookie": "hush", "X-Hush": "hush"})
    await ana.post("/auth/login", json={"email": "hush", "password": "hush"})
    await ana.post("/auth/password", json={"current": "hush", "password": "hush hush"})
    log = site.log.getvalue()
    assert len(log.splitlines()) >= 7
    assert "hush" not in log
    assert ana.token not in log
    assert ana.email not in log
