from opendesk.rental.liveness import (
    MASS_FROM_PCS,
    MAX_ALARMS,
    Watch,
    judge,
)
from tests.rental.silence import INSTANT, LONG_AGO, TIMEOUT, TIMEOUT_ACTIVE, at, check, pc, pcs

# One PC


def test_a_pc_times_out_when_it_was_silent_for_longer_than_the_time_out() -> None:
    silent = pc(1, 0)
    assert check(LONG_AGO, 10, [silent], 60).timed_out == ()
    verdict = judge(LONG_AGO, 10, [silent], now=at(60) + INSTANT, timeout=TIMEOUT, timeout_active=TIMEOUT_ACTIVE)
    assert (verdict.timed_out, verdict.alarm) == ((silent,), False)


def test_one_with_an_active_session_has_the_longer_time_out() -> None:
    silent = pc(1, 0, active=True)
    assert check(LONG_AGO, 10, [silent], 180).timed_out == ()
    assert check(LONG_AGO, 10, [silent], 180.001).timed_out == (silent,)


def test_the_longer_time_out_may_be_the_shorter_one() -> None:
    silent = [pc(1, 0, active=True), pc(2, 0)]
    verdict = judge(LONG_AGO, 10, silent, now=at(61), timeout=TIMEOUT_ACTIVE, timeout_active=TIMEOUT)
    assert verdict.timed_out == (silent[0],)


def test_a_pc_that_never_beat_times_out_from_when_the_daemon_began_to_listen() -> None:
    silent = pc(1, None)
    watch = Watch(grace_from=at(0))
    assert check(watch, 10, [silent], 60).timed_out == ()
    assert check(watch, 10, [silent], 61).timed_out == (silent,)


def test_pcs_that_never_beat_fell_from_nothing() -> None:
    silent = pcs(range(8), None)
    verdict = check(Watch(grace_from=at(0)), 9, silent, 61)
    assert (verdict.alarm, verdict.fallen, verdict.were_beating) == (False, 0, 1)
    assert verdict.timed_out == tuple(silent)


def test_a_beat_from_the_future_says_nothing() -> None:
    silent = pc(1, 10_000)
    watch = Watch(grace_from=at(0))
    assert check(watch, 10, [silent], 60).timed_out == ()
    assert check(watch, 10, [silent], 61).timed_out == (silent,)


# The daemon was away


def test_a_new_daemon_gives_everybody_a_full_time_out() -> None:
    watch = Watch(grace_from=at(0))
    silent = [pc(1, -3600), pc(2, -3600, active=True)]
    assert check(watch, 10, silent, 60).timed_out == ()
    assert check(watch, 10, silent, 61).timed_out == (silent[0],)
    assert check(watch, 10, silent, 180).timed_out == (silent[0],)
    assert check(watch, 10, silent, 181).timed_out == tuple(silent)


def test_a_daemon_that_returned_gives_everybody_a_full_time_out_from_then() -> None:
    watch = check(LONG_AGO, 10, [], 0).watch.returned(at(600))
    assert check(watch, 10, [pc(1, 1)], 660).timed_out == ()
    assert check(watch, 10, [pc(1, 1)], 661).timed_out == (pc(1, 1),)


def test_what_a_beating_pc_had_left_is_not_shortened_by_a_return() -> None:
    watch = LONG_AGO.returned(at(0))
    assert check(watch, 10, [pc(1, 30)], 90).timed_out == ()
    assert check(watch, 10, [pc(1, 30)], 91).timed_out == (pc(1, 30),)


def test_a_return_by_a_clock_set_back_forgets_what_lies_in_the_future() -> None:
    watch = check(LONG_AGO, 8, pcs(range(8), 0), 61).watch
    assert watch.alarms
    back = watch.returned(at(-3600))
    assert back == Watch(grace_from=at(-3600))
    assert check(back, 10, [pc(1, -3590)], -3500).timed_out == (pc(1, -3590),)


def test_silence_is_the_host_s_only_since_the_daemon_listens() -> None:
    assert Watch(grace_from=at(5)).listening_since == at(5)
    alarmed = check(LONG_AGO, 8, pcs(range(8), 0), 61).watch
    assert alarmed.listening_since == at(61)
    assert alarmed.returned(at(70)).listening_since == at(70)


# Many at once


def test_more_than_half_at_once_is_an_alarm_and_none_is_judged() -> None:
    verdict = check(LONG_AGO, 9, pcs(range(5), 0), 61)
    assert (verdict.alarm, verdict.timed_out, verdict.fallen, verdict.were_beating) == (True, (), 5, 9)


def test_half_is_not_more_than_half() -> None:
    verdict = check(LONG_AGO, 10, pcs(range(5), 0), 61)
    assert (verdict.alarm, len(verdict.timed_out), verdict.fallen, verdict.were_beating) == (False, 5, 5, 10)


def test_fewer_than_five_are_judged_even_if_they_are_all() -> None:
    assert MASS_FROM_PCS == 5
    verdict = check(LONG_AGO, 4, pcs(range(4), 0), 61)
    assert (verdict.alarm, len(verdict.timed_out)) == (False, 4)
    assert check(LONG_AGO, 5, pcs(range(5), 0), 61).alarm


def test_each_gets_another_full_time_out_and_is_judged_after_it() -> None:
    silent = [*pcs(range(6), 0), *pcs(range(6, 8), 0, active=True)]
    watch = check(LONG_AGO, 8, silent, 61).watch
    for now in (91, 121):
        verdict = check(watch, 8, silent, now)
        assert (verdict.alarm, verdict.timed_out, verdict.fallen) == (False, (), 0)
        watch = verdict.watch
    verdict = check(watch, 8, silent, 122)
    assert (verdict.alarm, verdict.timed_out) == (False, tuple(silent[:6]))
    assert check(verdict.watch, 2, silent[6:], 241).timed_out == ()
    assert check(verdict.watch, 2, silent[6:], 242).timed_out == tuple(silent[6:])


def test_those_with_and_without_a_session_are_counted_together() -> None:
    half, other_half = pcs(range(5), 0), pcs(range(5, 10), 0, active=True)
    verdict = check(LONG_AGO, 10, [*half, *other_half], 61)
    assert (verdict.alarm, verdict.timed_out) == (True, ())


def test_those_that_came_back_are_left_alone_and_those_that_did_not_are_judged() -> None:
    watch = check(LONG_AGO, 8, pcs(range(8), 0), 61).watch
    still = pcs(range(3), 0)
    assert check(watch, 8, still, 121).timed_out == ()
    verdict = check(watch, 8, still, 122)
    assert (verdict.alarm, verdict.timed_out) == (False, tuple(still))


def test_stragglers_of_the_same_outage_share_the_second_chance() -> None:
    first, later = pcs(range(6), 0), pcs(range(6, 10), 2)
    watch = check(LONG_AGO, 10, first, 61).watch
    verdict = check(watch, 10, [*first, *later], 91)
    assert (verdict.alarm, verdict.timed_out, verdict.fallen) == (False, (), 0)
    assert check(verdict.watch, 10, [*first, *later], 122).timed_out == (*first, *later)


def test_a_pc_that_came_back_and_fell_again_is_newly_fallen() -> None:
    watch = check(LONG_AGO, 8, pcs(range(8), 0), 61).watch
    watch = check(watch, 8, [], 101).watch
    verdict = check(watch, 8, pcs(range(8), 70), 131)
    assert (verdict.alarm, verdict.timed_out) == (True, ())


def test_a_pc_that_stays_silent_is_judged_whatever_the_others_do() -> None:
    """All fall, all but two come back, and all those fall again, just when the two are due: again no alarm spares the two."""
    watch = check(LONG_AGO, 10, pcs(range(10), 0), 61).watch
    watch = check(watch, 10, pcs(range(2), 0), 101).watch
    verdict = check(watch, 10, [*pcs(range(2), 0), *pcs(range(2, 10), 62)], 123)
    assert verdict.alarm
    assert verdict.timed_out == tuple(pcs(range(2), 0))


def test_a_second_alarm_does_not_prolong_a_second_chance() -> None:
    lost = pc(0, 0, active=True)
    watch = check(LONG_AGO, 10, [lost, *pcs(range(1, 10), 0)], 61).watch
    for came_back, now in ((62, 123), (124, 185)):
        verdict = check(watch, 10, [lost, *pcs(range(1, 10), came_back)], now)
        assert (verdict.alarm, verdict.timed_out) == (True, ())
        watch = verdict.watch
    assert check(watch, 10, [lost], 241).timed_out == ()
    assert check(watch, 10, [lost], 242).timed_out == (lost,)


def test_the_silent_of_before_were_not_beating() -> None:
    """8 of the 20 fell silent; but 12 were silent already, so 8 of 8 did."""
    before = pcs(range(12), 0)
    watch = check(LONG_AGO, 20, before, 61).watch
    verdict = check(watch, 20, [*before, *pcs(range(12, 20), 62)], 123)
    assert (verdict.alarm, verdict.fallen, verdict.were_beating) == (True, 8, 8)
    assert verdict.timed_out == tuple(before)


def test_a_pc_with_a_session_falls_silent_once() -> None:
    silent = pcs(range(5), 0, active=True)
    watch = check(LONG_AGO, 20, silent, 61).watch
    later = pcs(range(5, 9), 40)
    verdict = check(watch, 9, [*silent, *later], 101)
    assert (verdict.alarm, verdict.fallen, verdict.were_beating) == (False, 4, 4)
    assert verdict.timed_out == tuple(later)


def test_an_alarm_spares_one_that_fell_before_and_is_due_now() -> None:
    early = pc(0, 0, active=True)
    watch = check(LONG_AGO, 9, [early], 61).watch
    verdict = check(watch, 9, [early, *pcs(range(1, 9), 121)], 182)
    assert (verdict.alarm, verdict.timed_out) == (True, ())
    assert check(verdict.watch, 9, [early], 362).timed_out == ()
    assert check(verdict.watch, 9, [early], 363).timed_out == (early,)


def test_one_not_judged_by_a_mishap_is_judged_next_time_and_not_counted_again() -> None:
    silent = pcs(range(5), 0)
    first = check(LONG_AGO, 20, silent, 61)
    again = check(first.watch, 9, silent, 91)
    assert (again.alarm, again.timed_out, again.fallen) == (False, tuple(silent), 0)


def test_pcs_that_are_not_silent_yet_may_be_shown_and_change_nothing() -> None:
    fresh = pcs(range(10, 20), 55)
    verdict = check(LONG_AGO, 20, [*pcs(range(10), 0), *fresh], 61)
    assert (verdict.alarm, verdict.fallen, verdict.were_beating) == (False, 10, 20)
    assert verdict.timed_out == tuple(pcs(range(10), 0))


def test_a_silence_no_longer_than_the_time_out_is_none_yet() -> None:
    verdict = check(LONG_AGO, 8, pcs(range(8), 0), 60)
    assert (verdict.alarm, verdict.fallen, verdict.were_beating) == (False, 0, 8)


def test_a_second_chance_is_that_of_the_first_alarm_since_the_last_beat() -> None:
    watch = Watch(grace_from=at(0), alarms=(at(100), at(200)))
    chances = {seen: watch.second_chance(at(seen)) for seen in (0, 100, 101, 200, 201)}
    assert chances == {0: at(100), 100: at(100), 101: at(200), 200: at(200), 201: None}


def test_hosts_that_left_while_the_daemon_was_away_get_their_second_chance_and_no_third() -> None:
    watch = Watch(grace_from=at(0))
    silent = pcs(range(8), -3600)
    verdict = check(watch, 8, silent, 61)
    assert (verdict.alarm, verdict.timed_out) == (True, ())
    assert check(verdict.watch, 8, silent, 122).timed_out == tuple(silent)


def test_a_return_during_second_chances_starts_them_anew_but_gives_no_third() -> None:
    silent = pcs(range(8), 0)
    watch = check(LONG_AGO, 8, silent, 61).watch.returned(at(600))
    assert check(watch, 8, silent, 660).timed_out == ()
    verdict = check(watch, 8, silent, 661)
    assert (verdict.alarm, verdict.timed_out) == (False, tuple(silent))


def test_a_return_at_the_very_alarm_keeps_it() -> None:
    watch = check(LONG_AGO, 8, pcs(range(8), 0), 61).watch
    assert watch.returned(at(61)).alarms == (at(61),)


def test_old_alarms_are_forgotten() -> None:
    watch = check(LONG_AGO, 8, pcs(range(8), 0), 61).watch
    assert check(watch, 8, [], 241).watch.alarms == (at(61),)
    assert check(watch, 8, [], 242).watch.alarms == ()
    returned = watch.returned(at(200))
    assert check(returned, 8, [], 380).watch.alarms == (at(61),)
    assert check(returned, 8, [], 381).watch.alarms == ()


def test_no_more_than_a_few_alarms_are_kept_by_a_daemon_that_comes_and_goes() -> None:
    watch, now = LONG_AGO, 0.0
    for _ in range(MAX_ALARMS + 5):
        verdict = check(watch.returned(at(now)), 8, pcs(range(8), now + 0.5), now + 61)
        assert verdict.alarm
        watch, now = verdict.watch, now + 62
    assert len(watch.alarms) == MAX_ALARMS
    assert watch.alarms[-1] == at(now - 1)
