"""How a day is watched without a terminal: in plain lines. And what every way to watch shares."""

from collections.abc import Mapping
from typing import Final, Protocol

from attrs import define
from rich.console import Console
from rich.text import Text
import trio

from opendesk.simulators.day import Day
from opendesk.simulators.happenings import ORDINARY, Happening, Kind
from opendesk.simulators.hotspots import HotspotSums
from opendesk.simulators.streams import StreamSums

FAST: Final = "a real daemon, over HTTP; only its clock is turned forward, in its database"

# How often streams and phones are told of where nothing is drawn anew.
SUMS_EVERY_S: Final = 2.0

MARKS: Final[Mapping[Kind, tuple[str, str]]] = {
    Kind.TOPPED_UP: ("+", "dim"),
    Kind.STARTED: ("▸", "cyan"),
    Kind.REFUSED: ("✗", "yellow"),
    Kind.ALL_TAKEN: ("…", "dim"),
    Kind.ASKED_TWICE: ("≡", "magenta"),
    Kind.COMPLETED: ("✓", "green"),
    Kind.LEFT: ("◂", "green"),
    Kind.CANCELLED: ("↩", "magenta"),
    Kind.NEVER_STARTED: ("↩", "magenta"),
    Kind.CLAIM_REJECTED: ("✗", "yellow"),
    Kind.REFUNDED: ("↩", "magenta"),
    Kind.HOST_SILENT: ("○", "bold red"),
    Kind.HOST_TIMED_OUT: ("!", "bold red"),
    Kind.HOST_BACK: ("●", "green"),
    Kind.HOST_ENDED: ("!", "bold red"),
    Kind.PAID_OUT: ("−", "dim"),
    Kind.PHONE_ONLINE: ("◉", "cyan"),
    Kind.PHONE_OFF: ("◌", "green"),
    Kind.PHONE_MOVED: ("↷", "magenta"),
    Kind.ORDER_REVOKED: ("◌", "magenta"),
    Kind.ORDER_WAITS: ("…", "yellow"),
    Kind.ROUTER_DEAD: ("○", "bold red"),
    Kind.ROUTER_BACK: ("●", "green"),
}


class Show(Protocol):
    """Somebody watches."""

    def say(self, text: str) -> None: ...

    def tell(self, happening: Happening) -> None: ...

    async def watch(self, day: Day, url: str) -> None:
        """Until cancelled."""


def line(happening: Happening) -> Text:
    """`09:41 ◂ duda leaves …`: what is out of the ordinary stands out."""
    mark, style = MARKS[happening.kind]
    body = "" if happening.kind in ORDINARY else style
    return Text.assemble((happening.at, "dim"), " ", (mark, style), " ", (happening.text, body))


def streams_line(sums: StreamSums) -> str:
    """`5 streams live · 1,234 frames · …`: what matters most first, since a narrow terminal cuts it."""
    parts = [
        f"{sums.live} stream{'' if sums.live == 1 else 's'} live",
        f"{sums.frames:,} frames",
        f"{sums.megabytes:,.1f} MB",
    ]
    if sums.latency_p50_ms is not None and sums.latency_p99_ms is not None:
        parts.append(f"latency {sums.latency_p50_ms:.1f} ms, p99 {sums.latency_p99_ms:.1f}")
    return " · ".join([*parts, f"{sums.frames_lost:,} lost"])


def hotspots_line(sums: HotspotSums) -> str:
    """`2 phones online · 4 orders paid · …`."""
    parts = [
        f"{sums.online} phone{'' if sums.online == 1 else 's'} online behind hotspots",
        f"{sums.orders} order{'' if sums.orders == 1 else 's'} paid",
        f"{sums.revoked} revoked",
        f"{sums.ended} ended by routers",
        *(f"router {name} is dead" for name in sums.dead),
    ]
    return " · ".join(parts)


@define(eq=False)
class Lines:
    """A line each, for a file or a pipe."""

    _console: Console
    _quiet: bool = False

    def __attrs_post_init__(self) -> None:
        self._console.quiet = self._quiet

    def say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)

    def tell(self, happening: Happening) -> None:
        self._console.print(line(happening), soft_wrap=True)

    async def watch(self, day: Day, url: str) -> None:
        self.say(f"A day at {url}; {FAST}.")
        while True:
            await trio.sleep(SUMS_EVERY_S)
            self.say(f"      ▦ {streams_line(day.streams)}")
            self.say(f"      ◉ {hotspots_line(day.hotspots)}")
