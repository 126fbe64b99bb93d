"""What guests are up to on a day."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from opendesk.simulators.day_plan import CLIENTS, CLOSES_AT, HOSTS, OPENS_AT
from opendesk.simulators.guest_plan import (
    BACK_AFTER_MIN,
    CAFE,
    DEAD_BEFORE_MIN,
    PRAIA,
    GuestPlan,
    GuestStory,
    plan_guests,
)

plans = st.integers(0).map(lambda seed: plan_guests(Random(seed)))


@given(plans)
def test_every_story_is_played_within_the_day(plan: tuple[GuestPlan, ...]) -> None:
    assert {guest.story for guest in plan} == set(GuestStory)
    for guest in plan:
        assert guest.at - DEAD_BEFORE_MIN * (guest.router == PRAIA) > OPENS_AT
        assert 0 < guest.uses < guest.minutes
        assert guest.at + BACK_AFTER_MIN + guest.minutes < CLOSES_AT


@given(plans)
def test_somebody_pays_elsewhere_while_a_router_is_dead(plan: tuple[GuestPlan, ...]) -> None:
    (waits,) = [guest for guest in plan if guest.story is GuestStory.ROUTER_DIES]
    assert waits.router == PRAIA
    dead = range(waits.at - DEAD_BEFORE_MIN, waits.at + BACK_AFTER_MIN)
    assert any(guest.router == CAFE and guest.at in dead for guest in plan)


@given(plans)
def test_nobody_has_a_name_an_order_or_an_address_of_another(plan: tuple[GuestPlan, ...]) -> None:
    for facts in ("name", "order", "mac"):
        assert len({getattr(guest, facts) for guest in plan}) == len(plan)
    assert {guest.name for guest in plan}.isdisjoint({*CLIENTS, *HOSTS})
    assert len({address for guest in plan for address in (guest.ip, guest.next_ip)}) == 2 * len(plan)


def test_a_seed_is_a_plan() -> None:
    assert plan_guests(Random(7)) == plan_guests(Random(7)) != plan_guests(Random(8))
