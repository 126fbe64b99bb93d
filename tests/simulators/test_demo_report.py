"""What a day is shown as, and when it counts as wrong."""

from collections.abc import Callable
import io
import json

from attrs import evolve
from click.testing import CliRunner
import pytest
from rich.console import Console

from opendesk.cli import demo as command
from opendesk.cli.demo_lines import hotspots_line, streams_line
from opendesk.cli.demo_report import Report, as_data, show
from opendesk.cli.demo_screen import FEED_HEIGHT, HEADER_HEIGHT, PCS_FRAME, View
from opendesk.rental.ledger import Check as LedgerCheck
from opendesk.rental.ledger import Fault, Verification
from opendesk.simulators.books import Books, Check, ClientLine, HostLine, Totals
from opendesk.simulators.day import Closing, Picture
from opendesk.simulators.happenings import Happening, Kind
from opendesk.simulators.hotspots import HotspotSums
from opendesk.simulators.streams import StreamSums
from opendesk.simulators.views import PcView, SessionView, SettlementView

TOTALS = Totals(
    topped_up=3000, paid_out=900, client_wallets=2000, host_wallets=0, escrow=0, fees=100, retained=0, entries=0
)
SETTLEMENT = SettlementView(
    total=1000, platform_fee=100, host_payout=900, penalty=0, unused=0, client_credit=0, retained=0
)
SESSION = SessionView("s", "pc-1", "h", "c", "ENDED", 60, 60, 1000, "COMPLETED", "NONE", None, SETTLEMENT)
VERIFIED = Verification(3, 3, 9, 1, 2000, (LedgerCheck("everything sums to zero", 0, ()),))
BOOKS = Books(
    (ClientLine("ana", 1, 3000, 1000, 0, 0, 2000),),
    (HostLine("aurora", 1, 1, 60, 900, 0, 900, 0, 100, "NOVO"),),
    TOTALS,
)
HAPPENED = (
    Happening(480, Kind.TOPPED_UP, "ana tops up 30.00", "ana", amount=3000),
    Happening(541, Kind.REFUSED, "ana wants aurora-1, which is taken: PC_BUSY", "ana", code="PC_BUSY"),
)
STREAMED = StreamSums(
    streams=1, live=0, frames=1234, megabytes=12.345, frames_lost=0, latency_p50_ms=0.97, latency_p99_ms=6.5,
    round_trip_p50_ms=2.05, inputs=101, pongs=101,
)  # fmt: skip
GUESTS = HotspotSums(online=1, orders=5, ended=4, revoked=1, moved=1, waited=2, calls=13, dead=("praia",))
CLOSING = Closing(
    "BRL", BOOKS, (Check("all entries sum to zero", 0, 0),), VERIFIED, (SESSION,), 40, 0, STREAMED, GUESTS
)
WELL = Report(1, HAPPENED, CLOSING, 0, {"info": 7})


def shown(report: Report) -> str:
    console = Console(file=io.StringIO(), width=80)
    show(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_day_that_went_well_is_shown_as_such() -> None:
    assert WELL.adds_up
    assert "✓ It all adds up" in shown(WELL)
    assert "09:01 ✗ ana wants aurora-1" in shown(WELL)
    assert "frames that clients saw                             1,234" in shown(WELL)
    assert next(line.split()[-1] for line in shown(WELL).splitlines() if "calls, each signed" in line) == "13"


WRONG: list[Callable[[Report], Report]] = [
    lambda report: evolve(report, exit_code=1),
    lambda report: evolve(report, levels={"info": 7, "error": 1}),
    lambda report: evolve(report, closing=evolve(CLOSING, streams=evolve(STREAMED, streams=0))),
    lambda report: evolve(report, closing=evolve(CLOSING, streams=evolve(STREAMED, live=1))),
    lambda report: evolve(report, closing=evolve(CLOSING, checks=(Check("all entries sum to zero", 1, 0),))),
    lambda report: evolve(
        report,
        closing=evolve(
            CLOSING,
            verification=evolve(VERIFIED, checks=(LedgerCheck("no wallet is below zero", 1, (Fault("w", 0, -1),)),)),
        ),
    ),
]


@pytest.mark.parametrize("spoil", WRONG)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_does_not_add_up_is_said_and_exits_with_1(
    spoil: Callable[[Report], Report], options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_played", lambda _run: spoil(WELL))
    result = CliRunner().invoke(command.demo, options)
    assert result.exit_code == 1
    if options:
        assert json.loads(result.stdout)["adds_up"] is False
    else:
        assert "does not add up: 1 of" in result.stdout


def test_data_is_json_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_played", lambda _run: WELL)
    result = CliRunner().invoke(command.demo, ["--json"])
    assert (result.exit_code, json.loads(result.stdout)) == (0, json.loads(json.dumps(as_data(WELL))))


@pytest.mark.parametrize(
    "options",
    [
        ["--hosts", "1"],
        ["--clients", "3"],
        ["--clients", "1000"],
        ["--hosts", "2"],
        ["--seconds", "-1"],
        ["--seed", "x"],
    ],
)
def test_what_can_not_be_played_is_refused(options: list[str]) -> None:
    assert CliRunner().invoke(command.demo, options).exit_code == 2


PCS = tuple(PcView(f"pc-{n}", "h", f"aurora-{n}", 500, "BUSY" if n == 9 else "ONLINE") for n in range(1, 13))
LIVE = (evolve(SESSION, pc_id="pc-9", status="ACTIVE", minutes_used=23, settlement=None),)
VIEW = View(
    Picture(725, PCS, LIVE, TOTALS, 40, evolve(STREAMED, live=1), GUESTS),
    HAPPENED * 20,
    {"c": "ana"},
    "http://127.0.0.1:1",
)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("height", [HEADER_HEIGHT + FEED_HEIGHT + PCS_FRAME + 1, 24, 60])
def test_a_picture_fills_a_terminal_and_shows_who_is_on_what(width: int, height: int) -> None:
    console = Console(file=io.StringIO(), width=width, height=height)
    lines = console.render_lines(VIEW, console.options.update_height(height))
    assert [len(lines), {sum(segment.cell_length for segment in line) for line in lines}] == [height, {width}]
    text = "\n".join("".join(segment.text for segment in line) for line in lines)
    assert "aurora-9" in text
    assert "23 of 60" in text
    assert "12:05" in text
    assert "1 stream live · 1,234 frames · 12.3 MB · latency 1.0 ms" in text
    assert "1 phone online behind hotspots · 5 orders paid" in text


def test_streams_that_nobody_has_seen_a_frame_of_have_no_latency() -> None:
    none = evolve(STREAMED, live=2, frames=0, megabytes=0.0, latency_p50_ms=None, latency_p99_ms=None)
    assert streams_line(none) == "2 streams live · 0 frames · 0.0 MB · 0 lost"
    assert as_data(evolve(WELL, closing=evolve(CLOSING, streams=none)))["streams"]["latency_p50_ms"] is None
    said = shown(evolve(WELL, closing=evolve(CLOSING, streams=none)))
    assert next(line for line in said.splitlines() if "half of the frames" in line).rstrip().endswith(" ·")


def test_a_router_that_is_dead_is_named_live() -> None:
    said = "0 phones online behind hotspots · 1 order paid · 1 revoked · 4 ended by routers · router praia is dead"
    assert hotspots_line(evolve(GUESTS, online=0, orders=1)) == said
