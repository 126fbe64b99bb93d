"""TCP to a host by its address or its name."""

from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address
import socket
from typing import Final

import trio

# Names that are looked up at once. A resolver that never answers keeps its thread, also when nobody waits any more: those of routers keep
# each other waiting, and nobody else.
LOOKUPS: Final = 16
# Of a target that is to go through an interface which this machine hasn't got.
NO_INTERFACE: Final = ""

# Of a name's addresses, those that are tried, and how long each has before the next begins besides.
ADDRESSES: Final = 4
NEXT_AFTER_S: Final = 0.25

_lookups: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("routeros lookups")


async def dial(host: str, port: int, *, interface: str | None = None) -> trio.SocketStream:
    """Raise OSError, or UnicodeError for a name that no DNS can have. What is to go through an interface is an address."""
    if interface is not None:
        return await _through(interface, host, port)
    if _is_address(host):
        return await trio.open_tcp_stream(host, port)
    return await _first_of(await _addresses(host, port), port)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _through(interface: str, host: str, port: int) -> trio.SocketStream:
    """No other way, also where that one is gone: a password isn't sent to whoever has the address elsewhere."""
    if interface == NO_INTERFACE:
        raise OSError("it is behind a tunnel, and there is no interface for it here (WG_INTERFACE)")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        await sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


async def _addresses(host: str, port: int) -> Sequence[str]:
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await trio.to_thread.run_sync(look_up, limiter=_limiter(), abandon_on_cancel=True)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))[:ADDRESSES]


def _limiter() -> trio.CapacityLimiter:
    try:
        return _lookups.get()
    except LookupError:
        _lookups.set(limiter := trio.CapacityLimiter(LOOKUPS))
        return limiter


async def _first_of(addresses: Sequence[str], port: int) -> trio.SocketStream:
    """The first that takes us."""
    taken: list[trio.SocketStream] = []
    errors: list[OSError] = []
    async with trio.open_nursery() as nursery:

        async def try_one(address: str, failed: trio.Event) -> None:
            try:
                stream = await trio.open_tcp_stream(address, port)
            except OSError as error:
                errors.append(error)
                failed.set()
                return
            if taken:
                await trio.aclose_forcefully(stream)
            taken.append(stream)
            nursery.cancel_scope.cancel()

        for address in addresses:
            nursery.start_soon(try_one, address, failed := trio.Event())
            with trio.move_on_after(NEXT_AFTER_S):
                await failed.wait()
    if not taken:
        raise errors[0] if errors else OSError("the name has no address")
    return taken[0]
