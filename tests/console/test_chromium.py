"""The console of a real daemon in a real browser."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Page, expect

from opendesk.postgres.driver import TrioConnection
from opendesk.simulators.routeros import simulated
from opendesk.simulators.routeros.faults import Act, Trapped
from tests.console.chromium import Chromium, Tab, tab
from tests.console.looking import PALE_TEXTS, TOO_WIDE
from tests.network.behind import HERE, MAC, TOKEN, aged_router, nodes
from tests.system import people
from tests.system.conftest import Start
from tests.system.daemon import Daemon, url_of
from tests.system.people import PASSWORD, Person

# What a browser says itself of a log-in that is refused, and of a daemon that is away.
REFUSED: Final = "status of 403"
AWAY: Final = "net::ERR"


async def begin(start: Start, folder: Path, conninfo: str, **settings: Any) -> Daemon:
    return await start(folder, DATABASE_URL=url_of(conninfo), **settings)


def log_in(page: Page, email: str, password: str = PASSWORD) -> None:
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


@asynccontextmanager
async def watching(
    chromium: Chromium, daemon: Daemon, boss: Person, allowed: tuple[str, ...] = ()
) -> AsyncIterator[Tab]:
    """Logged in; the page is live."""
    async with tab(chromium, allowed=allowed) as seen:
        await seen.do(lambda page: page.goto(f"{daemon.url}/console"))
        await seen.do(lambda page: log_in(page, boss.email))
        await seen.sees("#link", "live")
        yield seen


async def test_an_admin_logs_in_and_watches_a_session_begin_and_end(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection, chromium: Chromium
) -> None:
    daemon = await begin(start, folder, conninfo)
    rented = await people.settle_in(daemon.http, conn)
    async with tab(chromium, allowed=(REFUSED,)) as seen:

        def come_in(page: Page) -> None:
            page.goto(f"{daemon.url}/console")
            log_in(page, rented.admin.email, "not the password")
            expect(page.get_by_role("alert")).to_be_visible()
            assert page.get_by_label("Password").input_value() == ""
            expect(page.get_by_label("E-mail")).to_have_value(rented.admin.email)
            expect(page.get_by_label("Password")).to_be_focused()
            log_in(page, rented.client.email)
            expect(page.get_by_role("alert")).to_be_visible()
            log_in(page, rented.admin.email)

        await seen.do(come_in)
        await seen.sees("#link", "live")
        await seen.sees("[data-table=sessions] .empty")
        session = await people.rent(rented.client, rented.pc_id)
        row = f"[data-table=sessions] tr[data-key='{session['id']}']"
        await seen.sees(row, "active")
        await seen.sees("[data-figure='rental.live'] .value", "1")
        people.good(await rented.client.post(f"/sessions/{session['id']}/end"))
        await seen.sees(row, times=0)
        await seen.sees("[data-figure='rental.ended'] .value", "1")
        await seen.do(lambda page: ask_why(page, session["id"]))


def ask_why(page: Page, session: str) -> None:
    """By keyboard; and it reads well, here as everywhere."""
    assert page.evaluate(TOO_WIDE) == page.evaluate(PALE_TEXTS) == []
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Ask why, by any id")).to_be_focused()
    page.keyboard.type(session)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(session)
    expect(page.locator(".story .line").first).to_contain_text(session)
    assert page.evaluate(TOO_WIDE) == page.evaluate(PALE_TEXTS) == []


async def test_a_circuit_opens_and_is_closed_by_hand_and_a_dead_letter_is_tried_again(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection, chromium: Chromium
) -> None:
    router = aged_router()
    async with simulated(router) as (_, port):
        few = {"RELAY_BREAKER_FAILURES": "1", "RELAY_JOB_MAX_ATTEMPTS": "1", "RELAY_JOB_BACKOFF_BASE_MS": "100"}
        daemon = await begin(start, folder, conninfo, RELAY_TOKEN=TOKEN, MIKROTIK_NODES=nodes({"r1": port}), **few)
        async with watching(chromium, daemon, await people.admin(daemon.http, conn)) as seen:
            row = "[data-table=routers] tr[data-key=r1]"
            await seen.sees(row, "closed")

            router.faults.decide = lambda request: Trapped(None, "no") if request.command.endswith("/add") else None
            await call(daemon, "authorize-by-pedido", pedidoId="1", **HERE)
            await seen.sees("[data-table=dead] tbody tr", "no")
            router.faults.clear()
            await seen.do(lambda page: press(page, "[data-table=dead] tbody tr", "Try again"))
            await seen.sees(".said", "is due again")
            await seen.do(lambda page: page.wait_for_url("**/console"))  # and isn't said again
            await seen.sees("[data-table=dead] tbody tr", times=0)

            router.faults.decide, router.faults.refuses_connections = lambda _: Act.DROP_BEFORE, True
            await call(daemon, "revoke", mac=MAC)
            await seen.sees(f"{row}[data-state=bad]", "open")
            await seen.sees(".part[data-part=routers] .name", "fault")
            router.faults.clear()
            await seen.do(lambda page: press(page, row, "Close the circuit"))
            await seen.sees(".said", "r1 is closed")
            await seen.sees(f"{row}:not([data-state=bad])", "closed")
        await daemon.stop()


async def call(daemon: Daemon, name: str, **body: Any) -> None:
    """Whatever is answered: the router has its faults."""
    await daemon.http.post(f"/relay/{name}", json={"mikId": "r1", **body}, headers={"x-relay-token": TOKEN})


def press(page: Page, row: str, name: str) -> None:
    """First without meaning it; with the keyboard, the second time."""
    button = page.locator(row).get_by_role("button", name=name)
    button.click()
    sure = page.get_by_role("dialog")
    sure.get_by_role("button", name="Cancel").click()
    expect(sure).to_be_hidden()
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(sure).to_contain_text(name)
    sure.get_by_role("button", name=name).focus()
    with page.expect_navigation():
        page.keyboard.press("Enter")


async def test_a_page_comes_back_when_its_daemon_does_and_says_when_its_log_in_is_over(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection, chromium: Chromium
) -> None:
    daemon = await begin(start, folder, conninfo)
    boss = await people.admin(daemon.http, conn)
    async with watching(chromium, daemon, boss, allowed=(AWAY,)) as seen:
        assert await daemon.stop() == 0
        await seen.sees("#link", "reconnecting since")
        daemon = await begin(start, folder, conninfo, PORT=str(daemon.port))
        await seen.sees("#link", "live")
        boss.http = daemon.http
        assert (await boss.post("/auth/logout")).is_success
        await seen.sees("#link", "logged out")
        await seen.do(lambda page: page.get_by_role("link", name="Log in").click())
        await seen.do(lambda page: expect(page.get_by_role("button", name="Log in")).to_be_visible())


async def test_the_page_needs_nothing_but_a_keyboard(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection, chromium: Chromium
) -> None:
    daemon = await begin(start, folder, conninfo)
    boss = await people.admin(daemon.http, conn)

    def look(page: Page) -> None:
        keys = page.keyboard
        page.goto(f"{daemon.url}/console")
        # Where one types first has the focus already, as soon as the page is drawn: the load is told before.
        expect(page.locator("input[name=email]")).to_be_focused()
        keys.type(boss.email)
        keys.press("Tab")
        keys.type(PASSWORD)
        keys.press("Enter")
        expect(page.locator("#link")).to_contain_text("live")
        keys.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        keys.press("Enter")
        expect(page.locator("main")).to_be_focused()
        page.get_by_role("navigation").get_by_role("link", name="Routers").focus()
        keys.press("Enter")
        expect(page.locator("#routers")).to_be_focused()
        page.get_by_label("Only what needs attention").focus()
        keys.press("Space")
        expect(page.get_by_label("Only what needs attention")).to_be_checked()
        page.get_by_role("button", name="Log out").focus()
        keys.press("Enter")
        expect(page.get_by_role("heading", name="OpenDesk console")).to_be_visible()

    async with tab(chromium) as seen:
        await seen.do(look)
