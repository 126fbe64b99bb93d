"""`opendesk serve`."""

from collections.abc import Sequence
from contextlib import suppress
import faulthandler
from functools import partial
import json
import os
import resource
import sys
from typing import Final

import click
import structlog
import trio

from opendesk import daemon
from opendesk.cli.common import AS_JSON, plain_failures, read_settings
from opendesk.errors import CannotStart
from opendesk.ops import allocator, collector, logging
from opendesk.ops.metrics import Metrics
from opendesk.settings import Settings
from opendesk.supervise import GaveUp

log = structlog.get_logger()

# What all connections, WebSockets and everything else take (web/http/limits.py), and a fifth more.
DESCRIPTORS: Final = 20_480

_WELCOME = """
OpenDesk listens at {urls}

  is it well?      {curl}/health/ready
  what it can do   {url}/openapi.json
  a first admin    opendesk admin create YOU@EXAMPLE.ORG --password-stdin
  a day's work     opendesk demo

(From a checkout, `opendesk` is scripts/run. Ctrl-C stops it; nothing is lost.)
"""


@click.command()
@AS_JSON
@click.pass_context
def serve(context: click.Context, *, as_json: bool) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    Without DATABASE_URL it brings its own PostgreSQL, in OPENDESK_DATA_DIR. With --json it says where it listens as one line of JSON, when it is
    ready; what its log looks like is LOG_FORMAT's to say.
    """
    settings = read_settings(context, to_serve=True)
    logs = logging.configure(settings.log_level, settings.log_format)
    for warning in settings.warnings:
        log.warning("settings.doubtful", what=warning)
    faulthandler.enable()  # where every thread stood, when the watchdog ends it with SIGABRT
    _raise_descriptor_limit()
    allocator.give_back_large_blocks()
    metrics = Metrics()
    metrics.watch_logs(logs)
    with plain_failures(CannotStart, GaveUp):
        trio.run(partial(_serve, settings, metrics, as_json=as_json))


def _raise_descriptor_limit() -> None:
    """Each connection takes a descriptor, and the soft limit is mostly 1024, for programs that still use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(settings: Settings, metrics: Metrics, *, as_json: bool) -> None:
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(partial(daemon.run, settings, metrics=metrics))
        if urls and as_json:
            _say(json.dumps({"ready": True, "urls": list(urls), "pid": os.getpid()}) + "\n")
        elif urls and "JOURNAL_STREAM" not in os.environ:
            _say(welcome(urls))
        collector.spare_what_stays()


def _say(text: str) -> None:
    """A daemon lives on when nobody hears it: past Python's buffer, which would be tried again, and fail, at the exit."""
    with suppress(OSError):
        os.write(sys.stdout.fileno(), text.encode())


def welcome(urls: Sequence[str]) -> str:
    """Where it listens, and what to do next."""
    path = urls[0].removeprefix("unix:")
    url = "http://localhost" if path != urls[0] else urls[0]
    curl = f"curl --unix-socket {path} {url}" if path != urls[0] else f"curl {url}"
    return _WELCOME.format(urls=" ".join(urls), url=url, curl=curl)
