"""Whether it lives, whether it can serve, and who sees the figures."""

from collections.abc import Mapping

import httpx
import pytest

from tests.web.site import RELAY_TOKEN, Json, Site, problem, serving_site

NO = (403, "FORBIDDEN")


async def test_it_lives_and_can_serve(site: Site) -> None:
    assert (await site.client.get("/health/live")).json() == {"ok": True}
    assert (await site.client.get("/health/ready")).json() == {"ok": True, "parts": {"database": True}}


async def test_what_fails_is_named(conninfo: str) -> None:
    parts = {"database": False, "clock": True, "disk": False}

    async def ready() -> Mapping[str, bool]:
        return parts

    async with serving_site(conninfo, ready=ready) as site:
        answer = await site.client.get("/health/ready")
        assert problem(answer) == (503, "NOT_READY")
        assert answer.headers["retry-after"] == "5"
        assert answer.json()["detail"] == "not working: database, disk"
        assert (await site.client.get("/health/live")).status_code == 200
        parts.update(database=True, disk=True)
        assert (await site.client.get("/health/ready")).status_code == 200


async def test_the_document_is_served(site: Site) -> None:
    document = (await site.client.get("/openapi.json")).json()
    assert (document["openapi"], document["info"]["title"]) == ("3.1.0", "OpenDesk")


async def figures(site: Site, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await site.client.get("/metrics", headers=named)


async def test_the_figures_count_what_was_answered_by_route(site: Site) -> None:
    pc = await site.pc(await site.host())
    for path in (f"/pcs/{pc}", f"/pcs/{pc}", "/nowhere/hush"):
        await site.client.get(path)
    await site.client.post("/auth/login", json={"email": "a@b.c", "password": "wrong"})
    answer = await figures(site)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    text = answer.text
    assert 'opendesk_http_requests_total{method="GET",route="/pcs/{id}",status="200"} 2.0' in text
    assert 'opendesk_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'opendesk_login_failures_total{reason="credentials"} 1.0' in text
    for secret in (pc, "hush", "127.0.0.1"):
        assert secret not in text


async def test_an_allowed_address_sees_them_but_not_by_hearsay(site: Site) -> None:
    assert (await figures(site)).status_code == 200
    for said in ("127.0.0.1", "203.0.113.1", "", "unknown", "127.0.0.1, 127.0.0.1"):
        assert problem(await figures(site, X_Forwarded_For=said)) == NO


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("10.0.0.9", 200),
        ("203.0.113.1", 403),
        ("10.0.0.9, 203.0.113.1", 403),
        ("203.0.113.1, 10.0.0.9", 200),
        ("x", 403),
        ("", 403),
    ],
)
async def test_behind_a_trusted_proxy_the_caller_s_address_counts(conninfo: str, said: str, status: int) -> None:
    settings: Json = {"TRUSTED_PROXIES": "127.0.0.1", "METRICS_ALLOW": "10.0.0.0/8,127.0.0.1"}
    async with serving_site(conninfo, **settings) as site:
        assert (await figures(site, X_Forwarded_For=said)).status_code == status


async def test_elsewhere_the_relay_s_token_opens(conninfo: str) -> None:
    async with serving_site(conninfo, METRICS_ALLOW="", RELAY_TOKEN=f"{RELAY_TOKEN},hush the second") as site:
        for token in (RELAY_TOKEN, "hush the second"):
            assert (await figures(site, X_Relay_Token=token)).status_code == 200
            assert (await figures(site, Authorization=f"Bearer {token}")).status_code == 200
            assert (await figures(site, X_Relay_Token=token, X_Forwarded_For="203.0.113.1")).status_code == 200
        for token in ("", "hush", RELAY_TOKEN[:-1], f"{RELAY_TOKEN},hush the second", (await site.admin()).token):
            assert problem(await figures(site, X_Relay_Token=token)) == NO
            assert problem(await figures(site, Authorization=f"Bearer {token}" if token else "")) == NO
        odd = await site.client.get("/metrics", headers=[(b"X-Relay-Token", b"\xff\xfe")])
        assert problem(odd) == NO


async def test_without_any_rule_nobody_sees_them(conninfo: str) -> None:
    async with serving_site(conninfo, METRICS_ALLOW="", RELAY_TOKEN="") as site:
        for headers in ({}, {"X_Relay_Token": ""}, {"Authorization": "Bearer"}, {"X_Forwarded_For": "127.0.0.1"}):
            assert problem(await figures(site, **headers)) == NO
