"""`opendesk router`: which routers there are, how to reach them, and how they are."""

from collections.abc import Sequence
import json
import re
import sys
from typing import Any, Final

from attrs import evolve, frozen
import click
import trio

from opendesk.cli import completing
from opendesk.cli.common import (
    EXIT_FAILED,
    TEXT,
    asked_password,
    load_settings,
    plain_failures,
    printable,
    say,
    with_connection,
)
from opendesk.network import rekeying, removing
from opendesk.network.removing import Removed
from opendesk.network.routeros.client import connect
from opendesk.network.routeros.errors import RouterOsError
from opendesk.network.routers import registry, states
from opendesk.network.routers.link import look, target_of
from opendesk.network.routers.registry import NewRouter, RouterSpec
from opendesk.network.routers.sealing import Sealer
from opendesk.network.routers.status import CLOSED, RouterStatus, status_of
from opendesk.postgres.driver import TrioConnection
from opendesk.settings import Settings
from opendesk.settings.addresses import host as host_name
from opendesk.settings.routers import PASSWORD, ROUTER_ID, TIMEOUT_MAX_MS, USER
from opendesk.settings.secret import Secret
from opendesk.web.wire import to_wire

# Of a password's line: 128 characters in UTF-8, and some to see that it is too long.
_MAX_LINE_BYTES: Final = 1024
_SHA256_HEX_DIGITS: Final = 64

_ID: Final = click.argument("router_id", metavar="ID", type=TEXT, shell_complete=completing.routers)
_AS_JSON: Final = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def router() -> None:
    """Register MikroTik routers, look after them, and try them out."""


@router.command()
@_ID
@click.argument("host", type=TEXT)
@click.option("--user", type=TEXT, help="Without one, MIKROTIK_USER and MIKROTIK_PASS.")
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of standard input.")
@click.option("--port", type=click.IntRange(1, 65_535), help="8728 otherwise, 8729 with TLS, or MIKROTIK_PORT.")
@click.option("--tls", is_flag=True, help="The router's `api-ssl`.")
@click.option(
    "--tls-sha256", type=TEXT, help="The SHA-256 of the router's certificate, in hexadecimal: this one and no other."
)
@click.option("--timeout-ms", type=click.IntRange(1, TIMEOUT_MAX_MS), help="How long one command may take.")
@_AS_JSON
@click.pass_context
def add(
    context: click.Context, /, router_id: str, host: str, *, user: str | None, password_stdin: bool, tls_sha256: str | None,
    as_json: bool, **rest: Any,
) -> None:  # fmt: skip
    """Register a router, or change how it is reached.

    The password of --user is asked for, unless it comes on standard input. It is kept sealed with RELAY_MASTER_KEY.
    """
    settings = load_settings(context)
    if tls_sha256 is not None and not rest["tls"]:
        raise click.UsageError("--tls-sha256 is for --tls")
    new = NewRouter(
        id=_fitting(ROUTER_ID, router_id, "ID"),
        host=_host(host),
        user=None if user is None else _fitting(USER, user, "--user"),
        password=None if user is None else _password(from_stdin=password_stdin),
        tls_sha256=None if tls_sha256 is None else _fingerprint(tls_sha256),
        **rest,
    )

    async def work(conn: TrioConnection) -> bool:
        return await registry.put(conn, new, Sealer(settings.relay_master_key), dry_run=settings.relay_dry_run)

    is_new = with_connection(settings, work)
    if as_json:
        click.echo(json.dumps({"id": new.id, "new": is_new}))
    else:
        say(f"router {new.id} ({new.host}) {'added' if is_new else 'changed'}")


@router.command("list")
@_AS_JSON
@click.pass_context
def list_(context: click.Context, *, as_json: bool) -> None:
    """All routers, those of MIKROTIK_NODES included, and how they are."""
    found = _statuses(load_settings(context))
    if as_json:
        click.echo(json.dumps({"routers": to_wire(found)}, indent=2))
        return
    for status in found:
        say(_line(status))
    if not found:
        say("no routers", err=True)


@router.command()
@_ID
@_AS_JSON
@click.pass_context
def show(context: click.Context, router_id: str, *, as_json: bool) -> None:
    """One router, and how it is."""
    [status] = _statuses(load_settings(context), router_id)
    told = to_wire(status)
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    breaker = told.pop("breaker")
    for name, value in (*told.items(), ("circuit", breaker["state"]), ("failures", breaker["failures"])):
        if value is not None:
            say(f"{name:14} {value}")


@router.command()
@_ID
@_AS_JSON
@click.pass_context
def remove(context: click.Context, router_id: str, *, as_json: bool) -> None:
    """Forget a router of the database. What it was told stays on it.

    Access that it gives is no longer granted, and jobs that wait for it are dead letters: they can be replayed once it is back.
    """
    settings = load_settings(context)
    is_known_besides = any(node.id == router_id for node in settings.mikrotik_nodes)

    async def work(conn: TrioConnection) -> Removed:
        return await removing.remove(conn, router_id, is_known_besides=is_known_besides, dry_run=settings.relay_dry_run)

    removed = with_connection(settings, work)
    if as_json:
        click.echo(json.dumps({"id": router_id, "jobs": removed.jobs, "grants": removed.grants}))
    else:
        say(f"router {router_id} removed")
        if removed.grants or removed.jobs:
            say(f"{removed.grants} grants ended, {removed.jobs} jobs are dead letters")


@router.command()
@_ID
@_AS_JSON
@click.pass_context
def test(context: click.Context, router_id: str, *, as_json: bool) -> None:
    """Log in to a router from here, and say who it is; exit code 1 if that fails."""
    settings = load_settings(context)

    async def work(conn: TrioConnection) -> RouterSpec:
        return await registry.find(conn, settings, router_id)

    spec = with_connection(settings, work)
    with plain_failures(RouterOsError):
        found = trio.run(_try, spec, settings.relay_mikrotik_probe_timeout_ms / 1000)
    if as_json:
        click.echo(json.dumps(to_wire(found)))
    else:
        say(f"router {found.id}: {found.identity or '(no name)'}, RouterOS {found.version or '(unknown)'}")


@frozen
class _Found:
    id: str
    identity: str | None
    version: str | None
    uptime_s: int | None


async def _try(spec: RouterSpec, timeout_s: float) -> _Found:
    if spec.fault is not None:
        raise click.ClickException(printable(f"router {spec.id}: {spec.fault}"))
    async with connect(evolve(target_of(spec), timeout_s=timeout_s)) as client:
        seen = (await look(client)).without(spec.password)
    return _Found(spec.id, seen.identity, seen.version, None if seen.uptime_s is None else round(seen.uptime_s))


@router.command()
@_AS_JSON
@click.pass_context
def rekey(context: click.Context, *, as_json: bool) -> None:
    """Seal anew, with the first key of RELAY_MASTER_KEY, what an older one sealed; exit code 1 if none opens something.

    It may run while daemons serve that have both keys, and again if it was interrupted. After that the old key can go.
    """
    settings = load_settings(context)

    async def work(conn: TrioConnection) -> rekeying.Rekeyed:
        return await rekeying.rekey(conn, Sealer(settings.relay_master_key))

    done = with_connection(settings, work)
    if as_json:
        click.echo(json.dumps(to_wire(done)))
    else:
        say(f"{done.resealed} secrets sealed anew")
        for router_id in done.unopened:
            say(f"router {router_id}: no key of RELAY_MASTER_KEY opens its password: add it again", err=True)
        for device_id in done.unopened_devices:
            say(f"device {device_id}: no key of RELAY_MASTER_KEY opens one of its secrets: register it again", err=True)
    if done.unopened or done.unopened_devices:
        sys.exit(EXIT_FAILED)


@router.group()
def breaker() -> None:
    """Circuits of routers that failed too often."""


@breaker.command()
@_ID
@_AS_JSON
@click.pass_context
def reset(context: click.Context, router_id: str, *, as_json: bool) -> None:
    """Close a router's circuit now: it is tried again at once."""
    settings = load_settings(context)

    async def work(conn: TrioConnection) -> None:
        await registry.find(conn, settings, router_id)
        await states.reset(conn, router_id)

    with_connection(settings, work)
    if as_json:
        click.echo(json.dumps({"id": router_id, "state": CLOSED}))
    else:
        say(f"router {router_id}: circuit closed")


def _statuses(settings: Settings, router_id: str | None = None) -> Sequence[RouterStatus]:
    async def work(conn: TrioConnection) -> Sequence[RouterStatus]:
        if router_id is None:
            specs = await registry.load(conn, settings)
        else:
            specs = {router_id: await registry.find(conn, settings, router_id)}
        stored = await states.read(conn, specs)
        return [status_of(specs[name], stored.get(name), None) for name in sorted(specs)]

    return with_connection(settings, work)


def _line(status: RouterStatus) -> str:
    where = f"{status.host}:{status.port}{' TLS' if status.tls else ''}"
    who = status.identity or status.fault or status.last_error or ""
    return f"{status.id:24} {where:32} {status.breaker.state:9} {who}".rstrip()


def _password(*, from_stdin: bool) -> Secret[str]:
    if from_stdin:
        try:
            text = sys.stdin.buffer.readline(_MAX_LINE_BYTES).decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise click.UsageError("the password is not UTF-8") from None
        if not text:
            raise click.UsageError("there is no password on standard input")
    else:
        text = asked_password()
    if not PASSWORD.fullmatch(text):
        raise click.UsageError("the password is too long, or has a NUL or half a character in it")
    return Secret(text)


def _fitting(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise click.UsageError(f"{what} does not fit {pattern.pattern}")
    return text


def _host(text: str) -> str:
    try:
        return host_name(text)
    except ValueError as error:
        raise click.UsageError(f"HOST {error}") from None


def _fingerprint(text: str) -> bytes:
    digits = text.replace(":", "")
    try:
        if len(digits) == _SHA256_HEX_DIGITS:
            return bytes.fromhex(digits)
    except ValueError:
        pass
    raise click.UsageError("--tls-sha256 is not 64 hexadecimal digits")
