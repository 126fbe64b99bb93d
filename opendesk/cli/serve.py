"""`opendesk serve`."""

from functools import partial
import os

import click
import structlog
import trio

from opendesk import daemon
from opendesk.cli.common import load_settings, plain_failures
from opendesk.ops import logging
from opendesk.ops.metrics import Metrics
from opendesk.settings import Settings

log = structlog.get_logger()

_WELCOME = """
OpenDesk listens at {urls}

  is it well?      curl {url}/health/ready
  what it can do   {url}/openapi.json
  a first admin    opendesk admin create YOU@EXAMPLE.ORG --password-stdin
  a day's work     opendesk demo

(From a checkout, `opendesk` is scripts/run. Ctrl-C stops it; nothing is lost.)
"""


@click.command()
@click.pass_context
def serve(context: click.Context) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    Without DATABASE_URL it brings its own PostgreSQL, in OPENDESK_DATA_DIR.
    """
    settings = load_settings(context)
    logs = logging.configure(settings.log_level, settings.log_format)
    for warning in settings.warnings:
        log.warning("settings.doubtful", what=warning)
    metrics = Metrics()
    metrics.watch_dropped_logs(lambda: logs.dropped)
    with plain_failures():
        trio.run(_serve, settings, metrics)


async def _serve(settings: Settings, metrics: Metrics) -> None:
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(partial(daemon.run, settings, metrics=metrics))
        if "JOURNAL_STREAM" not in os.environ:
            click.echo(_WELCOME.format(urls=" ".join(urls), url=urls[0]))
