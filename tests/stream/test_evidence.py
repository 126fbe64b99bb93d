"""What the relay saw decides whose fault an end was, and up to when time is billed; also when the end comes to another daemon."""

from datetime import timedelta
from typing import Any

import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental.lifecycle import Caller, EndReason, Status
from opendesk.rental.sessions import Session
from opendesk.rental.settlement import FailureReason
from opendesk.stream.evidence import write
from opendesk.stream.presence import Presence
from opendesk.stream.tokens import Role
from tests.rental.builders import MINUTE, SECOND, Stage, count_of, end, rent, set_stage
from tests.stream.relaying import Relaying, relaying

HOST, NONE = FailureReason.HOST, FailureReason.NONE


@pytest.fixture
async def stage(conn: TrioConnection) -> Stage:
    return await set_stage(conn)


@pytest.fixture
async def session(conn: TrioConnection, stage: Stage) -> Session:
    """On a PC that is reached through the relay only."""
    await conn.run("UPDATE pcs SET network_provider = 'RELAY'")
    return await rent(conn, stage, 60, used=20 * MINUTE)


def seen(*, down: float | None, up: float | None, byte: float | None = None) -> Presence:
    """By seconds ago."""
    now_s = trio.current_time()
    at = [None if ago is None else now_s - ago for ago in (down, up, byte)]
    return Presence(at[0], at[1], at[2])


@pytest.mark.parametrize(
    ("seen_s", "fault"),
    [((31, 40), HOST), ((40, 31), HOST), ((29, 40), NONE), ((40, 29), NONE), ((None, 40), NONE), ((40, None), NONE)],
)
async def test_a_claim_counts_when_the_host_was_away_while_the_client_was_there(
    conn: TrioConnection, pool: Pool, session: Session, seen_s: tuple[float | None, float | None], fault: FailureReason
) -> None:
    down, up = seen_s
    await write(pool, [(session.id, seen(down=down, up=up))])
    ended = await end(conn, session.id, Caller.CLIENT, HOST)
    assert ended.failure_reason == fault
    assert ended.status == (Status.FAILED if fault is HOST else Status.ENDED)


async def test_time_runs_to_the_last_byte_when_the_host_left_the_relay(
    conn: TrioConnection, pool: Pool, session: Session
) -> None:
    await write(pool, [(session.id, seen(down=5 * 60 + 10, up=600, byte=5 * 60 + 10))])
    ended = await end(conn, session.id, Caller.CLIENT, HOST)
    assert (ended.end_reason, ended.minutes_used) == (EndReason.ENDED_BY_CLIENT, 15)


async def test_what_a_relay_that_is_gone_saw_proves_nothing(conn: TrioConnection, pool: Pool, session: Session) -> None:
    await write(pool, [(session.id, seen(down=60, up=60))])
    await conn.run("UPDATE stream_presence SET seen_at = seen_at - %s", (16 * SECOND,))
    assert (await end(conn, session.id, Caller.CLIENT, HOST)).failure_reason == NONE


async def test_what_was_seen_of_a_session_is_forgotten_when_it_is_over(
    conn: TrioConnection, pool: Pool, session: Session, stage: Stage
) -> None:
    other = await rent(conn, await set_stage(conn), used=timedelta(0))
    for each in (session, other):
        await write(pool, [(each.id, seen(down=1, up=1))])
    await end(conn, session.id, Caller.CLIENT)
    await write(pool, [(session.id, seen(down=2, up=2)), (other.id, seen(down=2, up=2))])
    assert await count_of(conn, "stream_presence") == 1


def presence(on: Relaying) -> tuple[bool, bool, bool]:
    """Whether the host is away, the client there, and a byte passed on."""
    (room,) = on.relay.rooms.values()
    down, up, byte = room.presence.facts
    return down is not None, up is not None, byte is not None


async def test_only_sockets_with_their_own_token_are_evidence(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage, session: Session
) -> None:
    async with relaying(conn, pool, conninfo, stage, session) as on:
        shared_host = await on.enter(Role.HOST, token=on.shared())
        shared_client = await on.enter(Role.CLIENT, token=on.shared())
        await shared_host.picture(b"x")
        assert await shared_client.next() == b"x"
        assert presence(on) == (True, False, False)
        host, client = await on.enter(Role.HOST), await on.enter(Role.CLIENT)
        assert presence(on) == (False, True, False)
        await host.picture(b"y")
        assert await client.next() == b"y"
        assert presence(on) == (False, True, True)


async def test_a_gap_begins_anew(conn: TrioConnection, stage: Stage, session: Session) -> None:
    made: Any = Presence(host_down_since_s=0.0)
    made.now(1.0, host=True, client=True)
    made.now(2.0, host=True, client=True)
    assert made.facts == (None, 1.0, None)
    made.now(3.0, host=False, client=False)
    made.now(4.0, host=False, client=True)
    assert made.facts == (3.0, 4.0, None)
