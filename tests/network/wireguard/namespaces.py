"""Real WireGuard: two network namespaces with a cable between them and wireguard-go in each. All of it is gone at the end.

Names hold our process id, so that what a killed run left behind is known for it, and removed by the next one.
"""

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache, partial
from itertools import count
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
from typing import Final

from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
import pytest
import trio

from opendesk.network.wireguard.dump import Peer
from opendesk.network.wireguard.key_file import public_key_of
from opendesk.network.wireguard.wg import Wg
from opendesk.settings.secret import Secret

# What a test that hangs is given; nothing is measured by it.
PATIENCE_S: Final = 20
PROGRAMS: Final = ("ip", "ping", "wg", "wireguard-go")
SOCKETS: Final = Path("/run/wireguard")
NAMESPACES: Final = Path("/run/netns")
TUN: Final = Path("/dev/net/tun")
# The cable; each test has its own world.
OUTSIDE: Final = {"vps": "192.0.2.1", "bus": "192.0.2.2"}
INSIDE: Final = {"vps": "10.200.0.1", "bus": "10.200.0.2"}
POOL: Final = "10.200.0.0/16"
PORT: Final = 51820

_NAME: Final = re.compile(r"od([0-9a-f]+)n[0-9]+[vb]")
_counted = count()


def new_key() -> Secret[str]:
    return Secret(base64.b64encode(X25519PrivateKey.generate().private_bytes_raw()).decode())


@define(eq=False)
class Side:
    """`name` is its namespace's and its interface's. `stop` and `start` make the interface go and come."""

    name: str
    role: str
    nursery: trio.Nursery = field(repr=False)
    key: Secret[str] = field(factory=new_key)
    _process: trio.Process | None = field(default=None, init=False)

    @property
    def public_key(self) -> str:
        return public_key_of(self.key)

    @property
    def inside(self) -> str:
        return INSIDE[self.role]

    @property
    def endpoint(self) -> str:
        return f"{OUTSIDE[self.role]}:{PORT}"

    @property
    def wg(self) -> Wg:
        return Wg(self.name, command=("ip", "netns", "exec", self.name, "wg"))

    async def start(self) -> None:
        command = ["ip", "netns", "exec", self.name, "wireguard-go", "-f", self.name]
        run = partial(trio.run_process, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        environ = {**os.environ, "LOG_LEVEL": "silent", "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1"}
        self._process = await self.nursery.start(partial(run, command, env=environ, deliver_cancel=_end))
        await until((SOCKETS / f"{self.name}.sock").exists)
        await self.wg.set_private_key(self.key)
        await self.wg.set_listen_port(PORT)
        await ip(f"address add {self.inside}/16 dev {self.name}", f"link set {self.name} up", inside=self.name)

    async def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        await self._process.wait()

    async def set(self, *words: str) -> None:
        """What somebody does by hand."""
        await trio.run_process(["ip", "netns", "exec", self.name, "wg", "set", self.name, *words])

    async def pings(self, address: str) -> bool:
        """Whether one of some pings comes back; the first ones may find no handshake yet."""
        command = ["ip", "netns", "exec", self.name, "ping", "-q", "-c", "5", "-i", "0.1", "-W", "1", address]
        return (await trio.run_process(command, check=False, capture_stdout=True)).returncode == 0

    async def peer(self, other: "Side") -> Peer:
        return (await self.wg.read()).peers[other.public_key]


@define(eq=False)
class Joined:
    """The bus' router is set up to dial the VPS; the VPS knows nobody yet."""

    vps: Side
    bus: Side


@asynccontextmanager
async def joined() -> AsyncIterator[Joined]:
    """Ask `skip_if_impossible` first, from a fixture that isn't async."""
    await _remove_stale()
    name = f"od{os.getpid():x}n{next(_counted)}"
    try:
        async with trio.open_nursery() as nursery:
            both = Joined(Side(f"{name}v", "vps", nursery), Side(f"{name}b", "bus", nursery))
            await _join(both)
            yield both
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await _remove(f"{name}v", f"{name}b")


def skip_if_impossible() -> None:
    if why_not := impossible():
        pytest.skip(f"NO REAL WIREGUARD WAS TESTED: {why_not}")


@cache
def impossible() -> str | None:
    """Why there can be none here."""
    if os.geteuid() != 0:
        return "this is not root"
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"not installed: {', '.join(missing)}"
    if not TUN.exists():
        return f"there is no {TUN}"
    probe = f"od{os.getpid():x}n{next(_counted)}v"
    made = subprocess.run(["ip", "netns", "add", probe], check=False, capture_output=True, text=True)
    subprocess.run(["ip", "netns", "delete", probe], check=False, capture_output=True)
    return made.stderr.strip()[:100] or "network namespaces can't be made" if made.returncode else None


async def ip(*lines: str, inside: str | None = None) -> None:
    """Run them in one `ip`."""
    command = ["ip", *(["-netns", inside] if inside else []), "-batch", "-"]
    await trio.run_process(command, stdin="\n".join(lines).encode())


async def until(is_so: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  # nothing tells of it
            await trio.sleep(0.005)


async def _join(both: Joined) -> None:
    vps, bus = both.vps, both.bus
    await ip(
        f"netns add {vps.name}",
        f"netns add {bus.name}",
        f"link add cable netns {vps.name} type veth peer name cable netns {bus.name}",
    )
    async with trio.open_nursery() as nursery:
        for side in (vps, bus):
            nursery.start_soon(_plug_in, side)
    await bus.set("peer", vps.public_key, "endpoint", vps.endpoint, "allowed-ips", POOL)


async def _plug_in(side: Side) -> None:
    await ip(f"address add {OUTSIDE[side.role]}/24 dev cable", "link set cable up", inside=side.name)
    await side.start()


async def _end(process: trio.Process) -> None:
    """It removes its socket if it is asked to go."""
    process.terminate()
    await trio.sleep(PATIENCE_S)
    process.kill()


async def _remove_stale() -> None:
    """What runs left behind whose process is gone."""
    await _remove(*_stale())


def _stale() -> list[str]:
    found = {path.name.removesuffix(".sock") for folder in (SOCKETS, NAMESPACES) for path in folder.glob("od*")}
    ours = {name: match[1] for name in found if (match := _NAME.fullmatch(name))}
    return [name for name, pid in ours.items() if not Path(f"/proc/{int(pid, 16)}").exists()]


async def _remove(*names: str) -> None:
    for name in names:
        if (NAMESPACES / name).exists():
            for pid in await _inside(name):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await trio.run_process(["ip", "netns", "delete", name], check=False, capture_stderr=True)
        (SOCKETS / f"{name}.sock").unlink(missing_ok=True)


async def _inside(name: str) -> Sequence[int]:
    told = await trio.run_process(["ip", "netns", "pids", name], check=False, capture_stdout=True, capture_stderr=True)
    return [int(line) for line in told.stdout.split()]
