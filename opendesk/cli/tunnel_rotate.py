"""`opendesk tunnel rotate`: a device's next key."""

from functools import partial
import json
from typing import Final

import click
import trio

from opendesk.cli.common import AS_JSON, EXIT_FAILED, TEXT, load_settings, say, wants_json, with_connection
from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.keeping.rotation import ROTATION_LASTS_S
from opendesk.network.tunnels.registry import devices, stored
from opendesk.network.tunnels.registry.device import NewDevice, Outcome
from opendesk.network.wireguard.keys import public_key as checked_key
from opendesk.postgres.driver import TrioConnection
from opendesk.settings import Settings

# How often the registry is asked whether it is done, and how often it is said that it isn't yet.
_LOOK_S: Final = 0.5
_SAY_S: Final = 10.0


@click.command()
@click.argument("device_id", metavar="ID", type=TEXT)
@click.argument("public_key", metavar="[PUBLICKEY]", type=TEXT, required=False)
@click.option(
    "--wait",
    "wait_s",
    type=click.IntRange(0, round(ROTATION_LASTS_S)),
    default=0,
    help="Until it is done, so many seconds at most.",
)
@click.option("--cancel", is_flag=True, help="The next key goes; the device keeps the present one.")
@AS_JSON
@click.pass_context
def rotate(
    context: click.Context, device_id: str, public_key: str | None, *, wait_s: int, cancel: bool, as_json: bool
) -> None:
    """Give a device another public key, without a gap.

    The daemon puts the new key beside the old one. Once it has shaken hands it takes over, and the old one goes. If it doesn't within a
    day, it goes, and nothing else has changed. With --wait, exit code 1 if it isn't done by then: it goes on all the same.
    """
    settings = load_settings(context)
    if cancel == (public_key is not None):
        raise click.UsageError("it takes a PUBLICKEY, or --cancel")
    if public_key is None:
        _cancel(settings, device_id)
        if as_json:
            _tell_json(device_id, None, "cancelled")
        return
    try:
        new = NewDevice(id=device_id, public_key=checked_key(public_key))
    except ValueError as error:
        raise click.UsageError(f"PUBLICKEY {error}") from None
    if with_connection(settings, partial(_begin, new=new, settings=settings)):
        _say_or_json(new, "same", f"device {device_id}: it has this key already")
        return
    if not as_json:
        say(f"device {device_id}: the new key is asked for; it takes over once it has shaken hands")
    is_done = bool(wait_s) and with_connection(settings, partial(_wait, new=new, settings=settings, wait_s=wait_s))
    if as_json:
        _tell_json(device_id, new.public_key, "done" if is_done else "rotating")
    if wait_s and not is_done:
        say(f"not done after {wait_s} s; it goes on: look with `opendesk tunnel list`", err=True)
        context.exit(EXIT_FAILED)


def _say_or_json(new: NewDevice, state: str, line: str) -> None:
    if wants_json():
        _tell_json(new.id, new.public_key, state)
    else:
        say(line)


def _tell_json(device_id: str | None, public_key: str | None, state: str) -> None:
    """`state`: same, rotating, done or cancelled."""
    click.echo(json.dumps({"device": device_id, "nextPublicKey": public_key, "state": state}))


def _cancel(settings: Settings, device_id: str) -> None:
    async def work(conn: TrioConnection) -> bool:
        await devices.get(conn, device_id, dry_run=settings.relay_dry_run)
        return await devices.cancel_rotation(conn, device_id, dry_run=settings.relay_dry_run)

    if not with_connection(settings, work):
        raise click.ClickException(f"device {device_id} has no next key")
    if not wants_json():
        say(f"device {device_id}: the next key goes")


async def _begin(conn: TrioConnection, *, new: NewDevice, settings: Settings) -> bool:
    """Whether there is nothing to wait for."""
    assert new.id is not None
    async with conn.transaction():
        await stored.take_turn(
            conn, dry_run=settings.relay_dry_run
        )  # so that it isn't removed in between, and made anew
        before = await devices.get(conn, new.id, dry_run=settings.relay_dry_run)
        if before.public_key == new.public_key:
            return True
        done = await devices.put(
            conn,
            new,
            Sealer(settings.relay_master_key),
            dry_run=settings.relay_dry_run,
            own_key=settings.wg_vps_public_key,
        )
    assert done.outcome is Outcome.ROTATING
    return False


async def _wait(conn: TrioConnection, *, new: NewDevice, settings: Settings, wait_s: int) -> bool:
    began_s = said_s = trio.current_time()
    while True:
        assert new.id is not None
        found = await devices.get(conn, new.id, dry_run=settings.relay_dry_run)
        if found.public_key == new.public_key:
            if not wants_json():
                say(f"device {new.id}: done")
            return True
        if found.next_public_key != new.public_key:
            raise click.ClickException(f"device {new.id}: the new key was taken back, or another was asked for")
        if (now_s := trio.current_time()) >= began_s + wait_s:
            return False
        if now_s >= said_s + _SAY_S:
            said_s = now_s
            say(f"waiting for a handshake of the new key ({now_s - began_s:.0f} s)", err=True)
        await trio.sleep(_LOOK_S)
