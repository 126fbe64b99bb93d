"""Grants in PostgreSQL: who has what, until when, and what becomes of it when many act at once."""

from datetime import datetime
from uuid import UUID

import pytest
import trio

from opendesk.network.hotspots import devices, grants, moves, orders
from opendesk.network.hotspots.errors import GrantEnded
from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.hotspots.moves import Moved
from opendesk.network.hotspots.place import Place, longest
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from tests.rental.racing import DEADLINE_S, at_once, until_one_waits

PHONE = Place("10.5.50.12", "AA:BB:CC:DD:EE:0A")
ELSEWHERE = Place("10.5.50.99", "AA:BB:CC:DD:EE:0A")
OTHER = Place("10.5.50.13", "AA:BB:CC:DD:EE:0B")
AT_ONCE = 8


async def give(
    conn: TrioConnection,
    pedido: str = "1",
    place: Place = PHONE,
    *,
    duration_s: int | None = None,
    device: bytes | None = None,
    dry_run: bool = False,
    router: str = "r1",
) -> GrantRow:
    return await orders.authorize(conn, router, pedido, place, device=device, duration_s=duration_s, dry_run=dry_run)


async def move(
    conn: TrioConnection, pedido: str = "1", new: Place = ELSEWHERE, old: tuple[Place, ...] = (PHONE,)
) -> Moved:
    return await moves.move(conn, "r1", pedido, new, old, device=None, dry_run=False)


async def live(conn: TrioConnection, *places: Place, dry_run: bool = False) -> list[GrantRow]:
    return await grants.live(conn, "r1", places or (PHONE,), dry_run=dry_run)


async def later(conn: TrioConnection, seconds: float) -> None:
    """As if everything had happened that much earlier."""
    names = ("begun_at", "until", "opening_at", "observed_at", "created_at", "ended_at")
    shifts = ", ".join(f"{name} = {name} - %(s)s * interval '1 second'" for name in names)
    await conn.run(f"UPDATE hotspot_grants SET {shifts}", {"s": seconds})


async def began(conn: TrioConnection, *ids: UUID) -> datetime | None:
    """And what opens the way is sent."""
    (begun,) = await grants.begin(conn, ids)
    await grants.opening(conn, ids)
    return begun.until


async def reasons(conn: TrioConnection) -> list[str | None]:
    return [reason for (reason,) in await conn.fetch("SELECT end_reason FROM hotspot_grants ORDER BY id")]


# ---- authorize


async def test_the_same_order_for_the_same_device_is_one_grant(conn: TrioConnection) -> None:
    first = await give(conn)
    assert await give(conn) == first
    assert [grant.id for grant in await live(conn)] == [first.id]


async def test_without_a_duration_it_has_no_end(conn: TrioConnection) -> None:
    granted = await give(conn)
    assert (granted.until, granted.remaining_s, granted.until_unix) == (None, None, None)
    assert await grants.begin(conn, [granted.id]) == []


async def test_addresses_come_back_in_their_canonical_spelling(conn: TrioConnection) -> None:
    assert (await give(conn)).place == PHONE


async def test_what_has_not_begun_has_all_of_its_time(conn: TrioConnection) -> None:
    granted = await give(conn, duration_s=300)
    await later(conn, 1000)
    (found,) = await live(conn)
    assert (found.until, found.remaining_s) == (None, 300)
    assert found.id == granted.id


async def test_time_runs_from_where_it_begins(conn: TrioConnection) -> None:
    granted = await give(conn, duration_s=300)
    await began(conn, granted.id)
    await later(conn, 100)
    (found,) = await live(conn)
    assert found.remaining_s is not None
    assert 100 < found.remaining_s <= 200
    assert found.until is not None
    assert found.until_unix == int(found.until.timestamp())


async def test_time_begins_anew_until_a_router_was_seen_to_hold_it(conn: TrioConnection) -> None:
    granted = await give(conn, duration_s=300)
    first = await began(conn, granted.id)
    await later(conn, 100)
    second = await began(conn, granted.id)
    assert second is not None
    assert first is not None
    assert second > first
    await grants.observed(conn, [granted.id])
    assert await grants.begin(conn, [granted.id]) == []


async def test_an_observation_is_written_once(conn: TrioConnection) -> None:
    granted = await give(conn)
    await grants.observed(conn, [granted.id])
    (first,) = await live(conn)
    await grants.observed(conn, [granted.id])
    assert await live(conn) == [first]
    assert first.observed_at is not None


async def test_what_is_over_is_not_live_before_that_is_written_down(conn: TrioConnection) -> None:
    await began(conn, (await give(conn, duration_s=300)).id)
    await later(conn, 301)
    assert await live(conn) == []
    assert await grants.live_places(conn, "r1", dry_run=False) == []
    assert await grants.expire(conn, "r1", [PHONE], dry_run=False) == [PHONE]
    assert await reasons(conn) == ["expired"]
    assert await grants.expire(conn, "r1", [PHONE], dry_run=False) == []


async def test_what_still_has_time_does_not_expire(conn: TrioConnection) -> None:
    await give(conn, "never")
    await give(conn, "not begun", duration_s=300)
    await began(conn, (await give(conn, "begun", duration_s=300)).id)
    assert await grants.expire(conn, "r1", [PHONE], dry_run=False) == []


@pytest.mark.parametrize("is_written_down", [True, False])
@pytest.mark.parametrize("place", [PHONE, OTHER])
async def test_an_order_whose_time_has_passed_is_refused(
    conn: TrioConnection, place: Place, *, is_written_down: bool
) -> None:
    await began(conn, (await give(conn, duration_s=300)).id)
    await later(conn, 301)
    if is_written_down:
        await grants.expire(conn, "r1", [PHONE], dry_run=False)
    with pytest.raises(GrantEnded):
        await give(conn, place=place, duration_s=300)
    assert await live(conn, PHONE, OTHER) == []


async def test_an_order_that_was_revoked_and_would_be_over_by_now_is_refused(conn: TrioConnection) -> None:
    await began(conn, (await give(conn, duration_s=300)).id)
    await grants.revoke(conn, "r1", PHONE, dry_run=False)
    await later(conn, 301)
    with pytest.raises(GrantEnded):
        await give(conn, duration_s=300)


@pytest.mark.parametrize("duration_s", [None, 3600])
@pytest.mark.parametrize("is_over", [True, False])
async def test_a_trial_is_followed_by_what_was_paid_for(
    conn: TrioConnection, duration_s: int | None, *, is_over: bool
) -> None:
    await began(conn, (trial := await give(conn, duration_s=300)).id)
    await grants.observed(conn, [trial.id])
    await later(conn, 301 if is_over else 100)
    await give(conn, duration_s=duration_s)
    (found,) = await live(conn)
    assert (found.duration_s, found.until, found.remaining_s) == (duration_s, None, duration_s)
    assert len(await grants.begin(conn, [found.id])) == (0 if duration_s is None else 1)


@pytest.mark.parametrize("asked_s", [300, 299, 1])
@pytest.mark.parametrize("had_s", [None, 300])
async def test_nobody_loses_what_they_have_to_a_repeat(conn: TrioConnection, asked_s: int, had_s: int | None) -> None:
    first = await give(conn, duration_s=had_s)
    assert (await give(conn, duration_s=asked_s)).duration_s == had_s
    assert [grant.id for grant in await live(conn)] == [first.id]


async def test_an_order_may_have_several_devices_and_a_device_several_orders(conn: TrioConnection) -> None:
    ids = [(await give(conn, pedido, place)).id for pedido in ("1", "2") for place in (PHONE, OTHER)]
    assert [grant.id for grant in await live(conn, PHONE, OTHER)] == ids
    assert {grant.pedido_id for grant in await live(conn, PHONE)} == {"1", "2"}


async def test_all_that_share_an_ip_or_a_mac_with_a_place_count_for_it(conn: TrioConnection) -> None:
    same_ip, same_mac = Place(PHONE.ip, OTHER.mac), Place(OTHER.ip, PHONE.mac)
    for place in (same_ip, same_mac, OTHER):
        await give(conn, place=place)
    assert {grant.place for grant in await live(conn, PHONE)} == {same_ip, same_mac}
    assert {grant.place for grant in await live(conn, Place(None, PHONE.mac))} == {same_mac}
    assert {grant.place for grant in await live(conn, Place(PHONE.ip, None))} == {same_ip}


async def test_another_router_is_another_matter(conn: TrioConnection) -> None:
    await give(conn, router="r2")
    assert await live(conn) == []
    assert await grants.revoke(conn, "r1", PHONE, dry_run=False) == []
    assert await grants.live_places(conn, "r2", dry_run=False) == [PHONE]


async def test_a_pretended_grant_neither_keeps_nor_ends_a_real_one(conn: TrioConnection) -> None:
    real = await give(conn)
    pretended = await give(conn, dry_run=True)
    assert real.id != pretended.id
    assert await grants.revoke(conn, "r1", PHONE, dry_run=True) == [PHONE]
    assert [grant.id for grant in await live(conn)] == [real.id]
    assert await live(conn, dry_run=True) == []


@pytest.mark.parametrize(
    "text", ["a b", 'say "hi"', "a=b=c", "two\nlines", "pédido ✓ 日本", "'; DROP TABLE hotspot_grants --"]
)
async def test_an_order_may_be_called_anything(conn: TrioConnection, text: str) -> None:
    assert (await give(conn, text)).pedido_id == text


# ---- revoke


async def test_what_matches_is_revoked_and_nothing_else(conn: TrioConnection) -> None:
    same_ip, same_mac = Place(PHONE.ip, OTHER.mac), Place(OTHER.ip, PHONE.mac)
    everywhere = (PHONE, same_ip, same_mac, OTHER)
    wanted = {
        PHONE: {PHONE},
        Place(PHONE.ip, None): {PHONE, same_ip},
        Place(None, PHONE.mac): {PHONE, same_mac},
    }
    for asked, gone in wanted.items():
        for place in everywhere:
            await give(conn, place=place)
        assert set(await grants.revoke(conn, "r1", asked, dry_run=False)) == gone
        assert {grant.place for grant in await live(conn, *everywhere)} == set(everywhere) - gone


async def test_all_orders_of_a_device_are_revoked(conn: TrioConnection) -> None:
    await give(conn, "1")
    await give(conn, "2", duration_s=60)
    assert await grants.revoke(conn, "r1", PHONE, dry_run=False) == [PHONE, PHONE]
    assert await grants.revoke(conn, "r1", PHONE, dry_run=False) == []
    assert await reasons(conn) == ["revoked", "revoked"]


async def test_what_was_over_before_was_not_revoked(conn: TrioConnection) -> None:
    await began(conn, (await give(conn, duration_s=300)).id)
    await later(conn, 301)
    assert await grants.revoke(conn, "r1", PHONE, dry_run=False) == [PHONE]
    assert await reasons(conn) == ["expired"]


async def test_a_revoked_order_can_be_granted_again(conn: TrioConnection) -> None:
    first = await give(conn)
    await grants.revoke(conn, "r1", PHONE, dry_run=False)
    assert (await give(conn)).id != first.id


# ---- move


async def test_a_move_ends_the_old_and_keeps_what_it_had(conn: TrioConnection) -> None:
    old = await give(conn)
    moved = await move(conn)
    assert moved.places == (ELSEWHERE, PHONE)
    assert [grant.place for grant in await live(conn, PHONE, ELSEWHERE)] == [ELSEWHERE]
    assert moved.grant.id != old.id
    assert await reasons(conn) == ["moved", None]


async def test_time_goes_on_through_a_move(conn: TrioConnection) -> None:
    await began(conn, (old := await give(conn, duration_s=300)).id)
    await grants.observed(conn, [old.id])
    await later(conn, 100)
    (before,) = await live(conn)
    moved = (await move(conn)).grant
    assert (moved.until, moved.begun_at, moved.observed_at) == (before.until, before.begun_at, before.observed_at)
    assert await grants.begin(conn, [moved.id]) == []


async def test_a_move_gives_no_time_back_to_an_order_that_is_over(conn: TrioConnection) -> None:
    await began(conn, (await give(conn, duration_s=300)).id)
    await later(conn, 301)
    with pytest.raises(GrantEnded):
        await move(conn)
    await grants.expire(conn, "r1", [PHONE], dry_run=False)
    with pytest.raises(GrantEnded):
        await move(conn)
    assert await live(conn, PHONE, ELSEWHERE) == []


async def test_a_move_does_not_revive_what_was_revoked(conn: TrioConnection) -> None:
    await began(conn, (await give(conn, duration_s=300)).id)
    await grants.revoke(conn, "r1", PHONE, dry_run=False)
    with pytest.raises(GrantEnded, match="revoked"):
        await move(conn)
    with pytest.raises(GrantEnded, match="revoked"):
        await move(conn, new=PHONE)


@pytest.mark.parametrize("place", [PHONE, OTHER])
async def test_an_order_that_was_revoked_goes_on_where_it_is_authorized_again(
    conn: TrioConnection, place: Place
) -> None:
    until = await began(conn, (await give(conn, duration_s=300)).id)
    await grants.revoke(conn, "r1", PHONE, dry_run=False)
    granted = await give(conn, place=place, duration_s=200)
    assert (granted.until, granted.duration_s) == (until, 300)
    assert await grants.begin(conn, [granted.id]) == []  # though no router is known to hold it


@pytest.mark.parametrize("duration_s", [301, None])
async def test_an_order_that_was_revoked_may_be_given_more(conn: TrioConnection, duration_s: int | None) -> None:
    await began(conn, (await give(conn, duration_s=300)).id)
    await grants.revoke(conn, "r1", PHONE, dry_run=False)
    granted = await give(conn, duration_s=duration_s)
    assert (granted.until, granted.duration_s) == (None, duration_s)


async def test_time_that_was_written_down_does_not_pass_before_the_way_is_about_to_be_opened(
    conn: TrioConnection,
) -> None:
    granted = await give(conn, duration_s=300)
    await grants.begin(conn, [granted.id])
    await later(conn, 1000)
    assert await grants.expire(conn, "r1", [PHONE], dry_run=False) == []
    (found,) = await live(conn)
    assert (found.remaining_s, found.is_over) == (300, False)
    assert (await give(conn, duration_s=300)).id == granted.id
    assert (await move(conn)).grant.until is None
    (found,) = await live(conn, ELSEWHERE)
    (begun,) = await grants.begin(conn, [found.id])
    assert begun.remaining_s == 300


async def test_time_that_came_to_nothing_is_taken_back_unless_it_was_seen(conn: TrioConnection) -> None:
    granted = await give(conn, duration_s=300)
    await began(conn, granted.id)
    await grants.take_back(conn, [granted.id])
    (found,) = await live(conn)
    assert (found.begun_at, found.until, found.opening_at) == (None, None, None)
    until = await began(conn, granted.id)
    await grants.observed(conn, [granted.id])
    await grants.take_back(conn, [granted.id])
    (found,) = await live(conn)
    assert found.until == until


async def test_a_move_of_an_unknown_order_grants_it(conn: TrioConnection) -> None:
    moved = await move(conn)
    assert (moved.grant.place, moved.grant.duration_s) == (ELSEWHERE, None)


async def test_a_move_to_where_it_is_changes_nothing(conn: TrioConnection) -> None:
    first = await give(conn, duration_s=300)
    moved = await move(conn, new=PHONE)
    assert (moved.grant, moved.places) == (first, (PHONE,))


async def test_a_move_leaves_other_orders_alone(conn: TrioConnection) -> None:
    await give(conn, "1")
    await give(conn, "2")
    await move(conn, "1")
    assert {(grant.pedido_id, grant.place) for grant in await live(conn, PHONE, ELSEWHERE)} == {
        ("1", ELSEWHERE),
        ("2", PHONE),
    }


async def test_a_device_is_moved_from_wherever_it_was(conn: TrioConnection) -> None:
    await give(conn, device=b"d" * 32)
    moved = await moves.move(conn, "r1", "1", ELSEWHERE, [], device=b"d" * 32, dry_run=False)
    assert moved.places == (ELSEWHERE, PHONE)


@pytest.mark.parametrize(
    ("here_s", "there_s", "left_s"), [(None, 60, None), (60, None, None), (60, 90, 90), (90, 60, 90)]
)
async def test_where_two_meet_the_longer_holds(
    conn: TrioConnection, here_s: int | None, there_s: int | None, left_s: int | None
) -> None:
    await give(conn, duration_s=here_s)
    await give(conn, place=ELSEWHERE, duration_s=there_s)
    assert (await move(conn)).grant.duration_s == left_s
    assert len(await live(conn, PHONE, ELSEWHERE)) == 1


# ---- many at once


@pytest.mark.parametrize("duration_s", [None, 300])
async def test_of_eight_that_authorize_one_order_all_have_the_same_grant(
    pool: Pool, conn: TrioConnection, duration_s: int | None
) -> None:
    async def authorize(c: TrioConnection) -> str:
        return str((await give(c, duration_s=duration_s)).id)

    for _ in range(5):
        assert len(set(await at_once(pool, [authorize] * AT_ONCE))) == 1
        assert len(await live(conn)) == 1
        await grants.revoke(conn, "r1", PHONE, dry_run=False)


async def test_authorize_against_revoke_leaves_one_grant_or_none(pool: Pool, conn: TrioConnection) -> None:
    async def revoke(c: TrioConnection) -> str:
        return f"{len(await grants.revoke(c, 'r1', PHONE, dry_run=False))} revoked"

    for _ in range(10):
        got = await at_once(pool, [give, revoke] * (AT_ONCE // 2))
        assert set(got) <= {"OK", "0 revoked", "1 revoked"}
        assert len(await live(conn)) <= 1
        await grants.revoke(conn, "r1", PHONE, dry_run=False)


async def test_an_authorization_that_waits_for_a_revocation_makes_a_new_grant(pool: Pool, conn: TrioConnection) -> None:
    first = await give(conn)
    made: list[GrantRow] = []

    async def authorize(c: TrioConnection) -> None:
        made.append(await give(c))

    async with pool.connection() as a, pool.connection() as b, trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + DEADLINE_S
        async with a.transaction():
            await grants.revoke(a, "r1", PHONE, dry_run=False)
            nursery.start_soon(authorize, b)
            await until_one_waits(conn)
    assert [grant.id for grant in await live(conn)] == [made[0].id]
    assert made[0].id != first.id


async def test_of_eight_moves_at_once_one_place_is_left(pool: Pool, conn: TrioConnection) -> None:
    await began(conn, (old := await give(conn, duration_s=300, device=b"d" * 32)).id)
    await grants.observed(conn, [old.id])
    (before,) = await live(conn)
    places = [Place(f"10.5.50.{n}", PHONE.mac) for n in range(100, 100 + AT_ONCE)]

    async def moved_to(c: TrioConnection, new: Place) -> str:
        await moves.move(c, "r1", "1", new, [PHONE], device=b"d" * 32, dry_run=False)
        return "OK"

    await at_once(pool, [lambda c, new=new: moved_to(c, new) for new in places])  # type: ignore[misc]
    (left,) = await live(conn, PHONE, *places)
    assert left.place in places
    assert left.until == before.until


async def test_revoke_against_move_leaves_at_most_the_new_place(pool: Pool, conn: TrioConnection) -> None:
    async def revoke(c: TrioConnection) -> str:
        await grants.revoke(c, "r1", Place(None, PHONE.mac), dry_run=False)
        return "OK"

    for _ in range(5):
        await give(conn)
        await at_once(pool, [revoke, move])
        assert {grant.place for grant in await live(conn, PHONE, ELSEWHERE)} <= {ELSEWHERE}
        await revoke(conn)


# ---- forgetting, and what the plan is given


async def test_what_ended_long_ago_is_forgotten(conn: TrioConnection) -> None:
    await give(conn, "kept")
    await give(conn, "gone", OTHER)
    await grants.revoke(conn, "r1", OTHER, dry_run=False)
    assert await grants.forget_old(conn) == 0
    await later(conn, (grants.KEPT_DAYS + 1) * 86_400)
    assert await grants.forget_old(conn) == 1
    assert [grant.pedido_id for grant in await live(conn, PHONE, OTHER)] == ["kept"]


async def test_of_several_orders_the_plan_takes_the_one_that_ends_last(conn: TrioConnection) -> None:
    for pedido, duration_s in (("short", 60), ("long", 600), ("middle", 300)):
        await give(conn, pedido, duration_s=duration_s)
    best = longest(grant.wanted for grant in await live(conn))
    assert best is not None
    assert best.pedido_id == "long"
    await give(conn, "for ever")
    best = longest(grant.wanted for grant in await live(conn))
    assert best is not None
    assert best.comment == "pedido:for ever"


async def test_a_device_with_access_is_not_forgotten(conn: TrioConnection) -> None:
    for token, place in (("with", PHONE), ("without", OTHER)):
        await devices.hello(conn, "r1", place, token=None, user_agent=None, new_token=token)
    with_access = await devices.find(conn, "with", "r1")
    await give(conn, device=with_access.token_hash)
    away = devices.KEPT_DAYS + 1
    await conn.run(f"UPDATE hotspot_devices SET created_at = created_at - interval '{away} days'")
    assert await devices.forget_old(conn) == 0
    await conn.run(f"UPDATE hotspot_devices SET seen_at = seen_at - interval '{away} days'")
    assert await devices.forget_old(conn) == 1
    assert (await devices.find(conn, "with", "r1")).place == PHONE
