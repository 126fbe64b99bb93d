"""Values that a shell completes: from the settings, and from the database if it answers at once. Silent when it doesn't."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
import os
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from opendesk.settings import Settings

# Whoever presses the key waits for it.
_WITHIN_S: Final = 1.0
# More than that nobody reads, and the shell asks back.
_MOST: Final = 500
_ROUTERS: Final = """
    SELECT id FROM opendesk.routers
     WHERE dry_run <= %(dry_run)s AND starts_with(id, %(start)s) ORDER BY id LIMIT %(most)s
"""


def routers(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Ids of routers: those of MIKROTIK_NODES, and of the database."""
    # An unreadable file, a database that is away, a role without rights: no reason to write into somebody's half-typed line.
    try:
        return sorted(set(_routers(context, incomplete)))[:_MOST]
    except Exception:  # noqa: BLE001  # there is nobody to tell: the shell shows whatever is said as a completion
        return []


def _routers(context: click.Context, incomplete: str) -> Iterator[str]:
    from opendesk.settings import load_with_faults  # noqa: PLC0415  # as below: only for who completes a router

    env_file = context.find_root().params.get("env_file")
    settings, _ = load_with_faults(os.environ, env_file=None if env_file is None else Path(env_file))
    yield from (node.id for node in settings.mikrotik_nodes if node.id.startswith(incomplete))
    yield from _stored(settings, incomplete)


def _stored(settings: "Settings", incomplete: str) -> list[str]:
    """Without Trio, which takes longer to import than all of the asking."""
    conninfo = _conninfo(settings)
    values = {"start": incomplete, "most": _MOST, "dry_run": settings.relay_dry_run}
    found: list[str] = []
    # A database that hangs isn't waited for: the thread ends with us.
    asking = Thread(target=_ask, args=(conninfo, values, found.extend), daemon=True)
    if conninfo is not None:
        asking.start()
        asking.join(_WITHIN_S)
    return list(found)


def _conninfo(settings: "Settings") -> str | None:
    """Of the database if it is there; none is started for this."""
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415

    from opendesk.postgres.embedded import pidfile, sockets  # noqa: PLC0415

    if settings.database_url is not None:
        return make_conninfo(settings.database_url.reveal(), **_given(sslmode=settings.database_sslmode))
    server = pidfile.read(settings.opendesk_data_dir.expanduser().resolve() / pidfile.PGDATA)
    return None if server is None or not server.is_ready else sockets.conninfo(server.socket_dir)


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _ask(conninfo: str, values: Mapping[str, object], take: Callable[[list[str]], None]) -> None:
    import psycopg  # noqa: PLC0415

    with suppress(psycopg.Error), psycopg.connect(conninfo) as conn:
        take([row[0] for row in conn.execute(_ROUTERS, values)])
