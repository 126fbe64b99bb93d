from datetime import UTC, datetime, timedelta
import json
from typing import Any

import pytest

from opendesk.console import seals
from opendesk.console.seals import Seals
from opendesk.rental import users
from opendesk.web.auth import Tokens
from tests.console.board_site import BoardSite, serving_board
from tests.web.site import JWT_SECRET, PASSWORD

TRUSTED = {"TRUSTED_PROXIES": "127.0.0.1"}


def cookies(response: Any) -> dict[str, str]:
    """Each that was set, by its name."""
    return {cookie.partition("=")[0]: cookie for cookie in response.headers.get_list("set-cookie")}


async def test_an_admin_logs_in_sees_the_page_and_logs_out(board: BoardSite) -> None:
    browser, account = board.browser(), await board.user()
    assert (await browser.get("/console")).headers["location"] == "/console/login"
    entered = await browser.log_in(account.email)
    assert (entered.status_code, entered.headers["location"]) == (303, "/console")
    page = await browser.get("/console")
    assert page.status_code == 200
    assert account.email in page.text
    assert (await browser.get("/console/")).status_code == 200
    assert (await browser.get("/console/login")).headers["location"] == "/console"
    left = await browser.post("/console/logout")
    assert (left.status_code, left.headers["location"]) == (303, "/console/login")
    assert (await browser.get("/console")).status_code == 303
    actions = [(line["action"], line["outcome"]) for line in board.lines("audit")]
    assert actions == [("CONSOLE_LOGIN", "attempt"), ("CONSOLE_LOGIN", "success"), ("CONSOLE_LOGOUT", "success")]


async def test_the_cookie_is_strict_bounded_and_out_of_scripts_reach(board: BoardSite) -> None:
    browser, account = board.browser(), await board.user()
    cookie = cookies(await browser.log_in(account.email))["opendesk_console"]
    parts = set(cookie.split("; ")[1:])
    assert parts == {"Path=/console", "HttpOnly", "SameSite=Strict", f"Max-Age={12 * 3600}"}


async def test_behind_tls_the_cookie_is_for_tls_alone(conninfo: str) -> None:
    async with serving_board(conninfo, **TRUSTED) as board:
        account, behind = await board.user(), board.browser(**{"X-Forwarded-Proto": "https"})
        form = await behind.get("/console/login")
        behind.client.cookies.clear()  # which keeps what is Secure from http, as a browser does
        visit = cookies(form)["__Secure-opendesk_console_visit"].split(";")[0]
        told = {"email": account.email, "password": PASSWORD}
        entered = await behind.post("/console/login", told, Cookie=visit)
        cookie = cookies(entered)["__Secure-opendesk_console"]
        assert "; Secure" in cookie
        good = cookie.split(";")[0]
        assert (await behind.get("/console", Cookie=good)).status_code == 200
        bare = good.removeprefix("__Secure-")
        assert (await behind.get("/console", Cookie=bare)).status_code == 303


@pytest.mark.parametrize(
    ("role", "password"),
    [("ADMIN", "wrong"), ("HOST", PASSWORD), ("CLIENT", PASSWORD), (None, PASSWORD), ("ADMIN", "x" * 1001)],
    ids=["a wrong password", "a host", "a client", "nobody", "too long a password"],
)
async def test_all_others_are_told_the_same_no(board: BoardSite, role: str | None, password: str) -> None:
    email = "nobody@example.org" if role is None else (await board.user(role)).email
    browser = board.browser()
    refused = await browser.log_in(email, password)
    assert refused.status_code == 403
    assert "These don&#39;t open the console" in refused.text
    assert "opendesk_console" not in browser.client.cookies
    assert (await browser.get("/console")).status_code == 303


async def test_tries_are_counted_with_those_of_the_api(board: BoardSite) -> None:
    account, browser = await board.user(), board.browser()
    for _ in range(3):
        assert (await browser.log_in(account.email, "wrong")).status_code == 403
    for _ in range(2):
        body = json.dumps({"email": account.email, "password": "wrong"})
        assert (await browser.client.post("/auth/login", content=body)).status_code == 401
    refused = await browser.log_in(account.email)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0


async def test_neither_takes_the_others_token(board: BoardSite) -> None:
    account, browser = await board.user(), await board.admin()
    now = datetime.now(UTC)
    of_api = Tokens(JWT_SECRET.encode(), timedelta(hours=1)).issue(account.id, "ADMIN", account.token_version, now=now)
    other = board.browser()
    assert (await other.get("/console", Cookie=f"opendesk_console={of_api}")).status_code == 303
    of_console = browser.client.cookies["opendesk_console"]
    answer = await other.get("/auth/me", Authorization=f"Bearer {of_console}")
    assert answer.status_code == 401


async def _banned(board: BoardSite, email: str) -> None:
    async with board.pool.connection() as conn:
        assert await users.set_banned(conn, email, banned=True)


async def _other_password(board: BoardSite, email: str) -> None:
    async with board.pool.connection() as conn:
        account = await users.by_email(conn, email)
        assert account is not None
        assert await users.set_password(conn, account.id, old_hash=account.password_hash, password_hash="$none")


async def _logged_out_at_the_api(board: BoardSite, email: str) -> None:
    async with board.pool.connection() as conn:
        account = await users.by_email(conn, email)
        assert account is not None
        await users.end_tokens(conn, account.id)


async def _no_admin_any_more(board: BoardSite, email: str) -> None:
    async with board.pool.connection() as conn:
        await conn.run("UPDATE users SET role = 'CLIENT' WHERE email = %(email)s", {"email": email})


ENDS = pytest.mark.parametrize(
    "end",
    [_banned, _other_password, _logged_out_at_the_api, _no_admin_any_more],
    ids=["banned", "another password", "logged out elsewhere", "no admin any more"],
)


@ENDS
async def test_the_log_in_ends_with_the_right_to_it_and_so_does_the_stream(board: BoardSite, end: Any) -> None:
    account, browser = await board.user(), board.browser()
    await browser.log_in(account.email)
    async with browser.live() as events:
        assert (await anext(events))[0] == "patch"
        await end(board, account.email)
        rest = [event async for event in events]
    assert rest[-1] == ("bye", {"reason": "logged_out"})
    assert (await browser.get("/console")).status_code == 303


async def test_a_cookie_has_an_end_of_its_own(board: BoardSite) -> None:
    account, browser = await board.user(), board.browser()
    made = datetime.now(UTC) - seals.LIFETIME - timedelta(minutes=1)
    old = Seals.of(JWT_SECRET.encode()).tokens.issue(account.id, "ADMIN", account.token_version, now=made)
    assert (await browser.get("/console", Cookie=f"opendesk_console={old}")).status_code == 303


async def test_a_link_from_another_site_leads_to_the_page_all_the_same(board: BoardSite) -> None:
    """Strict cookies aren't sent with it: so there is a step of our own in between."""
    step = await board.browser().client.get("/console/why?q=a%22b", headers={"Sec-Fetch-Site": "cross-site"})
    assert step.status_code == 200
    assert '<meta http-equiv="refresh" content="0; url=/console/why?q=a%22b">' in step.text


async def test_a_log_in_is_of_the_browser_that_saw_the_form(board: BoardSite) -> None:
    account, mallory, victim = await board.user(), board.browser(), board.browser()
    await mallory.get("/console/login")
    await victim.get("/console/login")
    victim.csrf = mallory.csrf
    refused = await victim.post("/console/login", {"email": account.email, "password": PASSWORD})
    assert refused.status_code == 403
    assert "too old" in refused.text


async def test_a_browser_without_a_cookie_of_ours_logs_nobody_in(board: BoardSite) -> None:
    account, browser = await board.user(), board.browser()
    await browser.get("/console/login")
    browser.client.cookies.clear()
    refused = await browser.post("/console/login", {"email": account.email, "password": PASSWORD})
    assert refused.status_code == 403
