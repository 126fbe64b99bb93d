"""The contract's table of who may call, over whole HTTP: tokens, internal tokens, addresses."""

from collections.abc import Mapping

import httpx
import pytest

from opendesk.network.access import RelayAccess
from opendesk.postgres.pool import Pool
from opendesk.settings import load
from tests.network.access.calling import (
    CALLS,
    FORBIDDEN,
    GOOD,
    INTERNAL,
    NOBODY,
    NOT_CONFIGURED,
    OFF,
    ORIGIN,
    SECRET,
    TOKEN,
    UNAUTHORIZED,
    Calling,
    calling,
    told,
)
from tests.web.site import pointers, problem


def good(method: str) -> int:
    return 204 if method == "DELETE" else 200


# The token


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_every_call_wants_the_relay_token(pool: Pool, method: str, path: str) -> None:
    async with calling(pool) as on:
        for headers in ({}, {"authorization": f"Bearer {TOKEN}"}, {"authorization": f"bearer  {TOKEN}"}):
            answer = await on.call(method, f"/relay{path}", headers={**NOBODY, **headers})
            assert told(answer) == (good(method) if headers else UNAUTHORIZED)
        assert told(await on.call(method, f"/relay{path}")) == good(method)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-relay-token": ""},
        {"x-relay-token": TOKEN[:-1]},
        {"x-relay-token": TOKEN + "x"},
        {"x-relay-token": TOKEN.upper()},
        {"x-relay-token": f"{TOKEN}, {TOKEN}"},
        {"x-relay-token": f"Bearer {TOKEN}"},
        {"x-relay-token": "x" * 8000},
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer{TOKEN}"},
        {"authorization": "Bearer"},
        {"x-relay-internal-token": TOKEN},
        {"cookie": f"x-relay-token={TOKEN}"},
    ],
)
async def test_another_token_is_none(pool: Pool, headers: Mapping[str, str]) -> None:
    async with calling(pool, RELAY_INTERNAL_TOKEN=INTERNAL) as on:
        for path in ("/relay/things", "/internal/things"):
            answer = await on.call("GET", path, headers={**NOBODY, **headers})
            assert problem(answer) == UNAUTHORIZED
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("value", [b"\xff\xfe", "hush the relay tokén".encode(), b"\x80" * 300])
async def test_a_token_that_is_no_ascii_does_no_harm(pool: Pool, value: bytes) -> None:
    async with calling(pool) as on:
        for name in (b"X-Relay-Token", b"Authorization"):
            answer = await on.client.get("/relay/things", headers=[(name, value)])
            assert problem(answer) == UNAUTHORIZED


async def test_one_of_two_tokens_may_be_wrong_but_no_header_comes_twice(pool: Pool) -> None:
    """A session's token of a browser in the way of the relay's."""
    async with calling(pool) as on:
        assert told(await on.call("GET", "/relay/things", headers={"authorization": "Bearer x"})) == 200
        crossed = {"x-relay-token": "x", "authorization": f"Bearer {TOKEN}"}
        assert told(await on.call("GET", "/relay/things", headers=crossed)) == 200
        twice = await on.client.get("/relay/things", headers=[("x-relay-token", TOKEN), ("x-relay-token", "x")])
        assert problem(twice) == UNAUTHORIZED


async def test_a_secret_in_utf_8_is_sent_in_utf_8(pool: Pool) -> None:
    async with calling(pool, RELAY_TOKEN="hush ségredo") as on:
        for name, value in ((b"X-Relay-Token", "hush ségredo"), (b"Authorization", "Bearer hush ségredo")):
            answer = await on.client.get("/relay/things", headers=[(name, value.encode())])
            assert answer.status_code == 200


async def test_of_several_tokens_each_is_good(pool: Pool) -> None:
    async with calling(pool, RELAY_TOKEN=f"{TOKEN},hush the next") as on:
        for token in (TOKEN, "hush the next"):
            assert told(await on.call("GET", "/relay/things", headers={"x-relay-token": token})) == 200
        both = {"x-relay-token": f"{TOKEN},hush the next"}
        assert told(await on.call("GET", "/relay/things", headers=both)) == UNAUTHORIZED


async def test_without_a_relay_token_the_network_api_is_off(pool: Pool) -> None:
    async with calling(pool, RELAY_TOKEN="", RELAY_INTERNAL_TOKEN=INTERNAL) as on:
        assert on.access.is_off
        for method, path in CALLS:
            for headers in ({}, {"x-relay-token": ""}, {"authorization": "Bearer"}, {"x-relay-token": INTERNAL}):
                for root in ("/relay", "/internal"):
                    answer = await on.call(method, root + path, headers={**NOBODY, **headers})
                    assert problem(answer) == OFF
                    assert int(answer.headers["retry-after"]) > 0


async def test_who_comes_before_what(pool: Pool) -> None:
    """A stranger learns nothing of what would fit."""
    async with calling(pool) as on:
        for body in (b"nonsense", b"{}", b"\xff"):
            assert problem(await on.call("POST", "/relay/things", body, NOBODY)) == UNAUTHORIZED
        assert problem(await on.call("PUT", "/relay/things/x", headers=NOBODY)) == UNAUTHORIZED
        assert problem(await on.call("GET", "/relay/things?no=1", headers=NOBODY)) == UNAUTHORIZED


# What fits


@pytest.mark.parametrize(
    ("method", "target", "body", "where"),
    [
        ("POST", "/relay/things", b"{}", ["/name"]),
        ("POST", "/relay/things", b'{"name": 5}', ["/name"]),
        ("POST", "/relay/things", b'{"name": "x", "more": 1}', ["/more"]),
        ("GET", "/relay/things?no=1", b"", ["/no"]),
        ("GET", "/relay/things?of=%FF", b"", [""]),
        ("GET", "/relay/things?of=1&of=2", b"", ["/of"]),
    ],
)
async def test_what_does_not_fit_is_400_here(
    pool: Pool, method: str, target: str, body: bytes, where: list[str]
) -> None:
    async with calling(pool) as on:
        answer = await on.call(method, target, body)
        assert (problem(answer), pointers(answer)) == ((400, "VALIDATION_FAILED"), where)


async def test_what_is_no_json_and_what_is_no_id_are_as_anywhere(pool: Pool) -> None:
    async with calling(pool) as on:
        assert problem(await on.call("POST", "/relay/things", b"nonsense")) == (400, "INVALID_JSON")
        assert problem(await on.call("DELETE", "/relay/things/x")) == (404, "NOT_FOUND")


# The internal token


async def test_internal_calls_want_both_tokens(pool: Pool) -> None:
    async with calling(pool, RELAY_INTERNAL_TOKEN=f"{INTERNAL},hush its successor") as on:
        for method, path in CALLS:
            target = f"/internal{path}"
            for sent in (None, "", "x", TOKEN, f"{INTERNAL},hush its successor", f"{INTERNAL}, {INTERNAL}", "x" * 8000):
                assert problem(await on.call(method, target, headers={"x-relay-internal-token": sent})) == FORBIDDEN
            for sent in (INTERNAL, "hush its successor"):
                internal = {"x-relay-internal-token": sent}
                assert told(await on.call(method, target, headers=internal)) == good(method)
                assert problem(await on.call(method, target, headers={**NOBODY, **internal})) == UNAUTHORIZED


async def test_without_an_internal_token_they_are_refused_and_say_why(pool: Pool) -> None:
    async with calling(pool) as on:
        for sent in (None, "", "x", TOKEN):
            answer = await on.call("GET", "/internal/things", headers={"x-relay-internal-token": sent})
            assert problem(answer) == NOT_CONFIGURED
        assert problem(await on.call("GET", "/internal/things", headers=NOBODY)) == UNAUTHORIZED
        assert told(await on.call("GET", "/relay/things")) == 200


@pytest.mark.parametrize("internal", ["", INTERNAL])
async def test_a_listed_address_needs_no_internal_token_but_the_relay_s(pool: Pool, internal: str) -> None:
    async with calling(pool, RELAY_INTERNAL_WHITELIST="10.0.0.0/8,127.0.0.0/8", RELAY_INTERNAL_TOKEN=internal) as on:
        assert told(await on.call("GET", "/internal/things")) == 200
        assert problem(await on.call("GET", "/internal/things", headers=NOBODY)) == UNAUTHORIZED


@pytest.mark.parametrize("said", ["127.0.0.1", "10.0.0.1", "203.0.113.1", "", "unknown", "127.0.0.1, 127.0.0.1"])
async def test_who_speaks_of_another_address_is_on_no_list(pool: Pool, said: str) -> None:
    forwarded = {"x-forwarded-for": said}
    async with calling(pool, RELAY_INTERNAL_WHITELIST="10.0.0.0/8,127.0.0.1", RELAY_INTERNAL_TOKEN=INTERNAL) as on:
        assert problem(await on.call("GET", "/internal/things", headers=forwarded)) == FORBIDDEN
        both = {**forwarded, "x-relay-internal-token": INTERNAL}
        assert told(await on.call("GET", "/internal/things", headers=both)) == 200
        assert told(await on.call("GET", "/relay/things", headers=forwarded)) == 200


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("10.0.0.9", 200),
        ("203.0.113.1", FORBIDDEN),
        ("10.0.0.9, 203.0.113.1", FORBIDDEN),
        ("x", FORBIDDEN),
        ("", FORBIDDEN),
    ],
)
async def test_a_trusted_proxy_s_word_counts(pool: Pool, said: str, status: object) -> None:
    lists = {"TRUSTED_PROXIES": "127.0.0.1", "RELAY_INTERNAL_WHITELIST": "10.0.0.0/8,127.0.0.1"}
    async with calling(pool, RELAY_INTERNAL_TOKEN=INTERNAL, **lists) as on:
        assert told(await on.call("GET", "/internal/things", headers={"x-forwarded-for": said})) == status


# What is no call


async def test_other_paths_and_methods_are_as_anywhere(pool: Pool) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        for headers in ({}, NOBODY):
            for path in ("/relay", "/relay/", "/relay/thing", "/relay//things", "/internal/", "/relay/things/"):
                assert problem(await on.call("GET", path, headers=headers)) == (404, "NOT_FOUND")
            answer = await on.call("PATCH", "/relay/things", headers=headers)
            assert problem(answer) == (405, "METHOD_NOT_ALLOWED")
            assert answer.headers["allow"] == "GET, HEAD, POST"


async def test_a_head_is_asked_for_the_token_and_not_for_a_signature(pool: Pool) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        assert (await on.call("HEAD", "/relay/things")).status_code == 200
        assert (await on.call("HEAD", "/relay/things", headers=NOBODY)).status_code == 401


async def test_no_browser_is_let_send_the_tokens(pool: Pool) -> None:
    """A preflight is answered as anywhere: what it allows are no headers of ours."""
    asked = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-relay-token",
    }
    async with calling(pool) as on:
        answer = await on.call("OPTIONS", "/relay/things", headers={**NOBODY, **asked})
        assert answer.status_code == 204
        assert "relay" not in answer.headers["access-control-allow-headers"].lower()
        stranger = await on.call("OPTIONS", "/relay/things", headers={**asked, "origin": "https://evil.example"})
        assert problem(stranger) == (405, "METHOD_NOT_ALLOWED")
        assert "access-control-allow-origin" not in stranger.headers
        answer = await on.call("POST", "/relay/things", headers={**NOBODY, "origin": ORIGIN})
        assert problem(answer) == UNAUTHORIZED


async def test_problems_have_a_trace_and_no_secrets(pool: Pool) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET, RELAY_INTERNAL_TOKEN=INTERNAL) as on:
        answers = [
            await on.call("GET", "/relay/things", headers={"x-relay-token": "hush", "x-request-id": "a-trace"}),
            await on.call("GET", "/internal/things", headers={"x-request-id": "a-trace"}),
            await on.call("POST", "/relay/things", headers={"x-request-id": "a-trace"}),
        ]
    for answer in answers:
        problem(answer)
        assert answer.json()["traceId"] == "a-trace"
        assert "hush" not in answer.text


# Sockets and settings


async def test_the_other_end_of_a_unix_socket_is_on_no_list(
    pool: Pool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lists = {"RELAY_INTERNAL_WHITELIST": "0.0.0.0/0,::/0", "RELAY_INTERNAL_TOKEN": INTERNAL}
    path = tmp_path_factory.mktemp("s") / "s"
    async with calling(pool, bind=f"unix:{path}", **lists) as on:
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(base_url="http://x", transport=transport) as client:
            local = Calling(client, on.access, on.served)
            assert told(await local.call("GET", "/relay/things")) == 200
            assert problem(await local.call("GET", "/internal/things")) == FORBIDDEN
            forwarded = {"x-forwarded-for": "203.0.113.9"}
            assert told(await local.call("GET", "/internal/things", headers=forwarded)) == 200


async def test_the_rules_are_the_settings(pool: Pool) -> None:
    access = RelayAccess.of(
        load({"OPENDESK_DATA_DIR": "/nowhere", "RELAY_TOKEN": "a,b", "HMAC_WINDOW_MS": "1000"}), pool
    )
    rules = access.rules
    assert [secret.reveal() for secret in rules.tokens] == ["a", "b"]
    assert (rules.rate_limit, rules.rate_window_s, rules.fail_limit) == (6000, 60.0, 60)
    assert (rules.window_ms, rules.strict, rules.api_secrets) == (1000, False, ())
    assert GOOD.decode() not in repr(access)
    assert "'a'" not in repr(access)
