"""`opendesk events`: what the backend sent, what became of it, and whether the backend knows."""

from functools import partial
import json
from typing import Any, Final

from attrs import evolve
import click

from opendesk.cli import completing
from opendesk.cli.common import TEXT, load_settings, say, with_connection
from opendesk.network.events import looking
from opendesk.network.events.looking import STATES, EventView, State
from opendesk.web.wire import to_wire

DEFAULT_LIMIT: Final = 50
# Of an error in a list; `show` has all of it.
ERROR_WIDTH: Final = 100

_AS_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _ListingGroup(click.Group):
    """Without a command it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_said = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if is_said else ["list", *args])


@click.group(cls=_ListingGroup)
def events() -> None:
    """Look at events from the backend; without a command, list them. How one came to be as it is: `opendesk why`."""


@events.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only these; failed: dead letters, which may be replayed.")
@click.option("--router", type=TEXT, shell_complete=completing.routers, help="Only those for this router.")
@click.option(
    "--limit",
    type=click.IntRange(1, looking.LIST_LIMIT),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="At most so many.",
)
@_AS_JSON
@click.pass_context
def list_(context: click.Context, *, state: State | None, router: str | None, limit: int, as_json: bool) -> None:
    """List events, the newest first."""
    work = partial(looking.list_events, state=state, router=router, limit=limit)
    found = with_connection(load_settings(context), work)
    if as_json:
        click.echo(json.dumps([wire_of(view) for view in found], indent=2))
        return
    for view in found:
        say(line_of(view))


@events.command()
@click.argument("event_id", metavar="ID", type=TEXT)
@_AS_JSON
@click.pass_context
def show(context: click.Context, event_id: str, *, as_json: bool) -> None:
    """Show the event with this id, with all that is kept of it."""
    found = with_connection(load_settings(context), lambda conn: looking.find(conn, event_id))
    if not found:
        raise click.ClickException("there is no such event")
    if as_json:
        click.echo(json.dumps([wire_of(view) for view in found], indent=2))
        return
    for number, view in enumerate(found):
        if number:
            say("")
        for name, value in wire_of(view).items():
            shown = view.name if name == "eventId" else value
            say(f"{name}: {'-' if shown is None else shown}")


def wire_of(view: EventView) -> dict[str, Any]:
    told = to_wire(evolve(view, result=None, outcome=None))
    return {**told, "result": view.result, "outcome": view.outcome}  # which are JSON already


def line_of(view: EventView) -> str:
    who = f"{view.id_hash[:16]}… (details deleted)" if view.details_gone else view.name
    where = f"{view.router_id or '-'}  {view.mac or view.ip or '-'}"
    error = view.result.get("error") if isinstance(view.result, dict) else None
    why = "  ".join(part for part in (view.reason, error and str(error)[:ERROR_WIDTH]) if part)
    pretended = "dry run, " if view.dry_run else ""
    known = "acked" if view.acked_at else "not acked" if view.wants_ack else "no ack wanted"
    line = (
        f"{view.received_at:%Y-%m-%d %H:%M:%S}  {view.state:<7}  {view.type or '-'}  {who}  {where}  {pretended}{known}"
    )
    return f"{line}  {why}" if why else line
