"""Registering, and what a user sees of themselves."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from opendesk.web.auth import Tokens
from tests.web.site import JWT_SECRET, PASSWORD, Json, Site, problem

ANA: Json = {"email": "Ana@Example.org", "password": PASSWORD, "username": "ana"}


async def registered(site: Site, **fields: Any) -> Json:
    answer = await site.client.post("/auth/register", json={**ANA, **fields})
    assert answer.status_code == 201, answer.text
    welcome: Json = answer.json()
    return welcome


async def test_registering_gives_a_token_and_the_user(site: Site) -> None:
    welcome = await registered(site)
    user = welcome["user"]
    assert welcome == {
        "token": welcome["token"],
        "user": user,
        "userId": user["id"],
        "role": "CLIENT",
        "hostProfileId": None,
        "needsUsername": False,
    }
    assert user == {
        "id": user["id"],
        "email": "Ana@Example.org",
        "username": "ana",
        "displayName": None,
        "role": "CLIENT",
        "createdAt": user["createdAt"],
    }
    assert UUID(user["id"]).version == 7


async def test_the_token_has_the_claims_of_the_contract(site: Site) -> None:
    welcome = await registered(site, role="HOST")
    claims = Tokens(JWT_SECRET.encode(), site.tokens.lifetime).verify(welcome["token"])
    assert (str(claims.user_id), claims.version) == (welcome["userId"], 1)
    answer = await site.client.get("/auth/me", headers={"Authorization": f"Bearer {welcome['token']}"})
    assert answer.json()["user"] == welcome["user"]


async def test_a_host_comes_with_a_profile(site: Site) -> None:
    welcome = await registered(site, role="HOST", displayName="Ana's PCs")
    assert (welcome["role"], welcome["user"]["displayName"]) == ("HOST", "Ana's PCs")
    answer = await site.client.get(f"/hosts/{welcome['hostProfileId']}")
    profile = answer.json()["hostProfile"]
    assert (profile["userId"], profile["displayName"]) == (welcome["userId"], "Ana's PCs")


@pytest.mark.parametrize("role", ["ADMIN", "client", "", "ROOT"])
async def test_nobody_registers_as_more_than_a_host(site: Site, role: str) -> None:
    answer = await site.client.post("/auth/register", json={**ANA, "role": role})
    assert problem(answer) == (422, "VALIDATION_FAILED")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"username": "other"}, "EMAIL_TAKEN"),
        ({"username": "other", "email": "ANA@EXAMPLE.ORG"}, "EMAIL_TAKEN"),
        ({"email": "b@example.org"}, "USERNAME_TAKEN"),
        ({"email": "b@example.org", "username": "ANA"}, "USERNAME_TAKEN"),
    ],
)
async def test_what_is_taken_is_taken_in_any_case(site: Site, fields: Mapping[str, str], code: str) -> None:
    await registered(site)
    answer = await site.client.post("/auth/register", json={**ANA, **fields})
    assert problem(answer) == (409, code)


@pytest.mark.parametrize("username", ["ana", "Ana Maria", "José", "小明明", "a" * 30, "a.b", "o'neil", "😀😀😀"])
async def test_names_are_people_s_own(site: Site, username: str) -> None:
    assert (await registered(site, username=username))["user"]["username"] == username


async def test_me_is_the_user_the_wallet_and_the_host_profile(site: Site) -> None:
    host = await site.host()
    me = (await host.get("/auth/me")).json()
    assert set(me) == {"user", "wallet", "hostProfileId"}
    assert me["hostProfileId"] == str(host.host_id)
    assert me["wallet"] == {"userId": str(host.id), "balance": 0, "currency": "BRL"}
    assert (me["user"]["id"], me["user"]["email"], me["user"]["role"]) == (str(host.id), host.email, "HOST")


async def test_the_role_that_counts_is_the_database_s(site: Site) -> None:
    ana, admin = await site.user(), await site.admin()
    claims_to_be_admin = site.tokens.issue(ana.id, "ADMIN", 1, now=site.now())
    claims_to_be_client = site.tokens.issue(admin.id, "CLIENT", 1, now=site.now())
    move = {"type": "CREDIT", "amount": 1, "reason": "TOP_UP"}
    for token, expected in [(claims_to_be_admin, 403), (claims_to_be_client, 201)]:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await site.client.post(f"/wallets/{ana.id}/tx", json=move, headers=headers)
        assert answer.status_code == expected
    async with site.pool.connection() as conn:
        await conn.run("UPDATE users SET role = 'ADMIN' WHERE id = %(id)s", {"id": ana.id})
    assert (await ana.post(f"/wallets/{ana.id}/tx", json=move)).status_code == 201
