"""Where backups lie, what they are called, and how a file comes to its name whole or not at all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
import errno
import fcntl
import os
from pathlib import Path
import re
import tempfile
from typing import BinaryIO, Final

from opendesk.postgres.errors import BackupFailed

USUAL: Final = Path("/var/backups/opendesk")
_NAME: Final = re.compile(r"opendesk_\d{8}_\d{6}\.tar")
_PART: Final = ".opendesk-part"
# Each is lost only to a backup that begins in that very moment.
_TRIES: Final = 10


def usual_folder() -> Path:
    return USUAL if os.access(USUAL, os.W_OK | os.X_OK) else Path.cwd()


def named_at(now: datetime) -> str:
    return f"opendesk_{now:%Y%m%d_%H%M%S}.tar"


def to_remove(names: Sequence[str], made: str, keep: int) -> list[str]:
    """Of the backups with names of ours all but the latest, of which `made` is one; other files are nobody's business here.

    Nor are those with later names, by a clock that was ahead: nobody knows how old they are.
    """
    older = sorted(name for name in names if _NAME.fullmatch(name) and name < made)
    return older[: max(0, len(older) + 1 - keep)]


def remove_old(made: Path, keep: int) -> list[str]:
    """Of those beside the one that was just made."""
    names = to_remove([entry.name for entry in made.parent.iterdir() if entry.is_file()], made.name, keep)
    for name in names:
        (made.parent / name).unlink(missing_ok=True)
    return names


@contextmanager
def new_file(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A file under a name for the time being; it has its own when this is left in peace, else it is gone. Raise BackupFailed.

    Only its owner can read it. An existing file is never replaced.
    """
    _must_be_free(target)
    _remove_parts(target.parent)
    try:
        file, part = _locked_part(target.parent)
    except OSError as error:
        raise BackupFailed(f"{target} can't be written: {error.strerror}") from error
    try:
        with file:
            yield file, part
            file.flush()
            _name(part, target)  # while it is locked, or another backup would take it for a dead one's
        _sync(target.parent)
    except OSError as error:
        raise BackupFailed(f"{target} can't be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _locked_part(folder: Path) -> tuple[BinaryIO, Path]:
    """Locked until it is closed, or we are killed. Before that another backup may take it for a dead one's, and then it is made anew."""
    for _ in range(_TRIES):
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=_PART, dir=folder)
        file = os.fdopen(descriptor, "w+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return file, Path(name)
        except BlockingIOError:  # it is being removed
            pass
        except OSError:
            file.close()
            Path(name).unlink(missing_ok=True)
            raise
        file.close()
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _name(part: Path, target: Path) -> None:
    try:
        target.hardlink_to(part)  # unlike a renaming it never replaces, however late somebody else came
    except FileExistsError:
        raise _taken(target) from None
    except OSError:  # a file system without links, such as a memory stick's
        _must_be_free(target)
        part.rename(target)


def _must_be_free(target: Path) -> None:
    if os.path.lexists(target):
        raise _taken(target)


def _taken(target: Path) -> BackupFailed:
    return BackupFailed(f"{target} is there already, and no backup replaces another: choose another name")


def _remove_parts(folder: Path) -> None:
    """What was left by somebody who was killed; whoever still writes has it locked."""
    for part in folder.glob(f".*{_PART}"):
        try:
            with part.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink(missing_ok=True)
        except OSError:  # somebody's who lives, or who has other rights than we: not ours to remove
            continue


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
