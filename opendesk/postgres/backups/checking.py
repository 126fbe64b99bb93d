"""Whether a backup can be read, and whether this program can use it; no database is asked."""

from collections.abc import Callable, Iterator

from opendesk.postgres import migrate
from opendesk.postgres.backups import programs
from opendesk.postgres.backups.archive import Archive
from opendesk.postgres.backups.manifest import Manifest
from opendesk.postgres.backups.programs import Programs
from opendesk.postgres.errors import BackupUnusable


async def check(archive: Archive, found: Programs, progress: Callable[[str, int], object]) -> None:
    """Read it to its end, as a restore does, but into nothing. Raise BackupUnusable or BackupFailed."""
    command = [found.path("pg_restore"), "--format=custom", "--file=/dev/null"]
    await programs.write_to(command, {}, counted(archive, "read", progress))


def counted(archive: Archive, stage: str, progress: Callable[[str, int], object]) -> Iterator[bytes]:
    done = 0
    for chunk in archive.chunks():
        done += len(chunk)
        progress(stage, done)
        yield chunk


def missing_migrations(manifest: Manifest) -> list[str]:
    """What this program has to apply to it. Raise MigrationError where it is a newer one's."""
    return [str(migration) for migration in migrate.plan(migrate.load(), manifest.facts.migrations)]


def major_of(manifest: Manifest) -> int:
    """What pg_restore has to be at least."""
    major = manifest.dump.written_by.split(".")[0]
    if not major.isdigit():
        raise BackupUnusable(f"its manifest names no version of pg_dump: {manifest.dump.written_by!r}")
    return int(major)
