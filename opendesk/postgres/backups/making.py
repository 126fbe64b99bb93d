"""A backup while the database is in use: dump and manifest are of one snapshot, and what was written is read back."""

from collections.abc import Callable, Iterator
import os
from pathlib import Path
from typing import Any, Final

from attrs import define
import psycopg
import trio

from opendesk.postgres import migrate
from opendesk.postgres.backups import archive as archives
from opendesk.postgres.backups import places, programs
from opendesk.postgres.backups.checking import check
from opendesk.postgres.backups.manifest import FORMAT, Dump, Facts, Manifest
from opendesk.postgres.backups.programs import Programs
from opendesk.postgres.backups.reading import Prove, facts
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.errors import BackupFailed

# Told how far it is: the stage, and the bytes of it that are done.
Progress = Callable[[str, int], object]

# A migration takes seconds; behind one that takes longer a dump, with all who come after it, shall not stand in the queue.
LOCK_WAIT_MS: Final = 60_000

# For the snapshot to live as long as the dump, which is idle time here.
_SNAPSHOT: Final = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
)


@define(eq=False)
class _Making:
    conn: TrioConnection
    conninfo: str
    found: Programs
    writer: archives.Writer
    progress: Progress

    async def of_one_snapshot(self, prove: Prove) -> Facts:
        """The dump is written, and the proof made, side by side."""
        told: list[Facts] = []

        async def look() -> None:
            told.append(await facts(self.conn, prove))

        async with self.conn.transaction():
            snapshot = await self._snapshot()
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._dump, snapshot)
                    nursery.start_soon(look)
            except* (BackupFailed, psycopg.Error) as failed:  # both of them, when the server goes
                raise BackupFailed("; ".join(_words(failed))) from failed
        return told[0]

    async def _snapshot(self) -> str:
        for statement in _SNAPSHOT:
            await self.conn.run(statement)
        if not await migrate.applied(self.conn):
            raise BackupFailed("there is nothing of OpenDesk's in this database")
        row = await self.conn.fetch_one("SELECT pg_export_snapshot()")
        assert row is not None
        return str(row[0])

    async def _dump(self, snapshot: str) -> None:
        where, secret = programs.to_database(self.conninfo)
        how = ["--format=custom", "--schema=opendesk", "--no-password", f"--lock-wait-timeout={LOCK_WAIT_MS}"]
        command = [self.found.path("pg_dump"), *how, f"--snapshot={snapshot}", where]
        await programs.read_from(command, secret, self._take)

    def _take(self, chunk: bytes) -> None:
        try:
            self.writer.add(chunk)
        except OSError as error:  # as pg_dump's it would be a broken pipe
            raise BackupFailed(f"after {self.writer.size} bytes: {error.strerror}") from error
        self.progress("written", self.writer.size)


async def back_up(
    conn: TrioConnection, conninfo: str, target: Path, prove: Prove, *, program: str, progress: Progress
) -> Manifest:
    """Write the backup, and see that it can be read. `conn` leads to `conninfo`. Raise BackupFailed: then there is no file."""
    major = conn.info.server_version // 10000
    found = await trio.to_thread.run_sync(programs.find, major)
    with places.new_file(target) as (file, part):
        writer = archives.Writer(file)
        seen = await _Making(conn, conninfo, found, writer, progress).of_one_snapshot(prove)
        manifest = Manifest(FORMAT, program, seen, Dump(found.version, writer.size, writer.sha256))
        writer.finish(manifest)
        file.flush()
        await trio.to_thread.run_sync(os.fsync, file.fileno())
        _forget(file.fileno())
        await check(archives.read(part), found, progress)
    return manifest


def _words(group: BaseExceptionGroup[Any]) -> Iterator[str]:
    for error in group.exceptions:
        yield from _words(error) if isinstance(error, BaseExceptionGroup) else (str(error),)


def _forget(descriptor: int) -> None:
    """So that reading back shows what is on the disk, and not what is in memory."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
