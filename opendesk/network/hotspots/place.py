"""Where a device is, and what was granted there."""

from collections.abc import Iterable, Sequence
from math import floor, inf
from typing import Final

from attrs import evolve, frozen

# What the comment of a row of ours begins with; the order's id follows, whatever is in it.
OWN: Final = "pedido:"


@frozen
class Place:
    """An IP and a MAC in canonical spelling. One of them may be left out: then any is meant."""

    ip: str | None
    mac: str | None

    def covers(self, ip: str | None, mac: str | None) -> bool:
        return self.ip in (None, ip) and self.mac in (None, mac)

    @property
    def schedule_comment(self) -> str:
        """By it the scheduler's entries of a place are found, whatever orders they were made for."""
        return f"opendesk {self.ip} {self.mac}"


@frozen
class Grant:
    """An order's access for one device. `remaining_s` and `until_unix` tell the same end, or both that there is none.

    `is_observed`: a router was seen to hold it.
    """

    pedido_id: str
    ip: str
    mac: str
    remaining_s: float | None = None
    until_unix: int | None = None
    is_observed: bool = False

    @property
    def place(self) -> Place:
        return Place(self.ip, self.mac)

    @property
    def comment(self) -> str:
        return f"{OWN}{self.pedido_id}"

    @property
    def whole_seconds(self) -> int | None:
        """What a router is told: never more than remains."""
        return None if self.remaining_s is None else max(1, floor(self.remaining_s))


def longest(grants: Iterable[Grant]) -> Grant | None:
    """The one that ends last. Of equals always the same one, so that rows don't change from look to look."""
    return min(grants, key=lambda grant: (-_end(grant), grant.pedido_id), default=None)


def aged(grants: Sequence[Grant], elapsed_s: float) -> list[Grant]:
    """What is left of them some time later."""
    later = [
        grant if grant.remaining_s is None else evolve(grant, remaining_s=grant.remaining_s - elapsed_s)
        for grant in grants
    ]
    return [grant for grant in later if grant.remaining_s is None or grant.remaining_s > 0]


def _end(grant: Grant) -> float:
    return inf if grant.until_unix is None else grant.until_unix
