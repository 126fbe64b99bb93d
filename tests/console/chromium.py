"""A Chromium to look at pages with: driven from one thread of its own, for what drives it isn't Trio's."""

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
import shutil
from typing import Any, Final, TypeVar

from attrs import define, field
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright
import pytest
import trio

from scripts.benchmarks.console_paint import ARGUMENTS
from tests.console.made_up import POLICY, STATIC

FOUND: Final = shutil.which("chromium")
NO_CHROMIUM: Final = "THERE IS NO chromium ON THIS MACHINE: THE CONSOLE IS NOT LOOKED AT WITH A BROWSER"
# For whatever is waited for; nothing is measured by it.
PATIENCE_MS: Final = 20_000
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
DESK: Final[ViewportSize] = {"width": 1440, "height": 900}
_KINDS: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

T = TypeVar("T")


@define(eq=False)
class Chromium:
    """One process for all tests; each visit has its own cookies and storage."""

    _browser: Browser
    _thread: ThreadPoolExecutor

    def do(self, look: Callable[[Browser], T]) -> T:
        return self._thread.submit(look, self._browser).result()

    async def look(self, look: Callable[[Browser], T]) -> T:
        """For a test that has a daemon to listen to meanwhile."""
        return await trio.to_thread.run_sync(self.do, look)


@contextmanager
def chromium_running() -> Iterator[Chromium]:
    if FOUND is None:
        pytest.skip(NO_CHROMIUM)
    expect.set_options(timeout=PATIENCE_MS)
    with ThreadPoolExecutor(1) as thread:
        playwright = thread.submit(lambda: sync_playwright().start()).result()
        start = playwright.chromium.launch
        browser = thread.submit(lambda: start(executable_path=FOUND, args=list(ARGUMENTS))).result()
        try:
            yield Chromium(browser, thread)
        finally:
            thread.submit(browser.close).result()
            thread.submit(playwright.stop).result()


@define(eq=False)
class Visit:
    """A page that is looked at. `faults` is what the browser complains of: broken scripts, what the policy forbids."""

    page: Page
    faults: list[str] = field(factory=list)
    # What may be complained of: a daemon that is away is one.
    allowed: tuple[str, ...] = ()

    def complain(self, text: str) -> None:
        if not any(word in text for word in self.allowed):
            self.faults.append(text)


@contextmanager
def visiting(browser: Browser, *, allowed: tuple[str, ...] = (), **options: Any) -> Iterator[Visit]:
    context = browser.new_context(**{"viewport": DESK, "reduced_motion": "reduce", **options})
    context.set_default_timeout(PATIENCE_MS)
    try:
        visit = Visit(context.new_page(), allowed=allowed)
        visit.page.on("console", lambda message: visit.complain(message.text) if message.type == "error" else None)
        visit.page.on("pageerror", lambda error: visit.complain(str(error)))
        yield visit
        assert not visit.faults
    finally:
        context.close()


def show(page: Page, html: str, *, live: str | None = None, query: str = "") -> None:
    """A page without a server: this HTML, the static files beside it, and what the live stream says before it breaks off."""
    if live is None:
        page.add_init_script("window.EventSource = class extends EventTarget { close() {} }")

    def answer(route: Any) -> None:
        path = route.request.url.removeprefix("http://console.test").partition("?")[0]
        if path == "/console":
            route.fulfill(body=html, content_type="text/html", headers={"Content-Security-Policy": POLICY})
        elif path.startswith("/console/static/"):
            name = path.rpartition("/")[2]
            route.fulfill(body=(STATIC / name).read_bytes(), content_type=_KINDS[name.rpartition(".")[2]])
        else:
            route.fulfill(body=live, content_type="text/event-stream")

    page.route("**/*", answer)
    page.goto(f"http://console.test/console{query}")


@define(eq=False)
class Tab:
    """A page that stays open while a daemon is told things meanwhile."""

    _chromium: Chromium
    _page: Page

    async def do(self, look: Callable[[Page], T]) -> T:
        return await self._chromium.look(lambda _: look(self._page))

    async def sees(self, selector: str, text: str | None = None, *, times: int | None = None) -> None:
        def look(page: Page) -> None:
            found = page.locator(selector)
            if times is not None:
                expect(found).to_have_count(times)
            elif text is None:
                expect(found.first).to_be_visible()
            else:
                expect(found.first).to_contain_text(text)

        await self.do(look)


@asynccontextmanager
async def tab(chromium: Chromium, *, allowed: tuple[str, ...] = ()) -> AsyncIterator[Tab]:
    holder = ExitStack()
    visit = await chromium.look(lambda browser: holder.enter_context(visiting(browser, allowed=allowed)))
    with trio.CancelScope(shield=True):
        try:
            yield Tab(chromium, visit.page)
        except BaseException as fault:
            found = (type(fault), fault, fault.__traceback__)
            await chromium.look(lambda _: holder.__exit__(*found))
            raise
        await chromium.look(lambda _: holder.close())
