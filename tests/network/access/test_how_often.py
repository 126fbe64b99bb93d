"""How often an address may call, and fail, over whole HTTP."""

from functools import partial

import httpx
import pytest
from structlog.testing import capture_logs

from opendesk.postgres.pool import Pool
from tests.network.access.calling import (
    INTERNAL,
    LIMITED,
    NOBODY,
    NOT_CONFIGURED,
    OFF,
    SECRET,
    calling,
    signature,
    told,
)
from tests.web.site import problem


async def test_an_address_has_so_many_calls_in_a_window(pool: Pool) -> None:
    async with calling(pool, RELAY_RATE_LIMIT="3", RELAY_RATE_WINDOW_MS="3600000") as on:
        for _ in range(3):
            assert told(await on.call("GET", "/relay/things")) == 200
        for headers in ({}, {"x-forwarded-for": "203.0.113.1"}, {"x-forwarded-for": "127.0.0.2"}, NOBODY):
            answer = await on.call("GET", "/relay/things", headers=headers)
            assert problem(answer) == LIMITED
            assert answer.headers["retry-after"] == "3600"
        elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(base_url=on.served.url, transport=elsewhere) as other:
            assert (await other.get("/relay/things", headers=on.headers)).status_code == 200


@pytest.mark.parametrize("case", ["token", "internal", "signature"])
async def test_who_fails_too_often_is_heard_no_more(pool: Pool, case: str) -> None:
    secrets = {"RELAY_INTERNAL_TOKEN": INTERNAL, "RELAY_API_SECRET": SECRET}
    limits = {"RELAY_AUTH_FAIL_LIMIT": "3", "RELAY_RATE_WINDOW_MS": "3600000"}
    async with calling(pool, **secrets, **limits) as on:
        refused = {
            "token": partial(on.call, "GET", "/relay/things", headers={"x-relay-token": "x"}),
            "internal": partial(on.call, "GET", "/internal/things", headers={"x-relay-internal-token": "x"}),
            "signature": partial(on.call, "POST", "/relay/things"),
        }[case]
        for _ in range(3):
            assert told(await on.call("GET", "/relay/things")) == 200
            assert problem(await refused())[0] in {401, 403}
        for answer in (
            await refused(),
            await on.call("GET", "/relay/things"),
            await on.signed("POST", "/relay/things"),
        ):
            assert problem(answer) == LIMITED
            assert answer.headers["retry-after"] == "3600"


async def test_what_is_wrong_but_no_guess_is_not_counted(pool: Pool) -> None:
    async with calling(pool, RELAY_AUTH_FAIL_LIMIT="1") as on:
        for _ in range(3):
            assert problem(await on.call("POST", "/relay/things", b"{}"))[0] == 400
            assert problem(await on.call("GET", "/internal/things")) == NOT_CONFIGURED
            assert problem(await on.call("GET", "/relay/nothing", headers=NOBODY)) == (404, "NOT_FOUND")
        assert told(await on.call("GET", "/relay/things")) == 200


async def test_a_daemon_whose_api_is_off_has_nothing_to_guess(pool: Pool) -> None:
    async with calling(pool, RELAY_TOKEN="", RELAY_AUTH_FAIL_LIMIT="1") as on:
        for _ in range(3):
            assert problem(await on.call("GET", "/relay/things")) == OFF


async def test_refusals_are_logged_without_what_was_sent(pool: Pool) -> None:
    async with calling(pool, RELAY_API_SECRET=SECRET) as on:
        with capture_logs() as logs:
            for _ in range(5):
                await on.call("GET", "/relay/things?of=hush", headers={"x-relay-token": "hush the guess"})
            await on.call("POST", "/relay/things", headers=signature("POST", "/relay/things", b"hush"))
    lines = [line for line in logs if line["event"] == "network.refused"]
    assert [(line["code"], line["address"]) for line in lines] == [
        ("UNAUTHORIZED", "127.0.0.1"),
        ("INVALID_SIGNATURE", "127.0.0.1"),
    ]
    assert "hush" not in repr(logs)
