"""Who was where, as it is remembered; what a claim makes of it, against a history kept whole."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from opendesk.rental.lifecycle import ActiveSession, Caller, EndRequest, RelayEvidence, decide_end
from opendesk.rental.settlement import FailureReason
from opendesk.stream.presence import KEEP_S, MAX_KEPT, Facts, Presence, Presences

ONE = UUID(int=1)
BEGIN = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)


def test_a_gap_begins_anew() -> None:
    made: Any = Presence(host_down_since_s=0.0)
    made.now(1.0, host=True, client=True)
    made.now(2.0, host=True, client=True)
    assert made.facts == (None, 1.0, None, None)
    made.now(3.0, host=False, client=False)
    assert made.facts == (3.0, 1.0, None, 3.0)
    made.now(4.0, host=False, client=False)
    assert made.facts == (3.0, 1.0, None, 3.0)
    made.now(5.0, host=False, client=True)
    assert made.facts == (3.0, 5.0, None, None)


def test_a_client_that_never_came_did_not_leave() -> None:
    made = Presence(host_down_since_s=0.0)
    made.now(1.0, host=False, client=False)
    assert made.facts == (0.0, None, None, None)


# Outliving a room


def test_a_room_that_opens_again_goes_on_until_it_was_closed_for_too_long() -> None:
    for later_s, goes_on in ((KEEP_S - 0.1, True), (KEEP_S, False)):
        presences = Presences()
        first = presences.opened(ONE, 1.0)
        presences.closed(ONE, 10.0)
        again = presences.opened(ONE, 10.0 + later_s)
        assert (again is first) is goes_on
        assert again.host_down_since_s == (1.0 if goes_on else 10.0 + later_s)


def test_what_is_known_of_a_closed_room_is_told_for_a_while() -> None:
    presences = Presences()
    made = presences.opened(ONE, 1.0)
    presences.closed(ONE, 10.0)
    assert presences.known(10.0 + KEEP_S - 0.1) == [(ONE, made)]
    assert presences.known(10.0 + KEEP_S) == []


def test_nothing_is_kept_of_a_session_that_is_over() -> None:
    presences = Presences()
    presences.opened(ONE, 1.0)
    presences.over(ONE)
    presences.closed(ONE, 2.0)  # the good-byes come later
    assert presences.known(2.0) == []
    presences.opened(ONE, 3.0)
    presences.closed(ONE, 4.0)
    presences.over(ONE)
    assert presences.known(4.0) == []


def test_so_many_closed_rooms_are_kept_the_latest() -> None:
    presences = Presences()
    sessions = [UUID(int=number) for number in range(MAX_KEPT + 2)]
    for number, session in enumerate(sessions):
        presences.opened(session, 0.0)
        presences.closed(session, number / MAX_KEPT)
    assert [session for session, _ in presences.known(2.0)] == sessions[2:]


def test_open_rooms_are_known_however_long() -> None:
    presences = Presences()
    for number in range(10):
        presences.opened(UUID(int=number), 0.0)
    assert len(presences.known(10 * KEEP_S)) == 10


# What a claim makes of it

History = Sequence[tuple[float, bool, bool]]  # how long, with the host there, with the client there
histories = st.lists(
    st.tuples(st.sampled_from([0.5, 1.0, 4.5, 5.0, 5.5, 10.0, 29.5, 30.0, 70.0]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=8,
)


def remembered(history: History) -> tuple[Facts, float]:
    """What is known at its end, as a relay's rooms came and went, and when that is."""
    presences, now_s, made = Presences(), 0.0, None
    for for_s, host, client in history:
        if made is None and (host or client):
            made = presences.opened(ONE, now_s)
        if made is not None:
            made.now(now_s, host=host, client=client)
            if not (host or client):
                presences.closed(ONE, now_s)
                made = None
        now_s += for_s
    known = presences.known(now_s)
    return (known[0][1].facts if known else (None, None, None, None)), now_s


def alone_s(history: History) -> float:
    """How long the client, there until 5 s ago at least, was so without the host, who is away still."""
    missed_s = waited_s = 0.0
    for for_s, host, client in reversed(history):
        if host or (missed_s and not client):
            break
        if client:
            missed_s += for_s
        else:
            waited_s += for_s
    return missed_s if waited_s <= 5 else 0.0


def moment(at_s: float | None) -> datetime | None:
    return None if at_s is None else BEGIN + timedelta(seconds=at_s)


@settings(deadline=None, max_examples=500)
@given(histories)
def test_a_claim_counts_when_the_client_was_alone_for_half_a_minute(history: History) -> None:
    (down, up, byte, left), now_s = remembered(history)
    seen = RelayEvidence(moment(down), moment(up), moment(byte), moment(left))
    now = BEGIN + timedelta(seconds=now_s)
    session = ActiveSession(BEGIN, BEGIN + timedelta(hours=1), 60, "RELAY", now, seen)
    ending = decide_end(session, EndRequest(Caller.CLIENT, FailureReason.HOST, now, timedelta(minutes=1)))
    assert (ending.failure_reason is FailureReason.HOST) == (alone_s(history) >= 30)
