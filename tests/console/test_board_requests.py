"""What goes in and out of the console as HTTP."""

from uuid import uuid4

import httpx
import pytest

from tests.console.board_site import BoardSite, Browser

JOB = uuid4()
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
ACTIONS = [f"/console/dead/{JOB}/replay", "/console/routers/HOTSPOT-01/reset", "/console/logout"]


def is_guarded(response: httpx.Response) -> bool:
    fields = response.headers
    return (
        fields["content-security-policy"] == CSP
        and fields["x-content-type-options"] == "nosniff"
        and fields["x-frame-options"] == "DENY"
        and fields["referrer-policy"] == "same-origin"
        and "x-request-id" in fields
    )


async def test_every_answer_is_guarded_and_errors_are_pages(board: BoardSite) -> None:
    admin, nobody = await board.admin(), board.browser()
    static = "/console/static/console.css"
    answers = {
        200: [await admin.get(path) for path in ("/console", "/console/why?q=x", static)],
        303: [await nobody.get(path) for path in ("/console", "/console/why?q=x")],
        404: [await admin.get("/console/nowhere"), await nobody.get("/console/static/..%2fapp.py")],
        405: [await admin.post("/console"), await admin.get("/console/logout"), await admin.post("/console/live")],
        413: [await nobody.post("/console/login", {"email": "x" * 17_000})],
        400: [await nobody.client.post("/console/login", content="{}", headers={"Content-Type": "application/json"})],
    }
    for status, found in answers.items():
        for answer in found:
            assert answer.status_code == status, answer.url
            assert is_guarded(answer)
            if status >= 400:
                assert answer.headers["content-type"] == "text/html; charset=utf-8"
            if not answer.url.path.startswith("/console/static"):
                assert answer.headers["cache-control"] == "no-store"


async def test_a_file_asked_for_by_its_hash_is_kept_for_good(board: BoardSite) -> None:
    browser = board.browser()
    page = (await browser.get("/console/login")).text
    path = page.split('rel="stylesheet" href="')[1].split('"')[0]
    asked = await browser.get(path)
    assert "immutable" in asked.headers["cache-control"]
    plain = await browser.get("/console/static/console.css")
    assert plain.headers["cache-control"] == "no-cache"
    again = await browser.client.get("/console/static/console.css", headers={"If-None-Match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_console_is_no_call_of_the_api(board: BoardSite) -> None:
    document = (await board.browser().get("/openapi.json")).json()
    assert not [path for path in document["paths"] if path.startswith("/console")]
    assert (await board.browser().get("/consoles")).headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ACTIONS, ids=["replay", "reset", "log-out"])
async def test_what_changes_something_asks_for_a_log_in_and_its_own_form(board: BoardSite, path: str) -> None:
    stranger = await board.browser().post(path)
    assert (stranger.status_code, stranger.headers["location"]) == (303, "/console/login")
    admin, other = await board.admin(), await board.admin()
    await admin.get("/console")
    await other.get("/console")
    own = admin.csrf

    async def refused(browser: Browser, **headers: str) -> bool:
        answer = await browser.post(path, {}, **headers)
        return answer.status_code == 403 and is_guarded(answer)

    assert await refused(admin, Origin="https://evil.example")
    assert await refused(admin, Origin="null")
    assert await refused(admin, Sec_Fetch_Site="cross-site")
    assert await refused(admin, Sec_Fetch_Site="same-site")
    admin.csrf = other.csrf
    assert await refused(admin)
    admin.csrf = ""
    assert await refused(admin)
    admin.csrf = own
    assert (await admin.post(path, Sec_Fetch_Site="same-origin")).status_code == 303


async def test_nobody_puts_words_on_the_page_by_a_link(board: BoardSite) -> None:
    admin = await board.admin()
    page = await admin.get(f"/console?said=Call+this+number&seal={'0' * 64}")
    assert "Call this number" not in page.text
    done = await admin.post("/console/routers/nowhere/reset")
    assert "There is no router nowhere." in (await admin.get(done.headers["location"])).text
    other = await board.admin()
    assert "There is no router" not in (await other.get(done.headers["location"])).text


async def test_the_words_of_a_search_may_be_anything(board: BoardSite) -> None:
    admin = await board.admin()
    for word in ("%00", "%ff", "<script>", "x" * 2000, str(uuid4()), ""):
        page = await admin.client.get(f"/console/why?q={word}")
        assert page.status_code == 200
        assert "<script>" not in page.text
