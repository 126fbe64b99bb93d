"""The page in a real browser, with made-up snapshots: how it looks, and how patches change it."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
import json
import random
from typing import Final, Literal

from attrs import evolve
from playwright.sync_api import Browser, Page, expect
import pytest

from opendesk.console.patches import patch, whole
from opendesk.console.shapes import Row, Snapshot, State
from tests.console.chromium import DESK, PHONE, Chromium, show, visiting
from tests.console.looking import PALE_TEXTS, PARTS, TOO_WIDE
from tests.console.made_up import NASTY, Line, crowd, draw, draw_page, router, routers, snapshot

CROWDED = snapshot(routers=routers(crowd(40, bad=3), fault="It can't be read just now.", left_out=7))
STORY = (
    Line(0, "event " + "x" * 90),
    Line(1, "job", State.BAD),
    Line(2, "attempt", State.WARN),
    Line(1, "ACK", State.QUIET),
)
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
DRAWN = {
    "page": lambda: draw_page(CROWDED, said="It is tried again."),
    "why": lambda: draw("why.html", csrf="c", who="ada@example.com", word="x" * 60, story=STORY),
    "log-in": lambda: draw("login.html", csrf="c", fault="The e-mail or the password is wrong.", email=""),
    "error": lambda: draw("error.html", title="Too many at once", text="Wait a minute."),
}


@contextmanager
def shown(browser: Browser, first: Snapshot, **options: object) -> Iterator[Page]:
    with visiting(browser, **options) as visit:  # type: ignore[arg-type]  # a context's options
        show(visit.page, draw_page(first))
        yield visit.page


def told(page: Page, new: Snapshot, old: Snapshot | None = None) -> None:
    page.evaluate("(told) => apply(JSON.parse(told))", json.dumps(patch(old, new) if old else whole(new)))


@pytest.mark.parametrize("name", list(DRAWN))
def test_every_text_stands_out_and_nothing_is_wider_than_a_phone(chromium: Chromium, name: str) -> None:
    def look(browser: Browser) -> None:
        with visiting(browser) as visit:
            show(visit.page, DRAWN[name]())
            for size, scheme in product((PHONE, DESK), SCHEMES):
                visit.page.set_viewport_size(size)
                visit.page.emulate_media(color_scheme=scheme)
                assert visit.page.evaluate(TOO_WIDE) == []
                assert visit.page.evaluate(PALE_TEXTS) == []

    chromium.do(look)


def test_a_page_that_was_patched_is_the_page_as_it_would_be_drawn(chromium: Chromium) -> None:
    def look(browser: Browser) -> None:
        chance = random.Random(7)
        now = _any_snapshot(chance)
        with shown(browser, now) as page:
            for _ in range(12):
                before, now = now, _any_snapshot(chance)
                told(page, now, chance.choice([before, None]))
                assert page.evaluate(PARTS) == page.evaluate(PARTS, draw_page(now))

    chromium.do(look)


def _any_snapshot(chance: random.Random) -> Snapshot:
    rows = [_any_row(number, chance) for number in chance.sample(range(30), chance.randrange(0, 25))]
    fault = chance.choice([None, None, NASTY])
    section = routers(tuple(rows), fault=fault, left_out=chance.choice([0, 1_234]))
    return evolve(snapshot(routers=section), at=f"2026-11-22T12:00:{chance.randrange(10, 60)}Z")


def _any_row(number: int, chance: random.Random) -> Row:
    return router(number, chance.choice(list(State)), heard=chance.choice(["12:00:01", NASTY, NASTY * 9]))


def test_who_reads_a_row_keeps_it_while_others_come_and_go(chromium: Chromium) -> None:
    def look(browser: Browser) -> None:
        before = snapshot(routers=routers(crowd(9)))
        after = snapshot(routers=routers((router(7, State.BAD), *(row for row in crowd(9)[1:] if "7" not in row.key))))
        with shown(browser, before) as page:
            link = page.get_by_role("link", name="HOTSPOT-007")
            link.focus()
            page.evaluate("getSelection().selectAllChildren(document.querySelector('[data-key=HOTSPOT-003] th a'))")
            told(page, after, before)
            expect(link).to_be_focused()
            assert page.evaluate("getSelection().toString()") == "HOTSPOT-003"
            assert page.locator("tbody tr").first.get_attribute("data-key") == "HOTSPOT-007"

    chromium.do(look)


def test_a_long_table_shows_the_first_rows_and_all_when_asked_or_filtered(chromium: Chromium) -> None:
    def look(browser: Browser) -> None:
        crowded = snapshot(routers=routers(crowd(1_000, bad=2)))
        with shown(browser, crowded) as page:
            told(page, crowded)
            rows = page.locator("tbody tr:visible")
            expect(rows).to_have_count(12)
            page.get_by_label("Filter Routers").fill("hotspot-99")
            expect(rows).to_have_count(10)
            expect(page.locator(".count")).to_have_text("10 of 1,000")
            page.get_by_label("Filter Routers").fill("")
            expect(rows).to_have_count(12)
            page.get_by_text("Show every row").click()
            expect(rows).to_have_count(1_000)
            page.get_by_label("Only what needs attention").check()
            expect(rows).to_have_count(2)

    chromium.do(look)


def test_what_is_well_makes_room_when_only_faults_are_wanted(chromium: Chromium) -> None:
    def look(browser: Browser) -> None:
        well, ill = snapshot(routers=routers(crowd(20))), snapshot(routers=routers(crowd(20, bad=1)))
        with shown(browser, well, java_script_enabled=True) as page:
            page.get_by_label("Only what needs attention").check()
            expect(page.get_by_text("Nothing here needs attention.")).to_be_visible()
            told(page, ill, well)
            expect(page.locator("tbody tr:visible")).to_have_count(1)
            expect(page.locator("#heard")).to_have_text("Routers: fault")
            assert page.title() == "Fault · OpenDesk console"

    chromium.do(look)


def _stream(*events: tuple[str, object]) -> str:
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)


def test_a_stream_that_says_logged_out_is_not_asked_for_again(chromium: Chromium) -> None:
    def look(browser: Browser) -> None:
        with visiting(browser) as visit:
            said = _stream(("patch", whole(CROWDED)), ("bye", {"reason": "logged_out"}))
            show(visit.page, draw_page(CROWDED), live=said)
            expect(visit.page.get_by_text("logged out")).to_be_visible()
            expect(visit.page.get_by_role("link", name="Log in")).to_have_attribute("href", "/console/login")

    chromium.do(look)


def test_a_stream_that_stops_or_breaks_is_asked_for_again(chromium: Chromium) -> None:
    def look(browser: Browser) -> None:
        with visiting(browser) as visit:
            show(
                visit.page, draw_page(CROWDED), live=_stream(("patch", whole(CROWDED)), ("bye", {"reason": "stopping"}))
            )
            expect(visit.page.get_by_text("reconnecting since")).to_be_visible()
            with visit.page.expect_request("**/console/live"):
                pass

    chromium.do(look)


def test_a_patch_about_what_has_no_place_loads_the_page_anew_but_once(chromium: Chromium) -> None:
    def look(browser: Browser) -> None:
        with shown(browser, CROWDED) as page:
            for _ in range(2):
                with page.expect_navigation():
                    page.evaluate("apply({at: '2026-11-22T12:00:05Z', figures: {'new.thing': ['1', 'ok', '']}})")
                page.evaluate("sessionStorage.setItem('reloaded', Date.now() - 61000)")
            page.evaluate("sessionStorage.setItem('reloaded', Date.now())")
            page.evaluate(
                "window.same = apply({at: '2026-11-22T12:00:06Z', figures: {'new.thing': ['1', 'ok', '']}}) ?? 1"
            )
            assert page.evaluate("window.same") == 1

    chromium.do(look)


def test_without_script_the_page_stands_still_and_can_be_used(chromium: Chromium) -> None:
    def look(browser: Browser) -> None:
        with shown(browser, snapshot(routers=routers(crowd(20, bad=1))), java_script_enabled=False) as page:
            expect(page.get_by_role("link", name="Reload")).to_be_visible()
            expect(page.locator("tbody tr:visible")).to_have_count(12)
            page.get_by_label("Only what needs attention").check()
            expect(page.locator("tbody tr:visible")).to_have_count(1)
            expect(page.get_by_role("button", name="Close the circuit HOTSPOT-000")).to_be_visible()
            expect(page.get_by_label("Filter Routers")).to_be_hidden()

    chromium.do(look)
