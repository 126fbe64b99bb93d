"""Whether what `postmaster.pid` says is true, and how a server that somebody left behind is ended."""

import os
from pathlib import Path
import signal
import subprocess
from typing import Final

import structlog
import trio

from opendesk.postgres.embedded.pidfile import lines_of, read
from opendesk.postgres.errors import ServerDidNotStop

log = structlog.get_logger()

# A fast shutdown writes what the buffers hold: under a second with ours. Then no more checkpoint, then no more mercy: what was
# committed is in the log in each case. PostgreSQL's children end with it.
STOPPING: Final = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

# Linux has it, macOS has not.
_PROC: Final = Path("/proc/self")

# A server that isn't our child can only be looked at.
_LOOK_S: Final = 0.02
_PS_TIMEOUT_S: Final = 5


def is_alive(pid: int, pgdata: Path) -> bool:
    """Return whether this process is a PostgreSQL server of this folder, and not another that got the number since."""
    command = _command_of(pid)
    if not command or Path(command[0]).name not in {"postgres", "postmaster"}:
        return False
    return str(pgdata) in command or _working_folder_of(pid) == pgdata


async def end_left_behind(pgdata: Path) -> None:
    """See that no server runs on this folder and that its `postmaster.pid` doesn't keep one from starting.

    Only for the holder of the data directory's lock: a server that runs nevertheless lost whom it belonged to. It is not
    taken over, because it would not be our child: it would not die with us, and its output would be lost.
    Raise ServerDidNotStop.
    """
    pid_file = pgdata / "postmaster.pid"
    found = read(pgdata)
    if found is None:
        return
    if is_alive(found.pid, pgdata):
        log.warning("postgres.ending_left_behind", pid=found.pid)
        await _end(found.pid, pgdata)
    elif _exists(found.pid):
        # The server would take the number's new owner (or the dead one that nobody has waited for yet) for itself and not start. Its other guard, on the shared memory that is
        # found by the folder's inode, stands.
        log.info("postgres.stale_pid_file", pid=found.pid)
        pid_file.unlink(missing_ok=True)


def free_socket(lock: Path, pgdata: Path) -> None:
    """Remove the lock of a socket whose server is gone, if its number is another process's now, or still that of the dead one.

    Only for the holder of the data directory's lock. As with `postmaster.pid`, a server would not start otherwise.
    """
    lines = lines_of(lock)
    if lines and lines[0].isdigit() and _exists(int(lines[0])) and not is_alive(int(lines[0]), pgdata):
        log.info("postgres.stale_socket_lock", pid=int(lines[0]))
        lock.unlink(missing_ok=True)


async def _end(pid: int, pgdata: Path) -> None:
    for number, patience_s in STOPPING:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        with trio.move_on_after(patience_s):
            while is_alive(pid, pgdata):  # noqa: ASYNC110 - not our child, so nobody tells us
                await trio.sleep(_LOOK_S)
            return
    raise ServerDidNotStop(f"PostgreSQL (process {pid}) was left behind in {pgdata} and does not end: end it by hand")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _command_of(pid: int) -> list[str]:
    if _PROC.exists():
        try:
            return (_PROC.parent / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return []
    ps = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    done = subprocess.run(ps, check=False, capture_output=True, text=True, timeout=_PS_TIMEOUT_S)  # noqa: S603 - a number
    return split_command(done.stdout)


def split_command(shown: str) -> list[str]:
    """Return the program and its folder from what `ps` shows: arguments joined by blanks, and a path may hold blanks."""
    program, _, arguments = shown.strip().partition(" -D ")
    return [program, arguments.partition(" -")[0].strip()] if program else []


def _working_folder_of(pid: int) -> Path | None:
    try:
        return (_PROC.parent / str(pid) / "cwd").readlink()
    except OSError:
        return None
