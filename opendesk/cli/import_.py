"""`opendesk import`: takes over what the system before kept in files."""

from collections.abc import Iterator, Sequence
import json
from pathlib import Path
import sys
from typing import Any, Final

from attrs import evolve, frozen
import click

from opendesk.cli.common import EXIT_FAILED, load_settings, plain_failures, say, with_connection
from opendesk.cli.tunnel_wg import wg_of
from opendesk.errors import OpenDeskError
from opendesk.network.routers.sealing import Sealer
from opendesk.network.tunnels.takeover.importing import Entry, Found, read
from opendesk.network.tunnels.takeover.taking_over import TakingOver, is_device
from opendesk.network.wireguard.wg import WgError
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.retry import retrying
from opendesk.settings import Settings

# Some 20,000 devices with all their notes are a third of it, and all of it is held in memory.
FILE_MAX_BYTES: Final = 64 * 1024 * 1024

SKIPPED: Final = "skipped"


@frozen
class _Told:
    entry: str
    outcome: str
    why: str | None = None

    def __str__(self) -> str:
        return f"{self.outcome:8} {self.entry}" + (f": {self.why}" if self.why else "")


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--dry-run", is_flag=True, help="Only say what would be done. Registrations wait for as long as it takes."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def import_(context: click.Context, /, files: tuple[Path, ...], *, dry_run: bool, as_json: bool) -> None:
    """Take over devices, routers, bindings and tokens: `data/devices.json` and `peers.meta.json` of the system before.

    Give all files at once, so that what they say of one device is put together. Run again, it changes nothing. Exit code 1 if
    something was skipped.
    """
    settings = load_settings(context)
    with plain_failures():
        found = read([(path.name, _bytes_of(path)) for path in files])
    taking = TakingOver(
        Sealer(settings.relay_master_key),
        settings.wg_tunnel_pool,
        settings.relay_dry_run,
        settings.wg_vps_public_key,
        settings.mikrotik_nodes,
    )

    async def work(conn: TrioConnection) -> list[_Told]:
        nonlocal taking
        taking = evolve(taking, preshared=await _preshared(settings, found))
        if not dry_run:
            return await _take_all(conn, taking, found, is_said=not as_json)
        async with conn.transaction(force_rollback=True):
            return await _take_all(conn, taking, found, is_said=not as_json)

    told = with_connection(settings, work)
    if as_json:
        _tell_json(told, found, dry_run=dry_run, is_pretended=settings.relay_dry_run)
    else:
        _tell(told, found, dry_run=dry_run, is_pretended=settings.relay_dry_run)
    if any(one.outcome == SKIPPED for one in told):
        sys.exit(EXIT_FAILED)


async def _preshared(settings: Settings, found: Found) -> frozenset[str]:
    """Keys of the interface's peers that have a preshared key: a registration without one takes it off."""
    if settings.relay_dry_run or not any(is_device(entry) and entry.preshared_key is None for entry in found.entries):
        return frozenset()
    try:
        peers = (await wg_of(settings).read()).peers
    except (WgError, click.ClickException) as error:
        say(
            f"warning: {error}, so entries that lack their peer's preshared key aren't known here, and it would be taken off: run "
            "`opendesk tunnel plan` before the daemon starts",
            err=True,
        )
        return frozenset()
    return frozenset(key for key, peer in peers.items() if peer.preshared_key is not None)


def _bytes_of(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(FILE_MAX_BYTES + 1)
    if len(data) > FILE_MAX_BYTES:
        raise click.ClickException(f"{path.name} is larger than {FILE_MAX_BYTES} bytes")
    return data


async def _take_all(conn: TrioConnection, taking: TakingOver, found: Found, *, is_said: bool) -> list[_Told]:
    """Told one by one: thousands take a while."""
    told = [_Told(fault.where, SKIPPED, fault.why) for fault in found.faults]
    if is_said:
        for fault in told:
            say(fault, err=True)
    for entry in found.entries:
        told.append(one := await _take(conn, taking, entry))
        if is_said:
            say(one, err=one.outcome == SKIPPED)
    return told


async def _take(conn: TrioConnection, taking: TakingOver, entry: Entry) -> _Told:
    try:
        outcome = await retrying(lambda: taking.entry(conn, entry))
    except OpenDeskError as error:
        return _Told(entry.where, SKIPPED, error.detail)
    return _Told(entry.where, outcome.value)


def _tell(told: Sequence[_Told], found: Found, *, dry_run: bool, is_pretended: bool) -> None:
    if found.unknown:
        say(f"warning: fields that nobody knows are not taken over: {', '.join(found.unknown)}", err=True)
    outcomes = [one.outcome for one in told]
    counts = ", ".join(f"{outcomes.count(name)} {name}" for name in ("made", "changed", "same", SKIPPED))
    say(f"{counts}{''.join(_remarks(dry_run=dry_run, is_pretended=is_pretended))}")


def _remarks(*, dry_run: bool, is_pretended: bool) -> Iterator[str]:
    if dry_run:
        yield " (dry run: nothing was stored)"
    if is_pretended:
        yield " (RELAY_DRY_RUN: only daemons that pretend see it)"


def _tell_json(told: Sequence[_Told], found: Found, *, dry_run: bool, is_pretended: bool) -> None:
    entries: list[dict[str, Any]] = [{"entry": one.entry, "outcome": one.outcome, "why": one.why} for one in told]
    told_of = {"entries": entries, "unknownFields": found.unknown, "dryRun": dry_run, "pretended": is_pretended}
    click.echo(json.dumps(told_of, indent=2))
