"""Who comes with a phone on a day, behind which hotspot, and what becomes of the order: a plan, made of a seed. Pure.

Minutes count from midnight or are lengths.
"""

from collections.abc import Sequence
from enum import StrEnum
from random import Random
from typing import Final

from attrs import frozen

CAFE: Final = "cafe"
PRAIA: Final = "praia"  # its router is dead for a while
ROUTERS: Final = (CAFE, PRAIA)

# When it dies and when it is back, as seen from whoever pays there; and when a guest pays at the other one meanwhile. By the time
# that somebody pays, a daemon has given it up also in a day of seconds.
DEAD_BEFORE_MIN: Final = 120
BACK_AFTER_MIN: Final = 30
_MEANWHILE_MIN: Final = 10

_LENGTHS: Final = (30, 45, 60)


class GuestStory(StrEnum):
    """What an order comes to."""

    STAYS = "STAYS"  # until its time is over
    IS_REVOKED = "IS_REVOKED"  # before
    MOVES = "MOVES"  # the phone gets another address
    ROUTER_DIES = "ROUTER_DIES"  # before the way is open


@frozen
class GuestPlan:
    """At `at` the phone is there and its order is paid, for `minutes`; after `uses` of them happens what the story says."""

    name: str
    router: str
    order: str
    mac: str
    ip: str
    at: int
    minutes: int
    uses: int
    story: GuestStory

    @property
    def next_ip(self) -> str:
        """Where a phone is that moved."""
        return f"{self.ip.rpartition('.')[0]}.{100 + int(self.ip.rpartition('.')[2])}"


# Their stories, and the hours in which they come; who pays while a router is dead comes a little after it died.
_GUESTS: Final[Sequence[tuple[str, str, GuestStory, tuple[int, int]]]] = (
    ("leo", CAFE, GuestStory.STAYS, (9 * 60, 10 * 60)),
    ("malu", CAFE, GuestStory.MOVES, (11 * 60 + 30, 13 * 60)),
    ("noemi", CAFE, GuestStory.IS_REVOKED, (15 * 60, 16 * 60)),
    ("davi", PRAIA, GuestStory.ROUTER_DIES, (17 * 60, 18 * 60)),
)
_MEANWHILE: Final = ("rosa", CAFE, GuestStory.STAYS)


def plan_guests(rng: Random) -> tuple[GuestPlan, ...]:
    guests = [
        _guest(rng, n, name, router, story, rng.randint(*hours))
        for n, (name, router, story, hours) in enumerate(_GUESTS)
    ]
    waits_at = next(guest.at for guest in guests if guest.story is GuestStory.ROUTER_DIES)
    return (*guests, _guest(rng, len(guests), *_MEANWHILE, waits_at + _MEANWHILE_MIN))


def _guest(rng: Random, n: int, name: str, router: str, story: GuestStory, at: int) -> GuestPlan:  # noqa: PLR0917  # a plan's parts
    minutes = rng.choice(_LENGTHS)
    return GuestPlan(
        name=name,
        router=router,
        order=f"w-{101 + n}",
        mac=f"AA:BB:CC:00:00:{n + 1:02X}",
        ip=f"10.5.{50 + ROUTERS.index(router)}.{10 + n}",
        at=at,
        minutes=minutes,
        uses=minutes * rng.randint(30, 70) // 100,
        story=story,
    )
