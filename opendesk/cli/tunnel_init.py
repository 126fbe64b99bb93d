"""`opendesk tunnel init`: the interface of WG_INTERFACE and its key."""

from ipaddress import ip_interface
import json
import os
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen
import click
import trio

from opendesk.cli import tunnel_wg
from opendesk.cli.common import TEXT, load_settings, plain_failures, say
from opendesk.network.tunnels.registry.pool import own_address
from opendesk.network.wireguard import key_file
from opendesk.network.wireguard.interface import Address, InterfaceFault, Maker, Step, Wished, command, fallback, steps
from opendesk.network.wireguard.key_file import KeyFileFault
from opendesk.network.wireguard.wg import WgError
from opendesk.settings import Settings
from opendesk.settings.secret import Secret

# Where a program makes an interface of its own.
TUN: Final = Path("/dev/net/tun")
# What everybody's WireGuard listens on.
USUAL_PORT: Final = 51_820
# How an answer says what isn't known before it was made.
_NO_KEY: Final = "(made with the key)"


@click.command()
@click.option("--key", "key_path", type=click.Path(path_type=Path, dir_okay=False), help="The file of its private key.")
@click.option(
    "--listen-port", type=click.IntRange(1, 65_535), help="UDP; that of WG_VPS_ENDPOINT otherwise, else 51820."
)
@click.option("--address", type=TEXT, help="With its network; the first of WG_TUNNEL_POOL otherwise.")
@click.option("--show", is_flag=True, help="Only print what would be run.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def init(
    context: click.Context,
    *,
    key_path: Path | None,
    listen_port: int | None,
    address: str | None,
    show: bool,
    as_json: bool,
) -> None:
    """Make the WireGuard interface WG_INTERFACE, with its key and address, and switch it on.

    It takes CAP_NET_ADMIN. Run it again after each reboot: what is there already stays as it is. The kernel's WireGuard is used, or wireguard-go where
    it has none. The key is made once, in the data folder's wireguard/ if --key names no other file, and is never shown or written over.
    """
    settings = load_settings(context)
    name = tunnel_wg.interface_of(settings)
    port, own_address = listen_port or _port_of(settings), _address(settings, address)
    path = key_path or settings.opendesk_data_dir / "wireguard" / f"{name}.key"
    plan = _Plan(
        settings,
        name,
        port,
        own_address,
        path,
        is_own_folder=key_path is None,
        only_shown=show or settings.relay_dry_run,
    )
    with plain_failures(KeyFileFault, InterfaceFault, WgError):
        told = trio.run(_work, plan, key_file.read(path))
    (_tell_json if as_json else _tell)(told)


@frozen
class _Plan:
    settings: Settings
    name: str
    listen_port: int
    address: Address
    key_path: Path
    is_own_folder: bool = field(kw_only=True)
    only_shown: bool = field(kw_only=True)

    def wished(self, private: Secret[str] | None) -> Wished:
        public = _NO_KEY if private is None else key_file.public_key_of(private)
        return Wished(self.name, public, self.listen_port, self.address)


async def _work(plan: _Plan, private: Secret[str] | None) -> "_Told":
    wished = plan.wished(private)
    if plan.settings.relay_dry_run:
        return _Told(plan, wished, steps(wished, None))  # which calls nothing, not even to look
    missing = steps(wished, await Maker(wished, run=tunnel_wg.run).look())  # before a key is made for nothing
    if plan.only_shown:
        return _Told(plan, wished, missing)
    private = private or _made_key(plan)
    wished = plan.wished(private)
    try:
        return _Told(plan, wished, await Maker(wished, private, tunnel_wg.run).make())
    except InterfaceFault as error:
        raise InterfaceFault(f"{error}{_about_tun()}") from error


def _about_tun() -> str:
    """What wireguard-go takes besides CAP_NET_ADMIN, and says nothing of when it can't have it."""
    if os.access(TUN, os.R_OK | os.W_OK):
        return ""
    return f" (wireguard-go needs {TUN}, which {'this user may not open' if TUN.exists() else 'is not there'})"


def _made_key(plan: _Plan) -> Secret[str]:
    if plan.is_own_folder:
        key_file.make_folder(plan.key_path.parent)
    made = key_file.make(plan.key_path)
    say(f"made the key {plan.key_path}: keep a copy, routers know the interface by it", err=True)
    return made


def _port_of(settings: Settings) -> int:
    endpoint = settings.wg_vps_endpoint
    return USUAL_PORT if endpoint is None else int(endpoint.rpartition(":")[2])


def _address(settings: Settings, given: str | None) -> Address:
    pool = settings.wg_tunnel_pool
    own = ip_interface(f"{own_address(pool)}/{pool.prefixlen}")
    if given is None:
        return own
    try:
        address = ip_interface(given)
    except ValueError:
        raise click.UsageError("--address is not an address with its network, such as 10.200.0.1/16") from None
    if address.ip in pool and address.ip != own.ip:
        raise click.UsageError(
            f"--address {address.ip} may be a router's: of WG_TUNNEL_POOL, {own.ip} is this machine's"
        )
    return address


@frozen
class _Told:
    plan: _Plan
    wished: Wished
    steps: tuple[Step, ...]

    @property
    def public_key(self) -> str | None:
        return None if self.wished.public_key == _NO_KEY else self.wished.public_key

    @property
    def lines(self) -> dict[str, str | None]:
        """What the daemon's settings are to say, as far as it is known."""
        return {
            "WG_INTERFACE": self.wished.name,
            "WG_VPS_PUBLIC_KEY": self.public_key,
            "WG_VPS_ENDPOINT": self.plan.settings.wg_vps_endpoint,
        }


def _tell(told: _Told) -> None:
    for step in told.steps if told.plan.only_shown else ():
        say(_shown(step, told))
    if not told.steps:
        say(f"{told.wished.name}: nothing is missing")
    elif not told.plan.only_shown:
        say(f"{told.wished.name} made: {told.wished.address}, UDP port {told.wished.listen_port}")
    unknown = {
        "WG_VPS_PUBLIC_KEY": _NO_KEY,
        "WG_VPS_ENDPOINT": f"(this machine's name or address):{told.wished.listen_port}",
    }
    for name, value in told.lines.items():
        say(f"{name}={value or unknown[name]}")
    if told.public_key is not None and told.plan.settings.wg_vps_public_key not in {None, told.public_key}:
        say("warning: WG_VPS_PUBLIC_KEY is another key: routers would be given that one", err=True)
    own = own_address(told.plan.settings.wg_tunnel_pool)
    if str(told.wished.address.ip) != own:
        say(
            f"warning: routers are told to let in {own}, the first of WG_TUNNEL_POOL, and not {told.wished.address.ip}",
            err=True,
        )


def _shown(step: Step, told: _Told) -> str:
    line = " ".join(command(step, told.wished))
    if step is Step.MAKE:
        return f"{line}  # where the kernel has no WireGuard: {' '.join(fallback(told.wished))}"
    return f"{line} < {told.plan.key_path}" if step is Step.KEY else line


def _tell_json(told: _Told) -> None:
    wire: dict[str, Any] = {
        "interface": told.wished.name,
        "publicKey": told.public_key,
        "listenPort": told.wished.listen_port,
        "address": str(told.wished.address),
        "keyFile": str(told.plan.key_path),
        "onlyShown": told.plan.only_shown,
        "steps": [{"step": step.name, "command": list(command(step, told.wished))} for step in told.steps],
        "settings": {name: value for name, value in told.lines.items() if value is not None},
    }
    click.echo(json.dumps(wire, indent=2))
