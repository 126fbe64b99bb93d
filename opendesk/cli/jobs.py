"""`opendesk jobs`: what waits, what failed for good, and trying it again."""

from collections.abc import Awaitable, Callable
from functools import partial
import json
from typing import Any, Final
from uuid import UUID

from attrs import evolve
import click

from opendesk.cli import completing
from opendesk.cli.common import TEXT, load_settings, say, with_connection
from opendesk.network.hotspots import replaying
from opendesk.network.jobs import looking
from opendesk.network.jobs.shapes import STATES, JobView, State
from opendesk.postgres.driver import TrioConnection
from opendesk.web.wire import to_wire

DEFAULT_LIMIT: Final = 50
# Of an error in a list; `show` has all of it.
ERROR_WIDTH: Final = 100


@click.group()
def jobs() -> None:
    """Look at durable jobs, and replay dead ones."""


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@jobs.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only these; dead: what failed for good.")
@click.option("--lane", type=TEXT, shell_complete=completing.routers, help="Only those of this router.")
@click.option(
    "--limit",
    type=click.IntRange(1, looking.LIST_LIMIT),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="At most so many.",
)
@_as_json
@click.pass_context
def list_(context: click.Context, *, state: State | None, lane: str | None, limit: int, as_json: bool) -> None:
    """List jobs, the newest first."""
    found = with_connection(load_settings(context), partial(looking.list_jobs, state=state, lane=lane, limit=limit))
    if as_json:
        click.echo(json.dumps([_wire(view) for view in found], indent=2))
        return
    for view in found:
        say(_line(view))


@jobs.command()
@click.argument("job", type=click.UUID)
@_as_json
@click.pass_context
def show(context: click.Context, job: UUID, *, as_json: bool) -> None:
    """Show the job with this id."""
    view = with_connection(load_settings(context), lambda conn: looking.get(conn, job))
    if view is None:
        raise click.ClickException(f"there is no job {job}")
    if as_json:
        click.echo(json.dumps(_wire(view), indent=2))
        return
    for name, value in _wire(view).items():
        say(f"{name}: {'-' if value is None else value}")


@jobs.command()
@click.argument("job", type=click.UUID)
@_as_json
@click.pass_context
def replay(context: click.Context, job: UUID, *, as_json: bool) -> None:
    """Have a dead job tried again, with all its attempts, before what came later to its key.

    One that was to open an order's way gives the order its access back, if that failed with it. If it is over, or was revoked or moved since,
    it is refused.
    """
    _change(context, job, _replay, "is due again", as_json=as_json)


@jobs.command()
@click.argument("job", type=click.UUID)
@_as_json
@click.pass_context
def discard(context: click.Context, job: UUID, *, as_json: bool) -> None:
    """Make a job that waits a dead one, so that it no longer holds up what came later. It can be replayed."""
    _change(context, job, partial(looking.discard, why="discarded from the command line"), "is dead", as_json=as_json)


async def _replay(conn: TrioConnection, job: UUID) -> bool:
    try:
        await replaying.replay(conn, job)
    except replaying.NotReplayed as refusal:
        raise click.ClickException(str(refusal)) from None
    return True


def _change(
    context: click.Context,
    job: UUID,
    change: Callable[[TrioConnection, UUID], Awaitable[bool]],
    done: str,
    *,
    as_json: bool,
) -> None:
    async def work(conn: TrioConnection) -> tuple[bool, JobView | None]:
        return await change(conn, job), await looking.get(conn, job)

    changed, view = with_connection(load_settings(context), work)
    if view is None:
        raise click.ClickException(f"there is no job {job}")
    if not changed:
        raise click.ClickException(f"job {job} is {view.state}: nothing was changed")
    if as_json:
        click.echo(json.dumps(_wire(view), indent=2))
    else:
        say(f"{job} {done}")


def _wire(view: JobView) -> dict[str, Any]:
    return {**to_wire(evolve(view, result=None)), "result": view.result}  # which is JSON already


def _line(view: JobView) -> str:
    error = "" if view.last_error is None else f"  {view.last_error.partition(chr(10))[0][:ERROR_WIDTH]}"
    when = f"{view.finished_at or view.run_at:%Y-%m-%d %H:%M:%S}"
    where = f"{view.type}  {view.lane}  {view.key}"
    return f"{view.id}  {view.state:<7}  {when}  {where}  {view.attempts} attempts{error}"
