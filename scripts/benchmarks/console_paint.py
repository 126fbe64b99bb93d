"""A browser, in a process of its own: `python -m scripts.benchmarks.console_paint`, told in a line of JSON what to open, and how often.

Each time it is a browser's first visit: nothing is in its cache.
"""

import shutil
from typing import Any, Final

from playwright.sync_api import Browser, sync_playwright

from scripts.benchmarks.routers_child import answer

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
# A browser asks nobody but us, and a container lets it have no sandbox of its own.
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PAINTED: Final = """
    new Promise(done => new PerformanceObserver(list => {
        for (const entry of list.getEntries()) if (entry.name === 'first-contentful-paint') done(entry.startTime);
    }).observe({type: 'paint', buffered: true}))
"""
_ROWS: Final = "document.querySelectorAll('tbody tr').length"


def program() -> str | None:
    return next((found for name in PROGRAMS if (found := shutil.which(name)) is not None), None)


def _run(told: dict[str, Any]) -> dict[str, Any]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=list(ARGUMENTS))
        try:
            visits = [_visit(browser, told) for _ in range(told["times"])]
        finally:
            browser.close()
    return {"paint_ms": [paint_ms for paint_ms, _ in visits], "rows": visits[-1][1]}


def _visit(browser: Browser, told: dict[str, Any]) -> tuple[float, int]:
    context = browser.new_context()
    try:
        context.add_cookies([{"name": told["name"], "value": told["value"], "url": told["url"]}])
        page = context.new_page()
        page.goto(told["url"], wait_until="domcontentloaded")
        return float(page.evaluate(_PAINTED)), int(page.evaluate(_ROWS))
    finally:
        context.close()


if __name__ == "__main__":
    answer(_run)
