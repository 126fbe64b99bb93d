"""`opendesk tunnel`: the interface, its peers and their keys, from the command line."""

from functools import partial
import json
import time
from typing import Final

from attrs import evolve, frozen
import click
import trio

from opendesk.cli.common import AS_JSON, TEXT, load_settings, plain_failures, printable, say, with_connection
from opendesk.cli.tunnel_init import init
from opendesk.cli.tunnel_pass import apply, plan
from opendesk.cli.tunnel_rotate import rotate
from opendesk.cli.tunnel_rows import Row, Seen, lines_of, rows_of
from opendesk.cli.tunnel_wg import wg_of
from opendesk.network.setup.script import API_PORT, Tunnel, commands
from opendesk.network.tunnels.api.vps import Vps, vps_of
from opendesk.network.tunnels.keeping.sight import hinted
from opendesk.network.tunnels.registry import bindings, devices
from opendesk.network.tunnels.registry.device import Device
from opendesk.network.wireguard.wg import WgError
from opendesk.postgres.driver import TrioConnection
from opendesk.settings import Settings
from opendesk.web.wire import to_wire

# A registry is read in so many rows at a time.
_PORTION: Final = 1_000
# Longer than that, and whoever waits thinks that it hangs.
_RATES_MAX_S: Final = 60.0


@click.group()
def tunnel() -> None:
    """Make the WireGuard interface, look at its peers, and set them right."""


for _command in (init, plan, apply, rotate):
    tunnel.add_command(_command)


@tunnel.command("list")
@click.option(
    "--rates-over", "apart_s", type=click.FloatRange(0, _RATES_MAX_S), default=1.0, show_default=True,
    help="Measure bytes a second over so many seconds; 0 is not at all.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def list_(context: click.Context, *, apart_s: float, as_json: bool) -> None:
    """All devices, how their tunnels are, and what else is on the interface.

    Beside a name: (rotation) is a device's next key, (removed) is to go, (bound) is known by a binding only, (unknown) by nobody.
    """
    settings = load_settings(context)
    found = with_connection(settings, partial(_list, settings=settings, apart_s=apart_s))
    if found.fault is not None:
        say(f"warning: {found.fault}", err=True)
    if as_json:
        click.echo(json.dumps(to_wire(found), indent=2))
        return
    for line in lines_of(found.peers, with_rates=found.fault is None and apart_s > 0):
        say(line)
    if not found.peers:
        say("no devices", err=True)


@tunnel.command()
@click.argument("device_id", metavar="ID", type=TEXT)
@AS_JSON
@click.pass_context
def script(context: click.Context, device_id: str, *, as_json: bool) -> None:
    """The console lines that a device's router is to be given. Pasted twice they do no harm; no secret is in them."""
    settings = load_settings(context)

    async def work(conn: TrioConnection) -> Device:
        return await devices.get(conn, device_id, dry_run=settings.relay_dry_run)

    with plain_failures():
        vps = vps_of(settings, trio.run(_own_key, settings))
    lines = commands(_router_end(with_connection(settings, work), vps, settings.mikrotik_port or API_PORT))
    if as_json:
        click.echo(json.dumps({"device": device_id, "lines": list(lines)}, indent=2))
        return
    for line in lines:
        click.echo(line)


@frozen
class _Listed:
    """`fault` is why nothing is known of the interface."""

    interface: str | None
    dry_run: bool
    fault: str | None
    peers: list[Row]


async def _list(conn: TrioConnection, *, settings: Settings, apart_s: float) -> _Listed:
    seen, fault = None, None
    try:
        seen = await _look(settings, apart_s)
    except WgError as error:
        fault = str(hinted(error))
    except _NotLooked as error:
        fault = str(error)
    dry_run = settings.relay_dry_run
    # After the interface: a device that is registered in between isn't taken for an unknown peer.
    found = await _all_devices(conn, dry_run=dry_run)
    removed = await devices.tombstones(conn, dry_run=dry_run)
    bound = await bindings.keys(conn, dry_run=dry_run)
    return _Listed(settings.wg_interface, dry_run, fault, rows_of(found, removed, bound, seen))


async def _own_key(settings: Settings) -> str | None:
    """The interface's, if it can be read: a script may well be made on another machine."""
    if settings.wg_interface is None or settings.relay_dry_run:
        return None
    try:
        return (await wg_of(settings).read()).public_key
    except WgError:
        return None


class _NotLooked(Exception):
    """The interface is none of ours to look at."""


async def _look(settings: Settings, apart_s: float) -> Seen:
    if settings.relay_dry_run:
        raise _NotLooked("RELAY_DRY_RUN: these devices are pretended, and no interface is looked at")
    if settings.wg_interface is None:
        raise _NotLooked("WG_INTERFACE is not set: how the tunnels are isn't known here")
    wg = wg_of(settings)
    first, began_s = (await wg.read()).peers, trio.current_time()
    if apart_s > 0:
        await trio.sleep(apart_s)
    last = (await wg.read()).peers if apart_s > 0 else first
    return Seen(
        first,
        last,
        trio.current_time() - began_s if apart_s > 0 else 0,
        time.time(),
        settings.relay_handshake_online_seconds,
    )


async def _all_devices(conn: TrioConnection, *, dry_run: bool) -> list[Device]:
    found: list[Device] = []
    while portion := await devices.portion(conn, found[-1].seq if found else 0, _PORTION, dry_run=dry_run):
        found += portion
    return found


def _router_end(device: Device, vps: Vps, api_port: int) -> Tunnel:
    if device.tunnel_ip is None:
        raise click.ClickException(printable(f"device {device.id} has no tunnel IP: register it with one"))
    try:
        return evolve(vps.router_end(device.id, device.tunnel_ip), api_port=api_port)
    except ValueError as error:
        raise click.ClickException(printable(f"device {device.id}: {error}")) from None
