"""A WireGuard interface of its own, in a network namespace of its own, and a registry with as many devices as are asked for."""

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
import os
from pathlib import Path
import shutil
import subprocess
from typing import Final

from attrs import frozen
import trio

from opendesk.postgres.driver import TrioConnection

_PROGRAMS: Final = ("ip", "wg", "wireguard-go")
_SOCKETS: Final = Path("/run/wireguard")
_START_S: Final = 20.0
_LOOK_S: Final = 0.01
_KEY_BYTES: Final = 32
_PORT: Final = "51820"

_REGISTER: Final = """
    INSERT INTO opendesk.tunnel_devices (dry_run, id, public_key, tunnel_ip, allowed_ips)
    SELECT false, 'bus-' || n, key, ip::inet, ARRAY[ip::cidr]
      FROM unnest(%(keys)s::text[], %(ips)s::text[]) WITH ORDINALITY AS device (key, ip, n)
"""


@frozen
class Device:
    key: str
    ip: str

    @property
    def config(self) -> str:
        return f"[Peer]\nPublicKey = {self.key}\nAllowedIPs = {self.ip}/32\nPersistentKeepalive = 25\n"


@frozen
class Interface:
    """Its socket is a path, so `wg` finds it from outside of the namespace."""

    name: str
    private_key: str

    async def fill(self, devices: Sequence[Device]) -> None:
        """In one `wg syncconf`, with the interface's own key, which goes otherwise."""
        whole = f"[Interface]\nPrivateKey = {self.private_key}\nListenPort = {_PORT}\n"
        told = whole + "".join(device.config for device in devices)
        await trio.run_process(["wg", "syncconf", self.name, "/dev/stdin"], stdin=told.encode())

    async def dump(self) -> bytes:
        done = await trio.run_process(["wg", "show", self.name, "dump"], capture_stdout=True)
        return bytes(done.stdout)


def new_key() -> str:
    """What `wg` takes for a public key: any 32 bytes."""
    return base64.b64encode(os.urandom(_KEY_BYTES)).decode()


def devices(count: int) -> list[Device]:
    return [Device(new_key(), f"10.200.{n // 256}.{n % 256}") for n in range(2, count + 2)]


async def register(conn: TrioConnection, made: Sequence[Device]) -> None:
    await conn.run(_REGISTER, {"keys": [one.key for one in made], "ips": [one.ip for one in made]})
    await conn.run("ANALYZE opendesk.tunnel_devices, opendesk.tunnel_prefixes, opendesk.tunnel_keys")


@asynccontextmanager
async def interface() -> AsyncIterator[Interface]:
    """Raise RuntimeError where there can be none."""
    if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
        raise RuntimeError(f"not installed: {', '.join(missing)} (wireguard-tools, wireguard-go, iproute2)")
    if os.geteuid() != 0:
        raise RuntimeError("only root makes network namespaces and interfaces")
    name = f"odb{os.getpid():x}"
    await trio.run_process(["ip", "netns", "add", name])
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(_run, name))
            with trio.fail_after(_START_S):
                while not (_SOCKETS / f"{name}.sock").exists():  # noqa: ASYNC110  # nothing tells of it
                    await trio.sleep(_LOOK_S)
            found = Interface(name, new_key())
            await found.fill(())
            try:
                yield found
            except Exception as error:  # noqa: BLE001  # raised below, where no nursery wraps it
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await trio.run_process(["ip", "netns", "delete", name], check=False)
    if failure is not None:
        raise failure


async def _run(name: str, *, task_status: trio.TaskStatus[trio.Process]) -> None:
    """Until cancelled: then it is asked to end, and takes its socket along."""
    command = ["ip", "netns", "exec", name, "wireguard-go", "-f", name]
    environ = {**os.environ, "LOG_LEVEL": "silent"}
    await trio.run_process(
        command,
        env=environ,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        task_status=task_status,
    )
