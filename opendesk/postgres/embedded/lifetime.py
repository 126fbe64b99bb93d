"""A PostgreSQL of our own: made on the first start, restarted when it dies, stopped when we stop.

`embedded_server` owns it; `running_server` finds one that another process owns; `server_for_command` does either.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import structlog
import trio

from opendesk.postgres.embedded import account as accounts
from opendesk.postgres.embedded import binaries as programs
from opendesk.postgres.embedded import pidfile, postmaster
from opendesk.postgres.embedded.account import Account
from opendesk.postgres.embedded.datadir import DataDir, holder, initialize, locked, prepare
from opendesk.postgres.embedded.server import Server, answers, command_line
from opendesk.postgres.embedded.sockets import conninfo as conninfo_of
from opendesk.postgres.embedded.sockets import lock_file, socket_dir_for
from opendesk.postgres.errors import DataDirInUse, DataDirUnusable

log = structlog.get_logger()

# One that is just ending, or only looking, has let go of the lock by then.
LOCK_WAIT_S: Final = 5.0
# A command waits for another one, and for a server that is starting up.
COMMAND_WAIT_S: Final = 30.0
_LOCK_LOOK_S: Final = 0.05

SERVING: Final = "serves"
_COMMAND: Final = "runs a command"


@asynccontextmanager
async def embedded_server(
    data_dir: Path, *, binaries: Path | None = None, settings: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Run a server on this data directory, making it if need be, and give the conninfo of its database `opendesk`.

    `binaries` is the folder of the programs to use instead of those found. `settings` overrides postgresql.conf. Raises an
    EmbeddedError, whose message says what to do: at the start, or in the body's place when the server keeps dying.
    """
    folder = DataDir.at(data_dir)
    async with _lock(folder, SERVING), _server(folder, binaries, settings or {}) as conninfo:
        yield conninfo


async def running_server(data_dir: Path) -> str | None:
    """Return the conninfo of the server that a daemon runs here and that answers, or None. Changes nothing."""
    folder = DataDir.at(data_dir)
    held = _holder(folder)
    if held is None or held[1] != SERVING:
        return None
    found = pidfile.read(folder.pgdata)
    if found is None or not found.is_ready or not postmaster.is_alive(found.pid, folder.pgdata):
        return None
    conninfo = conninfo_of(found.socket_dir)
    return conninfo if await answers(conninfo) else None


@asynccontextmanager
async def server_for_command(data_dir: Path, *, binaries: Path | None = None) -> AsyncIterator[str]:
    """Give the conninfo of the server that a daemon runs, or else run it for as long as the command takes.

    Raises an EmbeddedError; DataDirInUse if another command, or a daemon that doesn't get its server up, takes too long.
    """
    folder = DataDir.at(data_dir)
    deadline = trio.current_time() + COMMAND_WAIT_S
    while True:
        if (conninfo := await running_server(data_dir)) is not None:
            yield conninfo
            return
        with _try_lock(folder, _COMMAND) as ours:
            if ours:
                async with _server(folder, binaries, {}) as conninfo:
                    yield conninfo
                return
        if trio.current_time() > deadline:
            raise _in_use(folder)
        await trio.sleep(_LOCK_LOOK_S)


def _holder(folder: DataDir) -> tuple[int, str] | None:
    try:
        return holder(folder)
    except PermissionError as exc:
        raise DataDirUnusable(
            f"{folder.root} is not open to you: run this as root or as the user that owns it"
        ) from exc


@contextmanager
def _try_lock(folder: DataDir, purpose: str) -> Iterator[bool]:
    account = accounts.choose(folder.pgdata, folder.root)
    prepare(folder, account)
    with locked(folder, account, purpose) as ours:
        yield ours


@asynccontextmanager
async def _lock(folder: DataDir, purpose: str) -> AsyncIterator[None]:
    deadline = trio.current_time() + LOCK_WAIT_S
    while True:
        with _try_lock(folder, purpose) as ours:
            if ours:
                yield
                return
        if trio.current_time() > deadline:
            raise _in_use(folder)
        log.debug("postgres.waiting_for_data_directory", folder=str(folder.root))
        await trio.sleep(_LOCK_LOOK_S)


def _in_use(folder: DataDir) -> DataDirInUse:
    pid, purpose = _holder(folder) or (0, "")
    return DataDirInUse(
        f"another OpenDesk (process {pid or 'unknown'}, which {purpose or 'holds it'}) uses the data directory {folder.root}: "
        "stop it, or give this one a folder of its own with OPENDESK_DATA_DIR, or a server with DATABASE_URL"
    )


@asynccontextmanager
async def _server(folder: DataDir, binaries: Path | None, settings: Mapping[str, str]) -> AsyncIterator[str]:
    """Only for the holder of the lock."""
    account = accounts.choose(folder.pgdata, folder.root)
    found = await _made_ready(folder, account, binaries)
    with socket_dir_for(folder.pgdata, account) as socket_dir:
        postmaster.free_socket(lock_file(socket_dir), folder.pgdata)
        command = command_line(found, folder.pgdata, socket_dir, settings)
        async with _bare_errors(), trio.open_nursery() as nursery:
            server = Server(command, account, folder.pgdata, conninfo_of(socket_dir), nursery)
            try:
                await server.start()
                nursery.start_soon(server.keep_running)
                yield server.conninfo
            finally:
                nursery.cancel_scope.cancel()
                await server.stop()


async def _made_ready(folder: DataDir, account: Account, binaries: Path | None) -> programs.Binaries:
    try:
        found = await trio.to_thread.run_sync(lambda: programs.find(account, folder.programs, folder=binaries))
        await initialize(folder, found, account)
        await postmaster.end_left_behind(folder.pgdata)
    except OSError as exc:
        raise DataDirUnusable(f"the data directory {folder.root} can't be used: {exc}") from exc
    return found


@asynccontextmanager
async def _bare_errors() -> AsyncIterator[None]:
    """Unpack what the nursery put into a group of one: whoever uses the server need not know that there is a nursery."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        only = group.exceptions[0]
    else:
        return
    # Outside of the handler, so that the error's own cause and context stay what they were.
    raise only
