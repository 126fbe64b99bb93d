"""A service manager, as systemd is one for opendesk.socket and opendesk.service: the listening socket is its own and outlives
each daemon, and it hears what the daemon tells it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
import signal
import socket
import struct
import sys
from typing import Any, Final

from attrs import define, field, frozen
import httpx
import trio

from tests.system.daemon import COMMAND, PATIENCE_S, Daemon, client, launch

# Sockets are passed from descriptor 3 on, for the process that LISTEN_PID names; the one that they come as is nobody's any more.
_PASS_ON: Final = (
    "import os, sys; fd = int(sys.argv[1]); os.dup2(fd, 3); fd == 3 or os.close(fd);"
    "os.environ['LISTEN_PID'] = os.environ['WATCHDOG_PID'] = str(os.getpid()); os.execv(sys.argv[2], sys.argv[2:])"
)
_CREDENTIALS: Final = struct.Struct("iII")
_MESSAGE_BYTES: Final = 4096
# As systemd's.
_BACKLOG: Final = 4096


@frozen
class Told:
    """One line of a notification: when it came, from whom, and what it says."""

    at_s: float
    pid: int
    name: str
    value: str


@define(eq=False)
class ServiceManager:
    """Daemons one after another behind one socket. What they told is in `told`, of all of them, in order."""

    nursery: trio.Nursery
    folder: Path
    listening: socket.socket
    notified: trio.socket.SocketType
    watchdog_s: float | None = None
    told: list[Told] = field(factory=list)
    daemons: list[Daemon] = field(factory=list)
    _heard: trio.Event = field(factory=trio.Event)

    # What it does

    async def start(
        self,
        data_dir: Path,
        *,
        command: tuple[str, ...] = (*COMMAND, "serve"),
        expected: tuple[str, ...] = (),
        ready: bool = True,
        **settings: Any,
    ) -> Daemon:
        """Start a daemon on the socket, and wait until it has said READY=1."""
        fd = self.listening.fileno()
        environ: dict[str, str] = {"NOTIFY_SOCKET": str(self.folder / "notify"), "LISTEN_FDS": "1", **settings}
        if self.watchdog_s is not None:
            environ["WATCHDOG_USEC"] = str(int(self.watchdog_s * 1_000_000))
        passing = (sys.executable, "-I", "-S", "-c", _PASS_ON, str(fd), *command)
        daemon = await launch(self.nursery, data_dir, environ, expected=expected, command=passing, pass_fds=[fd])
        self.daemons.append(daemon)
        if ready:
            await self.hears("READY", pid=daemon.process.pid)
            await daemon.ready()
        return daemon

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code. Whoever connects from now on waits for the next one."""
        return await self.daemon.stop(number)

    async def restart(self, **settings: Any) -> Daemon:
        """`stop`, then `start` with the same data."""
        await self.stop()
        return await self.start(self.daemon.data_dir, **settings)

    # What it knows

    @property
    def daemon(self) -> Daemon:
        return self.daemons[-1]

    @property
    def port(self) -> int:
        port = self.listening.getsockname()[1]
        assert isinstance(port, int)
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def statuses(self) -> list[str]:
        return self.values("STATUS")

    @property
    def fed_at_s(self) -> list[float]:
        """When the watchdog was fed, by Trio's clock."""
        return [told.at_s for told in self.told if told.name == "WATCHDOG"]

    def values(self, name: str, *, pid: int | None = None) -> list[str]:
        """What was told by this name so far."""
        return [told.value for told in self.told if told.name == name and pid in {None, told.pid}]

    async def hears(
        self, name: str, fits: Callable[[str], bool] = lambda _value: True, *, pid: int | None = None, after: int = 0
    ) -> str:
        """Wait for more than `after` such lines, and give the last."""
        with trio.fail_after(PATIENCE_S):
            while len(found := [value for value in self.values(name, pid=pid) if fits(value)]) <= after:
                await self._heard.wait()
        return found[-1]

    # What it hears

    async def listen(self) -> None:
        space = socket.CMSG_SPACE(_CREDENTIALS.size)
        while True:
            data, ancillary, _, _ = await self.notified.recvmsg(_MESSAGE_BYTES, space)
            pid = next(
                _CREDENTIALS.unpack(passed)[0] for _, kind, passed in ancillary if kind == socket.SCM_CREDENTIALS
            )
            now_s = trio.current_time()
            pairs = (line.partition("=") for line in data.decode().splitlines())
            self.told += [Told(now_s, pid, name, value) for name, _, value in pairs]
            self._heard.set()
            self._heard = trio.Event()


@asynccontextmanager
async def service_manager(folder: Path, *, watchdog_s: float | None = None) -> AsyncIterator[ServiceManager]:
    """With a socket on a port of its own. Its daemons are stopped in the end, and what is wrong with what they said fails the test."""
    notified = trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listening, notified:
        notified.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        await notified.bind(str(folder / "notify"))
        async with trio.open_nursery() as nursery:
            manager = ServiceManager(nursery, folder, listening, notified, watchdog_s)
            nursery.start_soon(manager.listen)
            try:
                yield manager
            finally:
                with trio.CancelScope(shield=True):
                    for daemon in manager.daemons:
                        await daemon.close()
            nursery.cancel_scope.cancel()
    (folder / "notify").unlink()
    faults = "\n".join(fault for daemon in manager.daemons for fault in daemon.faults())
    assert not faults, faults


def http_of(manager: ServiceManager) -> httpx.AsyncClient:
    """A client that outlives daemons."""
    return client(manager.url)
