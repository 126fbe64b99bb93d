"""Whose address it is that a peer has which nobody registered: a network inside one of ours takes its traffic, one around it waits for it."""

from bisect import bisect_right
from collections.abc import Iterable

from attrs import frozen

from opendesk.network.wireguard.prefixes import span


@frozen
class Owned:
    """A prefix of ours, as numbers."""

    bits: int
    first: int
    last: int
    prefix: str
    public_key: str


@frozen
class Owners:
    """Prefixes that lie apart, as the registry sees to it, in their order."""

    _starts: list[tuple[int, int]]
    _owned: list[Owned]

    @classmethod
    def of(cls, prefixes: Iterable[tuple[str, str]]) -> "Owners":
        """Of pairs of a prefix and a public key."""
        owned = [Owned(*span(prefix), prefix, key) for prefix, key in prefixes]
        owned.sort(key=lambda one: (one.bits, one.first))
        return cls([(one.bits, one.first) for one in owned], owned)

    def overlapping(self, prefix: str) -> Owned | None:
        """The first of ours that has an address of this one."""
        bits, first, last = span(prefix)
        after = bisect_right(self._starts, (bits, first))
        for one in self._owned[max(0, after - 1) : after + 1]:
            if one.bits == bits and one.first <= last and first <= one.last:
                return one
        return None
