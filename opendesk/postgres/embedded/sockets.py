"""Where the server's socket lies, and how it is called from there."""

from collections.abc import Iterator
from contextlib import contextmanager
import hashlib
import os
from pathlib import Path
import shutil
import stat
import sys
import tempfile
from typing import Final

from psycopg.conninfo import make_conninfo

from opendesk.postgres.embedded.account import Account
from opendesk.postgres.errors import EmbeddedError

# The role and the database that the server is made with.
NAME: Final = "opendesk"

PORT: Final = 5432
_SOCKET_NAME: Final = f".s.PGSQL.{PORT}"

# sun_path without its final zero: <sys/un.h>.
_MAX_SOCKET_PATH: Final = 103 if sys.platform == "darwin" else 107


def conninfo(socket_dir: Path) -> str:
    return make_conninfo(host=str(socket_dir), port=PORT, user=NAME, dbname=NAME)


def lock_file(socket_dir: Path) -> Path:
    """Where a server notes that the socket is its own."""
    return socket_dir / f"{_SOCKET_NAME}.lock"


@contextmanager
def socket_dir_for(pgdata: Path, account: Account) -> Iterator[Path]:
    """Give PGDATA, or a short private folder where its path is too long for a socket's address or would be misread."""
    if _fits(pgdata):
        yield pgdata
        return
    made = _make_short_dir(pgdata, account)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _make_short_dir(pgdata: Path, account: Account) -> Path:
    # Always the same name, so that one that was left over when we were killed is used again.
    name = f"opendesk-{hashlib.sha256(os.fsencode(pgdata)).hexdigest()[:16]}"
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), "/run", tempfile.gettempdir(), "/tmp"):  # noqa: S108 - see _take
        if parent is None or not account.can_enter(Path(parent)) or not _fits(made := Path(parent, name)):
            continue
        if _take(made, account):
            return made
    raise EmbeddedError(
        f"the path {pgdata} is too long for a Unix socket, and no folder with a short path could be made: set TMPDIR to a "
        "folder with a short path, or OPENDESK_DATA_DIR"
    )


def _take(made: Path, account: Account) -> bool:
    """Make the folder, private from the start. One that somebody else put there under that name is left alone."""
    try:
        made.mkdir(mode=0o700, exist_ok=True)
        found = made.lstat()
        # One that was ours before is the account's; one that is still ours was left when we were killed right here.
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid in {os.geteuid(), account.uid}
        if not ours or stat.S_IMODE(found.st_mode) != stat.S_IRWXU:
            return False
        if not account.is_us:
            os.chown(made, account.uid, account.gid, follow_symlinks=False)
    except OSError:
        return False
    return True


def _fits(folder: Path) -> bool:
    # libpq takes a comma for the end of a host's name.
    return len(os.fsencode(folder / _SOCKET_NAME)) <= _MAX_SOCKET_PATH and "," not in str(folder)
