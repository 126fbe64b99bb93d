"""What the page is walked in: a daemon, a database and a backend of its own; or a daemon that runs, if it only pretends."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
import secrets
import shutil
from typing import Any, Final

from attrs import frozen
import httpx

from opendesk.simulators.daemon_process import DaemonFailed, running_daemon, throw_away_folder
from opendesk.simulators.event_backend import EventBackend
from opendesk.simulators.event_server import served

# What the blocks call, beside what every system has.
PROGRAMS: Final = ("curl", "openssl", "python3")
# Secrets that the page shows are for those who type it.
_OWN: Final = ("RELAY_TOKEN", "RELAY_INTERNAL_TOKEN", "RELAY_API_SECRET", "BACKEND_HMAC_SECRET")
# What the blocks take from the environment of whoever walks at a daemon that runs.
WANTED: Final = ("RELAY_TOKEN", "RELAY_INTERNAL_TOKEN", "RELAY_API_SECRET", "RELAY_EVENTS_FILE")
_STORES: Final = ("OPENDESK_DATA_DIR", "DATABASE_URL", "RELAY_DATABASE_URL")
# Where the page has the backend that isn't one.
BACKEND: Final = "http://127.0.0.1:4444"
# A daemon on this machine, or near it, answers in milliseconds.
_ASK_WITHIN_S: Final = 10.0


class CannotWalk(Exception):
    """Why the walk isn't begun."""


@frozen
class Place:
    """`environ` is what the blocks have; `folder` is for what they are run from, and is removed at the end."""

    environ: Mapping[str, str]
    folder: Path


def check_programs() -> None:
    """Raise CannotWalk."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise CannotWalk(f"{' and '.join(missing)}: not installed, and the page's blocks call it")


@asynccontextmanager
async def own(environ: Mapping[str, str], settings: Mapping[str, str]) -> AsyncIterator[Place]:
    """With the page's settings, but secrets and ports of its own. Raise CannotWalk if the daemon doesn't start."""
    secret = secrets.token_hex(16)
    backend = EventBackend(secrets=(secret,))
    try:
        with throw_away_folder() as folder:
            async with served(backend) as url:
                wanted = {**settings, **_of_its_own(secret, url), "RELAY_EVENTS_FILE": str(folder / "events.json")}
                async with running_daemon(environ, wanted) as daemon:
                    yield Place({**daemon.environ, "U": daemon.url, "B": url}, folder)
    except* DaemonFailed as failed:
        raise CannotWalk("; ".join(messages(failed))) from None


def _of_its_own(secret: str, backend_url: str) -> dict[str, str]:
    made = {name: secrets.token_hex(16) for name in _OWN}
    return {
        **made,
        "PORT": "0",
        "RELAY_API_SECRET": f"{secrets.token_hex(16)},{secrets.token_hex(16)}",
        "BACKEND_HMAC_SECRET": secret,
        "BACKEND_EVENTS_URL": f"{backend_url}/events",
        "BACKEND_ACK_URL": f"{backend_url}/acks",
    }


def messages(group: BaseExceptionGroup[Any]) -> list[str]:
    """Of all that is in it."""
    return [
        told
        for error in group.exceptions
        for told in (messages(error) if isinstance(error, BaseExceptionGroup) else [str(error)])
    ]


@asynccontextmanager
async def running(environ: Mapping[str, str], url: str) -> AsyncIterator[Place]:
    """Raise CannotWalk for a daemon that doesn't only pretend, and where something of the settings is missing."""
    missing = [name for name in WANTED if not environ.get(name)]
    if not any(environ.get(name) for name in _STORES):
        missing.append(" or ".join(_STORES))
    if missing:
        raise CannotWalk(
            f"not in the environment: {', '.join(missing)}; the daemon's settings are needed (docs/validation.md)"
        )
    backend = environ.get("B") or BACKEND
    async with httpx.AsyncClient(timeout=_ASK_WITHIN_S, trust_env=False) as client:
        await _check_pretends(client, url, environ["RELAY_TOKEN"])
        await _ask(client, f"{backend}/acks", "the simulated backend")
    with throw_away_folder() as folder:
        yield Place({**environ, "U": url, "B": backend}, folder)


async def _check_pretends(client: httpx.AsyncClient, url: str, tokens: str) -> None:
    answer = await _ask(
        client, f"{url}/devices?limit=1", "the daemon", **{"x-relay-token": tokens.split(",", maxsplit=1)[0]}
    )
    try:
        pretends = answer.json()["dryRun"] is True
    except (ValueError, KeyError, TypeError):
        raise CannotWalk(f"{url} is no OpenDesk that this relay token opens: {answer.status_code}") from None
    if not pretends:
        raise CannotWalk(f"{url} is not in a dry run (RELAY_DRY_RUN=1): nothing was called there that changes anything")


async def _ask(client: httpx.AsyncClient, url: str, whom: str, **headers: str) -> httpx.Response:
    try:
        return await client.get(url, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CannotWalk(f"{whom} does not answer at {url}: {error}") from None
