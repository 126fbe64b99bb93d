"""Proxies that only copy bytes from one connection to another, where there are such: less than that no relay can do."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
import os
from pathlib import Path
import shutil
import subprocess
from typing import Final

import trio

from scripts.benchmarks.relay_peers import Serving
from scripts.benchmarks.servers import folder, free_port, stop

HAPROXY: Final = "HAProxy"
SOCAT: Final = "socat"

# One thread, as the others have. The times are those within which nothing happens.
_HAPROXY_CONFIG: Final = """\
global
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen relay
    bind 127.0.0.1:{port}
    server sink 127.0.0.1:{sink}
"""
# Of socat, which has 8 KiB unless told: what our relay reads at once.
_SOCAT_BYTES: Final = 64 * 1024

# Debian puts HAProxy where only root looks.
_SBIN: Final = ("/usr/local/sbin", "/usr/sbin")

# How it is run: by its file, with a folder for what it wants, from this port to that one.
Command = Callable[[str, Path, int, int], Sequence[str]]


@asynccontextmanager
async def proxies() -> AsyncIterator[tuple[list[Serving], list[str]]]:
    """Those that are installed; and which aren't. Each goes on to a port of its own, where the load listens."""
    commands: dict[str, Command] = {HAPROXY: _haproxy, SOCAT: _socat}
    found = {name: file for name in commands if (file := _installed(name.lower())) is not None}
    async with AsyncExitStack() as stack:
        made = stack.enter_context(folder())
        served = [
            await stack.enter_async_context(_running(name, file, commands[name], made)) for name, file in found.items()
        ]
        yield served, [f"without {name}, which isn't installed" for name in commands if name not in found]


def _installed(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN]))


@asynccontextmanager
async def _running(name: str, file: str, command: Command, made: Path) -> AsyncIterator[Serving]:
    """It may not take connections yet: the load knocks again, for nobody else listens at the other end."""
    port, sink = free_port(), free_port()
    process = _start(command(file, made, port, sink))
    try:
        yield Serving(name, port, process.pid, {"sink": sink})
    finally:
        with trio.CancelScope(shield=True):
            await stop(process)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _haproxy(file: str, made: Path, port: int, sink: int) -> Sequence[str]:
    config = made / "haproxy.cfg"
    config.write_text(_HAPROXY_CONFIG.format(port=port, sink=sink), encoding="ascii")
    return (file, "-db", "-q", "-f", str(config))


def _socat(file: str, made: Path, port: int, sink: int) -> Sequence[str]:
    """A child for each connection. That the load hangs up while it writes is an error to it, which nobody need read."""
    return (
        file,
        "-lf",
        str(made / "socat.log"),
        "-b",
        str(_SOCAT_BYTES),
        f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,nodelay",
        f"TCP:127.0.0.1:{sink},nodelay",
    )
