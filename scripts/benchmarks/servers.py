"""What is measured: a database of its own, and the servers on it, each a process."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
import os
from pathlib import Path
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from typing import IO, Final
from urllib.parse import urlencode

from attrs import frozen
import psutil
from psycopg.conninfo import conninfo_to_dict
import trio

from opendesk.database import STATEMENT_TIMEOUT_MS, bring_up_to_date
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.embedded.lifetime import embedded_server
from opendesk.postgres.pool import with_options
from scripts.benchmarks.measure import Cpu, cpu
from scripts.benchmarks.people import JWT_SECRET

OURS: Final = ("-m", "opendesk", "serve")
PEER: Final = ("-m", "scripts.benchmarks.peer")

# Most hosts here never beat, or are silent while another server is measured.
_PATIENT: Final = {"HOST_HEARTBEAT_TIMEOUT_MS": "3600000"}

# To be ready, and to be gone again; both take a second.
START_S: Final = 60.0
STOP_S: Final = 20.0
_LOOK_S: Final = 0.005
_ASK_S: Final = 2.0


@frozen
class Database:
    conninfo: str
    postmaster: psutil.Process

    @property
    def url(self) -> str:
        """As DATABASE_URL wants it."""
        parts = conninfo_to_dict(self.conninfo)
        return f"postgresql:///{parts['dbname']}?{urlencode({name: parts[name] for name in ('host', 'port', 'user')})}"

    @property
    def as_served(self) -> str:
        """The conninfo with what the daemon's pool adds to it."""
        return with_options(self.conninfo, search_path="opendesk", statement_timeout_ms=STATEMENT_TIMEOUT_MS)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[TrioConnection]:
        """Without a limit of time: preparing takes longer than what serves may."""
        conninfo = with_options(self.conninfo, search_path="opendesk")
        conn = await TrioConnection.connect(conninfo, autocommit=True)
        try:
            yield conn
        finally:
            await conn.close()


@contextmanager
def folder() -> Iterator[Path]:
    """On the disk, as in production; open to the user that PostgreSQL runs as when we are root."""
    made = Path(tempfile.mkdtemp(prefix="opendesk-bench-")).resolve()
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@asynccontextmanager
async def database() -> AsyncIterator[Database]:
    """The embedded server with production's configuration, fresh and migrated."""
    with folder() as made:
        async with embedded_server(made / "data") as conninfo:
            await bring_up_to_date(conninfo)
            yield Database(conninfo, child_named("postgres", psutil.Process()))


def child_named(name: str, parent: psutil.Process) -> psutil.Process:
    return next(process for process in parent.children() if process.name() == name)


@frozen
class Served:
    """A server that answers."""

    port: int
    process: psutil.Process
    postmaster: psutil.Process

    def cpu(self) -> Cpu:
        return cpu(self.process, self.postmaster)


@asynccontextmanager
async def serving(
    base: Database,
    command: Sequence[str] = OURS,
    *,
    environ: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
) -> AsyncIterator[Served]:
    """Run a server until it is left: the daemon itself, or `PEER` with what it is to be. Its log goes there, else to our standard error."""
    port = free_port()
    own = {"DATABASE_URL": base.url, "JWT_SECRET": JWT_SECRET, "PORT": str(port), **_PATIENT, **(environ or {})}
    process = start(command, own, log)
    try:
        await until_ready(process, port)
        yield Served(port, psutil.Process(process.pid), base.postmaster)
    finally:
        with trio.CancelScope(shield=True):
            await stop(process)


def start(command: Sequence[str], settings: Mapping[str, str], log: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """A Python of this environment, with these settings and no others."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "PYTHONPATH") if name in os.environ}
    environ = {**kept, "LOG_LEVEL": "warning", **settings}
    return subprocess.Popen([sys.executable, *command], env=environ, stdout=subprocess.DEVNULL, stderr=log)


async def until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Raise RuntimeError if it ends instead."""
    with trio.fail_after(START_S):
        while not await _is_ready(port):
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with code {process.returncode} at its start")
            await trio.sleep(_LOOK_S)


async def _is_ready(port: int) -> bool:
    return await ready_status(port, within_s=_ASK_S) == HTTPStatus.OK


async def ready_status(port: int, *, within_s: float) -> int | None:
    """What GET /health/ready is answered with; None if it isn't in time, or nobody is there."""
    try:
        with trio.move_on_after(within_s):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                line = await stream.receive_some()
                return int(line.split(b" ")[1]) if line else None
    except (OSError, trio.BrokenResourceError):
        pass
    return None


async def stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        process.send_signal(number)
        with trio.move_on_after(STOP_S):
            while process.poll() is None:  # noqa: ASYNC110  # only the kernel knows
                await trio.sleep(_LOOK_S)
            return


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
