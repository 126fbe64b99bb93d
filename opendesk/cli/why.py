"""`opendesk why`: how something came to be as it is, from the database alone."""

import json
import sys
from typing import Any, Final

from attrs import evolve
import click
from rich.console import Console

from opendesk.cli.common import TEXT, load_settings, with_connection
from opendesk.cli.events import wire_of
from opendesk.cli.why_lines import shown
from opendesk.console.story import Found, find
from opendesk.web.wire import to_wire

# Where nobody looks at a screen, lines stay whole enough to search.
FILE_WIDTH: Final = 400
# What may be asked for: the longest is an eventId in UTF-8, and some to see that it is too long.
MAX_WORD_BYTES: Final = 4_096


@click.command()
@click.argument("word", type=TEXT)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def why(context: click.Context, word: str, *, as_json: bool) -> None:
    """Tell the whole story of WORD: the id of an event, an order (pedidoId), a job, a session, a host, a PC, a user, a transfer of the
    ledger or a router; a deviceToken, a MAC or IP address, or a user's name or e-mail.

    With - it is the first line of standard input, where nobody else on this machine can read it: a deviceToken is a secret.
    """
    wanted = _from_input() if word == "-" else word
    found = with_connection(load_settings(context), lambda conn: find(conn, wanted))
    if found.is_empty:
        # Without the word: it may be a token.
        raise click.ClickException(
            "nothing is known of this: it is no event, order, device, address, job, session, host, PC, user, transfer or router here"
        )
    if as_json:
        click.echo(json.dumps(_wire(found), indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH, highlight=False)
    for tree in found.told():
        console.print(shown(tree))


def _from_input() -> str:
    line = sys.stdin.buffer.readline(MAX_WORD_BYTES + 1).rstrip(b"\r\n")
    if not line or len(line) > MAX_WORD_BYTES:
        raise click.UsageError(f"the first line of standard input has 1 to {MAX_WORD_BYTES} bytes")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise click.UsageError("the first line of standard input is not UTF-8") from None


def _wire(found: Found) -> dict[str, Any]:
    chain = found.chain
    events = {
        event.id_hash: event for event in (*chain.events, *(one for router in found.routers for one in router.events))
    }
    jobs = {job.id: job for job in (*chain.jobs, *(one for router in found.routers for one in router.jobs))}
    return {
        "foundAs": list(found.kinds),
        "events": [wire_of(event) for event in events.values()],
        "jobs": [{**to_wire(evolve(job, result=None)), "result": job.result} for job in jobs.values()],
        "grants": to_wire(chain.grants),
        "device": to_wire(chain.device),
        "devices": to_wire(chain.devices),
        "routers": to_wire(chain.routers),
        "session": None if found.story is None else to_wire(found.story.session),
        "entries": [] if found.story is None else to_wire(found.story.entries),
        "foundRouters": [to_wire(router.router) for router in found.routers],
        "foundOthers": [to_wire(other) for other in found.others],
        "cut": [*chain.cut, *(["entries"] if found.story is not None and found.story.is_cut else [])],
    }
