"""`opendesk ledger`: proof of the books."""

import json
import sys

import attrs
import click

from opendesk.cli.common import EXIT_FAILED, load_settings, say, with_connection
from opendesk.rental import ledger as books


@click.group()
def ledger() -> None:
    """Look into the double-entry ledger."""


@ledger.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.pass_context
def verify(context: click.Context, *, as_json: bool) -> None:
    """Prove from the rows that the books are right; exit code 1 if they aren't.

    It looks at one snapshot, so that it may run while the daemon serves.
    """
    found = with_connection(load_settings(context), books.verify)
    if as_json:
        click.echo(json.dumps({"ok": found.ok, **attrs.asdict(found)}, indent=2))
    else:
        _show(found)
    if not found.ok:
        sys.exit(EXIT_FAILED)


def _show(found: books.Verification) -> None:
    say(
        f"{found.wallets} wallets with {found.in_wallets} in all, {found.sessions} sessions, "
        f"{found.transfers} transfers, {found.entries} entries"
    )
    for check in found.checks:
        say(f"{'ok   ' if check.faults == 0 else 'WRONG'} {check.states}")
        for fault in check.shown:
            say(f"      {fault.what}: {fault.found} where {fault.expected} was expected")
        if check.faults > len(check.shown):
            say(f"      … and {check.faults - len(check.shown)} more")
