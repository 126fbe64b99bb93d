"""`opendesk tunnel plan` and `apply`: what a pass would change of the interface, and one on an operator's word."""

from collections.abc import Awaitable, Callable
from functools import partial
import json
from typing import Any, Final, TypeVar

import click

from opendesk import database
from opendesk.cli.common import EXIT_FAILED, load_settings, say, with_database
from opendesk.cli.tunnel_wg import wg_of
from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.figures import TunnelFigures
from opendesk.network.tunnels.keeping.passing import Report
from opendesk.network.tunnels.keeping.plan import ONE_IN, Plan
from opendesk.network.tunnels.keeping.reconcile import Terms, Tunnels
from opendesk.network.wireguard.changes import Change, Put
from opendesk.ops.metrics import Metrics
from opendesk.postgres.pool import Pool
from opendesk.settings import Settings

T = TypeVar("T")

# As `diff` and `terraform plan -detailed-exitcode` have it: 0 is nothing to do, 1 a fault.
EXIT_SOMETHING: Final = 2
# For all names of endpoints together; an operator waits for it.
_NAMES_S: Final = 5.0
# Of names that a line tells.
_NAMED_MAX: Final = 10
# A `wg set` of so many takes a second or so, in which somebody at a terminal wonders.
_MANY: Final = 1_000

_remove_unknown = click.option("--remove-unknown", is_flag=True, help="Peers nobody asked for go, too.")
_as_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.command()
@_remove_unknown
@_as_json
@click.pass_context
def plan(context: click.Context, *, remove_unknown: bool, as_json: bool) -> None:
    """What a pass would change. Exit code 0: nothing; 1: it isn't known; 2: something, or routers know another key of the interface."""
    settings = load_settings(context)
    removes = remove_unknown or settings.relay_reconcile_remove
    report = _with_tunnels(settings, lambda tunnels: tunnels.pass_once(remove_unknown=removes, apply=False))
    if as_json:
        click.echo(json.dumps(_wire(report.found, report, settings), indent=2))
    else:
        _tell(report.found, report, settings)
    if report.found.changes or _has_other_key(report, settings):
        context.exit(EXIT_SOMETHING)


@click.command()
@_remove_unknown
@click.option("--yes", is_flag=True, help="Also if these are more than a tenth of all peers.")
@_as_json
@click.pass_context
def apply(context: click.Context, *, remove_unknown: bool, yes: bool, as_json: bool) -> None:
    """Set the interface right now, as the daemon's next pass would; exit code 1 if something of it isn't held.

    With --remove-unknown, peers that nobody asked for are removed; more than a tenth of all, or again within a minute, only with --yes.
    """
    settings = load_settings(context)
    work = partial(_apply, settings=settings, remove_unknown=remove_unknown, yes=yes)
    report = _with_tunnels(settings, work)
    if as_json:
        told = {"done": [_change(change) for change in report.done], "left": _wire(report.left, report, settings)}
        click.echo(json.dumps({**_wire(report.found, report, settings), **told}, indent=2))
    else:
        _tell_done(report, settings)
    if report.fault is not None:
        say(f"the database went away meanwhile: {report.fault}", err=True)
    if report.is_too_soon:
        say("unknown peers stay, since others went a moment ago: some at a time, or all with --yes", err=True)
    if report.left.changes and not settings.relay_dry_run:
        context.exit(EXIT_FAILED)
    if report.fault is not None or (remove_unknown and report.is_too_soon):
        context.exit(EXIT_FAILED)


async def _apply(tunnels: Tunnels, *, settings: Settings, remove_unknown: bool, yes: bool) -> Report:
    seen = await tunnels.pass_once(remove_unknown=remove_unknown or settings.relay_reconcile_remove, apply=False)
    if settings.relay_dry_run:
        return seen
    if len(seen.found.changes) >= _MANY:
        say(f"{len(seen.found.changes)} changes …", err=True)
    if not remove_unknown:
        return await tunnels.pass_once(remove_unknown=settings.relay_reconcile_remove)
    unknown, peers = len(seen.found.unknown), len(seen.interface.peers)
    if seen.found.held_back and not yes:
        raise click.ClickException(
            f"{unknown} of {peers} peers are unknown, which is more than one in {ONE_IN}: is it the right database? "
            "With --yes all of them go; nothing was changed"
        )
    # No more of them than were seen: what a second look takes for unknown is nobody's word.
    return await tunnels.pass_once(remove_unknown=True, most=unknown if yes else None)


def _with_tunnels(settings: Settings, work: Callable[[Tunnels], Awaitable[T]]) -> T:
    wg = None if settings.relay_dry_run else wg_of(settings)

    async def on(pool: Pool, conninfo: str) -> T:
        listen = partial(database.connect, conninfo)
        sealer, figures = Sealer(settings.relay_master_key), TunnelFigures(Metrics())
        tunnels = Tunnels(pool, listen, wg, Terms.of(settings), sealer, figures)
        if unknown := await tunnels.find_names(_NAMES_S):
            some = ", ".join(unknown[:_NAMED_MAX])
            say(
                f"warning: {len(unknown)} endpoints are names that nobody knows, and are left as they are: {some}",
                err=True,
            )
        return await work(tunnels)

    return with_database(settings, on)


def _has_other_key(report: Report, settings: Settings) -> bool:
    """Than routers are told."""
    told = settings.wg_vps_public_key
    return told is not None and report.interface.public_key not in {None, told}


def _tell_key(report: Report, settings: Settings) -> None:
    if _has_other_key(report, settings):
        told, own = settings.wg_vps_public_key, report.interface.public_key
        say(f"warning: WG_VPS_PUBLIC_KEY is {told}, and the key of {settings.wg_interface} is {own}", err=True)


def _tell(found: Plan, report: Report, settings: Settings) -> None:
    _tell_key(report, settings)
    if settings.relay_dry_run:
        say("RELAY_DRY_RUN: no interface is looked at; on an empty one, this would be done", err=True)
    for one in found.drift:
        say(f"{one.kind.value:13} {one.public_key} {one.device_id or '-'}: {one.detail}")
    for change in found.changes:
        say(f"{'put' if isinstance(change, Put) else 'remove':13} {change.public_key}")
    if found.held_back:
        say(f"{found.held_back} unknown peers of {len(report.interface.peers)} stay", err=True)
    if not found.changes:
        say("nothing to do")


def _tell_done(report: Report, settings: Settings) -> None:
    if settings.relay_dry_run:
        _tell(report.found, report, settings)
        return
    _tell_key(report, settings)
    for change in report.done:
        say(f"{'put' if isinstance(change, Put) else 'removed':8} {change.public_key}")
    if report.found.held_back:
        say(f"{report.found.held_back} unknown peers of {len(report.interface.peers)} stay", err=True)
    for one in report.left.drift if report.left.changes else ():
        say(f"not held: {one.kind.value} {one.public_key} {one.device_id or '-'}: {one.detail}", err=True)
    if not report.done:
        say("nothing to do")


def _wire(found: Plan, report: Report, settings: Settings) -> dict[str, Any]:
    drift = [
        {"kind": one.kind.value, "publicKey": one.public_key, "device": one.device_id, "detail": one.detail}
        for one in found.drift
    ]
    return {
        "interface": settings.wg_interface,
        "publicKey": report.interface.public_key,
        "routersAreTold": settings.wg_vps_public_key,
        "dryRun": settings.relay_dry_run,
        "changes": [_change(change) for change in found.changes],
        "drift": drift,
        "unknown": list(found.unknown),
        "heldBack": found.held_back,
    }


def _change(change: Change) -> dict[str, Any]:
    """Of a preshared key, that it changes."""
    if not isinstance(change, Put):
        return {"change": "remove", "publicKey": change.public_key}
    return {
        "change": "put",
        "publicKey": change.public_key,
        "allowedIps": list(change.allowed_ips),
        "keepalive": change.keepalive,
        "endpoint": change.endpoint,
        "presharedKey": {None: "left", "": "removed"}.get(change.preshared_key, "set"),
    }
