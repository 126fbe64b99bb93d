"""The machine that we are on: its clock, its disks, its units, its processes."""

from collections.abc import Iterator, Sequence
import ctypes
import os
from pathlib import Path
import pwd
import stat
import time
from typing import Final

from attrs import evolve

import opendesk
from opendesk.doctor.judging.disk import Backups, Disk
from opendesk.network.wireguard.wg import has_net_admin
from opendesk.postgres.backups.places import USUAL
from opendesk.settings import Settings

# Of opendesk-backup.service.
_BACKUP_USER: Final = "opendesk"
_JOURNAL: Final = Path("/var/log/journal")
# Of a folder of backups; one that has more isn't ours.
_FILES_MAX: Final = 10_000
# <sys/timex.h>: what adjtimex returns when nothing sets the clock; and more than its structure takes on any system.
_TIME_ERROR: Final = 5
_TIMEX_BYTES: Final = 512
_IFF_UP: Final = 1  # <linux/if.h>
_STARTED_AT_FIELD: Final = 19  # of /proc/PID/stat, counted behind the name


def clock_is_synchronized() -> bool | None:
    """What the kernel says, without changing it: with no mode set adjtimex(2) only reads."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    state = adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if state < 0 else state != _TIME_ERROR


def running_since(pid: int | None) -> float | None:
    """In Unix seconds."""
    if pid is None:
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        booted = next(line for line in Path("/proc/stat").read_text("ascii").splitlines() if line.startswith("btime "))
        return int(booted.split()[1]) + int(fields[_STARTED_AT_FIELD]) / os.sysconf("SC_CLK_TCK")
    except (OSError, LookupError, ValueError, StopIteration):
        return None


def installed_at() -> float:
    """A package keeps the times at which its files were made, but not that at which they came here."""
    return Path(opendesk.__file__).stat().st_ctime


def may_change_interfaces(pid: int | None) -> bool | None:
    if pid is None:
        return None
    try:
        return has_net_admin(Path(f"/proc/{pid}/status").read_text("utf-8", "replace"))
    except OSError:
        return None


def interface_is_up(name: str) -> bool | None:
    try:
        return bool(int(Path(f"/sys/class/net/{name}/flags").read_text("ascii"), 16) & _IFF_UP)
    except (OSError, ValueError):
        return None


def disks(settings: Settings) -> Sequence[Disk]:
    """One finding a folder, also where several are on one disk: who reads it needn't know the mounts."""
    wanted = {"data": settings.opendesk_data_dir, "journal": _JOURNAL, "backups": USUAL}
    there = {what: path for what, path in wanted.items() if what == "data" or path.is_dir()}
    return [_disk(what, _nearest(path)) for what, path in there.items()]


def _nearest(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _disk(what: str, path: Path) -> Disk:
    found = os.statvfs(path)
    inodes = found.f_favail / found.f_files if found.f_files else 1.0
    return Disk(
        what=what,
        path=str(path),
        free=found.f_bavail * found.f_frsize,
        size=found.f_blocks * found.f_frsize,
        inodes_part=inodes,
    )


def backups(folder: Path = USUAL, user: str = _BACKUP_USER) -> Backups:
    found = Backups(path=str(folder), refused=user if may_write(folder, user) is False else None)
    try:
        newest = max(_ended(folder), default=None)
    except FileNotFoundError:
        newest = None
    except OSError as error:
        return evolve(found, fault=error.strerror)
    return evolve(found, newest_s=None if newest is None else max(0.0, time.time() - newest))


def may_write(folder: Path, user: str) -> bool | None:
    """By owner and mode, since whoever looks may be root. None where there is no such user or folder."""
    try:
        them, told = pwd.getpwnam(user), folder.stat()
    except (KeyError, OSError):
        return None
    if told.st_uid == them.pw_uid:
        wanted = stat.S_IWUSR | stat.S_IXUSR
    elif told.st_gid in os.getgrouplist(user, them.pw_gid):
        wanted = stat.S_IWGRP | stat.S_IXGRP
    else:
        wanted = stat.S_IWOTH | stat.S_IXOTH
    return them.pw_uid == 0 or told.st_mode & wanted == wanted


def _ended(folder: Path) -> Iterator[float]:
    """When each was written; one that is being made has a dot before its name."""
    with os.scandir(folder) as entries:
        for _, entry in zip(range(_FILES_MAX), entries, strict=False):
            if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False) and entry.stat().st_size:
                yield entry.stat().st_mtime
