"""The same history judged by a clerk who keeps a card for every PC."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from opendesk.rental.liveness import (
    SilentPc,
    Watch,
)
from tests.rental.silence import TIMEOUT, TIMEOUT_ACTIVE, at, check, pc

unhurried = settings(deadline=None, max_examples=200)


@define
class Card:
    seen: float
    active: bool
    online: bool = True
    chance_at: float | None = None
    was_silent: bool = False

    def silent_from(self, grace: float) -> float:
        return max(self.seen, grace, self.seen if self.chance_at is None else self.chance_at)


@define
class Clerk:
    """The contract, done with unbounded memory."""

    cards: dict[int, Card]
    grace: float
    now: float = 0.0
    alarms: int = 0
    gone: list[int] = field(factory=list)

    def beat(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            card = self.cards[number]
            self.cards[number] = Card(seen=self.now, active=card.active)

    def away(self) -> None:
        self.grace = self.now
        for card in self.cards.values():
            card.was_silent = False

    def check(self) -> None:
        online = {number: card for number, card in self.cards.items() if card.online}
        silent = {n for n, card in online.items() if self.now - card.silent_from(self.grace) > 60}
        newly = {n for n in silent if not online[n].was_silent and online[n].chance_at is None}
        quiet = {n for n, card in online.items() if self.now - card.seen > 60}
        alarm = len(newly) >= 5 and len(newly) > (len(online) - len(quiet - newly)) / 2
        self.alarms += alarm
        self.gone = []
        for number, card in online.items():
            card.was_silent = number in silent
            overdue = self.now - card.silent_from(self.grace) > (180 if card.active else 60)
            if overdue and not (alarm and card.chance_at is None):
                self.gone.append(number)
                card.online = False
            elif alarm and card.chance_at is None:
                card.chance_at = self.now


def shown(clerk: Clerk) -> tuple[int, list[SilentPc]]:
    """What the database would answer: how many aren't OFFLINE, and which of them are silent."""
    online = [(number, card) for number, card in clerk.cards.items() if card.online]
    return len(online), [pc(n, card.seen, active=card.active) for n, card in online if clerk.now - card.seen > 60]


FLEET = 12
some_pcs = st.frozensets(st.integers(0, FLEET - 1))
# Most of what happens is that a third, two thirds or all of them beat, so that crowds fall silent and come back together.
crowds = st.sampled_from([frozenset(range(n)) for n in (0, 2, 4, 6, 8, 12)]) | some_pcs
steps = st.tuples(st.sampled_from([5, 20, 29, 30, 31, 61, 100, 185]), crowds, st.sampled_from(["", "", "", "", "away"]))


@settings(deadline=None, max_examples=300)
@given(some_pcs, st.lists(steps, max_size=30))
def test_a_few_alarms_remember_what_a_card_for_each_pc_would(
    active: frozenset[int], history: list[tuple[int, frozenset[int], str]]
) -> None:
    clerk = Clerk({number: Card(seen=0, active=number in active) for number in range(FLEET)}, grace=0)
    watch = Watch(grace_from=at(0))
    for passed, beats, event in history:
        clerk.now += passed
        clerk.beat(beats)
        clerk.now += 0.5
        if event:
            clerk.away()
            watch = watch.returned(at(clerk.now))
        beating, silent = shown(clerk)
        verdict = check(watch, beating, silent, clerk.now)
        alarms_before = clerk.alarms
        clerk.check()
        assert verdict.alarm == (clerk.alarms > alarms_before)
        assert [gone.pc_id.int for gone in verdict.timed_out] == clerk.gone
        watch = verdict.watch


@unhurried
@given(st.lists(st.tuples(st.integers(1, 61), crowds), min_size=12, max_size=30))
def test_a_dead_pc_is_judged_within_two_time_outs_and_a_check(history: list[tuple[int, frozenset[int]]]) -> None:
    """However the other eleven flap. Checks come at most 61.5 s apart here."""
    clerk = Clerk({number: Card(seen=0, active=False) for number in range(FLEET)}, grace=0)
    watch = Watch(grace_from=at(0))
    for passed, beats in history:
        clerk.now += passed
        clerk.beat(beats - {0})
        clerk.now += 0.5
        verdict = check(watch, *shown(clerk), clerk.now)
        clerk.check()
        assert clerk.cards[0].online == (UUID(int=0) not in [gone.pc_id for gone in verdict.timed_out])
        if not clerk.cards[0].online:
            return
        assert clerk.now <= 2 * (60 + 61.5)
        watch = verdict.watch


@unhurried
@given(
    st.lists(st.tuples(st.none() | st.floats(-4000, 4000), st.booleans()), max_size=20),
    st.floats(-4000, 4000),
    st.lists(st.integers(-4000, 4000).map(at), max_size=4, unique=True).map(sorted),
    st.integers(0, 5),
)
def test_nobody_is_judged_before_a_full_time_out(
    shown_pcs: list[tuple[float | None, bool]], grace: float, alarms: list[datetime], more: int
) -> None:
    silent = [pc(number, seen, active=active) for number, (seen, active) in enumerate(shown_pcs)]
    watch = Watch(grace_from=at(grace), checked_at=at(-30), alarms=tuple(alarms))
    verdict = check(watch, len(silent) + more, silent, 0)
    for gone in verdict.timed_out:
        allowed = TIMEOUT_ACTIVE if gone.has_active_session else TIMEOUT
        assert at(grace) < at(0) - allowed
        assert gone.last_seen_at is None or not at(0) - allowed <= gone.last_seen_at <= at(0)
    assert verdict.watch.checked_at == at(0)
    assert verdict.watch.grace_from == at(grace)
    assert verdict.alarm == (verdict.watch.alarms[-1:] == (at(0),) and at(0) not in alarms)
