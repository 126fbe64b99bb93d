"""Names of endpoints, looked up before `wg` is called: it would wait for each, and do nothing at all if one isn't known."""

from collections.abc import Iterable, Sequence
import re
import socket
from typing import Final

from attrs import evolve
import structlog
import trio

from opendesk.network.wireguard.changes import Change, Put

log = structlog.get_logger()

# For all names together: what is set waits for it. Those left over come with the next pass.
LOOKUP_S: Final = 2
# Each takes a thread while it waits.
LOOKUPS_AT_ONCE: Final = 10
# No host name is like that: its last part begins with a letter. Thousands are asked, so it is quick.
_ADDRESS: Final = re.compile(r"\[[0-9a-f:.]+\]:[0-9]+|[0-9.]+:[0-9]+")
# Of names that a line of the log tells.
_TOLD: Final = 10


async def with_addresses(changes: Sequence[Change]) -> Sequence[Change]:
    """Put addresses in the place of names. A peer whose name isn't known keeps the endpoint that it has, and gets all else."""
    names = {change.endpoint for change in changes if isinstance(change, Put) and _is_name(change.endpoint)}
    if not names:
        return changes
    known = await _look_up(sorted(filter(None, names)))
    if unknown := sorted(filter(None, names - known.keys())):
        log.warning("tunnel.endpoint_unknown", count=len(unknown), endpoints=unknown[:_TOLD])
    return [
        evolve(change, endpoint=known.get(change.endpoint or ""))
        if isinstance(change, Put) and change.endpoint in names
        else change
        for change in changes
    ]


def _is_name(endpoint: str | None) -> bool:
    return endpoint is not None and not _ADDRESS.fullmatch(endpoint)


async def _look_up(names: Iterable[str]) -> dict[str, str]:
    known: dict[str, str] = {}
    turns = iter(names)

    async def worker() -> None:
        for name in turns:
            if address := await _address(name):
                known[name] = address

    with trio.move_on_after(LOOKUP_S):
        async with trio.open_nursery() as nursery:
            for _ in range(LOOKUPS_AT_ONCE):
                nursery.start_soon(worker)
    return known


async def _address(endpoint: str) -> str | None:
    host, _colon, port = endpoint.rpartition(":")
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError:  # which includes "no such name"; the caller tells of it
        return None
    address = str(found[0][4][0])
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
