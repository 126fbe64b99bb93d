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
from opendesk.console.shapes import Figure, Plot, Row, Section, Snapshot, State, Table
from tests.console.chromium import DESK, PHONE, Chromium, show, visiting
from tests.console.looking import PALE_TEXTS, PARTS, TOO_WIDE
from tests.console.made_up import AT, NASTY, crowd, draw, draw_page, line, router, routers, snapshot

CROWDED = snapshot(routers=routers(crowd(40, bad=3), fault="It can't be read just now.", left_out=7))
STORY = (
    line(0, "event " + "x" * 90),
    line(1, "job", State.BAD, why="7"),
    line(2, "attempt", State.WARN),
    line(1, "ACK", State.QUIET),
)
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
DRAWN = {
    "page": lambda: draw_page(CROWDED, said="It is tried again."),
    "why": lambda: draw("why.html", at=AT, csrf="c", who="ada@example.com", word="x" * 60, story=STORY),
    "log-in": lambda: draw("login.html", csrf="c", fault="The e-mail or the password is wrong.", email=""),
    "error": lambda: draw("error.html", title="Too many at once", text="Wait a minute.", again=None),
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


def test_what_is_wrong_is_shown_however_far_down_it_stands(chromium: Chromium) -> None:
    """As in a table that is in the order of time."""

    def look(browser: Browser) -> None:
        section = routers((*crowd(19), router(19, State.BAD)))
        with shown(
            browser, snapshot(routers=evolve(section, tables=(evolve(section.tables[0], order="the last first"),)))
        ) as page:
            rows = page.locator("tbody tr:visible")
            expect(rows).to_have_count(13)
            expect(page.locator("caption")).to_have_text("Routers, the last first")
            page.get_by_label("Only what needs attention").check()
            expect(rows).to_have_count(1)

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
            expect(visit.page.get_by_role("heading", name="You are logged out")).to_be_visible()
            expect(visit.page.get_by_role("link", name="Log in")).to_have_attribute("href", "/console/login")
            left = visit.page.locator("body").inner_text()  # for whoever comes by
            assert not [word for word in ("HOTSPOT", "ada@example.com", "Reachable") if word in left]

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


LONG_ERROR = (
    "10.0.0.1:8728 can't be connected to: [Errno 111] Error connecting to ('10.0.0.1', 8728): Connection refused"
)
REACHED = """() => [...document.querySelectorAll("tbody button")].map((button) => {
  scrollBy(0, button.getBoundingClientRect().top - 300);  // the page, and nothing sideways within it
  const { left, right, top, bottom } = button.getBoundingClientRect();
  return [left + 2, right - 2].every((x) => document.elementFromPoint(x, (top + bottom) / 2) === button);
})"""


@pytest.mark.parametrize("width", [390, 820, 1_024, 1_366])
def test_a_button_is_never_cut_off(chromium: Chromium, width: int) -> None:
    def look(browser: Browser) -> None:
        plain = routers(crowd(2, bad=2))
        (table,) = plain.tables
        wide = tuple(f"Column {number}" for number in range(9))
        rows = tuple(evolve(row, cells=(*row.cells[:1], *["not connected"] * 7, LONG_ERROR)) for row in table.rows)
        section = evolve(plain, tables=(evolve(table, columns=wide, rows=rows),))
        options = {"viewport": {"width": width, "height": 768}}
        with shown(browser, snapshot(routers=section), **options) as page:
            assert page.evaluate(REACHED) == [True, True]
            assert page.evaluate(TOO_WIDE) == []

    chromium.do(look)


LOW: Final = {"width": 1_366, "height": 300}
AT_THE_END = """async () => {
  const page = document.documentElement;
  scrollTo(0, page.scrollHeight);
  for (const _ of "two") await new Promise(requestAnimationFrame);
  return page.scrollHeight;
}"""


def test_tables_without_rows_are_lines_and_the_page_is_as_long_as_it_was(chromium: Chromium) -> None:
    def look(browser: Browser) -> None:
        empty = tuple(Table(name, name, ("A", "B"), (), "Nothing.") for name in ("dead", "events"))
        section = Section("jobs", "Jobs", (Figure("due", "Due", "0"),), (), empty)
        with shown(browser, snapshot(jobs=section, routers=routers(crowd(12))), viewport=LOW) as page:
            for name in ("dead", "events"):
                box = page.locator(f"[data-table={name}] .empty").bounding_box()
                assert box is not None
                assert box["height"] < 48
            tall = page.evaluate("document.documentElement.scrollHeight")
            assert page.evaluate(AT_THE_END) == tall

    chromium.do(look)


def test_on_a_phone_the_head_is_one_line_above_the_overview(chromium: Chromium) -> None:
    def look(browser: Browser) -> None:
        with shown(browser, CROWDED, viewport=PHONE) as page:
            told(page, CROWDED)
            page.evaluate("say('live', 'live')")
            tops = [page.locator(part).first.bounding_box() for part in (".brand", "#link", "#search")]
            assert len({round(box["y"] + box["height"] / 2) // 4 for box in tops if box}) == 1
            assert page.locator("[data-part=routers] .reason").inner_text() == "It can't be read just now."
            page.get_by_role("link", name="Routers", exact=True).click()
            expect(page.locator("#routers")).to_be_focused()

    chromium.do(look)


def test_a_plot_says_its_last_value_its_highest_and_since_when(chromium: Chromium) -> None:
    def look(browser: Browser) -> None:
        flat = evolve(routers(crowd(1)), plots=(Plot("waiting", "Jobs waiting", "", (None,) * 360),))
        full = evolve(flat, plots=(Plot("waiting", "Jobs waiting", "", (None,) * 180 + (1.0, 4.0) * 89 + (3.0, 2.5)),))
        with shown(browser, snapshot(routers=flat)) as page:
            told(page, snapshot(routers=full), snapshot(routers=flat))
            plot = page.locator(".plot")
            assert plot.inner_text().split() == [
                "Jobs",
                "waiting",
                "2.5",
                "at",
                "most",
                "4",
                "0",
                "since",
                "30",
                "min",
                "ago",
            ]
            assert page.evaluate(PARTS) == page.evaluate(PARTS, draw_page(snapshot(routers=full)))

    chromium.do(look)


def test_what_an_action_came_to_is_said_once(chromium: Chromium) -> None:
    def look(browser: Browser) -> None:
        with visiting(browser) as visit:
            show(visit.page, draw_page(CROWDED, said="Done."), query="?said=Done.&seal=x")
            expect(visit.page.locator(".said")).to_have_text("Done.")
            assert visit.page.url == "http://console.test/console"

    chromium.do(look)
