"""What `postmaster.pid` says. Apart from what is done with it: who only asks, as a shell that completes a name, imports no Trio for it."""

import os
from pathlib import Path
from typing import Final

from attrs import frozen

# Where the server lies in the data folder.
PGDATA: Final = "postgres"

# The file is some 100 bytes.
_MAX_FILE_BYTES: Final = 4096


@frozen
class Postmaster:
    pid: int
    socket_dir: Path
    port: int
    is_ready: bool


def read(pgdata: Path) -> Postmaster | None:
    """Return what the file says; None if there is none, or one that is being written. It may be stale."""
    lines = lines_of(pgdata / "postmaster.pid")
    # Process id, PGDATA, start time, port, socket folder, address, shared memory, status; written from the top as they are known.
    if len(lines) < 5 or not lines[0].isdigit() or not lines[3].isdigit():  # noqa: PLR2004 - counted above
        return None
    return Postmaster(int(lines[0]), Path(lines[4]), int(lines[3]), is_ready=lines[7:8] == ["ready"])


def lines_of(file: Path) -> list[str]:
    """Nothing, if there is no such file."""
    try:
        # The folder is another user's: neither a link nor a pipe that was put there shall lead us astray.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        content = os.read(descriptor, _MAX_FILE_BYTES).decode(errors="replace")
    finally:
        os.close(descriptor)
    return [line.strip() for line in content.split("\n")]
