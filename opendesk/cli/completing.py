"""Values that a shell completes: from the settings, and from the database if it answers at once. Silent when it doesn't."""

from collections.abc import Iterator
import os
from pathlib import Path
from typing import Any, Final

import click

# Whoever presses the key waits for it.
_WITHIN_S: Final = 1.0
# More than that nobody reads, and the shell asks back.
_MOST: Final = 500
_ROUTERS: Final = """
    SELECT id FROM routers WHERE dry_run <= %(dry_run)s AND starts_with(id, %(start)s) ORDER BY id LIMIT %(most)s
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


def _stored(settings: Any, incomplete: str) -> list[str]:
    import trio  # noqa: PLC0415

    from opendesk import database  # noqa: PLC0415
    from opendesk.postgres.embedded.lifetime import running_server  # noqa: PLC0415

    async def ask() -> list[str]:
        with trio.move_on_after(_WITHIN_S):
            conninfo = database.external(settings) or await running_server(settings.opendesk_data_dir)
            if conninfo is None:
                return []
            async with await database.connect(conninfo) as conn:
                values = {"start": incomplete, "most": _MOST, "dry_run": settings.relay_dry_run}
                return [row[0] for row in await conn.fetch(_ROUTERS, values)]
        return []

    return trio.run(ask)
