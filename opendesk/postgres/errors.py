"""Why the embedded server can't be had. Every message says what to do about it."""

from typing import Final

import psycopg

# What is raised while the database is away, shutting down, overrun, or only to be read from (a demoted primary, a full disk).
AWAY: Final = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)


class EmbeddedError(Exception):
    """The embedded server can't be used."""


class BinariesMissing(EmbeddedError):
    """There is no PostgreSQL on this machine that could be run."""


class DataDirUnusable(EmbeddedError):
    """The data directory can't be reached or written, or holds something else."""


class DataDirInUse(EmbeddedError):
    """Another live process runs the server of this data directory."""


class OtherMajorVersion(EmbeddedError):
    """The data directory was made by another major version of PostgreSQL."""


class ServerDidNotStart(EmbeddedError):
    """The server, or its making, failed; the message has its last words."""


class ServerDidNotStop(EmbeddedError):
    """A server that somebody left behind can't be stopped."""


class BackupFailed(Exception):
    """No backup was made; nothing of it is left."""


class BackupUnusable(Exception):
    """The file is no backup, is damaged, or is none for this program."""


class RestoreFailed(Exception):
    """The backup was not put in the database's place, which is as it was."""


def violated(error: Exception) -> str | None:
    """The name of the constraint or unique index that a statement ran into."""
    diag = getattr(error, "diag", None)
    return None if diag is None else diag.constraint_name
