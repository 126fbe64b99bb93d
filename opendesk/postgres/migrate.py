"""Numbered SQL files, applied in order under a lock, all of a run in one transaction.

Works on any asynchronous psycopg connection, on Trio or not: nothing here waits but for the database.
"""

from collections.abc import Sequence
import hashlib
from importlib import resources
from importlib.resources.abc import Traversable
import re
from typing import Any, Final, LiteralString

from attrs import frozen
import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

MIGRATIONS: Final = resources.files("opendesk.postgres") / "migrations"

# PostgreSQL 14 is the oldest that is tested; 13 is out of its makers' support.
OLDEST_SERVER: Final = 140000

# Two daemons that start at once take turns; a run takes milliseconds, so who waits longer than this is told so.
LOCK_TIMEOUT_MS: Final = 60_000

# The number of the advisory lock: "OpenDesk" in ASCII, so that no other program in this database takes the same by chance.
LOCK: Final = int.from_bytes(b"OpenDesk", "big", signed=True)

_FILE_NAME: Final = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.sql")

# Whether there is anything of ours, and whether it looks like ours. An empty schema that an administrator made for a role
# that may not make schemas is as good as none.
_STATE: Final = """
    SELECT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = to_regnamespace('opendesk')) AS has_tables,
           (SELECT count(*) FROM pg_attribute a
             WHERE a.attrelid = to_regclass('opendesk.migrations')
               AND a.attname IN ('version', 'name', 'checksum', 'applied_at')) = 4 AS has_migrations
"""
_NOTHING: Final = (False, False)
_OURS: Final = (True, True)

_APPLIED: Final = "SELECT version, name, checksum FROM opendesk.migrations ORDER BY version"

# A migration may take its time, but must not wait for a lock (this one's or a table's) for ever.
_PREPARE: Final = """
    SELECT set_config('lock_timeout', %(lock_timeout)s, true),
           set_config('statement_timeout', '0', true),
           set_config('search_path', 'opendesk', true)
"""

_CREATE: Final = """
    -- IF NOT EXISTS would ask for the right to make schemas even where there is nothing to make.
    DO $$ BEGIN
        IF to_regnamespace('opendesk') IS NULL THEN CREATE SCHEMA opendesk; END IF;
    END $$;
    CREATE TABLE opendesk.migrations (
        version     integer     PRIMARY KEY,
        name        text        NOT NULL,
        checksum    text        NOT NULL,
        applied_at  timestamptz NOT NULL DEFAULT clock_timestamp()
    );
"""

_RECORD: Final = """
    INSERT INTO opendesk.migrations (version, name, checksum) VALUES (%(version)s, %(name)s, %(checksum)s)
"""

Connection = psycopg.AsyncConnection[Any]


class MigrationError(Exception):
    """The database can't be brought to this program's schema."""


class BadMigrationFiles(MigrationError):
    """The files are not numbered 0001, 0002, … without gaps and doubles."""


class ServerTooOld(MigrationError):
    """The server is older than PostgreSQL 14."""


class SchemaNotOurs(MigrationError):
    """There is a schema `opendesk` that OpenDesk did not make."""


class DatabaseTooNew(MigrationError):
    """The database was migrated by a newer OpenDesk than this one."""


class MigrationChanged(MigrationError):
    """A file was changed after it was applied."""


class MigrationFailed(MigrationError):
    """The database refused a migration."""


class MigrationLockTimeout(MigrationError):
    """Another program has been migrating this database for too long."""


@frozen
class Migration:
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.version:04}_{self.name}"


@frozen
class Applied:
    """One row of `opendesk.migrations`."""

    version: int
    name: str
    checksum: str

    def __str__(self) -> str:
        return f"{self.version:04}_{self.name}"


def load(folder: Traversable = MIGRATIONS) -> tuple[Migration, ...]:
    """Return the folder's migrations in order. Raise BadMigrationFiles unless they count from 0001 on."""
    found = sorted(
        (parse(entry.name, entry.read_text("utf-8")) for entry in folder.iterdir() if entry.name.endswith(".sql")),
        key=lambda migration: migration.version,
    )
    for expected, migration in enumerate(found, start=1):
        if migration.version != expected:
            raise BadMigrationFiles(f"expected a migration with number {expected:04}, found {migration}.sql")
    return tuple(found)


def parse(file_name: str, sql: str) -> Migration:
    match = _FILE_NAME.fullmatch(file_name)
    if match is None:
        raise BadMigrationFiles(f"{file_name} is not called NNNN_name.sql")
    return Migration(int(match["version"]), match["name"], sql)


def plan(migrations: Sequence[Migration], applied: Sequence[Applied]) -> tuple[Migration, ...]:
    """Return what is left to apply. Raise DatabaseTooNew or MigrationChanged if the two don't belong together."""
    for place, done in enumerate(applied):
        if done.version > len(migrations):
            raise DatabaseTooNew(
                f"a newer OpenDesk migrated this: it has migration {done}, which this program does not know (its newest is "
                f"{len(migrations):04}): run the OpenDesk that applied it, or a newer one"
            )
        if done.version != place + 1:
            raise SchemaNotOurs(f"the list of applied migrations has no number {place + 1:04}, but {done}: restore it")
        if migrations[place].checksum != done.checksum:
            raise MigrationChanged(
                f"migration {done} is not the file that was applied to this database: "
                "install the release unchanged; a change belongs into a new migration"
            )
    return tuple(migrations[len(applied) :])


def check_version(server_version: int) -> None:
    """Raise ServerTooOld. The number is libpq's, 180006 for 18.6."""
    if server_version < OLDEST_SERVER:
        raise ServerTooOld(
            f"the server is PostgreSQL {server_version // 10000}; {OLDEST_SERVER // 10000} or newer is needed"
        )


async def applied(conn: Connection) -> tuple[Applied, ...]:
    """Return what was applied to this database, in order. Raise ServerTooOld or SchemaNotOurs."""
    check_version(conn.info.server_version)
    state = await _row(conn, _STATE)
    if state == _NOTHING:
        return ()
    if state != _OURS:
        raise SchemaNotOurs(
            "there is a schema named opendesk that OpenDesk did not make: give OpenDesk a database of its own"
        )
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_APPLIED)
        return tuple([Applied(*row) async for row in cursor])


async def pending(conn: Connection, *, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Return the names of what `migrate` would apply, changing nothing. Raises what it would raise."""
    wanted = load() if migrations is None else migrations
    return [str(migration) for migration in plan(wanted, await applied(conn))]


async def migrate(
    conn: Connection, *, migrations: Sequence[Migration] | None = None, lock_timeout_ms: int = LOCK_TIMEOUT_MS
) -> list[str]:
    """Apply what is missing, all of it or nothing, and return the names of what was applied.

    Where nothing is missing, a role that may only read `opendesk.migrations` will do. `conn` must not be in a
    transaction. Raises a MigrationError, or psycopg's error if the database can't be reached.
    """
    wanted = load() if migrations is None else migrations
    async with conn.transaction():
        if await _is_current(conn, wanted):
            return []
        await _lock(conn, lock_timeout_ms)
        # Whoever held the lock before may have applied them.
        done = await applied(conn)
        if not done:
            await _execute(conn, "making the schema", _CREATE)
        missing = plan(wanted, done)
        for migration in missing:
            await _apply(conn, migration)
    return [str(migration) for migration in missing]


async def _is_current(conn: Connection, wanted: Sequence[Migration]) -> bool:
    # What the lock protects is read once more after it; a stricter level would keep this snapshot.
    await conn.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    done = await applied(conn)
    return bool(done) and not plan(wanted, done)


async def _lock(conn: Connection, timeout_ms: int) -> None:
    try:
        await conn.execute(_PREPARE, {"lock_timeout": f"{timeout_ms}ms"})
        await conn.execute("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": LOCK})
    except psycopg.errors.LockNotAvailable as exc:
        raise MigrationLockTimeout(
            f"another program has been migrating this database for more than {timeout_ms} ms"
        ) from exc


async def _apply(conn: Connection, migration: Migration) -> None:
    await _execute(conn, f"migration {migration}", migration.sql)
    if conn.info.transaction_status != TransactionStatus.INTRANS:
        raise BadMigrationFiles(f"migration {migration} ends the transaction that it is applied in")
    await conn.execute(_RECORD, {"version": migration.version, "name": migration.name, "checksum": migration.checksum})


async def _execute(conn: Connection, what: str, sql: str) -> None:
    try:
        # Without parameters, so that it may be several statements.
        await conn.execute(sql.encode())
    except psycopg.Error as exc:
        if conn.closed:
            raise
        raise MigrationFailed(f"{what} failed, and nothing was changed: {exc}") from exc


async def _row(conn: Connection, query: LiteralString) -> tuple[Any, ...]:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        row = await (await cursor.execute(query)).fetchone()
    assert row is not None
    return row
