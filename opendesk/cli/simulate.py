"""`opendesk simulate`: what isn't at hand, to try the daemon with."""

from functools import partial
import json
import re
import resource
import signal
import sys
from typing import BinaryIO, Final

import click
import trio

from opendesk.cli.common import AS_JSON, plain_failures
from opendesk.settings.routers import NODES_MAX
from opendesk.simulators.event_backend import ACKS_PATH, EVENTS_PATH, QUEUE_PATH, EventBackend, Redelivery
from opendesk.simulators.event_server import served
from opendesk.simulators.routeros.fleet import Served, routers, serve_all
from opendesk.simulators.routeros.router import LATEST

# Of a router: its listener, and some connections; and what the process has besides.
_DESCRIPTORS_EACH: Final = 4
_DESCRIPTORS_BESIDES: Final = 256
_LAST_PORT: Final = 65535
_MOST_LATENCY_MS: Final = 60_000
_VERSION: Final = re.compile(r"7\.\d{1,3}(\.\d{1,3})?")


@click.group()
def simulate() -> None:
    """Stand in for equipment that isn't at hand."""


@simulate.command("routers")
@click.argument("count", type=click.IntRange(1, NODES_MAX))
@click.option(
    "--latency-ms", type=click.IntRange(0, _MOST_LATENCY_MS), default=0, show_default=True, help="Of a round trip."
)
@click.option(
    "--dead",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="This share of them takes connections and never answers.",
)
@click.option(
    "--port", type=click.IntRange(1, _LAST_PORT), help="Of the first; the others follow. Any that are free without it."
)
@click.option("--ros-version", default=LATEST, show_default=True, help="Of RouterOS, 7.x; 7.12 has other texts.")
@click.option("--json", "as_json", is_flag=True, help="Print the routers as a JSON array only.")
def routers_command(
    count: int, latency_ms: int, dead: float, port: int | None, ros_version: str, *, as_json: bool
) -> None:
    """Run COUNT MikroTik routers on ports of this machine, until stopped, and print MIKROTIK_NODES for them."""
    if not _VERSION.fullmatch(ros_version):
        raise click.BadParameter("it is not 7.x", param_hint="--ros-version")
    if (port or 0) + count - 1 > _LAST_PORT:
        raise click.BadParameter(f"there are no {count} ports from there on", param_hint="--port")
    with plain_failures():
        trio.run(partial(_run, count, latency_ms / 1000, dead, port or 0, ros_version, as_json=as_json))


async def _run(count: int, latency_s: float, dead: float, port: int, version: str, *, as_json: bool) -> None:
    _allow_descriptors(count)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            fleet = routers(count, dead=dead, version=version)
            served: list[Served] = await nursery.start(partial(serve_all, fleet, first_port=port, latency_s=latency_s))
            nodes = json.dumps([each.node for each in served])
            click.echo(nodes if as_json else f"MIKROTIK_NODES='{nodes}'")
            async for _ in signals:
                nursery.cancel_scope.cancel()


@simulate.command("backend")
@click.option("--port", type=click.IntRange(1, _LAST_PORT), help="Any that is free without it.")
@click.option(
    "--secret-stdin", is_flag=True, help="Read BACKEND_HMAC_SECRET from standard input, and sign and check with it."
)
@click.option("--events", type=click.File("rb"), help="A JSON array of events to begin with; more by POST to /queue.")
@click.option(
    "--redeliver",
    type=click.Choice([each.value for each in Redelivery]),
    default=Redelivery.UNTIL_ACKED.value,
    show_default=True,
    help="How long an event is given again.",
)
@AS_JSON
def backend_command(
    port: int | None, events: BinaryIO | None, redeliver: str, *, secret_stdin: bool, as_json: bool
) -> None:
    """Run a backend that has events and takes their ACKs, until stopped, and print the settings for it.

    POST /queue takes an event, or an array of them; GET /acks tells which ACKs came.
    """
    secrets = tuple(part.strip() for part in sys.stdin.read().split(",") if part.strip()) if secret_stdin else ()
    if secret_stdin and not secrets:
        raise click.UsageError("there is no secret on standard input")
    backend = EventBackend(secrets, Redelivery(redeliver))
    if events is not None:
        try:
            backend.put_batch(events.read())
        except ValueError as error:
            raise click.BadParameter(f"it is no JSON array of events: {error}", param_hint="--events") from None
    with plain_failures():
        trio.run(partial(_serve_backend, backend, port or 0, as_json=as_json))


async def _serve_backend(backend: EventBackend, port: int, *, as_json: bool) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with served(backend, port) as url:
            named = {"BACKEND_EVENTS_URL": f"{url}{EVENTS_PATH}", "BACKEND_ACK_URL": f"{url}{ACKS_PATH}"}
            if as_json:
                click.echo(json.dumps({**named, "queue": f"{url}{QUEUE_PATH}"}))
            else:
                click.echo("".join(f"{name}={value}\n" for name, value in named.items()), nl=False)
                click.echo(f"# put events: POST {url}{QUEUE_PATH}")
            async for _ in signals:
                return


def _allow_descriptors(count: int) -> None:
    """As many as it takes, or as are allowed: fewer serve fewer connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count * _DESCRIPTORS_EACH + _DESCRIPTORS_BESIDES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
