"""What could not be opened, and was told so, is not opened later by somebody else; but an operator may have it tried again."""

from typing import Final
from uuid import UUID

from attrs import evolve
import pytest
import trio

from opendesk.network.hotspots import grants, moves, orders
from opendesk.network.hotspots.ends import end_of
from opendesk.network.hotspots.errors import GrantEnded
from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.hotspots.place import Place
from opendesk.network.hotspots.replaying import bring_back
from opendesk.network.hotspots.work import Kind, Work, end_key
from opendesk.network.jobs import add, discard_lane, looking
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from tests.network.hotspots.test_grants import ELSEWHERE, OTHER, PHONE, began, give, later, live, reasons

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


# ---- was given more, which can't be opened


async def asks_for_trial(conn: TrioConnection) -> GrantRow:
    return await orders.authorize(conn, "r1", "1", PHONE, device=None, duration_s=300, dry_run=False, trial=True)


async def opened_trial(conn: TrioConnection) -> GrantRow:
    granted = await asks_for_trial(conn)
    await began(conn, granted.id)
    return granted


async def job_for(conn: TrioConnection, granted: GrantRow) -> UUID:
    return await add(conn, Work(Kind.AUTHORIZE, "r1", (granted.place,), "1").job("trace", same=granted.same))


@pytest.mark.parametrize("seen", [False, True], ids=["opening", "observed"])
@pytest.mark.parametrize("more_s", [None, 7200], ids=["without an end", "longer"])
async def test_what_was_given_more_has_again_what_it_had(conn: TrioConnection, more_s: int | None, seen: bool) -> None:  # noqa: FBT001  # a parameter of the test
    granted = await give(conn, duration_s=1800)
    await began(conn, granted.id)
    if seen:
        await grants.observed(conn, [granted.id])
    await later(conn, 60)
    (had,) = await live(conn)
    more = await give(conn, duration_s=more_s)
    assert (more.id, more.is_opened) == (granted.id, False)
    await dies(conn, await job_for(conn, more))
    (again,) = await live(conn)
    assert evolve(again, had_time=False, remaining_s=None) == evolve(had, remaining_s=None)
    assert (await give(conn, duration_s=1800)).until == had.until
    await later(conn, 1800)
    with pytest.raises(GrantEnded):
        await give(conn, duration_s=1800)


async def test_a_trial_that_was_paid_for_is_a_trial_again(conn: TrioConnection) -> None:
    granted = await opened_trial(conn)
    paid = await give(conn)
    assert (paid.id, paid.trial) == (granted.id, False)
    await dies(conn, await job_for(conn, paid))
    (again,) = await live(conn)
    assert (again.trial, again.is_opened, again.duration_s) == (True, True, 300)
    await later(conn, 300)
    assert await live(conn) == []


async def test_more_of_more_that_was_not_opened_keeps_what_was(conn: TrioConnection) -> None:
    granted = await give(conn, duration_s=1800)
    await began(conn, granted.id)
    await give(conn, duration_s=3600)
    await dies(conn, await job_for(conn, await give(conn, duration_s=7200)))
    (again,) = await live(conn)
    assert (again.duration_s, again.is_opened) == (1800, True)


async def test_once_the_new_time_was_opened_the_old_is_forgotten(conn: TrioConnection) -> None:
    granted = await give(conn, duration_s=1800)
    await began(conn, granted.id)
    more = await give(conn, duration_s=3600)
    await began(conn, more.id)
    await dies(conn, await job_for(conn, more))
    assert [row.duration_s for row in await live(conn)] == [3600]


async def test_it_moves_along(conn: TrioConnection) -> None:
    granted = await give(conn, duration_s=1800)
    await began(conn, granted.id)
    await give(conn, duration_s=3600)
    moved = await moves.move(conn, "r1", "1", ELSEWHERE, [PHONE], device=None, dry_run=False)
    await dies(conn, await job_for(conn, moved.grant))
    (again,) = await live(conn, ELSEWHERE)
    assert (again.duration_s, again.is_opened) == (1800, True)


async def test_longer_time_that_comes_here_unopened_and_fails_gives_back_what_was_here(conn: TrioConnection) -> None:
    here = await give(conn, place=ELSEWHERE, duration_s=1800)
    await began(conn, here.id)
    await give(conn, duration_s=3600)
    moved = await moves.move(conn, "r1", "1", ELSEWHERE, [PHONE], device=None, dry_run=False)
    assert (moved.grant.id, moved.grant.duration_s) == (here.id, 3600)
    await dies(conn, await job_for(conn, moved.grant))
    (again,) = await live(conn, ELSEWHERE)
    assert (again.duration_s, again.is_opened) == (1800, True)


async def test_as_long_as_another_job_may_open_it_what_was_waits(conn: TrioConnection) -> None:
    granted = await give(conn, duration_s=1800)
    await began(conn, granted.id)
    more = await give(conn, duration_s=3600)
    first, second = [await add(conn, Work(Kind.AUTHORIZE, "r1", (PHONE,), "1", peer=peer).job("t")) for peer in "ab"]
    await dies(conn, first)
    assert await live(conn) == [more]
    await dies(conn, second)
    assert [row.duration_s for row in await live(conn)] == [1800]


@pytest.mark.parametrize("more_s", [None, 7200], ids=["without an end", "longer"])
async def test_its_end_looks_for_what_may_hold_again(conn: TrioConnection, more_s: int | None) -> None:
    granted = await give(conn, duration_s=1800)
    until = await began(conn, granted.id)
    more = await give(conn, duration_s=more_s)
    end = end_of(more, dry_run=False)
    assert end is not None
    assert end.run_at == until
    assert 1700 < (await grants.end(conn, granted.id) or 0) <= 1800
    await conn.run(
        "UPDATE hotspot_grants SET before = before || jsonb_build_object('until', now() - interval '1 second')"
    )
    assert await grants.end(conn, granted.id) == 60
    await dies(conn, await job_for(conn, more))
    assert await grants.end(conn, granted.id) is None
    assert await reasons(conn) == ["expired"]


async def test_the_end_of_what_has_none_any_more_has_nothing_to_do(conn: TrioConnection) -> None:
    granted = await opened_trial(conn)
    await give(conn)
    await grants.observed(conn, [granted.id])
    assert await grants.end(conn, granted.id) is None
    assert await reasons(conn) == [None]


async def test_a_job_whose_time_was_taken_back_is_not_tried_again(conn: TrioConnection) -> None:
    granted = await give(conn, duration_s=1800)
    await began(conn, granted.id)
    more = await give(conn, duration_s=3600)
    job = await job_for(conn, more)
    await dies(conn, job)
    assert "has other time" in (await bring_back(conn, job) or "")
    await give(conn, duration_s=3600)
    assert await bring_back(conn, job) is None


# ---- beside what is paid


async def test_a_trial_that_failed_is_not_given_back_beside_what_is_paid(conn: TrioConnection) -> None:
    await asks_for_trial(conn)
    job = await job_of(conn)
    await dies(conn, job)
    paid = await give(conn, "2")
    assert await grants.release_trials(conn, [("r1", PHONE.mac or "")], dry_run=False) == {("r1", PHONE.mac): (PHONE,)}
    assert "no access" in (await bring_back(conn, job) or "")
    assert await live(conn) == [paid]
