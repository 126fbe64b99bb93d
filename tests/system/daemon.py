"""The real daemon as a process of its own: started, listened to to its last word, asked, stopped or killed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
from typing import Any, Final
from urllib.parse import urlencode

from attrs import define, field
import httpx
from psycopg.conninfo import conninfo_to_dict
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.embedded import pidfile, postmaster
from opendesk.postgres.embedded.lifetime import running_server

# What a test that hangs is given; nothing is measured by it.
PATIENCE_S: Final = 60

# Of our own environment a daemon gets what programs need to run, and no settings.
KEPT: Final = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "XDG_RUNTIME_DIR")

# Any port, a log that can be read, and warnings of Python's are faults.
COMMAND: Final = (sys.executable, "-W", "error", "-m", "opendesk")
SETTINGS: Final = {"PORT": "0", "LOG_FORMAT": "json", "METRICS_ALLOW": "127.0.0.0/8"}

Line = dict[str, Any]


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    return {**{name: os.environ[name] for name in KEPT if name in os.environ}, **SETTINGS, **settings}


@define(eq=False)
class Daemon:
    """A process that writes its log to standard error. `expected` are the events that may be errors."""

    process: trio.Process
    data_dir: Path
    expected: frozenset[str]
    log: list[Line] = field(factory=list)
    welcome: list[str] = field(factory=list)
    noise: list[str] = field(factory=list)
    http: httpx.AsyncClient = field(factory=httpx.AsyncClient)
    _heard: trio.Event = field(factory=trio.Event)
    _silent: trio.Event = field(factory=trio.Event)

    # What it says

    async def listen(self) -> None:
        """Read both pipes to their ends, so that neither is ever full."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._lines, self.process.stdout, self.welcome.append)
            nursery.start_soon(self._lines, self.process.stderr, self._take)
        self._silent.set()
        self._wake()

    async def _lines(self, pipe: trio.abc.ReceiveStream | None, take: Callable[[str], None]) -> None:
        assert pipe is not None
        rest = b""
        async with pipe:
            async for chunk in pipe:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    take(line.decode())

    def _take(self, line: str) -> None:
        try:
            self.log.append(json.loads(line))
        except ValueError:
            self.noise.append(line)
        self._wake()

    def _wake(self) -> None:
        self._heard.set()
        self._heard = trio.Event()

    def said(self, event: str, **facts: object) -> list[Line]:
        """The lines of this event so far, of those with these facts."""
        return [line for line in self.log if line["event"] == event and facts.items() <= line.items()]

    async def says(self, event: str, *, after: int = 0, **facts: object) -> Line:
        """Wait for more than `after` lines of this event, and give the last."""
        with trio.fail_after(PATIENCE_S):
            while len(found := self.said(event, **facts)) <= after:
                assert not self._silent.is_set(), f"it ended without a word of {event}: {self.last_words}"
                await self._heard.wait()
        return found[-1]

    @property
    def last_words(self) -> str:
        return "\n".join([*(json.dumps(line) for line in self.log[-10:]), *self.noise[-40:]])

    def faults(self) -> list[str]:
        """What no healthy daemon says."""
        errors = [line for line in self.log if line["level"] in {"error", "critical"}]
        return [*(_readable(line) for line in errors if line["event"] not in self.expected), *self.noise]

    # What is done with it

    async def ready(self) -> "Daemon":
        line = await self.says("daemon.ready")
        self.http = client(line["urls"][0])
        return self

    @property
    def url(self) -> str:
        return str(self.http.base_url)

    @property
    def port(self) -> int:
        port = self.http.base_url.port
        assert port is not None
        return port

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code, when it has ended and all that it said was read."""
        with trio.fail_after(PATIENCE_S):
            code = await self.process.wait()
            await self._silent.wait()
        return code

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.send(number)
        return await self.ended()

    async def kill(self) -> None:
        """As the kernel does when memory is short: it can do nothing about it."""
        self.process.kill()
        await self.process.wait()

    async def close(self) -> None:
        """Whatever state it is in."""
        await self.http.aclose()
        with trio.move_on_after(PATIENCE_S):
            await self.stop()
        await self.kill()


def _readable(line: Line) -> str:
    return "\n".join([json.dumps({**line, "exception": "…"}), line.get("exception", "")])


def client(url: str) -> httpx.AsyncClient:
    """For `http://…` or `unix:/path`. Its limits are far above what a healthy daemon takes."""
    if url.startswith("unix:"):
        transport = httpx.AsyncHTTPTransport(uds=url.removeprefix("unix:"))
        return httpx.AsyncClient(base_url="http://localhost", transport=transport, timeout=PATIENCE_S)
    return httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=httpx.Limits(max_connections=200))


async def launch(
    nursery: trio.Nursery,
    data_dir: Path,
    settings: Mapping[str, str],
    *,
    expected: Iterable[str] = (),
    command: tuple[str, ...] = (*COMMAND, "serve"),
    **options: Any,
) -> Daemon:
    """Start it; its output is read in the nursery. It need not be ready yet."""
    make = partial(trio.lowlevel.open_process, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    environ = environment({"OPENDESK_DATA_DIR": str(data_dir), **settings})
    daemon = Daemon(await make(list(command), env=environ, **options), data_dir, frozenset(expected))
    nursery.start_soon(daemon.listen)
    return daemon


def postgres_of(data_dir: Path) -> int | None:
    """The process id of the server on this data directory."""
    found = pidfile.read(data_dir / "postgres")
    return found.pid if found is not None and postmaster.is_alive(found.pid, data_dir / "postgres") else None


@asynccontextmanager
async def database_of(data_dir: Path) -> AsyncIterator[TrioConnection]:
    """A connection of the test's own to the server that a daemon runs there."""
    conninfo = await running_server(data_dir)
    assert conninfo is not None
    async with connection(conninfo) as conn:
        yield conn


@asynccontextmanager
async def connection(conninfo: str) -> AsyncIterator[TrioConnection]:
    conn = await TrioConnection.connect(conninfo, autocommit=True, options="-c search_path=opendesk")
    try:
        yield conn
    finally:
        conn.drop()


async def until(is_so: Callable[[], Awaitable[object]]) -> None:
    """Ask again and again: of other processes nothing tells us."""
    with trio.fail_after(PATIENCE_S):
        while not await is_so():  # noqa: ASYNC110 - see above
            await trio.sleep(0.02)


def url_of(conninfo: str) -> str:
    """As DATABASE_URL has it."""
    parts = conninfo_to_dict(conninfo)
    place = {str(name): str(parts[name]) for name in ("host", "port", "user") if name in parts}
    return f"postgresql:///{parts['dbname']}?{urlencode(place)}"
