"""Who is there, by handshakes; going and coming back are told once."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.tunnels.keeping.presence import Presence, Status, Transition, count, status_of
from opendesk.network.wireguard.dump import Peer

ONLINE_S = 180
NOW = 1_790_000_000


def peer(handshake: int, *, key: str = "k", keepalive: int = 25) -> Peer:
    return Peer(key, None, None, (), handshake, 0, 0, keepalive)


@pytest.mark.parametrize(
    ("handshake", "status"),
    [
        (0, "NEVER_CONNECTED"),
        (NOW, "ONLINE"),
        (NOW - ONLINE_S, "ONLINE"),
        (NOW - ONLINE_S - 1, "OFFLINE"),
        (1, "OFFLINE"),
        (NOW + 10_000, "ONLINE"),  # the clock was set back
    ],
)
def test_a_status_is_the_age_of_a_handshake(handshake: int, status: Status) -> None:
    assert status_of(handshake, NOW, ONLINE_S) == status


def test_each_status_is_counted() -> None:
    peers = [peer(0), peer(NOW), peer(NOW - 1), peer(5)]
    assert count(peers, NOW, ONLINE_S) == {"ONLINE": 2, "OFFLINE": 1, "NEVER_CONNECTED": 1}
    assert count([], NOW, ONLINE_S) == {"ONLINE": 0, "OFFLINE": 0, "NEVER_CONNECTED": 0}


def looked(presence: Presence, handshake: int, now: float, keepalive: int = 25) -> list[tuple[str, float, bool]]:
    told = presence.look({"k": peer(handshake, keepalive=keepalive)}, {"d": "k"}, now)
    return [(one.to, one.age_s, one.is_first) for one in told]


def test_going_offline_and_coming_back_are_told_once_each() -> None:
    presence = Presence(ONLINE_S)
    assert looked(presence, NOW, NOW) == []
    assert looked(presence, NOW, NOW + 180) == []
    assert looked(presence, NOW, NOW + 181) == [("OFFLINE", 181, False)]
    assert looked(presence, NOW, NOW + 191) == []
    assert looked(presence, NOW + 200, NOW + 201) == [("ONLINE", 1, False)]
    assert looked(presence, NOW + 200, NOW + 211) == []


def test_the_first_handshake_is_told_as_such() -> None:
    presence = Presence(ONLINE_S)
    assert looked(presence, 0, NOW) == []
    assert looked(presence, NOW + 5, NOW + 10) == [("ONLINE", 5, True)]


def test_the_first_sight_is_no_transition() -> None:
    assert looked(Presence(ONLINE_S), NOW - 1000, NOW) == []
    assert Presence(ONLINE_S).look({}, {"d": "k"}, NOW) == []


def test_an_interface_that_was_made_anew_turns_nobody_offline() -> None:
    presence = Presence(ONLINE_S)
    looked(presence, NOW, NOW)
    assert looked(presence, 0, NOW + 10) == []
    assert presence.look({}, {"d": "k"}, NOW + 20) == []
    assert looked(presence, 0, NOW + 30) == []
    assert looked(presence, 0, NOW + 181) == [("OFFLINE", 181, False)]


def test_without_a_keepalive_silence_says_nothing() -> None:
    presence = Presence(ONLINE_S)
    looked(presence, NOW, NOW, keepalive=0)
    assert looked(presence, NOW, NOW + 5000, keepalive=0) == []


def test_a_device_stays_itself_when_its_key_changes() -> None:
    presence = Presence(ONLINE_S)
    presence.look({"old": peer(NOW, key="old")}, {"d": "old"}, NOW)
    [gone] = presence.look({"old": peer(NOW, key="old")}, {"d": "old"}, NOW + 500)
    back = presence.look({"new": peer(NOW + 600, key="new")}, {"d": "new"}, NOW + 601)
    assert (gone.to, back) == ("OFFLINE", [Transition("d", "new", "ONLINE", 1)])


def test_those_that_are_no_more_are_forgotten() -> None:
    presence = Presence(ONLINE_S)
    looked(presence, NOW, NOW)
    assert presence.silence_s("d", NOW + 7) == 7
    presence.look({}, {}, NOW)
    assert presence.silence_s("d", NOW) is None
    assert looked(presence, NOW, NOW + 1000) == []


@given(st.lists(st.tuples(st.integers(1, 300), st.booleans()), max_size=40))
def test_transitions_alternate(looks: list[tuple[int, bool]]) -> None:
    presence, now, handshake, told = Presence(ONLINE_S), NOW, NOW, []
    for passed, shakes in looks:
        now += passed
        handshake = now if shakes else handshake
        told += [to for to, _, _ in looked(presence, handshake, now)]
    assert all(one != following for one, following in pairwise(told))
    assert told[:1] in ([], ["OFFLINE"]) or looks[0][0] > ONLINE_S
