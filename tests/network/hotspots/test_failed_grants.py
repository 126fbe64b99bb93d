"""What could not be opened, and was told so, is not opened later by somebody else; but an operator may have it tried again."""

from typing import Final
from uuid import UUID

import pytest
import trio

from opendesk.network.hotspots import grants, moves
from opendesk.network.hotspots.ends import end_of
from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.hotspots.place import Place
from opendesk.network.hotspots.replaying import bring_back
from opendesk.network.hotspots.work import Kind, Work, end_key
from opendesk.network.jobs import add, discard_lane, looking
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from tests.network.hotspots.test_grants import ELSEWHERE, OTHER, PHONE, began, give, live, reasons

PATIENCE_S: Final = 30.0


async def job_of(
    conn: TrioConnection,
    kind: Kind = Kind.AUTHORIZE,
    place: Place = PHONE,
    pedido: str = "1",
    *,
    dry_run: bool = False,
) -> UUID:
    return await add(conn, Work(kind, "r1", (place,), pedido, dry_run=dry_run).job("trace"))


async def dies(conn: TrioConnection, job: UUID) -> None:
    await conn.run("UPDATE jobs SET state = 'dead', finished_at = now(), last_error = 'no' WHERE id = %s", (job,))


async def failed(conn: TrioConnection, duration_s: int | None = 60, place: Place = PHONE) -> tuple[GrantRow, UUID]:
    """With its end cancelled, as if that had come by."""
    granted = await give(conn, place=place, duration_s=duration_s)
    job = await job_of(conn, place=place)
    await dies(conn, job)
    assert (await reasons(conn))[-1] == "failed"
    return granted, job


async def ends(conn: TrioConnection, grant: UUID) -> int:
    return await conn.run("SELECT FROM jobs WHERE key = %s AND state = 'due'", (end_key(grant),))


# ---- ends with its job


@pytest.mark.parametrize("kind", [Kind.AUTHORIZE, Kind.RESYNC])
@pytest.mark.parametrize("duration_s", [None, 60], ids=["no end", "an end"])
async def test_what_was_never_opened_ends_with_the_job_that_was_to(
    conn: TrioConnection, duration_s: int | None, kind: Kind
) -> None:
    first = await give(conn, duration_s=duration_s)
    await dies(conn, await job_of(conn, kind))
    assert await reasons(conn) == ["failed"]
    again = await give(conn, duration_s=duration_s)
    assert again.id != first.id
    assert [row.id for row in await live(conn)] == [again.id]


async def test_a_resync_takes_along_the_time_of_what_failed(conn: TrioConnection) -> None:
    await failed(conn)
    moved = await moves.move(conn, "r1", "1", ELSEWHERE, [PHONE], device=None, dry_run=False)
    assert moved.grant.remaining_s == 60


@pytest.mark.parametrize("opened", ["opening", "observed"])
async def test_what_may_have_been_open_goes_on(conn: TrioConnection, opened: str) -> None:
    granted = await give(conn, duration_s=60 if opened == "opening" else None)
    if opened == "opening":
        await began(conn, granted.id)
    else:
        await grants.observed(conn, [granted.id])
    await dies(conn, await job_of(conn))
    assert await reasons(conn) == [None]


async def test_it_stays_as_long_as_another_job_may_open_it(conn: TrioConnection) -> None:
    await give(conn)
    first, second = [await add(conn, Work(Kind.AUTHORIZE, "r1", (PHONE,), "1", peer=peer).job("t")) for peer in "ab"]
    assert first != second
    await dies(conn, first)
    assert await reasons(conn) == [None]
    await dies(conn, second)
    assert await reasons(conn) == ["failed"]


async def test_nothing_else_ends_with_it(conn: TrioConnection) -> None:
    await give(conn, "2")
    await give(conn, place=OTHER)
    await give(conn, place=ELSEWHERE)
    await give(conn, router="r2")
    await give(conn, dry_run=True)
    await dies(conn, await job_of(conn))
    assert await reasons(conn) == [None] * 5


async def test_what_is_pretended_ends_with_a_pretended_job(conn: TrioConnection) -> None:
    await give(conn, dry_run=True)
    await dies(conn, await job_of(conn, dry_run=True))
    assert await reasons(conn) == ["failed"]


@pytest.mark.parametrize("kind", [Kind.REVOKE, Kind.END, Kind.RESTORE])
async def test_a_job_that_opens_nothing_by_itself_ends_nothing(conn: TrioConnection, kind: Kind) -> None:
    await give(conn)
    await dies(conn, await job_of(conn, kind))
    assert await reasons(conn) == [None]


async def test_who_is_just_asking_for_it_again_keeps_it_and_nobody_waits(conn: TrioConnection, pool: Pool) -> None:
    """That one's job comes with its commit, and is about the same grant."""
    await give(conn, duration_s=60)
    job = await job_of(conn)
    async with pool.connection() as theirs, theirs.transaction():
        await give(theirs, duration_s=120)
        with trio.fail_after(PATIENCE_S):
            await dies(conn, job)
    assert await reasons(conn) == [None]


async def test_of_a_removed_router_it_is_told_that(conn: TrioConnection) -> None:
    await give(conn)
    await job_of(conn)
    await discard_lane(conn, "r1", why="the router was removed")
    assert await grants.remove(conn, "r1") == 1
    assert await reasons(conn) == ["removed"]


# ---- is tried again


@pytest.mark.parametrize("duration_s", [None, 60], ids=["no end", "an end"])
async def test_a_replay_gives_it_back_with_its_end(conn: TrioConnection, duration_s: int | None) -> None:
    granted, job = await failed(conn, duration_s)
    async with conn.transaction():
        assert await bring_back(conn, job) is None
        assert await looking.replay(conn, job)
    assert await live(conn) == [granted]
    assert await ends(conn, granted.id) == (0 if duration_s is None else 1)
    await dies(conn, job)
    assert await reasons(conn) == ["failed"]


async def test_of_its_end_there_is_one(conn: TrioConnection) -> None:
    granted, job = await failed(conn)
    end = end_of(granted, dry_run=False)
    assert end is not None
    await add(conn, end)
    assert await bring_back(conn, job) is None
    assert await ends(conn, granted.id) == 1


async def test_what_was_asked_for_again_meanwhile_is_left_as_it_is(conn: TrioConnection) -> None:
    _, job = await failed(conn)
    again = await give(conn, duration_s=120)
    assert await bring_back(conn, job) is None
    assert await live(conn) == [again]


@pytest.mark.parametrize("end", ["revoked", "revoked by its MAC", "revoked among others", "removed", "moved"])
async def test_it_is_not_given_back_once_it_is(conn: TrioConnection, end: str) -> None:
    _, job = await failed(conn)
    match end:
        case "revoked":
            assert await grants.revoke(conn, "r1", PHONE, dry_run=False) == [PHONE]
        case "revoked by its MAC":
            await grants.revoke(conn, "r1", Place(None, PHONE.mac), dry_run=False)
        case "revoked among others":
            await grants.revoke_all(conn, [("r1", OTHER), ("r1", PHONE)], dry_run=False)
        case "removed":
            await grants.remove(conn, "r1")
        case _:
            await moves.move(conn, "r1", "1", ELSEWHERE, [PHONE], device=None, dry_run=False)
    assert "no access" in (await bring_back(conn, job) or "")
    assert {row.place for row in await live(conn)} <= {ELSEWHERE}
