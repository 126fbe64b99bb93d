"""What a day came to: as tables for people, as data for programs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import asdict, frozen
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from opendesk.cli.demo_lines import MARKS
from opendesk.simulators.books import Books, Check, ClientLine, HostLine
from opendesk.simulators.day import Closing
from opendesk.simulators.happenings import ORDINARY, Happening, money
from opendesk.simulators.hotspots import HotspotSums
from opendesk.simulators.streams import StreamSums

# Log lines of these levels are a fault of the daemon's, in a day that is played as planned.
_FAULTS: Final = ("error", "critical")

# How wide the whole of what clients paid is drawn.
_BAR_WIDTH: Final = 40


@frozen
class Report:
    """`levels` counts the daemon's log lines, `exit_code` is how it ended when it was asked to."""

    seed: int
    happenings: tuple[Happening, ...]
    closing: Closing
    exit_code: int
    levels: Mapping[str, int]

    @property
    def checks(self) -> tuple[Check, ...]:
        """Everything that must hold."""
        verified = self.closing.verification.checks
        used = sum(session.minutes_used > 0 for session in self.closing.sessions)
        return (
            *self.closing.checks,
            Check("every session that was used streamed", self.closing.streams.streams, used),
            Check("the relay closed every stream with its session", self.closing.streams.live, 0),
            *(Check(f"ledger verify: {check.states}", check.faults, 0) for check in verified),
            Check("the daemon logged no error", sum(self.levels.get(level, 0) for level in _FAULTS), 0),
            Check("the daemon stopped with exit code 0", self.exit_code, 0),
        )

    @property
    def adds_up(self) -> bool:
        return all(check.ok for check in self.checks)


def as_data(report: Report) -> dict[str, Any]:
    closing = report.closing
    return {
        "seed": report.seed,
        "currency": closing.currency,
        "events": [happening.as_data() for happening in report.happenings],
        "sessions": [asdict(session) for session in closing.sessions],
        "parties": {
            "clients": [asdict(client) for client in closing.books.clients],
            "hosts": [asdict(host) for host in closing.books.hosts],
        },
        "totals": asdict(closing.books.totals),
        "checks": [{"ok": check.ok, **asdict(check)} for check in report.checks],
        "ledger": {"ok": closing.verification.ok, **asdict(closing.verification)},
        "streams": asdict(closing.streams),
        "hotspots": asdict(closing.hotspots),
        "daemon": {
            "exit_code": report.exit_code,
            "heartbeats": closing.beats,
            "missed_heartbeats": closing.missed_beats,
            "log_lines": dict(report.levels),
        },
        "adds_up": report.adds_up,
    }


def show(report: Report, console: Console) -> None:
    """Print it."""
    books, currency = report.closing.books, report.closing.currency
    _heading(console, "Out of the ordinary")
    console.print(_notable(report.happenings))
    _heading(console, f"Clients, {currency}")
    console.print(_clients(books.clients))
    _heading(console, f"Hosts, {currency}")
    console.print(_hosts(books.hosts))
    _heading(console, f"Where what clients paid went, {currency}")
    console.print(_shares(books, report))
    _heading(console, f"The books, {currency}")
    console.print(_balance(books))
    _heading(console, "Streams, through the relay")
    console.print(_streams(report.closing.streams))
    _heading(console, "Phones, behind simulated hotspots")
    console.print(_hotspots(report.closing.hotspots))
    _verdict(report, console)


def _notable(happenings: Sequence[Happening]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    for happening in happenings:
        if happening.kind not in ORDINARY:
            mark, style = MARKS[happening.kind]
            table.add_row(
                Text(f" {happening.at}", style="dim"), Text(mark, style=style), Text(happening.text, style=style)
            )
    return table


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(f" {text}", style="bold"))


def _table(first: str, *others: str) -> Table:
    table = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        show_footer=True,
        header_style="dim",
        footer_style="bold",
        pad_edge=False,
        padding=(0, 1),
    )
    table.add_column(f" {first}", " all", no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _total(table: Table, sums: Sequence[str]) -> Table:
    for column, text in zip(table.columns[1:], sums, strict=True):
        column.footer = text
    return table


def _clients(lines: Sequence[ClientLine]) -> Table:
    table = _table("client", "sessions", "topped up", "− paid", "+ returned", "+ refunded", "= wallet")

    def cells(n: int, *amounts: int) -> list[str]:
        return [str(n), *map(_cell, amounts)]

    for c in lines:
        table.add_row(f" {c.name}", *cells(c.sessions, c.topped_up, c.paid, c.returned, c.refunded, c.wallet))
    columns = zip(*((c.sessions, c.topped_up, c.paid, c.returned, c.refunded, c.wallet) for c in lines), strict=True)
    return _total(table, cells(*map(sum, columns)))


def _hosts(lines: Sequence[HostLine]) -> Table:
    table = _table("host", "PCs", "sessions", "hours", "penalties", "earned", "− paid out", "= wallet", "score")

    def cells(pcs: int, sessions: int, minutes: int, *amounts: int) -> list[str]:
        return [str(pcs), str(sessions), f"{minutes // 60}:{minutes % 60:02}", *map(_cell, amounts)]

    def numbers(h: HostLine) -> tuple[int, ...]:
        return (h.pcs, h.sessions, h.minutes, h.penalties, h.earned, h.paid_out, h.wallet)

    for h in lines:
        table.add_row(f" {h.name}", *cells(*numbers(h)), str(h.score))
    return _total(table, [*cells(*map(sum, zip(*map(numbers, lines), strict=True))), ""])


def _cell(amount: int) -> str:
    return money(amount) if amount else "·"


def _shares(books: Books, report: Report) -> Table:
    settled = [session.settlement for session in report.closing.sessions if session.settlement]
    paid = sum(s.total for s in settled)
    shares = (
        ("hosts", sum(s.host_payout for s in settled), "green"),
        ("back to clients", sum(s.client_credit for s in settled), "cyan"),
        ("platform fees", books.totals.fees, "magenta"),
        ("retained", books.totals.retained, "yellow"),
        ("refunded of retained", sum(c.refunded for c in books.clients), "cyan"),
    )
    table = _grid()
    table.add_column(justify="right")
    table.add_column()
    for name, amount, style in shares:
        per_mille = amount * 1000 // paid if paid else 0
        bar = "█" * max(round(per_mille * _BAR_WIDTH / 1000), 1)
        table.add_row(f" {name}", money(amount), f"{per_mille // 10}.{per_mille % 10} %", Text(bar, style=style))
    table.add_row(Text(" = what clients paid", style="bold"), Text(money(paid), style="bold"), "", "")
    return table


def _balance(books: Books) -> Table:
    totals = books.totals
    table = _grid()
    for name, amount in (
        ("topped up by clients", totals.topped_up),
        ("− paid out to hosts", -totals.paid_out),
        ("− in clients' wallets", -totals.client_wallets),
        ("− in hosts' wallets", -totals.host_wallets),
        ("− platform fees", -totals.fees),
        ("− retained", -totals.retained),
        ("− held for sessions", -totals.escrow),
    ):
        table.add_row(f" {name}", money(amount))
    left = totals.topped_up - totals.paid_out - totals.held
    style = "bold red" if left else "bold green"
    table.add_row(
        Text(" = nothing is left over" if not left else " = left over", style=style), Text(money(left), style=style)
    )
    return table


def _streams(sums: StreamSums) -> Table:
    table = _grid()
    for name, value in (
        ("streams, each closed with its session", f"{sums.streams:,}"),
        ("frames that clients saw", f"{sums.frames:,}"),
        ("frames lost on the way", f"{sums.frames_lost:,}"),
        ("megabytes", f"{sums.megabytes:,.1f}"),
        ("ms from host to client, half of the frames", _ms(sums.latency_p50_ms)),
        ("ms from host to client, 99 of 100", _ms(sums.latency_p99_ms)),
        ("ms from client to host and back, half of the pings", _ms(sums.round_trip_p50_ms)),
        ("movements of mice that hosts took", f"{sums.inputs:,}"),
    ):
        table.add_row(f" {name}", value)
    return table


def _hotspots(sums: HotspotSums) -> Table:
    table = _grid()
    for name, value in (
        ("orders paid, each online when its router was seen to hold it", sums.orders),
        ("ended by the router itself, when their time was over", sums.ended),
        ("revoked before", sums.revoked),
        ("phones whose address changed in the midst of it", sums.moved),
        ("answers that an order waits, since its router is dead", sums.waited),
        ("calls, each signed so that nobody can send it again", sums.calls),
    ):
        table.add_row(f" {name}", f"{value:,}")
    return table


def _ms(value: float | None) -> str:
    return "·" if value is None else f"{value:,.2f}"


def _grid() -> Table:
    """Names and numbers."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    return table


def _verdict(report: Report, console: Console) -> None:
    checks, closing = report.checks, report.closing
    console.print()
    for check in checks:
        if not check.ok:
            console.print(Text(f" ✗ {check.states}: {check.left} is not {check.right}", style="bold red"))
    if report.adds_up:
        console.print(Text(f" ✓ It all adds up: {len(checks)} sums and proofs hold.", style="bold green"))
    else:
        wrong = sum(not check.ok for check in checks)
        said = f" ✗ It does not add up: {wrong} of {len(checks)} sums and proofs are wrong."
        console.print(Text(said, style="bold red"))
    counted = (
        f"{len(closing.sessions)} sessions, {closing.verification.transfers} transfers, {closing.beats} heartbeats"
    )
    console.print(
        Text(
            f" {counted}. Daemon, database, HTTP and WebSockets were real, routers simulated; all are gone.",
            style="dim",
        )
    )
    console.print(Text(f" The same day again: --seed {report.seed}", style="dim"))
