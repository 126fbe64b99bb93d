"""`scripts/validate [--url URL] [--json]`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
import json
import os
import sys
from typing import Final

import click
import trio

from scripts.validation import page, world
from scripts.validation.walk import Walked, walk

EXIT_OTHERWISE: Final = 1


@click.command()
@click.option(
    "--url", help="Of a daemon that runs, in a dry run, with its settings in the environment; else one of its own."
)
@click.option("--json", "as_json", is_flag=True, help="Print an object: each step, and what was otherwise.")
def main(url: str | None, *, as_json: bool) -> None:
    """Walk through docs/validation.md in a dry run, and compare every answer. Exit code 1 if one is otherwise."""
    why_not, walked = "", list[Walked]()
    try:
        steps, settings = page.read()
        world.check_programs()
        place = world.running(os.environ, url.rstrip("/")) if url else world.own(os.environ, settings)
        walked = trio.run(_walk, steps, place, _nothing if as_json else _say)
    except* (world.CannotWalk, page.Unreadable) as errors:
        why_not = "; ".join(world.messages(errors))
    if why_not:
        click.echo(f"opendesk: {why_not}", err=True)
        sys.exit(EXIT_OTHERWISE)
    click.echo(_as_json(steps, walked) if as_json else _summary(steps, walked))
    sys.exit(0 if _is_all_well(steps, walked) else EXIT_OTHERWISE)


async def _walk(
    steps: Sequence[page.Step], where: AbstractAsyncContextManager[world.Place], tell: Callable[[Walked], None]
) -> list[Walked]:
    async with where as place:
        return await walk(steps, place.environ, place.folder / "walk.sh", tell)


def _nothing(_: Walked) -> None:
    pass


def _say(walked: Walked) -> None:
    step = walked.step
    click.echo(f"{'ok  ' if walked.ok else 'FAIL'} {step.number:3} {step.title}")
    for complaint in walked.complaints:
        click.echo("         " + complaint.replace("\n", "\n         "))


def _is_all_well(steps: Sequence[page.Step], walked: Sequence[Walked]) -> bool:
    return len(walked) == len(steps) and all(each.ok for each in walked)


def _summary(steps: Sequence[page.Step], walked: Sequence[Walked]) -> str:
    calls = {call for each in walked for call in each.step.calls}
    otherwise = sum(not each.ok for each in walked)
    told = f"{len(walked)} of {len(steps)} steps, {len(calls)} calls; {otherwise} steps were otherwise than docs/validation.md shows"
    return f"\n{told}"


def _as_json(steps: Sequence[page.Step], walked: Sequence[Walked]) -> str:
    told = [
        {"step": each.step.number, "title": each.step.title, "ok": each.ok, "complaints": each.complaints}
        for each in walked
    ]
    return json.dumps(
        {"ok": _is_all_well(steps, walked), "steps": len(steps), "walked": told}, ensure_ascii=False, indent=2
    )


if __name__ == "__main__":
    main(prog_name="scripts/validate")
