"""Changes as arguments of `wg set`, in chunks that one call can take. A preshared key is never among them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from opendesk.network.wireguard.changes import Change, Put, Remove

# One `wg set` of so many takes some 0.2 s. More at once would save nothing.
CHUNK: Final = 1_000
# Each has a file of its own, and a process has 1,024 of them by default, most of which are other people's.
CHUNK_PRESHARED: Final = 200
# Linux holds at least 2 MiB, with some 8 bytes of its own for each argument; some are left for the environment.
CHUNK_BYTES: Final = 1_048_576
# Of a peer's words without its allowed IPs and endpoint, and with what Linux adds to each.
_PEER_BYTES: Final = 250

NO_PRESHARED_KEY: Final = "/dev/null"


def chunks(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """Part them, in their order."""
    start = preshared = size = 0
    for end, change in enumerate(changes):
        its_preshared, its_size = int(has_preshared_key(change)), _size(change)
        is_full = preshared + its_preshared > CHUNK_PRESHARED or size + its_size > CHUNK_BYTES
        if end > start and (end - start == CHUNK or is_full):
            yield changes[start:end]
            start, preshared, size = end, 0, 0
        preshared, size = preshared + its_preshared, size + its_size
    if start < len(changes):
        yield changes[start:]


def has_preshared_key(change: Change) -> bool:
    """Whether it sets one, for which it needs a file."""
    return isinstance(change, Put) and bool(change.preshared_key)


def words(change: Change, file_of: Callable[[str], str]) -> list[str]:
    """`file_of` tells where a preshared key can be read."""
    if isinstance(change, Remove):
        return ["peer", change.public_key, "remove"]
    told = ["peer", change.public_key, "persistent-keepalive", str(change.keepalive)]
    if change.preshared_key is not None:
        told += ["preshared-key", file_of(change.preshared_key) if change.preshared_key else NO_PRESHARED_KEY]
    if change.endpoint is not None:
        told += ["endpoint", change.endpoint]
    # Also where there are none: the peer gets exactly these.
    return [*told, "allowed-ips", ",".join(change.allowed_ips)]


def _size(change: Change) -> int:
    if isinstance(change, Remove):
        return _PEER_BYTES
    return _PEER_BYTES + len(change.endpoint or "") + sum(len(text) + 1 for text in change.allowed_ips)
