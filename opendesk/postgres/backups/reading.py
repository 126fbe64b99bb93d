"""What is in a database, at one moment."""

from collections.abc import Awaitable, Callable
from typing import Final

from psycopg import sql

from opendesk.postgres import migrate
from opendesk.postgres.backups.manifest import Books, Facts
from opendesk.postgres.driver import TrioConnection

# The ledger's proof: whoever makes a backup brings it, because the ledger is no business of this room's.
Prove = Callable[[TrioConnection], Awaitable[Books]]

_TABLES: Final = """
    SELECT tablename FROM pg_tables WHERE schemaname = 'opendesk' ORDER BY tablename
"""
_NOW: Final = (
    "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), current_setting('server_version')"
)


async def facts(conn: TrioConnection, prove: Prove) -> Facts:
    """Of the snapshot that the connection's transaction has. It reads everything: minutes with a large ledger."""
    told = await conn.fetch_one(_NOW)
    assert told is not None
    made_at, server = told
    applied = await migrate.applied(conn)
    books = await prove(conn) if _is_ours(applied) else None
    return Facts(made_at, str(server).split()[0], applied, await rows(conn), books)


def _is_ours(applied: tuple[migrate.Applied, ...]) -> bool:
    try:
        return not migrate.plan(migrate.load(), applied)
    except migrate.MigrationError:
        return False


async def rows(conn: TrioConnection) -> dict[str, int]:
    """How many each table has."""
    return {name: await _count(conn, name) for (name,) in await conn.fetch(_TABLES)}


async def _count(conn: TrioConnection, table: str) -> int:
    query = sql.SQL("SELECT count(*) FROM opendesk.{}").format(sql.Identifier(table))
    row = await conn.fetch_one(query.as_bytes(conn))
    assert row is not None
    return int(row[0])
