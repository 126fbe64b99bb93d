"""`/relay/health` and `/relay/metrics`, over HTTP, and who sees them."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.web.site import HOLDER, RELAY_TOKEN, Site, problem, serving_site

NO = (403, "FORBIDDEN")


@pytest.fixture
async def site(conninfo: str) -> AsyncIterator[Site]:
    async with serving_site(conninfo) as served:
        yield served


async def test_its_health_is_for_holders_of_the_token(site: Site) -> None:
    for headers in (HOLDER, {"Authorization": f"Bearer {RELAY_TOKEN}"}):
        answer = await site.client.get("/relay/health", headers=headers)
        assert answer.status_code == 200
        told = answer.json()
        assert told.keys() == {"ok", "uptime"}
        assert told["ok"] is True
        assert told["uptime"] >= 0
    admin = await site.admin()
    for answer in (await site.client.get("/relay/health"), await admin.get("/relay/health")):
        assert problem(answer) == (401, "UNAUTHORIZED")
    answer = await site.client.get("/relay/health?verbose=1", headers=HOLDER)
    assert problem(answer) == (400, "VALIDATION_FAILED")


async def test_the_relay_s_token_opens_nothing_of_the_people_s(site: Site) -> None:
    for headers in (HOLDER, {"Authorization": f"Bearer {RELAY_TOKEN}"}):
        assert problem(await site.client.get("/auth/me", headers=headers)) == (401, "UNAUTHENTICATED")


async def pages(site: Site, **headers: str) -> list[httpx.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [await site.client.get(path, headers=named) for path in ("/metrics", "/relay/metrics")]


async def test_its_figures_are_those_of_the_daemon_and_more(site: Site) -> None:
    for answer in await pages(site):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert "opendesk_http_requests_total" in answer.text
        assert "opendesk_jobs" in answer.text
    plain, whole = await pages(site)
    assert "opendesk_router_actions" not in plain.text
    assert "opendesk_router_actions" in whole.text


async def test_both_pages_have_the_same_readers(conninfo: str) -> None:
    async with serving_site(conninfo, METRICS_ALLOW="10.0.0.0/8", TRUSTED_PROXIES="127.0.0.1") as site:
        for headers, status in [
            ({}, 403),
            ({"X_Relay_Token": RELAY_TOKEN}, 200),
            ({"Authorization": f"Bearer {RELAY_TOKEN}"}, 200),
            ({"X_Relay_Token": "hush"}, 403),
            ({"X_Forwarded_For": "10.0.0.1"}, 200),
            ({"X_Forwarded_For": "10.0.0.1", "X_Relay_Token": "hush"}, 200),
            ({"X_Forwarded_For": "11.0.0.1"}, 403),
        ]:
            assert [answer.status_code for answer in await pages(site, **headers)] == [status] * 2


async def test_who_guesses_is_told_nothing_more(conninfo: str) -> None:
    async with serving_site(conninfo, METRICS_ALLOW="", RELAY_AUTH_FAIL_LIMIT="4") as site:
        assert [problem(answer) for answer in await pages(site)] == [NO] * 2
        for _ in range(2):
            assert [problem(answer) for answer in await pages(site, X_Relay_Token="hush")] == [NO] * 2
        for answer in await pages(site, X_Relay_Token=RELAY_TOKEN):
            assert problem(answer) == (429, "RATE_LIMITED")
        assert problem(await site.client.get("/relay/health", headers=HOLDER)) == (429, "RATE_LIMITED")
        assert [problem(answer) for answer in await pages(site)] == [NO] * 2


@pytest.mark.parametrize("token", ["", RELAY_TOKEN])
async def test_a_daemon_without_the_token_says_so_at_its_start(conninfo: str, token: str) -> None:
    async with serving_site(conninfo, RELAY_TOKEN=token) as site:
        said = [line for line in site.lines() if line["event"] == "network.api_off"]
        assert [line["level"] for line in said] == ([] if token else ["warning"])
        answer = await site.client.get("/relay/health", headers=HOLDER)
        assert answer.status_code == (200 if token else 503)
        assert token or problem(answer) == (503, "NETWORK_API_DISABLED")
