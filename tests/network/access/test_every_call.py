"""The document is walked: every call for programs that the daemon has is behind the checks, so that none is forgotten."""

import httpx

from tests.network.access.calling import ID, INTERNAL, SECRET
from tests.web.site import HOLDER, Json, Site, problem, serving_site

SECRETS: Json = {"RELAY_API_SECRET": SECRET, "RELAY_INTERNAL_TOKEN": INTERNAL, "RELAY_AUTH_FAIL_LIMIT": "1000"}
ROOTS = ("/relay/", "/internal/", "/devices", "/mikrotik/")
# A peer's, in base64 and escaped.
KEY = "A" * 42 + "E%3D"
# Prometheus reads them from addresses in METRICS_ALLOW, too.
OPEN = {"/relay/metrics"}


def filled_in(path: str) -> str:
    return path.replace("{id}", ID).replace("{publicKey}", KEY)


def for_programs(site: Site) -> list[tuple[str, str, bool]]:
    """Method and path of each call, and whether it is an internal one."""
    return [
        (method, filled_in(path), any("internalToken" in each for each in operation["security"]))
        for method, path, operation in site.conformance.operations()
        if any("relayToken" in each for each in operation["security"])
    ]


async def ask(site: Site, method: str, path: str, **headers: str) -> httpx.Response:
    return await site.client.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})


async def test_every_call_is_behind_the_token(conninfo: str) -> None:
    async with serving_site(conninfo, **SECRETS) as site:
        admin = await site.admin()
        calls = for_programs(site)
        assert ("GET", "/relay/health", False) in calls
        for method, path, _ in calls:
            for headers in ({}, {"X_Relay_Token": "hush"}, {"X_Relay_Internal_Token": INTERNAL}, admin.authorization):
                assert problem(await ask(site, method, path, **headers)) == (401, "UNAUTHORIZED"), (method, path)


async def test_every_call_that_changes_something_is_signed_and_internal_ones_want_their_token(conninfo: str) -> None:
    async with serving_site(conninfo, **SECRETS) as site:
        for method, path, internal in for_programs(site):
            if internal:
                answer = await ask(site, method, path, **HOLDER)
                assert problem(answer) == (403, "FORBIDDEN"), (method, path)
            if method != "GET":
                answer = await ask(site, method, path, **HOLDER, X_Relay_Internal_Token=INTERNAL)
                assert problem(answer) == (401, "INVALID_SIGNATURE"), (method, path)


async def test_what_is_under_the_network_s_roots_is_for_programs(site: Site) -> None:
    programs = {path for _, path, _ in for_programs(site)}
    under = {filled_in(path) for _, path, _ in site.conformance.operations() if path.startswith(ROOTS)}
    assert under == programs | OPEN
    assert {path for _, path, internal in for_programs(site) if internal} == {
        path for path in under if path.startswith("/internal/")
    }
