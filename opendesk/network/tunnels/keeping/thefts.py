"""Whose address it is that a peer has which nobody registered: a network inside one of ours takes its traffic. One around it takes none."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from attrs import frozen

from opendesk.network.wireguard.prefixes import span


class Owned(NamedTuple):
    """A prefix of ours, as numbers first: they are sorted by them. No class of attrs, since ten thousand are made at once."""

    bits: int
    first: int
    last: int
    prefix: str
    public_key: str


@frozen
class Owners:
    """Prefixes that lie apart, as the registry sees to it, in their order."""

    _owned: list[Owned]

    @classmethod
    def of(cls, prefixes: Iterable[tuple[str, str]]) -> "Owners":
        """Of pairs of a prefix and a public key."""
        return cls(sorted(Owned(*span(prefix), prefix, key) for prefix, key in prefixes))

    def around(self, prefix: str) -> Owned | None:
        """The one of ours that has all of its addresses."""
        bits, first, last = span(prefix)
        after = bisect_left(self._owned, (bits, first + 1))
        for one in self._owned[max(0, after - 1) : after]:
            if one.bits == bits and last <= one.last:
                return one
        return None
