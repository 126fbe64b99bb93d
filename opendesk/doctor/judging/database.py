"""The database: there, of our version, with the rights and the room that it takes."""

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from opendesk.doctor.finding import Finding, bad, ok, skipped, warn

OLDEST_MAJOR: Final = 14
_VERSION_UNIT: Final = 10_000
# A daemon has its pool and eight more (database.py): fewer free than this, and the next start of one fails.
_FREE_CONNECTIONS: Final = 10
# Ours take seconds; a backup may take minutes, and holds no lock that matters.
LONG_TRANSACTION_S: Final = 300.0


@frozen(kw_only=True)
class DataFolder:
    """Of the embedded server. `owner` and `mode` are None where there is no folder yet."""

    path: str
    owner: int | None
    mode: int | None
    is_readable: bool = True


@frozen(kw_only=True)
class Database:
    """`missing` are migrations; `unreadable` counts tables that its role may not read."""

    version: int
    missing: Sequence[str]
    unreadable: int
    is_superuser: bool
    is_external: bool
    connections: int
    max_connections: int
    long_transactions: int
    longest_transaction_s: float
    fault: str | None = None  # why its migrations are no base for this program


def judge(found: Database) -> Iterator[Finding]:
    yield ok("database.reachable", "embedded, and answers" if not found.is_external else "answers")
    yield _version(found.version)
    yield _migrations(found)
    yield from _rights(found)
    yield _connections(found)
    yield _transactions(found)


def judge_away(why: str, *, is_external: bool, daemon_pid: int | None) -> Finding:
    if is_external:
        do = "see that it runs, and that DATABASE_URL is right"
    elif daemon_pid is None:
        do = "start the daemon, which runs it"
    else:
        do = "see what `disk` says, and journalctl -u opendesk -n 50; if it doesn't come back by itself, systemctl restart opendesk"
    return bad("database.reachable", why, do)


def judge_folder(found: DataFolder) -> Iterator[Finding]:
    if found.mode is None:
        yield skipped("database.folder", f"{found.path} isn't there yet", "start the daemon: it makes it")
    elif found.mode & 0o077:
        yield bad("database.folder", f"{found.path} is open to others", f"chmod 700 {found.path}")
    else:
        yield ok("database.folder", f"{found.path} is its owner's alone")


def _version(version: int) -> Finding:
    major = version // _VERSION_UNIT
    if major >= OLDEST_MAJOR:
        return ok("database.version", f"PostgreSQL {major}.{version % _VERSION_UNIT}")
    return bad(
        "database.version",
        f"PostgreSQL {major} is too old",
        f"upgrade it to {OLDEST_MAJOR} or newer (docs/database.md)",
    )


def _migrations(found: Database) -> Finding:
    if found.fault is not None:
        return bad("database.migrations", found.fault, "install the version that it was used with last, or a newer one")
    if not found.missing:
        return ok("database.migrations", "up to date")
    return bad(
        "database.migrations", f"it lacks {', '.join(found.missing)}", "stop the daemons, and run `opendesk migrate`"
    )


def _rights(found: Database) -> Iterator[Finding]:
    if found.unreadable:
        yield bad(
            "database.rights",
            f"its role may not read {found.unreadable} of our tables",
            "`opendesk migrate --grant ROLE` as their owner (docs/database.md, Two roles)",
        )
    elif found.is_superuser and found.is_external:
        yield warn(
            "database.rights",
            "its role is a superuser, which serving doesn't take",
            "give the daemon a role of its own: docs/database.md, Two roles",
        )
    else:
        yield ok("database.rights", "its role has what it takes")


def _connections(found: Database) -> Finding:
    free = found.max_connections - found.connections
    told = f"{found.connections} of {found.max_connections} connections are taken"
    if free >= _FREE_CONNECTIONS:
        return ok("database.connections", told)
    do = "raise max_connections, or lower RELAY_DB_POOL_SIZE"
    return bad("database.connections", told, do) if free <= 0 else warn("database.connections", told, do)


def _transactions(found: Database) -> Finding:
    if not found.long_transactions:
        return ok("database.transactions", "none is long")
    return warn(
        "database.transactions",
        f"{found.long_transactions} have been open for more than {LONG_TRANSACTION_S:.0f} s, the longest {found.longest_transaction_s:.0f} s",
        "find whose they are in pg_stat_activity (a backup's end by themselves)",
    )
