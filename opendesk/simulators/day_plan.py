"""Who comes on a day, when, and what they are up to: a plan, made of a seed and nothing else. Pure.

Minutes count from midnight or are lengths, prices are in minor units.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from random import Random
from typing import Any, Final

from attrs import frozen

from opendesk.simulators.guest_plan import GuestPlan, plan_guests

OPENS_AT: Final = 8 * 60
CLOSES_AT: Final = 24 * 60

# Nobody looks for a PC after this, so that the day ends by midnight.
LAST_ENTRY_AT: Final = 22 * 60

# The last thing that a host does on a day.
PAYDAY_AT: Final = 23 * 60 + 30

# How many the plan is made for. Fewer clients than there are stories in one part of the day could not play them all; more for each host
# would spend the day in a queue.
FEWEST_HOSTS: Final = 2
FEWEST_CLIENTS: Final = 4
MOST_HOSTS: Final = 15
MOST_CLIENTS: Final = 40
MOST_CLIENTS_A_HOST: Final = 3


class Story(StrEnum):
    """What a visit comes to, if nothing comes between."""

    STAYS = "STAYS"  # until the bought time is over
    LEAVES = "LEAVES"  # before
    CANCELS = "CANCELS"  # a reservation
    NEVER_STARTS = "NEVER_STARTS"  # a reservation, and forgets it
    ASKS_TWICE = "ASKS_TWICE"  # with one Idempotency-Key, because the first answer got lost
    WANTS_A_BUSY_ONE = "WANTS_A_BUSY_ONE"
    BLAMES_THE_HOST = "BLAMES_THE_HOST"  # who did nothing
    HOST_DIES = "HOST_DIES"
    HOST_ENDS = "HOST_ENDS"  # before the time is over


@frozen
class Visit:
    """From `at` on a client wants a PC for `minutes`; after `uses` of them happens what the story says."""

    at: int
    minutes: int
    uses: int
    story: Story


@frozen
class ClientPlan:
    name: str
    first_top_up: int
    visits: tuple[Visit, ...]


@frozen
class PcPlan:
    name: str
    price_per_hour: int
    kind: str  # of KINDS


@frozen
class HostPlan:
    name: str
    pcs: tuple[PcPlan, ...]


@frozen
class DayPlan:
    hosts: tuple[HostPlan, ...]
    clients: tuple[ClientPlan, ...]
    guests: tuple[GuestPlan, ...]


HOSTS: Final = ("aurora", "boreal", "cometa", "delta", "estela", "faisca", "galera", "horizonte", "ipanema", "jangada")
CLIENTS: Final = (
    "ana", "bento", "caio", "duda", "enzo", "flora", "gil", "helena", "igor", "julia",
    "kaique", "lara", "mateus", "nina", "otto", "paula", "rafa", "sofia", "tiago", "vera",
)  # fmt: skip

# What is offered, as the API takes it, and the lowest price an hour of each.
KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "A": {"level": "A", "cpu": "Ryzen 7 7800X3D", "ramGb": 32, "gpu": "RTX 4070", "vramGb": 12, "storageType": "NVME", "internetUploadMbps": 500},
    "B": {"level": "B", "cpu": "Core i5-13400F", "ramGb": 16, "gpu": "RTX 4060", "vramGb": 8, "storageType": "SSD", "internetUploadMbps": 300},
    "C": {"level": "C", "cpu": "Ryzen 5 5600G", "ramGb": 16, "gpu": "GTX 1660", "vramGb": 6, "storageType": "SSD", "internetUploadMbps": 100},
}  # fmt: skip
_LOWEST_PRICES: Final = {"A": 850, "B": 550, "C": 350}
_PRICE_STEP: Final = 50
_PRICE_STEPS: Final = 5

_LENGTHS: Final = (30, 45, 60, 60, 90, 120)
# A story in which something happens before the end needs some time before and after it.
_SHORTEST_STORY: Final = 60

_TOP_UPS: Final = (3000, 4000, 5000)
# For half an hour on the cheapest PC this is too little, so that one client is refused for it.
_TOO_LITTLE: Final = 150

# The parts of a day: when visits begin, and what must happen in each. Every story takes its turn on every day.
_PARTS: Final[Sequence[tuple[tuple[int, int], tuple[Story, ...]]]] = (
    ((8 * 60 + 10, 10 * 60), (Story.ASKS_TWICE,)),
    ((11 * 60, 13 * 60), (Story.WANTS_A_BUSY_ONE, Story.CANCELS, Story.BLAMES_THE_HOST)),
    ((14 * 60 + 30, 16 * 60 + 30), (Story.HOST_DIES, Story.NEVER_STARTS)),
    ((18 * 60 + 30, 21 * 60), (Story.HOST_ENDS, Story.LEAVES)),
)
_ORDINARY: Final = (Story.STAYS, Story.STAYS, Story.STAYS, Story.LEAVES)


def plan_day(rng: Random, *, hosts: int, clients: int) -> DayPlan:
    """ValueError for fewer hosts or clients than a day needs, or more clients than the hosts have room for."""
    if hosts < FEWEST_HOSTS or clients < FEWEST_CLIENTS:
        raise ValueError(f"a day needs {FEWEST_HOSTS} hosts and {FEWEST_CLIENTS} clients at least")
    if clients > hosts * MOST_CLIENTS_A_HOST:
        raise ValueError(f"{hosts} hosts have room for {hosts * MOST_CLIENTS_A_HOST} clients at most")
    host_plans = tuple(_host(rng, name) for name in _names(HOSTS, hosts))
    visits = _visits(rng, clients)
    poor = rng.randrange(clients)
    client_plans = tuple(
        ClientPlan(name, _TOO_LITTLE if n == poor else rng.choice(_TOP_UPS), visits[n])
        for n, name in enumerate(_names(CLIENTS, clients))
    )
    return DayPlan(host_plans, client_plans, plan_guests(rng))


def _names(known: Sequence[str], count: int) -> list[str]:
    """The known ones, and the same with a number when they run out."""
    rounds = (known[n % len(known)] + (f"{n // len(known) + 1}" if n >= len(known) else "") for n in range(count))
    return list(rounds)


def _host(rng: Random, name: str) -> HostPlan:
    return HostPlan(name, tuple(_pc(rng, f"{name}-{n}") for n in range(1, rng.randint(2, 3) + 1)))


def _pc(rng: Random, name: str) -> PcPlan:
    kind = rng.choice(tuple(KINDS))
    return PcPlan(name, _LOWEST_PRICES[kind] + _PRICE_STEP * rng.randrange(_PRICE_STEPS), kind)


def _visits(rng: Random, clients: int) -> list[tuple[Visit, ...]]:
    """For each client one visit in each part of the day; in each part some clients, drawn by lot, play its stories."""
    parts = [_part(rng, span, stories, clients) for span, stories in _PARTS]
    return [tuple(visits) for visits in zip(*parts, strict=True)]


def _part(rng: Random, span: tuple[int, int], stories: Sequence[Story], clients: int) -> list[Visit]:
    drawn = [*stories, *(rng.choice(_ORDINARY) for _ in range(clients - len(stories)))]
    rng.shuffle(drawn)
    return [_visit(rng, rng.randint(*span), story) for story in drawn]


def _visit(rng: Random, at: int, story: Story) -> Visit:
    minutes = rng.choice(_LENGTHS)
    if story not in (Story.STAYS, Story.ASKS_TWICE):
        minutes = max(minutes, _SHORTEST_STORY)
    uses = minutes if story in (Story.STAYS, Story.ASKS_TWICE) else minutes * rng.randint(30, 70) // 100
    return Visit(at, minutes, uses, story)
