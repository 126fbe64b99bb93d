"""A stamp is taken once, by the database's clock, whoever asks and however many at once."""

from typing import Any

import pytest
import trio

from opendesk.errors import InvalidSignature
from opendesk.network import nonces
from opendesk.network.nonces import Nonces, forget_old
from opendesk.network.signatures import Stamp
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool

WINDOW_MS = 300_000
HOUR_MS = 3_600_000
NONCE = "a nonce of sixteen".replace(" ", "-")


async def now_ms(conn: TrioConnection) -> int:
    row = await conn.fetch_one("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    assert row is not None
    return int(row[0])


async def kept(conn: TrioConnection) -> list[Any]:
    return [row[0] for row in await conn.fetch("SELECT nonce FROM relay_nonces ORDER BY nonce")]


async def taken(keeper: Nonces, stamp: Stamp) -> str:
    """What is said of it; nothing if it was taken."""
    try:
        await keeper.take(stamp)
    except InvalidSignature as error:
        return error.detail
    return ""


async def test_a_stamp_is_taken_once(pool: Pool, conn: TrioConnection) -> None:
    stamp = Stamp(await now_ms(conn), NONCE)
    assert await taken(Nonces(pool, WINDOW_MS), stamp) == ""
    # By the same daemon, by another one, by one that was started anew.
    for keeper in (Nonces(pool, WINDOW_MS), Nonces(pool, WINDOW_MS)):
        assert await taken(keeper, stamp) == "x-relay-nonce was used before"
    assert await taken(Nonces(pool, WINDOW_MS), Stamp(stamp.sent_ms + 1, NONCE)) == "x-relay-nonce was used before"
    assert await taken(Nonces(pool, WINDOW_MS), Stamp(stamp.sent_ms, NONCE.upper())) == ""


async def test_of_many_at_once_one_is_taken(pool: Pool, conn: TrioConnection) -> None:
    keepers = [Nonces(pool, WINDOW_MS) for _ in range(3)]
    stamp, told = Stamp(await now_ms(conn), NONCE), list[str]()

    async def one(keeper: Nonces) -> None:
        told.append(await taken(keeper, stamp))

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(one, keepers[number % 3])
    assert sorted(told) == ["", *["x-relay-nonce was used before"] * 29]


@pytest.mark.parametrize("off_ms", [-HOUR_MS, -WINDOW_MS - 60_000, WINDOW_MS + 60_000, HOUR_MS])
async def test_another_clock_than_ours_is_refused_and_leaves_nothing(
    pool: Pool, conn: TrioConnection, off_ms: int
) -> None:
    stamp = Stamp(await now_ms(conn) + off_ms, NONCE)
    assert "off our clock" in await taken(Nonces(pool, WINDOW_MS), stamp)
    assert await kept(conn) == []


@pytest.mark.parametrize("off_ms", [-WINDOW_MS + 60_000, 0, WINDOW_MS - 60_000])
async def test_within_the_window_a_clock_may_be_off(pool: Pool, conn: TrioConnection, off_ms: int) -> None:
    stamp = Stamp(await now_ms(conn) + off_ms, NONCE)
    assert await taken(Nonces(pool, WINDOW_MS), stamp) == ""
    assert await taken(Nonces(pool, WINDOW_MS), stamp) == "x-relay-nonce was used before"


@pytest.mark.parametrize("sent_ms", [0, 1, 10**14 - 1])
async def test_times_of_long_ago_and_of_the_far_future_are_just_off(pool: Pool, sent_ms: int) -> None:
    assert "off our clock" in await taken(Nonces(pool, WINDOW_MS), Stamp(sent_ms, NONCE))


async def test_it_is_remembered_for_as_long_as_its_request_would_be_taken_and_for_a_window(
    pool: Pool, conn: TrioConnection
) -> None:
    begun_ms = await now_ms(conn)
    for number, off_ms in enumerate((-60_000, 0, 60_000)):
        await Nonces(pool, WINDOW_MS).take(Stamp(begun_ms + off_ms, f"{NONCE}-{number}"))
    ended_ms = await now_ms(conn)
    query = "SELECT (extract(epoch FROM forget_at) * 1000)::bigint - %(window)s FROM relay_nonces ORDER BY nonce"
    past, now, future = [int(row[0]) for row in await conn.fetch(query, {"window": WINDOW_MS})]
    assert begun_ms <= past <= ended_ms + 1
    assert begun_ms <= now <= ended_ms + 1
    assert future == begun_ms + 60_000


async def make_old(conn: TrioConnection) -> None:
    await conn.run("UPDATE relay_nonces SET forget_at = clock_timestamp() - interval '1 second'")


async def test_one_whose_time_is_over_counts_as_new_also_before_it_is_swept_up(
    pool: Pool, conn: TrioConnection
) -> None:
    keeper, stamp = Nonces(pool, WINDOW_MS), Stamp(await now_ms(conn), NONCE)
    await keeper.take(stamp)
    await make_old(conn)
    assert [await taken(keeper, stamp) for _ in range(2)] == ["", "x-relay-nonce was used before"]


async def test_what_is_old_is_forgotten_in_pieces_and_the_rest_stays(
    pool: Pool, conn: TrioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Nonces(pool, WINDOW_MS)
    for number in range(5):
        await keeper.take(Stamp(await now_ms(conn), f"old-nonce-of-tests-{number}"))
    await make_old(conn)
    await keeper.take(Stamp(await now_ms(conn), NONCE))
    monkeypatch.setattr(nonces, "_FORGET", nonces._FORGET.replace(f"LIMIT {nonces.FORGOTTEN_AT_ONCE}", "LIMIT 2"))
    assert await forget_old(conn) == 5
    assert await kept(conn) == [NONCE]
    assert await forget_old(conn) == 0


async def test_a_crowd_leaves_connections_to_the_others(pool: Pool, conn: TrioConnection) -> None:
    keeper, most, begun_ms = Nonces(pool, WINDOW_MS), 0, await now_ms(conn)

    async def one(number: int) -> None:
        nonlocal most
        await keeper.take(Stamp(begun_ms, f"nonce-of-a-crowd-{number}"))
        most = max(most, pool.stats.size)

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(one, number)
    assert len(await kept(conn)) == 200
    assert most <= nonces.AT_ONCE
