"""Whatever comes, in any order, sixteen at a time: nobody is told of a deadlock, and the books stay right."""

from collections.abc import Awaitable, Callable
import random
from uuid import UUID

from attrs import evolve, frozen
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.postgres.retry import retrying
from opendesk.rental import closing, heartbeats, sessions
from opendesk.rental.heartbeats import Beat
from opendesk.rental.lifecycle import Caller, Status
from opendesk.web.auth import Claims
from tests.rental.builders import (
    MINUTE,
    TIMEOUT,
    Host,
    Stage,
    add_client,
    add_host,
    add_pc,
    age,
    behind_triggers,
    credit,
    debit,
    expired,
    reserve,
)
from tests.rental.racing import DEADLINE_S, outcome, silent, time_out, with_settings

pytestmark = pytest.mark.books


@frozen
class Crowd:
    """A few hosts, PCs and clients whom everybody gets in the way of; hosts rent as well."""

    hosts: list[Host]
    pcs: list[Stage]
    clients: list[UUID]
    rng: random.Random

    def stage(self) -> Stage:
        return evolve(self.rng.choice(self.pcs), client=self.rng.choice(self.clients))

    def some(self) -> list[Stage]:
        """In any order."""
        return self.rng.sample(self.pcs, self.rng.randint(1, len(self.pcs)))


async def make_crowd(conn: TrioConnection, seed: int) -> Crowd:
    rng = random.Random(seed)
    hosts = [await add_host(conn, money=20_000) for _ in range(3)]
    pcs_of = [(host, await add_pc(conn, host, price=rng.choice([0, 1, 600, 2400]))) for host in hosts for _ in range(2)]
    clients = [await add_client(conn, money=20_000) for _ in range(3)] + [host.user for host in hosts]
    return Crowd(hosts, [Stage(host, pc, clients[0]) for host, pc in pcs_of], clients, rng)


async def live_of(conn: TrioConnection, crowd: Crowd) -> list[closing.Snapshot]:
    found = await sessions.on_pcs(conn, [stage.pc for stage in crowd.some()])
    crowd.rng.shuffle(found)
    return found


async def start_any(conn: TrioConnection, crowd: Crowd) -> None:
    for found in (await live_of(conn, crowd))[:1]:
        await sessions.start(conn, found.id, found.client_user_id, admin=False)
        await age(conn, found.id, crowd.rng.randint(0, 30) * MINUTE)


async def close_any(conn: TrioConnection, crowd: Crowd) -> None:
    """Several in one statement, for any reason."""
    await sessions.close(conn, [any_end(found, crowd.rng) for found in await live_of(conn, crowd)])


def any_end(found: closing.Snapshot, rng: random.Random) -> closing.Closing:
    if rng.random() < 0.3:
        return closing.time_out(found)
    if found.status == Status.PENDING:
        return rng.choice([closing.cancel, closing.give_up])(found)
    if rng.random() < 0.3:
        return expired(found)
    return closing.end(found, rng.choice(list(Caller)), None, heartbeat_timeout=TIMEOUT, listening_since=None)


async def time_out_any(conn: TrioConnection, crowd: Crowd) -> None:
    await time_out(conn, [await silent(conn, stage) for stage in crowd.some()])


async def beat_any(conn: TrioConnection, crowd: Crowd) -> None:
    """A batch as a daemon's: many hosts, some twice, in any order."""
    said = [None, None, None, "ONLINE", "ONLINE", "OFFLINE", "BUSY"]
    beats = [
        Beat(Claims(stage.host.user, 1), stage.host.id, crowd.rng.choice([None, stage.pc]), crowd.rng.choice(said))
        for stage in [*crowd.some(), *crowd.some()]
    ]
    await heartbeats.write(conn, beats)


async def pay_any(conn: TrioConnection, crowd: Crowd) -> None:
    user, amount = crowd.rng.choice(crowd.clients), crowd.rng.randint(1, 3000)
    await (credit if crowd.rng.random() < 0.6 else debit)(conn, user, amount)


async def refund_any(conn: TrioConnection, crowd: Crowd) -> None:
    rows = await conn.fetch("SELECT id FROM sessions WHERE retained > refunded LIMIT 5")
    if rows:
        chosen = crowd.rng.choice(rows)[0]
        await sessions.refund(conn, chosen, crowd.rng.randint(1, 50), "GOODWILL", made_by=crowd.clients[0])


# Else nobody may reserve after a while. It must not get in anybody's way itself.
_FORGIVE = """
    UPDATE sessions SET created_at = created_at - interval '1 hour'
     WHERE id IN (SELECT id FROM sessions WHERE end_reason IN ('CANCELLED', 'NEVER_STARTED') AND created_at > now() - interval '1 hour'
                     FOR UPDATE SKIP LOCKED)
"""


async def forgive(conn: TrioConnection, crowd: Crowd) -> None:
    await behind_triggers(conn, _FORGIVE)


async def reserve_any(conn: TrioConnection, crowd: Crowd) -> None:
    await reserve(conn, crowd.stage(), crowd.rng.randint(1, 60))


async def in_one_transaction(conn: TrioConnection, crowd: Crowd) -> None:
    """As a request with an Idempotency-Key does it."""
    async with conn.transaction():
        await crowd.rng.choice([reserve_any, start_any, close_any, pay_any, refund_any])(conn, crowd)


ANY = (
    forgive,
    reserve_any,
    reserve_any,
    start_any,
    start_any,
    close_any,
    time_out_any,
    beat_any,
    beat_any,
    pay_any,
    refund_any,
)


async def mill(conninfo: str, conn: TrioConnection, *, seed: int, rounds: int) -> list[str]:
    """Let sixteen tasks do whatever comes to their minds. What they were told, and the books are looked at by the fixture."""
    crowd = await make_crowd(conn, seed)
    told: list[str] = []
    # A deadlock is found out a second after it happened, unless the server is told to look sooner.
    pool = Pool(with_settings(conninfo, "-c deadlock_timeout=20ms"), size=16)

    async def one() -> None:
        for _ in range(rounds):
            op = crowd.rng.choice([*ANY, in_one_transaction])

            async def unit(op: Callable[[TrioConnection, Crowd], Awaitable[None]] = op) -> None:
                async with pool.connection() as own:
                    await op(own, crowd)

            told.append(await outcome(retrying(unit)))

    try:
        with trio.fail_after(DEADLINE_S * rounds):
            async with trio.open_nursery() as nursery:
                for _ in range(16):
                    nursery.start_soon(one)
    finally:
        await pool.aclose()
    return told


EXPECTED = {
    "OK", "PC_BUSY", "PC_OFFLINE", "SESSION_EXISTS", "OWN_PC", "RATE_LIMITED", "INSUFFICIENT_FUNDS", "INVALID_STATUS", "REFUND_TOO_LARGE",
}  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
async def test_nobody_is_told_of_a_deadlock_and_the_books_stay_right(
    conninfo: str, conn: TrioConnection, seed: int
) -> None:
    assert set(await mill(conninfo, conn, seed=seed, rounds=25)) <= EXPECTED


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 120))
async def test_nobody_is_told_of_a_deadlock_for_long(conninfo: str, conn: TrioConnection, seed: int) -> None:
    assert set(await mill(conninfo, conn, seed=seed, rounds=300)) <= EXPECTED
