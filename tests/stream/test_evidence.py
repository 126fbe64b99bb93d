"""What the relay saw decides whose fault an end was, and up to when time is billed; also when the end comes to another daemon."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental.lifecycle import Caller, EndReason, Status
from opendesk.rental.sessions import Session
from opendesk.rental.settlement import FailureReason
from opendesk.stream.evidence import record_presence, write
from opendesk.stream.presence import Presence, Presences
from opendesk.stream.tokens import Role
from tests.rental.builders import MINUTE, SECOND, Stage, count_of, end, rent, set_stage
from tests.stream.relaying import PATIENCE_S, Relaying, relaying

HOST, NONE = FailureReason.HOST, FailureReason.NONE


@pytest.fixture
async def session(conn: TrioConnection, stage: Stage) -> Session:
    """On a PC that is reached through the relay only."""
    await conn.run("UPDATE pcs SET network_provider = 'RELAY'")
    return await rent(conn, stage, 60, used=20 * MINUTE)


HERE, ELSEWHERE = uuid4(), uuid4()


def seen(*, down: float | None, up: float | None, byte: float | None = None, left: float | None = None) -> Presence:
    """By seconds ago."""
    now_s = trio.current_time()
    at = [None if ago is None else now_s - ago for ago in (down, up, byte, left)]
    return Presence(at[0], at[1], at[2], client_left_s=at[3])


@pytest.mark.parametrize(
    ("seen_s", "fault"),
    [((31, 40), HOST), ((40, 31), HOST), ((29, 40), NONE), ((40, 29), NONE), ((None, 40), NONE), ((40, None), NONE)],
)
async def test_a_claim_counts_when_the_host_was_away_while_the_client_was_there(
    conn: TrioConnection, pool: Pool, session: Session, seen_s: tuple[float | None, float | None], fault: FailureReason
) -> None:
    down, up = seen_s
    await write(pool, HERE, [(session.id, seen(down=down, up=up))])
    ended = await end(conn, session.id, Caller.CLIENT, HOST)
    assert ended.failure_reason == fault
    assert ended.status == (Status.FAILED if fault is HOST else Status.ENDED)


@pytest.mark.parametrize(("byte_s", "fault"), [(16, NONE), (29, NONE), (31, HOST)])
async def test_a_host_whose_byte_was_passed_on_was_there(
    conn: TrioConnection, pool: Pool, session: Session, byte_s: float, fault: FailureReason
) -> None:
    """At a relay that has died since, while the client had a socket at this one, too."""
    await write(pool, HERE, [(session.id, seen(down=60, up=60))])
    await write(pool, ELSEWHERE, [(session.id, seen(down=None, up=60, byte=byte_s))])
    await grow_old(conn, ELSEWHERE)
    assert (await end(conn, session.id, Caller.CLIENT, HOST)).failure_reason == fault


async def test_time_runs_to_the_last_byte_when_the_host_left_the_relay(
    conn: TrioConnection, pool: Pool, session: Session
) -> None:
    await write(pool, HERE, [(session.id, seen(down=5 * 60 + 10, up=600, byte=5 * 60 + 10))])
    ended = await end(conn, session.id, Caller.CLIENT, HOST)
    assert (ended.end_reason, ended.minutes_used) == (EndReason.ENDED_BY_CLIENT, 15)


async def test_what_a_relay_that_is_gone_saw_proves_nothing(conn: TrioConnection, pool: Pool, session: Session) -> None:
    await write(pool, HERE, [(session.id, seen(down=60, up=60))])
    await conn.run("UPDATE stream_presence SET seen_at = seen_at - %s", (16 * SECOND,))
    assert (await end(conn, session.id, Caller.CLIENT, HOST)).failure_reason == NONE


async def test_what_was_seen_of_a_session_is_forgotten_when_it_is_over(
    conn: TrioConnection, pool: Pool, session: Session, stage: Stage
) -> None:
    other = await rent(conn, await set_stage(conn), used=timedelta(0))
    for each in (session, other):
        await write(pool, HERE, [(each.id, seen(down=1, up=1))])
    await end(conn, session.id, Caller.CLIENT)
    await write(pool, HERE, [(session.id, seen(down=2, up=2)), (other.id, seen(down=2, up=2))])
    assert await count_of(conn, "stream_presence") == 1


@pytest.mark.parametrize(
    ("up_left", "fault"), [((40, 4), HOST), ((40, 7), NONE), ((33, 4), NONE), ((30.6, 10), NONE), ((600, 300), NONE)]
)
async def test_a_client_that_hung_up_just_before_was_there_until_then(
    conn: TrioConnection, pool: Pool, session: Session, up_left: tuple[float, float], fault: FailureReason
) -> None:
    up, left = up_left
    await write(pool, HERE, [(session.id, seen(down=600, up=up, left=left))])
    assert (await end(conn, session.id, Caller.CLIENT, HOST)).failure_reason == fault


# Several daemons


async def seen_at_two(pool: Pool, session: Session, here: Presence, elsewhere: Presence) -> None:
    await write(pool, HERE, [(session.id, here)])
    await write(pool, ELSEWHERE, [(session.id, elsewhere)])


Facts = dict[str, float | None]
Rooms = tuple[Facts, Facts]
STREAMING: Facts = {"down": None, "up": 600, "byte": 0}
ALONE: Facts = {"down": 60, "up": 60}


@pytest.mark.parametrize(
    ("rooms", "fault"),
    [
        pytest.param((STREAMING, ALONE), NONE, id="the client opens a room of its own"),
        pytest.param(({"down": None, "up": None}, ALONE), NONE, id="the host waits, the client is elsewhere"),
        pytest.param(({"down": 40, "up": 60}, {"down": 20, "up": 60}), NONE, id="the host was elsewhere until now"),
        pytest.param(({"down": 40, "up": 60}, {"down": 31, "up": 60}), HOST, id="the host left both"),
        pytest.param(({"down": 600, "up": 10}, {"down": 40, "up": 40}), HOST, id="the client is there twice"),
        pytest.param(({"down": 600, "up": 90, "left": 20}, {"down": 40, "up": 40}), HOST, id="the client left one"),
        pytest.param(({"down": 600, "up": 90, "left": 20}, {"down": 40, "up": 21}), NONE, id="the client went over"),
        pytest.param(({"down": 600, "up": 90, "left": 50}, {"down": 40, "up": 36, "left": 4}), HOST, id="it left both"),
        pytest.param(({"down": 600, "up": 90, "left": 8}, {"down": 40, "up": 39, "left": 7}), NONE, id="some time ago"),
        pytest.param(({"down": 600, "up": None}, {"down": 40, "up": 40}), HOST, id="a room where the client never was"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
async def test_what_several_relays_saw_is_put_together(
    conn: TrioConnection, pool: Pool, session: Session, rooms: Rooms, fault: FailureReason, *, turned: bool
) -> None:
    here, elsewhere = reversed(rooms) if turned else rooms
    await seen_at_two(pool, session, seen(**here), seen(**elsewhere))
    assert (await end(conn, session.id, Caller.CLIENT, HOST)).failure_reason == fault


async def grow_old(conn: TrioConnection, node: UUID) -> None:
    await conn.run("UPDATE stream_presence SET seen_at = seen_at - %s WHERE node = %s", (16 * SECOND, node))


async def test_a_host_at_a_relay_that_is_gone_is_nowhere(conn: TrioConnection, pool: Pool, session: Session) -> None:
    await seen_at_two(pool, session, seen(**{**STREAMING, "byte": 40}), seen(**ALONE))
    await grow_old(conn, HERE)
    assert (await end(conn, session.id, Caller.CLIENT, HOST)).failure_reason == HOST


async def test_a_client_at_a_relay_that_is_gone_is_nowhere(conn: TrioConnection, pool: Pool, session: Session) -> None:
    await seen_at_two(pool, session, seen(**ALONE), seen(down=60, up=5))
    await grow_old(conn, HERE)
    assert (await end(conn, session.id, Caller.CLIENT, HOST)).failure_reason == NONE


async def test_the_latest_byte_counts_also_of_a_relay_that_is_gone(
    conn: TrioConnection, pool: Pool, session: Session
) -> None:
    await seen_at_two(pool, session, seen(down=None, up=600, byte=310), seen(down=60, up=60, byte=610))
    await grow_old(conn, HERE)
    ended = await end(conn, session.id, Caller.CLIENT, HOST)
    assert (ended.failure_reason, ended.minutes_used) == (HOST, 15)


async def test_a_byte_stays_passed_on_though_its_relay_forgot_it(
    conn: TrioConnection, pool: Pool, session: Session
) -> None:
    await write(pool, HERE, [(session.id, seen(down=None, up=600, byte=310))])
    await write(pool, HERE, [(session.id, seen(down=60, up=60))])
    assert (await end(conn, session.id, Caller.CLIENT, HOST)).minutes_used == 15


async def test_a_client_that_streams_at_one_relay_proves_nothing_at_another(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage, session: Session
) -> None:
    async with (
        relaying(conn, pool, conninfo, stage, session) as first,
        relaying(conn, pool, conninfo, stage, session) as second,
    ):
        host, client = await first.enter(Role.HOST), await first.enter(Role.CLIENT)
        await host.picture(b"x")
        assert await client.next() == b"x"
        await second.enter(Role.CLIENT)
        for node, on in ((HERE, first), (ELSEWHERE, second)):
            ((found, presence),) = on.relay.presences.known(trio.current_time())
            await write(pool, node, [(found, presence)])
        # As if all of it had been a minute ago, and was so still.
        await conn.run(
            "UPDATE stream_presence SET host_down_since = host_down_since - %(by)s, client_up_since = client_up_since - %(by)s",
            {"by": MINUTE},
        )
        found_both = await count_of(conn, "stream_presence")
        ended = await end(conn, session.id, Caller.CLIENT, HOST)
    assert (found_both, ended.failure_reason) == (2, NONE)


# A relay's rooms


async def test_the_service_writes_for_its_daemon(conn: TrioConnection, pool: Pool, session: Session) -> None:
    presences = Presences()
    presences.opened(session.id, trio.current_time()).now(trio.current_time(), host=False, client=True)
    written = None
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(record_presence, pool, HERE, presences)
            while written is None:
                written = await conn.fetch_one("SELECT node, client_left_at FROM stream_presence")
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert written == (HERE, None)


def presence(on: Relaying) -> tuple[bool, bool, bool]:
    """Whether the host is away, the client there, and a byte passed on."""
    (room,) = on.relay.rooms.values()
    down, up, byte, left = room.presence.facts
    return down is not None, up is not None and left is None, byte is not None


async def test_only_sockets_with_their_own_token_are_evidence(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage, session: Session
) -> None:
    async with relaying(conn, pool, conninfo, stage, session) as on:
        shared_host = await on.enter(Role.HOST, token=on.shared())
        shared_client = await on.enter(Role.CLIENT, token=on.shared())
        await shared_host.picture(b"x")
        assert await shared_client.next() == b"x"
        assert presence(on) == (True, False, False)
        host = await on.enter(Role.HOST)
        await host.picture(b"to itself, it may be")
        assert await shared_client.next() == b"to itself, it may be"
        assert presence(on) == (False, False, False)
        client = await on.enter(Role.CLIENT)
        assert presence(on) == (False, True, False)
        await host.picture(b"y")
        assert await client.next() == b"y"
        assert presence(on) == (False, True, True)


async def until_empty(on: Relaying) -> None:
    with trio.fail_after(PATIENCE_S):
        while on.relay.rooms:  # noqa: ASYNC110 - the relay tells nobody
            await trio.sleep(0.01)


async def test_a_room_that_opens_again_goes_on_with_what_was_known(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage, session: Session
) -> None:
    async with relaying(conn, pool, conninfo, stage, session) as on:
        host, client = await on.enter(Role.HOST), await on.enter(Role.CLIENT)
        await host.picture(b"x")
        assert await client.next() == b"x"
        await on.hang_up()
        await until_empty(on)
        ((_, before),) = on.relay.presences.known(trio.current_time())
        down, _, byte, left = before.facts
        assert None not in before.facts
        await on.enter(Role.CLIENT)
        (room,) = on.relay.rooms.values()
        assert room.presence.facts[0] == down
        assert room.presence.facts[2] == byte
        assert left is not None
        assert (room.presence.client_up_since_s or 0) > left
        assert presence(on) == (True, True, True)


async def test_an_end_is_the_end_of_what_was_seen(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage, session: Session
) -> None:
    async with relaying(conn, pool, conninfo, stage, session) as on:
        client = await on.enter(Role.CLIENT)
        await end(conn, session.id, Caller.CLIENT)
        assert await client.closed() == (1008, "session_closed")
        await until_empty(on)
        assert on.relay.presences.known(trio.current_time()) == []


async def test_a_replaced_host_that_says_good_bye_late_is_not_missed(
    conn: TrioConnection, pool: Pool, conninfo: str, stage: Stage, session: Session
) -> None:
    async with relaying(conn, pool, conninfo, stage, session) as on:
        await on.enter(Role.HOST)
        (first_room,) = on.relay.rooms.values()
        replaced = first_room.host
        assert replaced is not None
        second = await on.enter(Role.HOST)
        await trio.aclose_forcefully(second.stream)
        await until_empty(on)
        await on.enter(Role.HOST)
        first_room.leave(replaced)
        assert presence(on) == (False, False, False)
