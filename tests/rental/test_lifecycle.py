from datetime import datetime, timedelta
from itertools import product

from attrs import evolve
import pytest

from opendesk.rental.lifecycle import (
    HUNG_UP_BEFORE,
    NEXT,
    RELAY_SILENCE,
    ActiveSession,
    Caller,
    Ending,
    EndReason,
    EndRequest,
    Event,
    NetworkProvider,
    RelayEvidence,
    Status,
    acting_as,
    decide_end,
    decide_expiry,
    decide_pending,
    decide_timeout,
    minutes_used,
)
from opendesk.rental.settlement import FailureReason
from tests.rental.endings import (
    CLAIMS,
    CLIENT,
    END,
    HOST,
    INSTANT,
    NONE,
    ON_RELAY,
    PLATFORM,
    SESSION,
    START,
    TIMEOUT,
    at,
    end,
    host_left,
)

# Statuses


def test_sessions_go_no_other_way() -> None:
    allowed = {
        (Status.PENDING, Event.START): Status.ACTIVE,
        (Status.PENDING, Event.CANCEL): Status.FAILED,
        (Status.PENDING, Event.FAIL): Status.FAILED,
        (Status.ACTIVE, Event.END): Status.ENDED,
        (Status.ACTIVE, Event.FAIL): Status.FAILED,
    }
    for status, event in product(Status, Event):
        assert NEXT.get((status, event)) == allowed.get((status, event))


def test_live_sessions_are_those_with_a_next_status() -> None:
    assert {status for status, _ in NEXT} == {Status.PENDING, Status.ACTIVE}


@pytest.mark.parametrize(
    ("is_client", "is_host", "is_admin", "caller"),
    [
        (True, False, False, Caller.CLIENT),
        (False, True, False, Caller.HOST),
        (False, False, True, Caller.ADMIN),
        (True, False, True, Caller.CLIENT),
        (False, True, True, Caller.HOST),
        (False, False, False, None),
    ],
)
def test_an_admin_has_no_more_say_in_a_session_of_their_own(
    *, is_client: bool, is_host: bool, is_admin: bool, caller: Caller | None
) -> None:
    assert acting_as(is_client=is_client, is_host=is_host, is_admin=is_admin) == caller


# Minutes


@pytest.mark.parametrize(
    ("used", "minutes"),
    [
        (timedelta(), 0),
        (INSTANT, 1),
        (timedelta(minutes=1), 1),
        (timedelta(minutes=1) + INSTANT, 2),
        (timedelta(minutes=10, seconds=1), 11),
        (timedelta(minutes=60), 60),
        (timedelta(minutes=60) + INSTANT, 60),
        (timedelta(days=3), 60),
        (-INSTANT, 0),
        (-timedelta(minutes=5), 0),
    ],
)
def test_minutes_begun_count_whole(used: timedelta, minutes: int) -> None:
    assert minutes_used(START, START + used, 60) == minutes


# Whose fault counts


def test_client_s_end_counts_as_nobody_s_fault() -> None:
    assert end(SESSION, Caller.CLIENT) == Ending(
        status=Status.ENDED,
        end_reason=EndReason.ENDED_BY_CLIENT,
        failure_reason=NONE,
        claimed_failure_reason=None,
        ended_at=at(30),
        minutes_used=30,
    )


def test_client_may_take_the_fault() -> None:
    ending = end(SESSION, Caller.CLIENT, CLIENT)
    assert (ending.status, ending.failure_reason, ending.minutes_used) == (Status.FAILED, CLIENT, 30)
    assert ending.claimed_failure_reason is None


@pytest.mark.parametrize("claim", [HOST, PLATFORM])
def test_client_s_word_against_others_is_kept_as_a_claim(claim: FailureReason) -> None:
    ending = end(SESSION, Caller.CLIENT, claim)
    assert (ending.status, ending.failure_reason, ending.claimed_failure_reason) == (Status.ENDED, NONE, claim)


@pytest.mark.parametrize("claim", CLAIMS)
def test_host_s_end_before_its_time_is_the_host_s_fault_whatever_it_says(claim: FailureReason | None) -> None:
    ending = end(SESSION, Caller.HOST, claim, now=END - INSTANT)
    assert (ending.status, ending.failure_reason) == (Status.FAILED, HOST)
    assert ending.end_reason == EndReason.ENDED_BY_HOST
    assert ending.claimed_failure_reason == (None if claim is HOST else claim)


@pytest.mark.parametrize("claim", [None, NONE, CLIENT, PLATFORM])
@pytest.mark.parametrize("late", [timedelta(), timedelta(minutes=10)])
def test_host_s_end_after_its_time_is_no_fault(claim: FailureReason | None, late: timedelta) -> None:
    ending = end(SESSION, Caller.HOST, claim, now=END + late)
    assert (ending.status, ending.end_reason, ending.failure_reason) == (Status.ENDED, EndReason.COMPLETED, NONE)
    assert (ending.ended_at, ending.minutes_used) == (END, 60)


def test_host_may_take_the_fault_after_its_time() -> None:
    ending = end(evolve(SESSION, last_beat_at=at(40)), Caller.HOST, HOST, now=END)
    assert (ending.status, ending.end_reason) == (Status.FAILED, EndReason.ENDED_BY_HOST)
    assert (ending.failure_reason, ending.ended_at, ending.minutes_used) == (HOST, END, 40)


@pytest.mark.parametrize("claim", FailureReason)
@pytest.mark.parametrize("now", [at(30), END, at(61)])
def test_admin_says_whose_fault_it_was(claim: FailureReason, now: datetime) -> None:
    ending = end(SESSION, Caller.ADMIN, claim, now=now)
    assert (ending.failure_reason, ending.claimed_failure_reason) == (claim, None)
    completed = claim is NONE and now >= END
    assert ending.end_reason == (EndReason.COMPLETED if completed else EndReason.ENDED_BY_ADMIN)


def test_admin_who_says_nothing_blames_nobody() -> None:
    ending = end(SESSION, Caller.ADMIN)
    assert (ending.status, ending.failure_reason, ending.minutes_used) == (Status.ENDED, NONE, 30)


def test_words_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="FailureReason"):
        EndRequest(Caller.CLIENT, "WEATHER", at(30), TIMEOUT)
    with pytest.raises(ValueError, match="Caller"):
        EndRequest("GUEST", None, at(30), TIMEOUT)
    with pytest.raises(ValueError, match="NetworkProvider"):
        ActiveSession(START, END, 60, "PIGEON")


def test_rows_may_give_their_texts() -> None:
    session = ActiveSession(START, END, 60, "RELAY", at(29.9), RelayEvidence(at(20), at(1), at(20)))
    ending = decide_end(session, EndRequest("CLIENT", "HOST", at(30), TIMEOUT))
    assert (ending.failure_reason, ending.minutes_used) == (HOST, 20)


# The client's claim against the host: heartbeats


def test_client_s_claim_counts_when_no_heartbeat_came_for_longer_than_the_time_out() -> None:
    silent = evolve(SESSION, last_beat_at=at(30) - TIMEOUT - INSTANT)
    ending = end(silent, Caller.CLIENT, HOST)
    assert (ending.status, ending.failure_reason) == (Status.FAILED, HOST)
    assert (ending.end_reason, ending.claimed_failure_reason) == (EndReason.ENDED_BY_CLIENT, None)


def test_client_s_claim_fails_on_a_silence_no_longer_than_the_time_out() -> None:
    ending = end(evolve(SESSION, last_beat_at=at(30) - TIMEOUT), Caller.CLIENT, HOST)
    assert (ending.failure_reason, ending.claimed_failure_reason) == (NONE, HOST)


@pytest.mark.parametrize("claim", [None, NONE, PLATFORM])
def test_silence_that_nobody_claims_is_nobody_s_fault(claim: FailureReason | None) -> None:
    assert end(evolve(SESSION, last_beat_at=at(10)), Caller.CLIENT, claim).failure_reason is NONE


def test_silence_from_before_the_start_counts_too() -> None:
    ending = end(evolve(SESSION, last_beat_at=at(-0.5)), Caller.CLIENT, HOST, now=at(0.6))
    assert (ending.failure_reason, ending.minutes_used) == (HOST, 0)


def test_a_pc_that_never_beat_is_silent_from_the_start_of_the_session() -> None:
    never = evolve(SESSION, last_beat_at=None)
    assert end(never, Caller.CLIENT, HOST, now=START + TIMEOUT).failure_reason is NONE
    late = end(never, Caller.CLIENT, HOST, now=START + TIMEOUT + INSTANT)
    assert (late.failure_reason, late.minutes_used) == (HOST, 0)


def test_silence_while_the_daemon_was_away_proves_nothing() -> None:
    silent = evolve(SESSION, last_beat_at=at(10))
    returned = at(30) - TIMEOUT
    assert end(silent, Caller.CLIENT, HOST, listening_since=returned).failure_reason is NONE
    ending = end(silent, Caller.CLIENT, HOST, listening_since=returned - INSTANT)
    assert (ending.failure_reason, ending.minutes_used) == (HOST, 10)
    assert end(SESSION, Caller.CLIENT, HOST, listening_since=at(0)).failure_reason is NONE


# The client's claim against the host: the relay


def test_client_s_claim_counts_when_the_host_left_the_relay() -> None:
    ending = end(host_left(29.5, last_byte=29.4), Caller.CLIENT, HOST)
    assert (ending.status, ending.failure_reason, ending.minutes_used) == (Status.FAILED, HOST, 30)
    assert end(host_left(20, last_byte=19.5), Caller.CLIENT, HOST).minutes_used == 20


def test_client_s_claim_counts_when_the_host_never_came_to_the_relay() -> None:
    ending = end(host_left(1, last_byte=None), Caller.CLIENT, HOST)
    assert (ending.failure_reason, ending.minutes_used) == (HOST, 0)


def test_thirty_seconds_without_a_host_are_needed() -> None:
    assert timedelta(seconds=30) == RELAY_SILENCE
    for since, fault in ((at(30) - RELAY_SILENCE, HOST), (at(30) - RELAY_SILENCE + INSTANT, NONE)):
        left = RelayEvidence(host_down_since=since, client_up_since=at(1), last_byte_at=at(5))
        assert end(evolve(ON_RELAY, evidence=left), Caller.CLIENT, HOST).failure_reason is fault
        came = RelayEvidence(host_down_since=at(1), client_up_since=since, last_byte_at=at(5))
        assert end(evolve(ON_RELAY, evidence=came), Caller.CLIENT, HOST).failure_reason is fault


def test_the_host_s_thirty_seconds_begin_with_the_session() -> None:
    early = RelayEvidence(host_down_since=at(-5), client_up_since=at(-5), last_byte_at=None)
    session = evolve(ON_RELAY, evidence=early, last_beat_at=START)
    assert end(session, Caller.CLIENT, HOST, now=START + RELAY_SILENCE - INSTANT).failure_reason is NONE
    assert end(session, Caller.CLIENT, HOST, now=START + RELAY_SILENCE).failure_reason is HOST


@pytest.mark.parametrize(
    "evidence",
    [
        None,
        RelayEvidence(host_down_since=None, client_up_since=at(1), last_byte_at=at(5)),
        RelayEvidence(host_down_since=at(1), client_up_since=None, last_byte_at=at(5)),
        RelayEvidence(host_down_since=None, client_up_since=None, last_byte_at=None),
    ],
)
def test_the_relay_proves_nothing_unless_it_saw_the_client_without_the_host(evidence: RelayEvidence | None) -> None:
    ending = end(evolve(ON_RELAY, evidence=evidence), Caller.CLIENT, HOST)
    assert (ending.failure_reason, ending.claimed_failure_reason) == (NONE, HOST)


def client_hung_up(before: timedelta, *, alone: timedelta) -> ActiveSession:
    """So long before minute 30, after it had been there so long without the host."""
    left_at = at(30) - before
    return evolve(ON_RELAY, evidence=RelayEvidence(left_at - alone, at(1), at(5), client_left_at=left_at))


@pytest.mark.parametrize("before", [timedelta(0), INSTANT, HUNG_UP_BEFORE])
def test_a_client_may_hang_up_and_then_end_the_session(before: timedelta) -> None:
    assert timedelta(seconds=5) == HUNG_UP_BEFORE
    for alone, fault in ((RELAY_SILENCE, HOST), (RELAY_SILENCE - INSTANT, NONE)):
        assert end(client_hung_up(before, alone=alone), Caller.CLIENT, HOST).failure_reason is fault


def test_a_client_that_left_before_that_has_no_claim() -> None:
    gone = client_hung_up(HUNG_UP_BEFORE + INSTANT, alone=timedelta(minutes=10))
    assert end(gone, Caller.CLIENT, HOST).failure_reason is NONE


def test_a_client_s_thirty_seconds_end_with_its_leaving() -> None:
    came_at, left_at = at(30) - timedelta(seconds=30.6), at(30) - timedelta(seconds=10)
    early = RelayEvidence(host_down_since=at(1), client_up_since=came_at, last_byte_at=None, client_left_at=left_at)
    assert end(evolve(ON_RELAY, evidence=early), Caller.CLIENT, HOST).failure_reason is NONE
    late = evolve(early, client_left_at=at(30) - timedelta(seconds=1))
    assert end(evolve(ON_RELAY, evidence=late), Caller.CLIENT, HOST).failure_reason is NONE


def test_a_host_that_went_after_its_client_failed_nobody() -> None:
    left_at = at(30) - timedelta(seconds=2)
    seen = RelayEvidence(left_at + timedelta(seconds=1), at(1), left_at, client_left_at=left_at)
    assert end(evolve(ON_RELAY, evidence=seen), Caller.CLIENT, HOST).failure_reason is NONE


def test_a_client_that_left_after_the_session_s_time_was_there_to_its_end() -> None:
    for alone, fault in ((RELAY_SILENCE, HOST), (RELAY_SILENCE - INSTANT, NONE)):
        seen = RelayEvidence(END - alone, at(1), at(5), client_left_at=END + timedelta(minutes=1))
        session = evolve(ON_RELAY, last_beat_at=END, evidence=seen)
        assert end(session, Caller.CLIENT, HOST, now=END + timedelta(minutes=2)).failure_reason is fault


def test_a_pc_that_is_reached_directly_owes_the_relay_nothing() -> None:
    direct = evolve(host_left(20, last_byte=20), provider=NetworkProvider.DIRECT)
    assert end(direct, Caller.CLIENT, HOST).failure_reason is NONE


# Up to when time is billed


@pytest.mark.parametrize(
    ("last_beat_at", "last_byte_at", "minutes"),
    [
        (at(10), None, 10),
        (at(10), at(9), 10),
        (at(10), at(12.5), 13),
        (None, None, 0),
        (None, at(3), 3),
        (at(-2), None, 0),
        (at(-2), at(-1), 0),
        (at(45), None, 30),
        (at(10), at(45), 30),
    ],
)
def test_a_host_s_fault_is_billed_to_its_last_proof_of_life(
    last_beat_at: datetime | None, last_byte_at: datetime | None, minutes: int
) -> None:
    evidence = RelayEvidence(host_down_since=None, client_up_since=None, last_byte_at=last_byte_at)
    session = evolve(SESSION, last_beat_at=last_beat_at, evidence=evidence)
    for ending in (end(session, Caller.HOST), end(session, Caller.ADMIN, HOST), decide_timeout(session, at(30))):
        assert (ending.failure_reason, ending.minutes_used, ending.ended_at) == (HOST, minutes, at(30))


def test_all_other_ends_are_billed_to_the_end_however_silent_the_host() -> None:
    silent = evolve(SESSION, last_beat_at=at(10))
    assert end(silent, Caller.CLIENT).minutes_used == 30
    assert end(silent, Caller.CLIENT, CLIENT).minutes_used == 30
    assert end(silent, Caller.ADMIN, PLATFORM).minutes_used == 30


def test_heartbeats_of_a_host_that_left_the_relay_prove_nothing_received() -> None:
    left = host_left(20, last_byte=19.5)
    for ending in (end(left, Caller.CLIENT, HOST), end(left, Caller.HOST), end(left, Caller.ADMIN, HOST)):
        assert ending.minutes_used == 20
    without_client = evolve(left, evidence=RelayEvidence(at(20), None, at(19.5)))
    assert end(without_client, Caller.HOST).minutes_used == 30


# Ends that come late


@pytest.mark.parametrize("who", Caller)
def test_an_end_after_its_time_is_a_completed_session(who: Caller) -> None:
    for now in (END, at(75)):
        assert end(SESSION, who, now=now) == decide_expiry(SESSION)


def test_expiry_bills_all_that_was_purchased_however_late_it_is_noticed() -> None:
    assert decide_expiry(evolve(SESSION, last_beat_at=None)) == Ending(
        status=Status.ENDED,
        end_reason=EndReason.COMPLETED,
        failure_reason=NONE,
        claimed_failure_reason=None,
        ended_at=END,
        minutes_used=60,
    )


def test_silence_proven_before_the_end_still_counts_after_it() -> None:
    silent = evolve(SESSION, last_beat_at=at(40))
    ending = end(silent, Caller.CLIENT, HOST, now=at(60.01))
    assert (ending.status, ending.end_reason) == (Status.FAILED, EndReason.ENDED_BY_CLIENT)
    assert (ending.failure_reason, ending.ended_at, ending.minutes_used) == (HOST, END, 40)


def test_silence_after_the_end_is_nobody_s_business() -> None:
    gone_home = evolve(SESSION, last_beat_at=END - TIMEOUT)
    ending = end(gone_home, Caller.CLIENT, HOST, now=at(300))
    assert (ending.failure_reason, ending.end_reason, ending.claimed_failure_reason) == (
        NONE,
        EndReason.COMPLETED,
        HOST,
    )
    left = evolve(ON_RELAY, last_beat_at=END, evidence=RelayEvidence(at(59.6), at(1), at(59.6)))
    assert end(left, Caller.CLIENT, HOST, now=at(300)).failure_reason is NONE


def test_client_cannot_take_a_completed_session_from_the_host_s_record() -> None:
    ending = end(SESSION, Caller.CLIENT, CLIENT, now=END)
    assert (ending.status, ending.failure_reason, ending.claimed_failure_reason) == (Status.ENDED, NONE, CLIENT)


def test_an_end_before_the_start_by_a_clock_set_back_bills_nothing() -> None:
    ending = end(SESSION, Caller.CLIENT, now=at(-5))
    assert (ending.ended_at, ending.minutes_used) == (START, 0)


def test_a_timed_out_host_is_at_fault() -> None:
    assert decide_timeout(evolve(SESSION, last_beat_at=at(10.5)), at(14)) == Ending(
        status=Status.FAILED,
        end_reason=EndReason.HOST_TIMEOUT,
        failure_reason=HOST,
        claimed_failure_reason=None,
        ended_at=at(14),
        minutes_used=11,
    )


def test_a_time_out_just_before_the_end_is_one_and_at_the_end_is_none() -> None:
    silent = evolve(SESSION, last_beat_at=at(40))
    assert decide_timeout(silent, END - INSTANT).end_reason == EndReason.HOST_TIMEOUT
    for now in (END, at(90)):
        assert decide_timeout(silent, now) == decide_expiry(silent)


@pytest.mark.parametrize(
    ("end_reason", "fault"),
    [(EndReason.CANCELLED, NONE), (EndReason.NEVER_STARTED, NONE), (EndReason.HOST_TIMEOUT, HOST)],
)
def test_a_reservation_fails_without_a_minute_used(end_reason: EndReason, fault: FailureReason) -> None:
    assert decide_pending(end_reason, at(3)) == Ending(Status.FAILED, end_reason, fault, None, at(3), 0)


@pytest.mark.parametrize("end_reason", [EndReason.COMPLETED, EndReason.ENDED_BY_CLIENT, EndReason.ENDED_BY_HOST])
def test_a_reservation_cannot_end_as_what_never_ran(end_reason: EndReason) -> None:
    with pytest.raises(ValueError, match="PENDING"):
        decide_pending(end_reason, at(3))
