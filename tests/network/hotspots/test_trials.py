"""Trials: one an order, before anything is paid; and what is paid goes before them."""

from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest

from opendesk.network.hotspots import grants, moves, orders
from opendesk.network.hotspots.ends import end_of
from opendesk.network.hotspots.errors import GrantEnded
from opendesk.network.hotspots.grants import GrantRow
from opendesk.network.hotspots.orders import Order
from opendesk.network.hotspots.place import Place
from opendesk.network.hotspots.work import end_key
from opendesk.network.jobs import table
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from tests.network.hotspots.orders_model import OrderModel
from tests.network.hotspots.test_grants import ELSEWHERE, OTHER, PHONE, began, later, live
from tests.rental.racing import at_once

assert PHONE.mac == ELSEWHERE.mac
assert PHONE.mac is not None
MAC: Final = PHONE.mac
DEVICE: Final = b"d" * 32
TRIAL_S: Final = 300


async def give(
    conn: TrioConnection,
    duration_s: int | None = TRIAL_S,
    place: Place = PHONE,
    *,
    trial: bool = True,
    pedido: str = "1",
) -> GrantRow:
    return await orders.authorize(
        conn, "r1", pedido, place, device=None, duration_s=duration_s, dry_run=False, trial=trial
    )


async def used(conn: TrioConnection, seconds: float = 60) -> GrantRow:
    """A trial whose way was opened so long ago."""
    trial = await give(conn)
    await began(conn, trial.id)
    await grants.observed(conn, [trial.id])
    await later(conn, seconds)
    return trial


# ---- as a model has it

PLACES: Final = st.sampled_from([PHONE, ELSEWHERE, OTHER])
MINUTES: Final = st.sampled_from([3, 5, 30])
STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("trial"), PLACES, st.sampled_from([5, 10])),
        st.tuples(st.just("paid"), PLACES, st.none() | MINUTES),
        st.tuples(st.sampled_from(["open", "open", "revoke", "release"]), PLACES, st.none()),
        st.tuples(st.just("later"), PLACES, st.sampled_from([1, 4, 30])),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_an_order_has_what_its_rules_say(conninfo: str, steps: list[tuple[str, Place, Any]]) -> None:
    async with await TrioConnection.connect(conninfo, autocommit=True) as conn:
        await conn.run("DELETE FROM hotspot_grants")
        await _walk(conn, steps)


async def _walk(conn: TrioConnection, steps: list[tuple[str, Place, Any]]) -> None:
    model = OrderModel()
    for step, place, minutes in steps:
        assert await _done(conn, step, place, minutes) == _modelled(model, step, place, minutes)
        found = await live(conn, PHONE, OTHER)
        assert sorted(map(_told, found)) == sorted(
            (
                str(one.place),
                one.trial,
                one.duration or 0,
                (one.duration if one.left is None else one.left) or 0 if one.duration else 0,
            )
            for one in model.live
        )


async def _done(conn: TrioConnection, step: str, place: Place, minutes: int | None) -> bool:
    try:
        match step:
            case "trial" | "paid":
                await give(conn, None if minutes is None else minutes * 60, place, trial=step == "trial")
            case "open":
                ids = [row.id for row in await live(conn, place) if row.place == place and not row.is_opened]
                await grants.begin(conn, ids)
                await grants.opening(conn, ids)
                await grants.observed(conn, ids)
            case "later":
                assert minutes is not None
                await later(conn, minutes * 60)
            case "revoke":
                await grants.revoke(conn, "r1", place, dry_run=False)
            case _:
                assert place.mac is not None
                await grants.release_trials(conn, [("r1", place.mac)], dry_run=False)
    except GrantEnded:
        return False
    return True


def _modelled(model: OrderModel, step: str, place: Place, minutes: int | None) -> bool:
    match step:
        case "trial":
            assert minutes is not None
            return model.trial(place, minutes)
        case "paid":
            return model.paid(place, minutes)
        case "open":
            model.open(place)
        case "later":
            assert minutes is not None
            model.pass_time(minutes)
        case "revoke":
            model.revoke(place)
        case _:
            assert place.mac is not None
            model.release(place.mac)
    return True


def _told(row: GrantRow) -> tuple[str, bool, int, int]:
    left = 0 if row.remaining_s is None else round(row.remaining_s / 60)
    return str(row.place), row.trial, (row.duration_s or 0) // 60, left


# ---- what is paid goes before


@pytest.mark.parametrize("duration_s", [None, 60, TRIAL_S, 3600], ids=["no end", "less", "as much", "more"])
async def test_what_is_paid_makes_of_a_trial_its_own_and_begins_anew(
    conn: TrioConnection, duration_s: int | None
) -> None:
    trial = await used(conn, 120)
    paid = await give(conn, duration_s, trial=False)
    assert (paid.id, paid.trial, paid.duration_s, paid.remaining_s) == (trial.id, False, duration_s, duration_s)
    assert (paid.begun_at, paid.opening_at, paid.observed_at) == (None, None, None)


async def test_a_trial_takes_nothing_from_what_is_paid(conn: TrioConnection) -> None:
    paid = await give(conn, 60, trial=False)
    assert await give(conn, TRIAL_S) == paid


async def test_a_trial_doesnt_go_on_after_it_was_revoked(conn: TrioConnection) -> None:
    await used(conn)
    await grants.revoke(conn, "r1", PHONE, dry_run=False)
    with pytest.raises(GrantEnded):
        await give(conn)
    assert (await give(conn, TRIAL_S, trial=False)).remaining_s == TRIAL_S


async def test_a_trial_that_nobody_could_use_can_be_asked_for_again(conn: TrioConnection) -> None:
    await give(conn)
    await grants.revoke(conn, "r1", PHONE, dry_run=False)
    assert (await give(conn, 600)).remaining_s == 600


async def test_pretended_trials_are_a_world_of_their_own(conn: TrioConnection) -> None:
    await used(conn)
    pretended = Order("r1", "1", OTHER, None, TRIAL_S, trial=True)
    (granted,) = await orders.authorize_all(conn, [pretended], dry_run=True)
    assert granted is not None
    assert await grants.release_trials(conn, [("r1", MAC)], dry_run=True) == {}
    assert len(await live(conn)) == 1


async def test_of_many_who_ask_for_a_trial_at_once_one_is_given(conn: TrioConnection, pool: Pool) -> None:
    async def ask(c: TrioConnection) -> None:
        await give(c)

    assert await at_once(pool, [ask] * 8) == ["OK"] * 8
    assert await conn.fetch("SELECT count(*), bool_and(trial) FROM hotspot_grants") == [(1, True)]


# ---- moves


async def test_a_trial_that_is_moved_stays_one_and_its_time_goes_on(conn: TrioConnection) -> None:
    await used(conn, 120)
    moved = await moves.move(conn, "r1", "1", ELSEWHERE, [PHONE], device=None, dry_run=False)
    assert moved.grant.trial
    assert round(moved.grant.remaining_s or 0) == TRIAL_S - 120
    with pytest.raises(GrantEnded):
        await give(conn)  # where it was
    assert (await give(conn, 60, ELSEWHERE, trial=False)).remaining_s == 60


@pytest.mark.parametrize("paid_s", [120, 3600], ids=["that ends earlier", "that ends later"])
async def test_a_move_onto_a_trial_keeps_what_is_paid(conn: TrioConnection, paid_s: int) -> None:
    """And the other way round."""
    for first, second in ((False, True), (True, False)):
        await conn.run("DELETE FROM hotspot_grants")
        for place, trial in ((PHONE, first), (OTHER, second)):
            await conn.run(
                """INSERT INTO hotspot_grants (router_id, pedido_id, ip, mac, duration_s, begun_at, until, opening_at, trial, dry_run)
                   VALUES ('r1', '1', %(ip)s, %(mac)s, %(s)s, now(), now() + %(s)s * interval '1 second', now(), %(trial)s, false)""",
                {"ip": place.ip, "mac": place.mac, "s": TRIAL_S if trial else paid_s, "trial": trial},
            )
        moved = await moves.move(conn, "r1", "1", OTHER, [PHONE], device=None, dry_run=False)
        assert (moved.grant.trial, round(moved.grant.remaining_s or 0)) == (False, paid_s)


async def test_a_device_that_pays_elsewhere_takes_its_trial_along_and_makes_it_its_own(conn: TrioConnection) -> None:
    trial = Order("r1", "1", PHONE, DEVICE, TRIAL_S, trial=True)
    (granted,) = await orders.authorize_all(conn, [trial], dry_run=False)
    assert granted is not None
    paid = Order("r1", "1", ELSEWHERE, DEVICE, 60)
    assert await orders.authorize_all(conn, [paid], dry_run=False) == [None]
    settled = await orders.revisit(conn, paid, dry_run=False)
    assert (settled.grant.trial, settled.grant.remaining_s, settled.left) == (False, 60, (PHONE,))
    assert [row.place for row in await live(conn)] == [ELSEWHERE]


async def test_a_released_trial_is_no_order_without_an_end_to_a_resync(conn: TrioConnection) -> None:
    await used(conn)
    await grants.release_trials(conn, [("r1", MAC)], dry_run=False)
    with pytest.raises(GrantEnded, match="trial"):
        await moves.move(conn, "r1", "1", ELSEWHERE, [PHONE], device=None, dry_run=False)
    await give(conn, 3600, OTHER, trial=False)
    moved = await moves.move(conn, "r1", "1", ELSEWHERE, [PHONE], device=None, dry_run=False)
    assert (moved.grant.trial, moved.grant.duration_s) == (False, 3600)


# ---- releases


async def test_a_release_ends_the_trials_of_its_device_only_and_cancels_their_ends(conn: TrioConnection) -> None:
    mine = [await give(conn), await give(conn, place=ELSEWHERE, pedido="2")]
    others = [await give(conn, place=OTHER, pedido="3"), await give(conn, 600, trial=False, pedido="4")]
    ends = [end_of(row, dry_run=False) for row in (*mine, *others)]
    await table.add_many(conn, [end for end in ends if end is not None])
    released = await grants.release_trials(conn, [("r1", MAC), ("r1", MAC), ("r2", str(OTHER.mac))], dry_run=False)
    assert {device: set(places) for device, places in released.items()} == {("r1", MAC): {PHONE, ELSEWHERE}}
    reasons = await conn.fetch("SELECT pedido_id, end_reason FROM hotspot_grants ORDER BY 1")
    assert reasons == [("1", "released"), ("2", "released"), ("3", None), ("4", None)]
    jobs = await conn.fetch("SELECT key, state, result FROM jobs ORDER BY seq")
    assert jobs == [
        *((end_key(row.id), "done", {"cancelled": "released"}) for row in mine),
        *((end_key(row.id), "due", None) for row in others),
    ]


async def test_a_trial_that_is_over_is_not_called_released(conn: TrioConnection) -> None:
    await used(conn, TRIAL_S + 1)
    assert await grants.release_trials(conn, [("r1", MAC)], dry_run=False) == {("r1", MAC): (PHONE,)}
    assert await conn.fetch("SELECT end_reason FROM hotspot_grants") == [("expired",)]
