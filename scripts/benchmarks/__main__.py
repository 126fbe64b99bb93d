"""`scripts/bench NAME [--json]`, `scripts/bench --list`, `scripts/bench all`."""

import importlib
import sys
from typing import Final

import click
from rich.console import Console
from rich.table import Table
import structlog
import trio

from scripts.benchmarks.report import Report
from scripts.benchmarks.sizes import FULL, QUICK, Size

# Each, the module whose `measure` does it, and what it measures.
BENCHES: Final = {
    "sessions": ("sessions_direct", "create + start + end cycles a second, 16 at once, against pgbench"),
    "sessions-http": ("sessions_http", "the same cycle over HTTP: CPU a cycle, p99 under 50 % load"),
    "heartbeats": ("heartbeats", "10,000 hosts beating every 10 s: CPU a beat, against one UPDATE a beat"),
    "http": ("small_get", "a small authenticated GET: CPU a request, against stock hypercorn + quart-trio"),
    "expiry": ("expiry", "20,000 sessions due at once: rows a second, and the API's p99 meanwhile"),
    "relay": ("relay", "the stream relay: CPU a message, latency, memory, against relays on Node"),
    "jobs": ("job_queue", "durable jobs that do nothing, claimed and finished: jobs a second"),
    "routers": ("routers", "hotspots on routers at 50 ms: round trips, idle and dead ones, against routeros-api"),
    "events": (
        "events",
        "a backend's events, taken, run and acknowledged: a second, paid to online, a million known ones",
    ),
    "tunnels": ("tunnels", "10,000 WireGuard peers: one pass, all of them put, one more by the API, against wg alone"),
    "churn": ("churn", "hours of sessions, sockets, log-ins, routers and peers that come and go: does memory stay?"),
    "console": ("console", "the console with 1,000 routers and 500 rooms: CPU of an update a second, first paint"),
    "noticing": ("noticing", "a stalled loop, a mute database: how long until somebody hears of it"),
    "start": ("starting", "cold start, warm start, resident memory when idle"),
}

# Of a table that goes into a file.
WIDTH: Final = 150


@click.command()
@click.argument("name", type=click.Choice([*BENCHES, "all"]), required=False)
@click.option("--list", "listed", is_flag=True, help="Say what there is.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")
@click.option("--quick", is_flag=True, help="Only show that it runs: the figures mean nothing.")
@click.option("--rounds", type=click.IntRange(1, 20), help="How many rounds the medians are of (5).")
@click.option("--hours", type=click.IntRange(3, 240), help="How many hours' worth of churn (8).")
def main(name: str | None, *, listed: bool, as_json: bool, quick: bool, rounds: int | None, hours: int | None) -> None:
    """Measure OpenDesk against its peers, in the same run. docs/benchmarks.md says what the figures mean."""
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    if listed or name is None:
        _list(console)
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    size = QUICK if quick else Size(rounds=rounds or FULL.rounds, hours=hours or FULL.hours)
    for each in BENCHES if name == "all" else (name,):
        report = _measured(each, size)
        if as_json:
            click.echo(report.as_json())
        else:
            report.print_to(console)


def _measured(name: str, size: Size) -> Report:
    module = importlib.import_module(f"scripts.benchmarks.{BENCHES[name][0]}")
    try:
        report: Report = trio.run(module.measure, size)
    except RuntimeError as error:  # what can't be measured, said by who noticed
        raise click.ClickException(f"{name}: {error}") from None
    return report


def _list(console: Console) -> None:
    table = Table(box=None, show_header=False)
    for name, (_, what) in BENCHES.items():
        table.add_row(f"[bold]{name}[/]", what)
    console.print(table)


if __name__ == "__main__":
    main(prog_name="scripts/bench")
