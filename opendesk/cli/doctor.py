"""`opendesk doctor`: what ails this installation, and what to do."""

from collections.abc import Iterator, Mapping, Sequence
import json
import os
import sys
from typing import Final

import attrs
from attrs import define, field
import click
import trio

from opendesk.cli.common import AS_JSON, EXIT_FAILED, printable
from opendesk.doctor.examination import Told, examine
from opendesk.doctor.finding import STATES, Finding, State, worst
from opendesk.doctor.judging.settings import judge_faults
from opendesk.ops import logging
from opendesk.settings import load_with_faults

# A word beside each colour: not everybody sees them, and no file has any.
_MARKS: Final[Mapping[State, tuple[str, str]]] = {
    "ok": ("ok", "green"),
    "skipped": ("skip", "blue"),
    "warn": ("WARN", "yellow"),
    "bad": ("BAD", "red"),
}
_MARK_WIDTH: Final = 4
_CLEAR: Final = "\r\x1b[K"


@click.command()
@click.option("--quick", is_flag=True, help="Leave out the proof of the books, which reads every entry.")
@AS_JSON
@click.pass_context
def doctor(context: click.Context, *, quick: bool, as_json: bool) -> None:
    """Look at everything that an installation can be ill of, and say what to do. Exit code 1 if something is bad.

    Settings, secrets, clock, disks, backups, database, unit, daemon, jobs, events, routers, certificate, tunnels, backend and books: all at once,
    each for a bounded time. Nothing is changed, no secret is shown. What is worst is told last. As root it sees most.
    """
    context.call_on_close(logging.configure("error", "json" if as_json else "terminal").close)
    root = context.find_root()
    env_file = root.params.get("env_file")
    environ: Mapping[str, str] = root.obj if isinstance(root.obj, Mapping) else os.environ
    settings, faults = load_with_faults(environ, env_file=env_file)
    progress = _Progress(is_shown=sys.stderr.isatty() and not as_json)
    told = Told(progress.began, progress.ended)

    async def look() -> list[Finding]:
        return await examine(settings, environ, env_file=env_file, quick=quick, faults=faults, told=told)

    found = [*judge_faults(faults), *trio.run(look)]
    if as_json:
        click.echo(json.dumps(_wire(found), indent=2, ensure_ascii=False))
    else:
        for line in lines_of(found):
            click.echo(line)
    if worst(found) == "bad":
        context.exit(EXIT_FAILED)


def lines_of(found: Sequence[Finding]) -> Iterator[str]:
    """By topic, the worst last: that is where the eyes are when the prompt is back."""
    topics: dict[str, list[Finding]] = {}
    for finding in found:
        topics.setdefault(finding.topic, []).append(finding)
    for topic, those in sorted(topics.items(), key=lambda item: STATES.index(worst(item[1]))):
        yield click.style(topic, bold=True)
        for finding in sorted(those, key=lambda one: STATES.index(one.state)):
            yield from _told(finding)
    counts = counts_of(found)
    yield ""
    yield f"{counts['bad']} bad, {counts['warn']} warnings, {counts['ok']} ok, {counts['skipped']} not looked at"


def counts_of(found: Sequence[Finding]) -> dict[State, int]:
    return {state: sum(finding.state == state for finding in found) for state in STATES}


def _told(finding: Finding) -> Iterator[str]:
    mark, colour = _MARKS[finding.state]
    yield f"  {click.style(mark.ljust(_MARK_WIDTH), fg=colour)} {printable(finding.what)}"
    if finding.do is not None:
        yield f"  {'':{_MARK_WIDTH}} → {printable(finding.do)}"


def _wire(found: Sequence[Finding]) -> dict[str, object]:
    return {
        "ok": worst(found) != "bad",
        "counts": counts_of(found),
        "findings": [attrs.asdict(finding) for finding in found],
    }


@define
class _Progress:
    """On a terminal, what is still waited for: a fleet and a large ledger take their time."""

    is_shown: bool
    _left: list[str] = field(factory=list)

    def began(self, topics: Sequence[str]) -> None:
        self._left = list(topics)
        self._show()

    def ended(self, topic: str) -> None:
        self._left.remove(topic)
        self._show()

    def _show(self) -> None:
        if self.is_shown:
            waiting = f"looking at {', '.join(self._left)} …" if self._left else ""
            click.echo(f"{_CLEAR}{waiting}", err=True, nl=False)
