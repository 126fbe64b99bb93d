"""What is to be done about an event follows from it and from what is known, and nothing else."""

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.events.machine import Close, Known, Open, Refuse, Wait, decide, waits_for
from opendesk.network.events.ordering import in_order
from opendesk.network.events.types import Event, Invalid, Reason, Type
from opendesk.network.hotspots.place import Place

HERE = Place("10.5.50.7", "AA:BB:CC:DD:EE:01")
KNOWN = Known(router_known=True)
RELEASE = Event("e1", Type.RELEASE_REQUESTED, "r1", "1", HERE, None, "a key")
TRIAL = evolve(RELEASE, type=Type.TRIAL_REQUESTED, duration_s=300)
REVOKE = evolve(RELEASE, type=Type.REVOKE_REQUESTED, pedido=None)


def test_what_nothing_is_in_the_way_of_is_done() -> None:
    assert [decide(event, KNOWN) for event in (RELEASE, TRIAL, REVOKE)] == [
        Open(trial=False),
        Open(trial=True),
        Close(),
    ]


@pytest.mark.parametrize("reason", [Reason.VALIDATION, Reason.UNKNOWN_TYPE])
def test_what_was_not_read_is_refused_for_that(reason: Reason) -> None:
    assert decide(Invalid("e", reason, "why", "X"), KNOWN) == Refuse(reason, "why")


def test_a_router_that_nobody_knows_is_a_fault_of_the_event() -> None:
    assert decide(RELEASE, Known(router_known=False)) == Refuse(Reason.VALIDATION, "there is no router r1")


def test_an_order_that_had_its_time_is_refused_but_its_device_may_be_revoked() -> None:
    over = evolve(KNOWN, is_over=True)
    for event in (RELEASE, TRIAL):
        action = decide(event, over)
        assert isinstance(action, Refuse)
        assert action.reason is Reason.GRANT_ENDED
    assert decide(REVOKE, over) == Close()


def test_what_cannot_be_reached_is_waited_for() -> None:
    shut, silent = evolve(KNOWN, circuit_open=True), evolve(KNOWN, peer_silent_s=301.0)
    assert decide(RELEASE, shut) == Wait(Reason.CIRCUIT_OPEN, Open(trial=False))
    assert decide(REVOKE, silent) == Wait(Reason.PEER_OFFLINE, Close())
    assert decide(TRIAL, evolve(shut, peer_silent_s=1.0)) == Wait(Reason.CIRCUIT_OPEN, Open(trial=True))


def test_a_peer_that_was_not_named_is_not_waited_for() -> None:
    assert decide(evolve(RELEASE, peer=None), evolve(KNOWN, peer_silent_s=301.0)) == Open(trial=False)


knowns = st.builds(
    Known, st.booleans(), circuit_open=st.booleans(), peer_silent_s=st.none() | st.just(400.0), is_over=st.booleans()
)
some = st.builds(
    lambda event, peer: evolve(event, peer=peer),
    st.sampled_from([RELEASE, TRIAL, REVOKE]),
    st.sampled_from([None, "k"]),
)


@given(some, knowns)
def test_what_waits_is_never_refused_and_does_the_same_afterwards(event: Event, known: Known) -> None:
    action = decide(event, known)
    free = decide(event, evolve(known, circuit_open=False, peer_silent_s=None))
    assert (action.then if isinstance(action, Wait) else action) == free
    assert isinstance(action, Wait) is (waits_for(event, known) is not None and not isinstance(free, Refuse))


# ---- the order in which they are written down

places = st.builds(Place, st.sampled_from(["10.0.0.1", "10.0.0.2", None]), st.sampled_from(["M1", "M2", "M3"]))
arriving = st.lists(
    st.builds(
        lambda kind, router, pedido, place: Event(
            "e", kind, router, None if kind is Type.REVOKE_REQUESTED else pedido, place, None, None
        ),
        st.sampled_from(list(Type)),
        st.sampled_from(["r1", "r2"]),
        st.sampled_from(["1", "2", "3"]),
        places,
    ),
    max_size=12,
)


def have_to_do_with_each_other(one: Event, other: Event) -> bool:
    if one.router != other.router:
        return False
    if None in (one.place.ip, one.place.mac, other.place.ip, other.place.mac):
        return True
    same_order = one.pedido is not None and one.pedido == other.pedido
    return same_order or one.place.ip == other.place.ip or one.place.mac == other.place.mac


@given(arriving)
def test_those_that_have_to_do_with_each_other_keep_their_order(events: list[Event]) -> None:
    group_of = {n: level for level, group in enumerate(in_order(events)) for n in group}
    assert sorted(group_of) == list(range(len(events)))
    for later, event in enumerate(events):
        for earlier in range(later):
            if have_to_do_with_each_other(events[earlier], event):
                assert group_of[earlier] < group_of[later]


def test_those_that_have_nothing_to_do_with_each_other_are_written_at_once() -> None:
    events = [evolve(RELEASE, pedido=str(n), place=Place(f"10.0.0.{n}", f"M{n}")) for n in range(50)]
    assert in_order(events) == [list(range(50))]
    assert in_order([]) == []
