"""The data directory: who may use it, one process at a time, and how a database comes into it, whole or not at all.

data directory/          the server's user's, mode 0700, where we made it
  opendesk.lock          held for as long as somebody runs the server
  postgres/              PostgreSQL's own (PGDATA), with its socket
  postgres.new-…/        one that is being made; left over if we were killed meanwhile, or a child of initdb's still wrote there
  programs/              a copy of PostgreSQL's programs, where the server's user can't reach the originals
"""

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import os
from pathlib import Path
import shlex
import shutil
import tempfile
from typing import Final

from attrs import frozen
import structlog

from opendesk.postgres.embedded.account import Account
from opendesk.postgres.embedded.binaries import Binaries
from opendesk.postgres.embedded.pidfile import PGDATA
from opendesk.postgres.embedded.process import run
from opendesk.postgres.embedded.sockets import NAME
from opendesk.postgres.errors import DataDirUnusable, OtherMajorVersion

log = structlog.get_logger()

# It takes 0.6 s; a slow card or a busy machine some more.
_INITDB_TIMEOUT_S: Final = 120

# From this version on C.UTF-8 comes with the server and is the same on every system.
_BUILTIN_LOCALE_MAJOR: Final = 17
# From this version on reading is done by worker processes, which a small server is better off without.
_IO_METHOD_MAJOR: Final = 18

# For a small server that others live on too. In postgresql.conf, so that an operator can change them.
_CONFIGURATION: Final = {
    "max_connections": "50",
    "shared_buffers": "64MB",
    "effective_cache_size": "256MB",
    "maintenance_work_mem": "32MB",
    "min_wal_size": "64MB",
    "max_wal_size": "256MB",
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "jit": "off",
    "timezone": "'UTC'",
}


@frozen
class DataDir:
    root: Path

    @classmethod
    def at(cls, path: Path) -> "DataDir":
        return cls(path.expanduser().resolve())

    @property
    def pgdata(self) -> Path:
        return self.root / PGDATA

    @property
    def programs(self) -> Path:
        return self.root / "programs"

    @property
    def lock_file(self) -> Path:
        return self.root / "opendesk.lock"

    def is_ours(self) -> bool:
        return self.lock_file.exists() or (self.pgdata / "PG_VERSION").exists()

    def leftovers(self) -> Iterator[Path]:
        return self.root.glob("postgres.new-*")


def prepare(folder: DataDir, account: Account) -> None:
    """Make the data directory if it isn't there, and see that the account can use it. Raise DataDirUnusable.

    No folder above it is changed, and of those that were there only an empty one, or one of ours, is given to the account.
    """
    try:
        _make(folder.root, account)
        if not account.is_us and not account.can_enter(folder.root):
            _give(folder, account)
    except OSError as exc:
        raise DataDirUnusable(
            f"{folder.root} can't be made the data directory: {exc}; set OPENDESK_DATA_DIR to a folder that can"
        ) from exc
    if not os.access(folder.root, os.W_OK | os.X_OK):
        raise DataDirUnusable(
            f"{folder.root} can't be written by {account}: set OPENDESK_DATA_DIR to a folder that can"
        )
    if folder.pgdata.exists() and folder.pgdata.stat().st_uid != account.uid:
        raise _belongs_to_another(folder.pgdata, account)


def _belongs_to_another(pgdata: Path, account: Account) -> DataDirUnusable:
    """PostgreSQL wants to own its folder. Root's is what a copy that root put back with `cp -r` is."""
    owner = Account(pgdata.stat().st_uid, pgdata.stat().st_gid)
    way_out = f"run OpenDesk as {owner} or as root"
    if owner.uid == 0:
        way_out = f"as root, give it over: chown -R {account.as_owner} {shlex.quote(str(pgdata))}"
    return DataDirUnusable(f"{pgdata} belongs to {owner}, not to {account}, whom PostgreSQL runs as: {way_out}")


def _make(root: Path, account: Account) -> None:
    if root.is_dir():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    root.mkdir(mode=0o700)
    if not account.is_us:
        os.chown(root, account.uid, account.gid)


def _give(folder: DataDir, account: Account) -> None:
    root = folder.root
    for above in reversed(root.parents):
        if not account.can_enter(above):
            raise DataDirUnusable(
                f"PostgreSQL runs as {account} here, because it refuses to run as root, and {above} is closed to {account}, so it "
                f"can't reach {root}: set OPENDESK_DATA_DIR to a folder that others can reach, such as /var/lib/opendesk, or "
                "run OpenDesk as an ordinary user"
            )
    if any(root.iterdir()) and not folder.is_ours():
        raise DataDirUnusable(
            f"{root} is closed to {account}, the user that PostgreSQL runs as, and holds other things than OpenDesk's: "
            "set OPENDESK_DATA_DIR to a folder of its own"
        )
    os.chown(root, account.uid, account.gid)
    root.chmod(0o700)


@contextmanager
def locked(folder: DataDir, account: Account, purpose: str) -> Iterator[bool]:
    """Hold the data directory's lock, or give False if another process holds it. The kernel lets it go when we die."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        lock = os.open(folder.lock_file, flags, mode=0o600)
    except OSError as exc:
        raise DataDirUnusable(f"the data directory can't be locked: {exc}") from exc
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        if not account.is_us:
            os.fchown(lock, account.uid, account.gid)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()} {purpose}\n".encode(), 0)
        yield True
    finally:
        os.close(lock)


def holder(folder: DataDir) -> tuple[int, str] | None:
    """Return the process id and purpose of who holds the lock; None if nobody does."""
    try:
        lock = os.open(folder.lock_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid, _, purpose = os.read(lock, 100).decode().partition(" ")
        # Between the lock's taking and the writing there is nothing yet, or the name of the one before.
        return (int(pid) if pid.isdigit() else 0), purpose.strip()
    finally:
        os.close(lock)
    return None


async def initialize(folder: DataDir, binaries: Binaries, account: Account) -> None:
    """Make the database unless it is there. Raise OtherMajorVersion, DataDirUnusable or ServerDidNotStart.

    It is made beside its place and renamed when it is finished and on the disk.
    """
    _remove_leftovers(folder)
    if (folder.pgdata / "PG_VERSION").exists():
        _check_version(folder.pgdata, binaries)
        return
    if folder.pgdata.exists() and any(folder.pgdata.iterdir()):
        raise DataDirUnusable(f"{folder.pgdata} is not empty and not a database of PostgreSQL's: move it away")
    if not account.has_entry:
        raise DataDirUnusable(
            f"PostgreSQL's initdb makes no database for user id {account.uid}, which has no entry in /etc/passwd: run OpenDesk as a user "
            f"that has one, and that owns {folder.root}, or set DATABASE_URL to a server that runs"
        )
    new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=folder.root))
    try:
        if not account.is_us:
            os.chown(new, account.uid, account.gid)
        await _make_database(new, binaries, account)
        _put_in_place(new, folder)
    except BaseException:  # being told to stop, too
        _remove_leftovers(folder)
        raise


async def _make_database(pgdata: Path, binaries: Binaries, account: Account) -> None:
    log.info("postgres.making_database", programs=str(binaries), user=str(account))
    initdb = [binaries.path("initdb"), "-D", str(pgdata)]
    # Whoever reaches the socket, in a folder of mode 0700, may log in: that is the server's user and root.
    how = [
        "-U",
        NAME,
        "--auth-local=trust",
        "--auth-host=reject",
        "-E",
        "UTF8",
        "--data-checksums",
        "--no-instructions",
    ]
    await run([*initdb, *how, *_locale(binaries.major), "--no-sync"], account, timeout_s=_INITDB_TIMEOUT_S)
    with (pgdata / "postgresql.conf").open("a") as configuration:
        configuration.write(_configuration(binaries.major))
    single = [binaries.path("postgres"), "--single", "-D", str(pgdata), "-c", "exit_on_error=on"]
    create = f"CREATE DATABASE {NAME};\n".encode()
    await run([*single, "-c", "log_checkpoints=off", "postgres"], account, timeout_s=_INITDB_TIMEOUT_S, stdin=create)
    # One sync at the end instead of one in each step.
    await run([*initdb, "--sync-only"], account, timeout_s=_INITDB_TIMEOUT_S)


def _locale(major: int) -> list[str]:
    if major >= _BUILTIN_LOCALE_MAJOR:
        return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C"]


def _configuration(major: int) -> str:
    settings = {**_CONFIGURATION, **({"io_method": "'sync'"} if major >= _IO_METHOD_MAJOR else {})}
    lines = [f"{name} = {value}" for name, value in settings.items()]
    return "\n".join(
        ["", "# OpenDesk's choice for a small server. Change it freely, here or by ALTER SYSTEM.", *lines, ""]
    )


def _check_version(pgdata: Path, binaries: Binaries) -> None:
    made_by = (pgdata / "PG_VERSION").read_text().strip()
    if made_by != str(binaries.major):
        raise OtherMajorVersion(
            f"the database in {pgdata} was made by PostgreSQL {made_by}, and this is {binaries}. Nothing was changed. Either bring it "
            f"over with pg_upgrade, which needs the programs of both; or start it with PostgreSQL {made_by} and set DATABASE_URL to "
            "that server; or dump it there, move the folder away, start OpenDesk once, and restore the dump"
        )


def _remove_leftovers(folder: DataDir) -> None:
    for leftover in folder.leftovers():
        log.info("postgres.removing_unfinished", folder=str(leftover))
        try:
            shutil.rmtree(leftover)
        except OSError as exc:
            # Where a child isn't told that its parent died, it may still be writing there: the next start gets it.
            log.warning("postgres.unfinished_stays", folder=str(leftover), error=repr(exc))


def _put_in_place(new: Path, folder: DataDir) -> None:
    new.rename(folder.pgdata)
    _sync(folder.root)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
