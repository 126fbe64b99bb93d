"""How a day is watched on a terminal: a live picture of PCs, money and what happens."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import define, field
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
import trio

from opendesk.cli.demo_lines import FAST, hotspots_line, line, streams_line
from opendesk.simulators.books import Totals
from opendesk.simulators.day import Day, Picture
from opendesk.simulators.day_plan import CLOSES_AT, OPENS_AT
from opendesk.simulators.fast_clock import clock_face
from opendesk.simulators.happenings import Happening, money
from opendesk.simulators.views import PcView, SessionView

# Often enough for the eye, and little work for the daemon beside the day's.
LOOK_EVERY_S: Final = 0.2

# More than any terminal has lines.
KEPT: Final = 200

# From this width on the money stands beside the PCs.
WIDE: Final = 100
# Below this one the bars are short.
USUAL: Final = 76
BAR: Final = 16
NARROW_BAR: Final = 5
MONEY_WIDTH: Final = 34
HEADER_HEIGHT: Final = 5
# The feed has so many lines at least, frame included; PCs that don't fit are counted.
FEED_HEIGHT: Final = 8
# Frame and heading of the table of PCs.
PCS_FRAME: Final = 3

_STATES: Final[Mapping[str, tuple[str, str]]] = {
    "ACTIVE": ("● in use", "cyan"),
    "PENDING": ("● reserved", "magenta"),
    "OFFLINE": ("○ offline", "bold red"),
}
_FREE: Final = ("● free", "green")


@define(eq=False)
class Screen:
    """The whole terminal, given back at the end."""

    _console: Console
    _feed: deque[Happening] = field(factory=lambda: deque(maxlen=KEPT))

    def say(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))

    def tell(self, happening: Happening) -> None:
        self._feed.append(happening)

    async def watch(self, day: Day, url: str) -> None:
        names = {client.user_id: client.name for client in day.clients}
        with Live(console=self._console, screen=True, auto_refresh=False) as live:
            while True:
                picture = await day.picture()
                live.update(View(picture, tuple(self._feed), names, url), refresh=True)
                await trio.sleep(LOOK_EVERY_S)


@define(eq=False)
class View:
    """One picture, for a terminal of any size."""

    picture: Picture
    feed: tuple[Happening, ...]
    names: Mapping[str, str]
    url: str

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        height, width = options.height or options.size.height, options.max_width
        rows = max(min(len(self.picture.pcs), height - HEADER_HEIGHT - FEED_HEIGHT - PCS_FRAME), 1)
        layout = Layout()
        layout.split_column(
            Layout(self._header(width), size=HEADER_HEIGHT),
            Layout(self._middle(rows, width), size=rows + PCS_FRAME),
            Layout(self._feed_panel(height - HEADER_HEIGHT - rows - PCS_FRAME)),
        )
        yield layout

    def _header(self, width: int) -> Group:
        title = Table.grid(expand=True)
        title.add_column()
        title.add_column(justify="right")
        title.add_row(
            Text.assemble(" ", ("OpenDesk", "bold"), "  a day in fast motion", no_wrap=True, overflow="ellipsis"),
            Text(f"{self.url}  {self.picture.beats} heartbeats ", style="dim", no_wrap=True, overflow="ellipsis"),
        )
        face = Text(f" {clock_face(self.picture.minute)} ", style="bold cyan")
        bar = _bar(CLOSES_AT - OPENS_AT, min(self.picture.minute, CLOSES_AT) - OPENS_AT, width=width - len(face) - 1)
        time = Table.grid()
        time.add_row(face, bar)
        under = Text(f" {FAST}", style="dim") if width >= WIDE else _money_line(self.picture.totals)
        streams = Text(f" ▦ {streams_line(self.picture.streams)}", style="cyan", no_wrap=True, overflow="ellipsis")
        phones = Text(f" ◉ {hotspots_line(self.picture.hotspots)}", style="cyan", no_wrap=True, overflow="ellipsis")
        return Group(title, time, under, streams, phones)

    def _middle(self, rows: int, width: int) -> Panel | Layout:
        if width < WIDE:
            return self._pcs(rows, NARROW_BAR if width < USUAL else BAR)
        both = Layout()
        both.split_row(Layout(self._pcs(rows, BAR)), Layout(_money_panel(self.picture.totals), size=MONEY_WIDTH))
        return both

    def _pcs(self, rows: int, bar_width: int) -> Panel:
        live = {session.pc_id: session for session in self.picture.live}
        shown, hidden = _fitting(self.picture.pcs, live.keys(), rows)
        table = Table(box=None, expand=True, padding=(0, 1), header_style="dim", show_edge=False)
        for name, justify in (
            ("PC", "left"),
            ("an hour", "right"),
            ("", "left"),
            ("client", "left"),
            ("minutes used", "left"),
        ):
            table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # one of the words that it takes
        for pc in shown:
            session = live.get(pc.id)
            state, style = _STATES.get(session.status if session else pc.status, _FREE)
            table.add_row(pc.name, money(pc.price_per_hour), Text(state, style=style), *self._use(session, bar_width))
        more = f" … and {hidden} more " if hidden else None
        return Panel(
            table, title="PCs", title_align="left", border_style="dim", padding=0, subtitle=more, subtitle_align="right"
        )

    def _use(self, session: SessionView | None, bar_width: int) -> tuple[str, Table | str]:
        if session is None:
            return "", ""
        client = self.names.get(session.client_id, "?")
        if session.status == "PENDING":
            return client, f"for {session.minutes_purchased}"
        use = Table.grid(padding=(0, 1))
        use.add_row(
            _bar(session.minutes_purchased, session.minutes_used, width=bar_width),
            f"{session.minutes_used:>3} of {session.minutes_purchased}",
        )
        return client, use

    def _feed_panel(self, height: int) -> Panel:
        lines = [line(happening) for happening in self.feed[-max(height - 2, 1) :]]
        for text in lines:
            text.no_wrap, text.overflow = True, "ellipsis"
        return Panel(Group(*lines), title="What happens", title_align="left", border_style="dim", padding=(0, 1))


def _bar(total: int, done: int, *, width: int) -> ProgressBar:
    return ProgressBar(total, done, width=width, style="bright_black", complete_style="cyan", finished_style="cyan")


def _fitting(pcs: tuple[PcView, ...], used: Iterable[str], rows: int) -> tuple[list[PcView], int]:
    """Those in use first if not all fit, each group in the order of the hosts."""
    taken = set(used)
    chosen = {pc.id for pc in sorted(pcs, key=lambda pc: pc.id not in taken)[:rows]}
    return [pc for pc in pcs if pc.id in chosen], len(pcs) - len(chosen)


def _money_rows(totals: Totals) -> tuple[tuple[str, int], ...]:
    return (
        ("topped up", totals.topped_up),
        ("paid out to hosts", -totals.paid_out),
        ("clients' wallets", totals.client_wallets),
        ("hosts' wallets", totals.host_wallets),
        ("held for sessions", totals.escrow),
        ("platform fees", totals.fees),
        ("retained", totals.retained),
    )


def _money_panel(totals: Totals) -> Panel:
    table = Table(box=None, expand=True, padding=(0, 1), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, amount in _money_rows(totals):
        table.add_row(name, money(amount))
    table.add_row("", "")
    table.add_row(Text("all entries sum to", style="dim"), _sum(totals))
    return Panel(table, title="Money", title_align="left", border_style="dim", padding=0)


def _money_line(totals: Totals) -> Text:
    parts = (
        ("held", totals.escrow),
        ("hosts", totals.host_wallets),
        ("fees", totals.fees),
        ("retained", totals.retained),
    )
    text = Text(" ", style="dim", no_wrap=True, overflow="ellipsis").append(
        " · ".join(f"{name} {money(amount)}" for name, amount in parts)
    )
    return text.append(" · sum ").append_text(_sum(totals))


def _sum(totals: Totals) -> Text:
    return Text(
        f"{money(totals.entries)} {'✗' if totals.entries else '✓'}",
        style="bold red" if totals.entries else "bold green",
    )
