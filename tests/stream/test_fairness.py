"""One room can't starve another."""

from functools import partial
import sys

import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.stream.relay import Relay
from opendesk.stream.tokens import Role
from tests.rental.builders import rent, set_stage
from tests.stream.conftest import Limited
from tests.stream.relaying import Relaying, allow

ROOMS = 50
JAIN = 0.98
# Work, not time, is what is counted: so much goes through all rooms before and while they are compared.
WARM_UP_BYTES, COMPARED_BYTES = 50 * 2**20, 800 * 2**20


def fairness(shares: list[int]) -> float:
    """Jain's index: 1 if all have the same, 1/n if one has all."""
    return float(sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares)))


def test_the_index_is_jains() -> None:
    assert fairness([7] * 50) == 1
    assert fairness([7] + [0] * 49) == 1 / 50
    assert fairness([2] * 25 + [1] * 25) == 0.9


async def descriptors_of_rooms(on: Relaying, conn: TrioConnection) -> list[int]:
    """A host's and a client's by turns."""
    found: list[int] = []
    for number in range(ROOMS):
        stage = await set_stage(conn) if number else on.stage
        session = await rent(conn, stage) if number else on.session
        await allow(conn, session)
        for role in (Role.HOST, Role.CLIENT):
            socket = await on.at(session, stage).enter(role)
            found.append(socket.stream.socket.fileno())
    return found


def delivered(relay: Relay) -> list[int]:
    """What went to each room's client, or is about to."""
    sums = [room.sums() for room in relay.rooms.values()]
    return [each.relayed_bytes - each.shed_bytes for each in sums]


async def after(relay: Relay, amount: int) -> list[int]:
    while sum(now := delivered(relay)) < amount:  # noqa: ASYNC110  # nobody tells
        await trio.sleep(0.01)
    return now


@pytest.mark.parametrize("size", [1200, 16_384])
async def test_rooms_that_all_want_everything_get_the_same(limited: Limited, conn: TrioConnection, size: int) -> None:
    async with limited(attempts=1000, host_bytes_per_s=10**12) as on:
        descriptors = await descriptors_of_rooms(on, conn)
        command = [sys.executable, "-m", "tests.stream.saturating", *map(str, (size, *descriptors))]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.run_process, command, pass_fds=descriptors))
            before = await after(on.relay, WARM_UP_BYTES)
            now = await after(on.relay, sum(before) + COMPARED_BYTES)
            nursery.cancel_scope.cancel()
        shares = [much - less for much, less in zip(now, before, strict=True)]
        assert fairness(shares) >= JAIN
