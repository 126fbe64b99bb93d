"""pg_dump and pg_restore: where they are, and how one is read from or written to."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
import os
from pathlib import Path
import shutil
import signal
from typing import Final

from attrs import frozen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
import trio

from opendesk.postgres.backups.archive import CHUNK_BYTES
from opendesk.postgres.embedded.account import Account
from opendesk.postgres.embedded.binaries import installed, version_of, wheel_package
from opendesk.postgres.embedded.process import Process, start
from opendesk.postgres.errors import BackupFailed, BinariesMissing

# A program that gives or takes nothing for so long waits for somebody who doesn't come: the longest index of a table that fits
# on such a machine is made in less.
SILENCE_S: Final = 1800.0
_KILLING: Final = (signal.SIGKILL, 5.0)


@frozen
class Programs:
    folder: Path
    version: str
    major: int

    def path(self, program: str) -> str:
        return str(self.folder / program)


def find(at_least: int) -> Programs:
    """Programs of this major version or a newer one: pg_dump reads older servers, and no newer ones. Raise BinariesMissing."""
    newest = 0
    for folder in _folders():
        found = _ask(folder)
        if found is not None and found.major >= at_least:
            return found
        newest = max(newest, 0 if found is None else found.major)
    there_is = f"the newest here is {newest}" if newest else "there is none here"
    raise BinariesMissing(
        f"this takes pg_dump and pg_restore of PostgreSQL {at_least} or newer, and {there_is}: "
        f"install them (Debian: apt-get install postgresql-client-{at_least})"
    )


def _folders() -> Iterator[Path]:
    if (wheel := wheel_package()) is not None:
        yield wheel / "pginstall" / "bin"
    yield from installed()
    if (on_path := shutil.which("pg_dump")) is not None:
        yield Path(on_path).parent


def _ask(folder: Path) -> Programs | None:
    if not all(os.access(folder / name, os.X_OK) for name in ("pg_dump", "pg_restore")):
        return None
    said = version_of(folder / "pg_dump")
    return None if said is None else Programs(folder, *said)


def to_database(conninfo: str) -> tuple[str, dict[str, str]]:
    """The argument that names a database, and what of it may not be seen in a list of processes."""
    parts = conninfo_to_dict(conninfo)
    if "sslpassword" in parts:
        raise BackupFailed(
            "sslpassword in DATABASE_URL would be seen by all users here: use a key without one, or sslkey's file"
        )
    password = parts.pop("password", None)
    return f"--dbname={make_conninfo('', **parts)}", {} if password is None else {"PGPASSWORD": str(password)}


async def read_from(command: Sequence[str], environ: dict[str, str], take: Callable[[bytes], object]) -> None:
    """Run it, and give what it writes to `take`, in a thread. Raise BackupFailed with its last words."""
    reader, writer = os.pipe()
    async with trio.lowlevel.FdStream(reader) as output:
        try:
            process = start(command, _us(), death_signal=signal.SIGKILL, stdout=writer, environ=environ)
        finally:
            os.close(writer)
        async with _heard(process):
            while chunk := await _in_time(process, output):
                await trio.to_thread.run_sync(take, chunk)
            await _finished(process, Path(command[0]).name)


async def _in_time(process: Process, output: trio.lowlevel.FdStream) -> bytes:
    with trio.move_on_after(SILENCE_S):
        return bytes(await output.receive_some(CHUNK_BYTES))
    raise BackupFailed(f"nothing came for {SILENCE_S:.0f} s: {process.last_words}")


async def write_to(command: Sequence[str], environ: dict[str, str], chunks: Iterable[bytes]) -> None:
    """Run it, and let it read the chunks. Raise BackupFailed with its last words, or what reading them raises."""
    reader, writer = os.pipe()
    async with trio.lowlevel.FdStream(writer) as stream:
        try:
            process = start(command, _us(), death_signal=signal.SIGKILL, stdin=reader, environ=environ)
        finally:
            os.close(reader)
        async with _heard(process):
            await _fed(process, stream, iter(chunks))
            await stream.aclose()
            await _finished(process, Path(command[0]).name)


async def _fed(process: Process, stream: trio.lowlevel.FdStream, chunks: Iterator[bytes]) -> None:
    hung_up = False
    while chunk := await trio.to_thread.run_sync(next, chunks, b""):
        try:
            with trio.move_on_after(SILENCE_S) as limit:
                if not hung_up:
                    await stream.send_all(chunk)
        except trio.BrokenResourceError:
            hung_up = True  # it knows why, and says so at its end; what is left is still read, for its sum
        if limit.cancelled_caught:
            raise BackupFailed(f"nothing was taken for {SILENCE_S:.0f} s: {process.last_words}")


@asynccontextmanager
async def _heard(process: Process) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.read_output, str)
        try:
            yield
        finally:
            await process.end(_KILLING)  # does nothing to one that has ended


async def _finished(process: Process, name: str) -> None:
    with trio.move_on_after(SILENCE_S):
        if await process.wait() == 0:
            return
        await process.close()
    raise BackupFailed(f"{name} failed with exit code {process.exit_code}: {process.last_words}")


def _us() -> Account:
    return Account(os.geteuid(), os.getegid())
