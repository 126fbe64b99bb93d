"""Room on disks, and how old the last backup is."""

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

from opendesk.doctor.finding import Finding, bad, ok, skipped, warn

_GIB: Final = 2**30
# PostgreSQL stops for good where its log finds no room: 1 GiB is four times what that may take (max_wal_size).
_BAD_BYTES: Final = _GIB
_WARN_PART: Final = 0.1
# A tenth of a large disk is plenty.
_PLENTY_BYTES: Final = 10 * _GIB
_BAD_INODES_PART: Final = 0.02
# One a night, and one that failed.
WARN_BACKUP_S: Final = 2 * 86_400.0
_BAD_BACKUP_S: Final = 7 * 86_400.0
_DAY_S: Final = 86_400.0


@frozen(kw_only=True)
class Disk:
    """`what` names what lies there. `inodes_part`: of those that are still free; 1 where the filesystem has no such limit."""

    what: str
    path: str
    free: int
    size: int
    inodes_part: float = 1.0


@frozen(kw_only=True)
class Backups:
    """`newest_s` is the age of the last one; None where there is none. `fault` is why nobody knows, `refused` whom the folder doesn't let write."""

    path: str
    newest_s: float | None = None
    fault: str | None = None
    refused: str | None = None


def judge(disks: Sequence[Disk]) -> Iterator[Finding]:
    for disk in disks:
        told = f"{disk.what} ({disk.path}): {disk.free / _GIB:.1f} of {disk.size / _GIB:.1f} GiB free"
        do = "make room (journalctl --vacuum-size=1G, old backups), or give it a larger disk"
        if disk.free < _BAD_BYTES:
            yield bad("disk.room", told, do)
        elif disk.free < min(disk.size * _WARN_PART, _PLENTY_BYTES):
            yield warn("disk.room", told, do)
        else:
            yield ok("disk.room", told)
        if disk.inodes_part < _BAD_INODES_PART:
            yield bad(
                "disk.inodes",
                f"{disk.what} ({disk.path}): {disk.inodes_part:.1%} of inodes are free",
                "remove small files",
            )


def judge_backups(found: Backups) -> Iterator[Finding]:
    if found.refused is not None:
        yield bad(
            "disk.backup_folder",
            f"user {found.refused}, who backs up every night, can't write into {found.path}",
            f"chown {found.refused}: {found.path} && chmod 700 {found.path}",
        )
    do = "`opendesk backup`, and opendesk-backup.timer for every night (docs/database.md)"
    if found.fault is not None:
        yield skipped("disk.backup", f"{found.path} can't be looked into: {found.fault}", "look as root")
    elif found.newest_s is None:
        yield warn("disk.backup", f"there is no backup in {found.path}", do)
    elif found.newest_s > WARN_BACKUP_S:
        state = bad if found.newest_s > _BAD_BACKUP_S else warn
        yield state("disk.backup", f"the last backup is {found.newest_s / _DAY_S:.0f} days old", do)
    else:
        yield ok("disk.backup", f"the last backup is {found.newest_s / 3600:.0f} hours old")
