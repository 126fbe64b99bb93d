from collections.abc import Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import product
from pathlib import Path

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from opendesk.rental.lifecycle import (
    HUNG_UP_BEFORE,
    RELAY_SILENCE,
    ActiveSession,
    Caller,
    Ending,
    EndReason,
    EndRequest,
    NetworkProvider,
    RelayEvidence,
    Status,
    decide_end,
    decide_expiry,
    decide_timeout,
    minutes_used,
)
from opendesk.rental.settlement import FailureReason, Settlement, settle
from tests.rental.endings import (
    CLAIMS,
    CLIENT,
    END,
    HOST,
    INSTANT,
    NONE,
    ON_RELAY,
    PLATFORM,
    START,
    TIMEOUT,
    at,
    end,
)

DOC = Path(__file__).parents[2] / "docs" / "settlement.md"
unhurried = settings(deadline=None, max_examples=200)

# The documented table

SEEN_BY = {
    "nothing": lambda now: evolve(ON_RELAY, last_beat_at=now),
    "no heartbeat": lambda now: evolve(ON_RELAY, last_beat_at=now - 2 * TIMEOUT),
    "no host at the relay": lambda now: evolve(
        ON_RELAY, last_beat_at=now, evidence=RelayEvidence(at(20), at(1), at(20))
    ),
}
WHEN = {"before endAt": (at(30),), "from endAt on": (END, at(60.01)), "any time": (at(30), END, at(60.01))}


def documented() -> Iterator[tuple[tuple[str, str, str, datetime], tuple[str, ...]]]:
    table = DOC.read_text(encoding="utf-8").partition("| who ends |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        who, when, says, seen, *outcome = (cell.strip() for cell in line.strip("|").split("|"))
        all_said = ["nothing", *FailureReason] if says == "anything" else says.split(", ")
        all_seen = list(SEEN_BY) if seen == "anything" else seen.split(", ")
        for said, saw, now in product(all_said, all_seen, WHEN[when]):
            yield (who, said, saw, now), tuple(outcome)


def test_the_documented_table_covers_every_case_once() -> None:
    cases = [case for case, _ in documented()]
    expected = set(product(Caller, ["nothing", *FailureReason], SEEN_BY, WHEN["any time"]))
    assert len(cases) == len(set(cases))
    assert set(cases) == expected


def test_the_documented_table_is_what_the_code_answers() -> None:
    for (who, said, saw, now), outcome in documented():
        claim = None if said == "nothing" else FailureReason(said)
        ending = end(SEEN_BY[saw](min(now, END)), Caller(who), claim, now=now)
        assert (ending.failure_reason, ending.status, ending.end_reason) == outcome, (who, said, saw, now)


# Whatever happens

seconds = st.integers(-300, 4000)
moments = seconds.map(lambda s: START + timedelta(seconds=s))
evidences = st.builds(RelayEvidence, *[st.none() | moments] * 4)
sessions = st.builds(
    lambda minutes, **fields: ActiveSession(
        start_at=START, end_at=START + timedelta(minutes=minutes), minutes_purchased=minutes, **fields
    ),
    st.integers(1, 60),
    provider=st.sampled_from(NetworkProvider),
    last_beat_at=st.none() | moments,
    evidence=st.none() | evidences,
)
requests = st.builds(
    EndRequest, st.sampled_from(Caller), st.sampled_from(CLAIMS), moments, st.just(TIMEOUT), st.none() | moments
)
RATES = (Fraction(1, 10), Fraction(3, 10))


def settled(session: ActiveSession, ending: Ending) -> Settlement:
    return settle(2399, session.minutes_purchased, ending.minutes_used, *RATES, ending.failure_reason)


@unhurried
@given(sessions, requests)
def test_an_ending_is_consistent_in_itself(session: ActiveSession, request: EndRequest) -> None:
    ending = decide_end(session, request)
    assert ending.ended_at == min(max(request.now, session.start_at), session.end_at)
    assert 0 <= ending.minutes_used <= minutes_used(session.start_at, ending.ended_at, session.minutes_purchased)
    assert (ending.status is Status.FAILED) == (ending.failure_reason is not NONE)
    assert (ending.end_reason is EndReason.COMPLETED) == (
        ending.status is Status.ENDED and ending.ended_at == session.end_at
    )
    assert ending.claimed_failure_reason in (None, request.claim)
    assert (ending.claimed_failure_reason is None) == (request.claim in (None, ending.failure_reason))


@unhurried
@given(sessions, requests)
def test_only_an_admin_can_blame_the_platform_and_only_a_client_itself(
    session: ActiveSession, request: EndRequest
) -> None:
    fault = decide_end(session, request).failure_reason
    if request.who is not Caller.ADMIN:
        assert fault is not PLATFORM
        assert fault is not CLIENT or (request.who is Caller.CLIENT and request.claim is CLIENT)


@unhurried
@given(sessions, requests, st.sampled_from(CLAIMS))
def test_a_client_s_word_alone_never_costs_the_host(
    session: ActiveSession, request: EndRequest, claim: FailureReason | None
) -> None:
    ended_at = min(max(request.now, session.start_at), session.end_at)
    in_the_room = None if session.evidence is None else evolve(session.evidence, host_down_since=None)
    beats = evolve(session, last_beat_at=ended_at - TIMEOUT, evidence=in_the_room)
    silent, said = (evolve(request, who=Caller.CLIENT, claim=c) for c in (None, claim))
    assert settled(beats, decide_end(beats, said)) == settled(beats, decide_end(beats, silent))


@unhurried
@given(sessions, requests)
def test_a_client_s_claim_counts_only_on_what_the_daemon_saw(session: ActiveSession, request: EndRequest) -> None:
    claimed = decide_end(session, evolve(request, who=Caller.CLIENT, claim=HOST))
    heard = [x for x in (session.last_beat_at or session.start_at, request.listening_since) if x is not None]
    silent = claimed.ended_at - max(heard) > TIMEOUT
    seen = session.evidence
    left_at = (seen and seen.client_left_at) or claimed.ended_at
    until = min(left_at, claimed.ended_at)
    alone = (
        session.provider is NetworkProvider.RELAY
        and seen is not None
        and seen.host_down_since is not None
        and seen.client_up_since is not None
        and until >= claimed.ended_at - HUNG_UP_BEFORE
        and until - max(seen.host_down_since, seen.client_up_since, seen.last_byte_at or START, START) >= RELAY_SILENCE
    )
    assert (claimed.failure_reason is HOST) == (silent or alone)


@unhurried
@given(sessions, requests, st.sampled_from(CLAIMS))
def test_a_host_s_word_never_moves_the_fault_off_itself(
    session: ActiveSession, request: EndRequest, claim: FailureReason | None
) -> None:
    now = min(request.now, session.end_at - INSTANT)
    early = [decide_end(session, evolve(request, who=Caller.HOST, claim=c, now=now)) for c in (None, claim)]
    assert {ending.failure_reason for ending in early} == {HOST}
    assert settled(session, early[0]) == settled(session, early[1])


@unhurried
@given(sessions, requests)
def test_a_host_never_gains_by_ending_a_session(session: ActiveSession, request: EndRequest) -> None:
    ended = settled(session, decide_end(session, evolve(request, who=Caller.HOST)))
    assert ended.host_payout <= settled(session, decide_expiry(session)).host_payout
    by_client = decide_end(session, evolve(request, who=Caller.CLIENT, claim=None))
    assert ended.host_payout <= settled(session, by_client).host_payout


@unhurried
@given(sessions, moments)
def test_a_time_out_never_pays_the_host_more_nor_the_client_less_than_an_end(
    session: ActiveSession, now: datetime
) -> None:
    timed_out = settled(session, decide_timeout(session, now))
    ended = settled(session, decide_end(session, EndRequest(Caller.CLIENT, None, now, TIMEOUT)))
    assert timed_out.host_payout <= ended.host_payout
    assert timed_out.client_credit >= ended.client_credit
