"""Which system user PostgreSQL runs as, and what that user can reach. PostgreSQL refuses to run as root."""

import os
from pathlib import Path
import pwd
import subprocess
from typing import Any, Final

from attrs import frozen

from opendesk.postgres.errors import EmbeddedError

# Whom root becomes when the data directory does not say: Debian's and Red Hat's user for PostgreSQL, else the one of least rights.
_USUAL: Final = ("postgres", "nobody")

# `test` answers in milliseconds; a file system that hangs must not hang us.
_ACCESS_TIMEOUT_S: Final = 10


@frozen
class Account:
    uid: int
    gid: int

    @property
    def is_us(self) -> bool:
        return self.uid == os.geteuid()

    @property
    def drop(self) -> dict[str, Any]:
        """Arguments for `subprocess` that make a child run as this user."""
        return {} if self.is_us else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def __str__(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"user {self.uid}"

    @property
    def has_entry(self) -> bool:
        """Whether the system knows its name, which `initdb` asks for. A container's `--user 12345` mostly has none."""
        try:
            pwd.getpwuid(self.uid)
        except KeyError:
            return False
        return True

    @property
    def as_owner(self) -> str:
        """How `chown` takes it."""
        return f"{self}:" if self.has_entry else f"{self.uid}:{self.gid}"

    def can_enter(self, folder: Path) -> bool:
        return self._can("x", folder)

    def can_write(self, folder: Path) -> bool:
        return self._can("x", folder) and self._can("w", folder)

    def can_run(self, program: Path) -> bool:
        return self._can("x", program)

    def _can(self, what: str, path: Path) -> bool:
        if self.is_us:
            return os.access(path, {"x": os.X_OK, "w": os.W_OK}[what])
        # Asking the system as that user counts what a look at the modes would miss: access lists, mounts, namespaces.
        command = ["/bin/sh", "-c", f'test -{what} "$1"', "sh", str(path)]
        return subprocess.run(command, check=False, cwd="/", timeout=_ACCESS_TIMEOUT_S, **self.drop).returncode == 0  # noqa: S603 - no input of others


def choose(*folders: Path) -> Account:
    """Return us, or, if we are root, the owner of the first of the folders that is there and not root's, else a usual user."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    for folder in folders:
        if folder.exists() and (owner := folder.stat()).st_uid != 0:
            return Account(owner.st_uid, _primary_group(owner.st_uid, otherwise=owner.st_gid))
    for name in _USUAL:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(found.pw_uid, found.pw_gid)
    raise EmbeddedError(
        "PostgreSQL does not run as root, and this system has no user postgres or nobody that it could run as: "
        "run OpenDesk as an ordinary user"
    )


def _primary_group(uid: int, *, otherwise: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return otherwise
