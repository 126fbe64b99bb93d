"""`opendesk demo`: a day of rentals in fast motion, on a daemon and a database of its own."""

from collections.abc import AsyncIterator, Mapping
import json
import math
import os
from random import Random
import signal
import sys
from typing import Final, TextIO

from attrs import define, field
import click
import psycopg
from rich.console import Console
import trio

from opendesk.cli.demo_lines import Lines, Show
from opendesk.cli.demo_report import Report, as_data, show
from opendesk.cli.demo_screen import Screen
from opendesk.ops import logging
from opendesk.postgres.errors import EmbeddedError
from opendesk.simulators.api_client import ApiError, ApiUnreachable, PromiseBroken, TooManyPages
from opendesk.simulators.daemon_process import DaemonFailed, RunningDaemon, running_daemon
from opendesk.simulators.day import SETTINGS, opened_day
from opendesk.simulators.day_plan import (
    CLOSES_AT,
    FEWEST_CLIENTS,
    FEWEST_HOSTS,
    MOST_CLIENTS,
    MOST_HOSTS,
    OPENS_AT,
    DayPlan,
    plan_day,
)
from opendesk.simulators.endings import NotOver
from opendesk.simulators.fast_clock import DayTooLong
from opendesk.simulators.happenings import Happening
from opendesk.simulators.hotspots import served_hotspots
from opendesk.simulators.time_shift import DaemonBehind

EXIT_FAILED: Final = 1
# A shell's way to say that a signal ended a program.
EXIT_SIGNAL: Final = 128

# Where nobody looks at a screen, tables are as wide as they need.
FILE_WIDTH: Final = 120

# The longest that anybody watches.
MOST_SECONDS: Final = 600

# What a daemon, a machine or a day may get wrong; said in one line. All else is a fault of the demo's own.
_EXPECTED: Final = (
    ApiError, ApiUnreachable, DaemonBehind, DaemonFailed, DayTooLong, EmbeddedError, NotOver, OSError, PromiseBroken, TooManyPages,
    psycopg.OperationalError,
)  # fmt: skip


class Seconds(click.FloatRange):
    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):  # below no limit and above none
            self.fail("it is not a number", param, ctx)
        return seconds


@click.command()
@click.option("--hosts", type=click.IntRange(FEWEST_HOSTS, MOST_HOSTS), default=4, show_default=True)
@click.option("--clients", type=click.IntRange(FEWEST_CLIENTS, MOST_CLIENTS), default=12, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Another seed is another day.")
@click.option(
    "--seconds",
    type=Seconds(0, MOST_SECONDS),
    default=15,
    show_default=True,
    help="How long the day takes at least; 0 is as fast as it goes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all of it as one JSON object, and nothing else.")
@click.pass_context
def demo(context: click.Context, *, hosts: int, clients: int, seed: int, seconds: float, as_json: bool) -> None:
    """Play a day of rentals in fast motion, and show where the money went.

    Hosts offer PCs and clients rent them over HTTP from a real daemon, which runs on a database of its own while this lasts: nothing
    else is touched, and nothing is left. While a session lasts its PC streams frames to its client through the daemon's relay. Phones behind two simulated MikroTik
    hotspots go online when an order of theirs is paid, and off when its time is over. Sessions and orders are bought in minutes; the demo turns
    the clock forward in that database. Exit code 1 if the money doesn't add up, or a phone isn't online or off when it should be.
    """
    context.call_on_close(logging.configure("error", "terminal").close)
    try:
        plan = plan_day(Random(seed), hosts=hosts, clients=clients)  # noqa: S311 - a game's
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    # With --json standard output is for data alone; a terminal may still watch.
    console = _console(sys.stderr if as_json else sys.stdout)
    quiet = as_json and not console.is_terminal
    watched = console.is_terminal and not console.is_dumb_terminal
    run = Run(
        plan,
        seed,
        seconds,
        context.find_root().obj or os.environ,
        Screen(console) if watched else Lines(console, quiet=quiet),
    )
    report = _played(run)
    if as_json:
        click.echo(json.dumps(as_data(report), indent=2, ensure_ascii=False))
    else:
        show(report, console)
    if not report.adds_up:
        sys.exit(EXIT_FAILED)


@define(eq=False)
class Run:
    """One demo under way; what it knows when it fails."""

    plan: DayPlan
    seed: int
    seconds: float
    environ: Mapping[str, str]
    show: Show
    happenings: list[Happening] = field(factory=list)
    daemon: RunningDaemon | None = None
    stopped_by: signal.Signals | None = None

    async def until_done_or_stopped(self) -> Report | None:
        """None if a signal stopped it. Either way nothing is left."""
        report: Report | None = None
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async with trio.open_nursery() as listening:
                with trio.CancelScope() as day:
                    listening.start_soon(self._obey, signals, day)
                    report = await self._play()
                listening.cancel_scope.cancel()
        return report

    async def _obey(self, signals: AsyncIterator[int], day: trio.CancelScope) -> None:
        """The first signal ends the day; while it is cleaned up, which takes a bounded time, more of them change nothing."""
        async for number in signals:
            self.stopped_by = self.stopped_by or signal.Signals(number)
            day.cancel()

    async def _play(self) -> Report:
        minute_s = self.seconds / (CLOSES_AT - OPENS_AT)
        self.show.say("A daemon starts, on a database of its own …")
        async with (
            served_hotspots() as hotspots,
            running_daemon(self.environ, {**SETTINGS, **hotspots.settings}) as self.daemon,
        ):
            self.show.say(
                f"{len(self.plan.hosts)} hosts and {len(self.plan.clients)} clients register at {self.daemon.url} …"
            )
            opening = opened_day(self.daemon, self.plan, hotspots, seed=self.seed, minute_s=minute_s, sink=self._tell)
            async with opening as day:
                async with trio.open_nursery() as watching:
                    watching.start_soon(self.show.watch, day, self.daemon.url)
                    await day.play()
                    watching.cancel_scope.cancel()
                closing = await day.close_books()
            exit_code = await self.daemon.stop()
            return Report(self.seed, tuple(self.happenings), closing, exit_code, dict(self.daemon.levels))

    def _tell(self, happening: Happening) -> None:
        self.happenings.append(happening)
        self.show.tell(happening)


def _played(run: Run) -> Report:
    """Or an exit with what went wrong."""
    try:
        report = trio.run(run.until_done_or_stopped)
    except BaseException as error:
        causes = _causes(error)
        if any(isinstance(cause, SystemExit) for cause in causes):  # whoever read our output is gone
            sys.exit(EXIT_FAILED)
        if not all(isinstance(cause, _EXPECTED) for cause in causes):
            raise
        raise click.ClickException(_complaint(causes, run.daemon)) from None
    if report is None:
        click.echo("stopped; nothing is left of it", err=True)
        sys.exit(EXIT_SIGNAL + (run.stopped_by or signal.SIGINT))
    return report


def _causes(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [cause for part in error.exceptions for cause in _causes(part)]
    return [error]


def _complaint(causes: list[BaseException], daemon: RunningDaemon | None) -> str:
    said = "\n".join(str(cause) or repr(cause) for cause in causes)
    if daemon is None or not daemon.last_lines:
        return said
    return "\n".join([said, "the daemon's last log lines:", *daemon.last_lines])


def _console(stream: TextIO) -> Console:
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows ? for what it hasn't
    return Console(file=stream, highlight=False, width=None if stream.isatty() else FILE_WIDTH)
