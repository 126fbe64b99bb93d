"""What is planned for a day, whatever the seed."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.simulators.day_plan import (
    CLOSES_AT,
    FEWEST_CLIENTS,
    FEWEST_HOSTS,
    KINDS,
    MOST_CLIENTS,
    MOST_CLIENTS_A_HOST,
    MOST_HOSTS,
    OPENS_AT,
    DayPlan,
    Story,
    plan_day,
)


@st.composite
def some_plans(draw: st.DrawFn) -> DayPlan:
    hosts = draw(st.integers(FEWEST_HOSTS, MOST_HOSTS))
    clients = draw(st.integers(FEWEST_CLIENTS, min(MOST_CLIENTS, hosts * MOST_CLIENTS_A_HOST)))
    return plan_day(Random(draw(st.integers(0, 2**32))), hosts=hosts, clients=clients)


plans = some_plans()
LONGEST_SESSION = 240


@given(plans)
def test_every_story_is_played(plan: DayPlan) -> None:
    stories = {visit.story for client in plan.clients for visit in client.visits}
    assert stories | {Story.STAYS} == set(Story)


@given(plans)
def test_visits_come_one_after_another_within_the_day(plan: DayPlan) -> None:
    for client in plan.clients:
        begins = [visit.at for visit in client.visits]
        assert begins == sorted(begins)
        assert begins[0] >= OPENS_AT
        assert max(visit.at + visit.minutes for visit in client.visits) <= CLOSES_AT


@given(plans)
def test_what_happens_before_the_end_happens_within_the_bought_time(plan: DayPlan) -> None:
    for visit in (visit for client in plan.clients for visit in client.visits):
        assert 1 <= visit.minutes <= LONGEST_SESSION
        if visit.story in (Story.STAYS, Story.ASKS_TWICE):
            assert visit.uses == visit.minutes
        else:
            assert 0 < visit.uses < visit.minutes


@given(plans)
def test_one_client_comes_with_too_little_for_any_session(plan: DayPlan) -> None:
    cheapest = min(pc.price_per_hour for host in plan.hosts for pc in host.pcs)
    shortest = min(visit.minutes for client in plan.clients for visit in client.visits)
    poor = [client for client in plan.clients if client.first_top_up < cheapest * shortest // 60]
    assert len(poor) == 1


@given(plans)
def test_names_are_told_apart_and_pcs_are_of_a_known_kind(plan: DayPlan) -> None:
    names = [*(host.name for host in plan.hosts), *(client.name for client in plan.clients), "operator"]
    pcs = [pc for host in plan.hosts for pc in host.pcs]
    assert len(set(names)) == len(names)
    assert len({pc.name for pc in pcs}) == len(pcs)
    assert {pc.kind for pc in pcs} <= KINDS.keys()


def test_a_seed_is_a_day() -> None:
    first, again, other = (plan_day(Random(seed), hosts=4, clients=12) for seed in (7, 7, 8))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("hosts", "clients"), [(FEWEST_HOSTS - 1, 12), (4, FEWEST_CLIENTS - 1), (4, 13)])
def test_too_few_or_too_many_can_not_play_a_day(hosts: int, clients: int) -> None:
    with pytest.raises(ValueError, match=r"at (least|most)"):
        plan_day(Random(1), hosts=hosts, clients=clients)
