"""Which interface the commands of tunnels are about."""

import click
import trio

from opendesk.network.wireguard.interface import Run
from opendesk.network.wireguard.wg import Wg
from opendesk.settings import Settings

# By a name of its own, in whose place a simulation may be put.
run: Run = trio.run_process


def interface_of(settings: Settings) -> str:
    if settings.wg_interface is None:
        raise click.ClickException("WG_INTERFACE is not set: say there which interface it is, such as wg0")
    return settings.wg_interface


def wg_of(settings: Settings) -> Wg:
    return Wg(interface_of(settings), run)
