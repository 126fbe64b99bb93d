"""Pages drawn of made-up snapshots, as the server draws them."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

from attrs import define, field
import jinja2

import opendesk.console
from opendesk.console.pages import SECURITY
from opendesk.console.plots import drawn
from opendesk.console.shapes import SECTIONS, Action, Figure, Plot, Row, Section, Snapshot, State, Table
from opendesk.console.told import Line, Part

FOLDER: Final = Path(opendesk.console.__file__).parent
STATIC: Final = FOLDER / "static"
POLICY: Final = dict(SECURITY)["Content-Security-Policy"]
AT: Final = "2026-11-22T12:00:05Z"
NASTY: Final = "<script>alert(1)</script><b onclick='x()'>\"&amp;"
# Of HTML: they have no end.
_VOID: Final = frozenset({"meta", "link", "input", "img", "br", "hr"})


def line(depth: int, text: str, state: State = State.OK, *, why: str | None = None) -> Line:
    return Line(depth, text, state, (Part(text, why),))


def draw(name: str, **context: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.globals["static"] = lambda file: f"/console/static/{file}"
    return environment.get_template(name).render(context)


def draw_page(snapshot: Snapshot, *, said: str | None = None) -> str:
    return draw("page.html", snapshot=snapshot, csrf="c5rf", who="ada@example.com", said=said, drawn=drawn)


def router(number: int, state: State = State.OK, *, heard: str = "12:00:01") -> Row:
    name = f"HOTSPOT-{number:03}"
    circuit = "open" if state is State.BAD else "closed"
    return Row(name, (name, circuit, "3", heard), state, why=name, can_act=state is State.BAD)


def routers(rows: tuple[Row, ...], *, fault: str | None = None, left_out: int = 0) -> Section:
    table = Table(
        "routers", "Routers", ("Router", "Circuit", "Waiting", "Heard"), rows, "No router is registered.", left_out,
        Action("reset", "Close the circuit", "It is tried again at once."),
    )  # fmt: skip
    bad = sum(row.state is State.BAD for row in rows)
    figures = (
        Figure("reachable", "Reachable", str(len(rows) - bad), State.WARN if bad else State.OK, f"of {len(rows)}"),
        Figure("open", "Circuits open", str(bad), State.BAD if bad else State.OK),
    )
    plot = Plot("waiting", "Jobs waiting", "", (1.0, 2.0, None, 4.0))
    return Section("routers", "Routers", figures, (plot,), (table,), fault)


def snapshot(**sections: Section) -> Snapshot:
    """With each section that isn't given as a plain one."""
    plain = {name: _plain(name) for name in SECTIONS}
    return Snapshot(AT, {**plain, **sections})


def _plain(name: str) -> Section:
    if name == "routers":
        return routers(())
    return Section(name, name.capitalize(), (Figure("count", f"Of {name}", "7"),))


def crowd(count: int, *, bad: int = 0) -> tuple[Row, ...]:
    return tuple(router(number, State.BAD if number < bad else State.OK) for number in range(count))


@define
class Element:
    tag: str
    attributes: dict[str, str | None]
    inside: tuple[str, ...]
    text: str = ""


@define
class Reader(HTMLParser):
    """Every element with what it stands in and the text right in it; an end without its beginning is an error."""

    elements: list[Element] = field(factory=list)
    _open: list[Element] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> says something twice: {attrs}"
        element = Element(tag, dict(attrs), tuple(one.tag for one in self._open))
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs), tuple(one.tag for one in self._open)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].text += data

    def close(self) -> None:
        super().close()
        assert not self._open, f"never ended: {self._open}"


def read(html: str) -> list[Element]:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader.elements


def those(elements: list[Element], tag: str, wanted: Callable[[Element], bool] = lambda _: True) -> list[Element]:
    return [element for element in elements if element.tag == tag and wanted(element)]
