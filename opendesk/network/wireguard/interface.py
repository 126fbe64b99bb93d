"""Making the WireGuard interface of this machine: look, find what is missing, do it, look again. Done twice, the second does nothing.

The kernel's WireGuard where it has one, else `wireguard-go`. What is there is never written over: an interface with another key is a
fault.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
import json
import os
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Final

from attrs import define, frozen
import trio

from opendesk.network.wireguard.wg import Wg, has_net_admin
from opendesk.settings.secret import Secret

Address = IPv4Interface | IPv6Interface
Run = Callable[..., Awaitable[CompletedProcess[bytes]]]

# `ip` takes milliseconds, making a device some ten of them; a kernel's module is loaded first.
_COMMAND_S: Final = 15.0
# Of what a program complains of.
_TOLD_CHARS: Final = 300


class InterfaceFault(Exception):
    """The interface can't be made, or isn't what it should be."""


@frozen
class Link:
    """A network interface of this machine; its link-local addresses, which the kernel gives, left out."""

    name: str
    is_up: bool
    addresses: frozenset[Address]


@frozen
class Wished:
    name: str
    public_key: str
    listen_port: int
    address: Address


@frozen
class Found:
    """The interface as it is; `public_key` is None where it has no key yet."""

    link: Link
    public_key: str | None
    listen_port: int


class Step(Enum):
    MAKE = "make the interface"
    KEY = "give it its key"
    PORT = "set its port"
    ADDRESS = "give it its address"
    UP = "switch it on"


def steps(wished: Wished, found: Found | None) -> tuple[Step, ...]:
    """What is missing, in the order of doing."""
    if found is None:
        return tuple(Step)
    if found.public_key not in {None, wished.public_key}:
        raise InterfaceFault(
            f"{wished.name} is there with another key ({found.public_key}): it is left as it is. Give the file of its key with --key, "
            "or choose another WG_INTERFACE"
        )
    missing = {
        Step.KEY: found.public_key is None,
        Step.PORT: found.listen_port != wished.listen_port,
        Step.ADDRESS: wished.address not in found.link.addresses,
        Step.UP: not found.link.is_up,
    }
    return tuple(step for step in Step if missing.get(step))


def check_free(wished: Wished, links: Mapping[str, Link]) -> None:
    """Another interface's network would lose its way to this one."""
    for link in links.values():
        for address in link.addresses if link.name != wished.name else ():
            if address.version == wished.address.version and address.network.overlaps(wished.address.network):
                raise InterfaceFault(
                    f"{wished.address} overlaps with {address}, which {link.name} has: choose another WG_TUNNEL_POOL or --address"
                )


def links_of(told: bytes) -> dict[str, Link]:
    """What `ip -json address show` tells."""
    try:
        return {row["ifname"]: _link(row) for row in json.loads(told) if row}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InterfaceFault("`ip -json address show` answered what can't be read") from None


def _link(row: Mapping[str, Any]) -> Link:
    addresses = (
        ip_interface(f"{info['local']}/{info['prefixlen']}")
        for info in row["addr_info"]
        if info.get("scope") != "link" and "local" in info
    )
    return Link(row["ifname"], "UP" in row["flags"], frozenset(addresses))


@define(eq=False)
class Maker:
    """Does it. `prefix` is put before each program: `ip netns exec …` for another network namespace."""

    wished: Wished
    private_key: Secret[str] | None = None  # for a look, none
    run: Run = trio.run_process
    prefix: tuple[str, ...] = ()

    @property
    def wg(self) -> Wg:
        return Wg(self.wished.name, self.run, (*self.prefix, "wg"))

    async def look(self) -> Found | None:
        """None where there is no such interface."""
        links = links_of(await self._must("ip", "-json", "address", "show"))
        check_free(self.wished, links)
        link = links.get(self.wished.name)
        if link is None:
            return None
        interface = await self.wg.read()
        return Found(link, interface.public_key, interface.listen_port)

    async def make(self) -> tuple[Step, ...]:
        """Do what is missing, and see that nothing is any more; what was done."""
        missing = steps(self.wished, await self.look())
        for step in missing:
            await self._do(step)
        if left := steps(self.wished, await self.look()):
            raise InterfaceFault(f"{self.wished.name}: done without a complaint, and yet it remains to {left[0].value}")
        return missing

    async def _do(self, step: Step) -> None:
        if step is Step.MAKE:
            await self._add()
        elif step is Step.KEY:
            assert self.private_key is not None
            await self.wg.set_private_key(self.private_key)
        elif step is Step.PORT:
            await self.wg.set_listen_port(self.wished.listen_port)
        else:
            await self._must(*command(step, self.wished))

    async def _add(self) -> None:
        first = await self._try(*command(Step.MAKE, self.wished))
        if first.returncode == 0:
            return
        second = await self._try(*fallback(self.wished))
        if second.returncode != 0:
            raise InterfaceFault(
                f"{self.wished.name} can't be made: {_complaint(first)}; wireguard-go: {_complaint(second)}{_hint()}"
            )

    async def _must(self, *arguments: str) -> bytes:
        done = await self._try(*arguments)
        if done.returncode != 0:
            raise InterfaceFault(f"{' '.join(arguments)}: {_complaint(done)}{_hint()}")
        return done.stdout

    async def _try(self, *arguments: str) -> CompletedProcess[bytes]:
        # wireguard-go goes on living after us, and so would whatever it got: our secrets, a LOG_LEVEL that makes it hold our pipes, our terminal.
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        try:
            with trio.fail_after(_COMMAND_S):
                return await self.run(
                    [*self.prefix, *arguments], capture_stdout=True, capture_stderr=True, check=False, env=environment, cwd="/",
                    start_new_session=True,
                )  # fmt: skip
        except FileNotFoundError:
            return CompletedProcess(arguments, 127, b"", f"there is no program {arguments[0]} here".encode())
        except trio.TooSlowError:
            raise InterfaceFault(f"{' '.join(arguments)}: no answer within {_COMMAND_S:.0f} s") from None


def command(step: Step, wished: Wished) -> tuple[str, ...]:
    """What is run, as a person could; the private key goes to `wg` by its standard input."""
    name = wished.name
    return {
        Step.MAKE: ("ip", "link", "add", "dev", name, "type", "wireguard"),
        Step.KEY: ("wg", "set", name, "private-key", "/dev/stdin"),
        Step.PORT: ("wg", "set", name, "listen-port", str(wished.listen_port)),
        Step.ADDRESS: ("ip", "address", "add", str(wished.address), "dev", name),
        Step.UP: ("ip", "link", "set", "dev", name, "up"),
    }[step]


def fallback(wished: Wished) -> tuple[str, ...]:
    """Where the kernel has no WireGuard."""
    return ("wireguard-go", wished.name)


def _complaint(done: CompletedProcess[bytes]) -> str:
    text = (done.stderr or b"").decode(errors="replace")
    # Around what it has to say, wireguard-go draws a box about the kernel.
    lines: Sequence[str] = [line.strip() for line in text.splitlines() if line.strip() and line[0] not in "┌│└"]
    return "; ".join(lines)[:_TOLD_CHARS] or f"exit code {done.returncode}"


def _hint() -> str:
    status = Path("/proc/self/status")
    if not status.exists() or has_net_admin(status.read_text()):
        return ""
    return " (this process has no CAP_NET_ADMIN)"
