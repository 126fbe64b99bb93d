"""Which silent PCs count as gone, and when the silence is likelier our own.

The state is a value that the time-out check carries from tick to tick. All times are the database's.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from attrs import evolve, frozen

# Fewer than this falling silent at once is no sign of anything: a household's PCs share one router and one power line.
MASS_FROM_PCS: Final = 5

# Alarms are more than a time-out apart and dropped after the longest one, so a handful at most with any sane settings. The limit is for
# the others, and for a daemon that comes and goes all day: past it the oldest is forgotten, and its PCs go by the next.
MAX_ALARMS: Final = 16

# Far over what NTP slews or a busy database delays, and far under any time-out: a jump that is let pass makes no beating PC look silent.
MAX_CLOCK_JUMP: Final = timedelta(seconds=5)

# A tick this much over its due time was not merely slow: the process, or its machine, stood still and heard no heartbeats.
MAX_LATENESS: Final = timedelta(seconds=15)


@frozen
class SilentPc:
    """A PC that isn't OFFLINE and hasn't beaten for longer than the shorter time-out."""

    pc_id: UUID
    host_id: UUID
    last_seen_at: datetime | None  # None: it never beat
    has_active_session: bool


@frozen
class Watch:
    """What the check remembers. A new daemon begins with `Watch(grace_from=now)`: it doesn't know what it missed."""

    grace_from: datetime  # nobody's silence counts from before this
    checked_at: datetime | None = None
    alarms: tuple[datetime, ...] = ()  # oldest first, as long as a PC may still be within its second chance

    def returned(self, now: datetime) -> "Watch":
        """The daemon was stopped, cut off from the database, or its clock jumped: everybody gets a full time-out from now."""
        # After a jump back, what was noted before it lies in the future and would spare whoever falls silent until then.
        return Watch(grace_from=now, alarms=tuple(alarm for alarm in self.alarms if alarm <= now))

    @property
    def listening_since(self) -> datetime:
        """From when silence is the host's and not ours: `lifecycle.EndRequest.listening_since`."""
        return max([self.grace_from, *self.alarms])

    def second_chance(self, seen: datetime) -> datetime | None:
        """When a PC last seen then got its second chance: at the first alarm that it has been silent since. None: not yet."""
        return next((alarm for alarm in self.alarms if alarm >= seen), None)


@frozen
class Verdict:
    """What one check found. With `alarm`, `fallen` of `were_beating` fell silent since the check before."""

    watch: Watch
    timed_out: tuple[SilentPc, ...]
    alarm: bool
    fallen: int
    were_beating: int


def judge(
    watch: Watch,
    beating: int,
    silent: Sequence[SilentPc],
    *,
    now: datetime,
    timeout: timedelta,
    timeout_active: timedelta,
) -> Verdict:
    """Decide which of the silent PCs timed out; `beating` counts all that aren't OFFLINE, the silent ones among them.

    If more than half of those that were beating, and at least MASS_FROM_PCS, fell silent since the last check, that is an alarm: none is
    judged and each gets another full time-out. A PC gets that second chance once: as long as it stays silent it neither counts
    as fallen again nor is spared by a later alarm.
    """
    looks = [_Look(watch, pc, now, timeout, timeout_active) for pc in silent]
    fallen = sum(look.fell for look in looks)
    # Those that were silent before this check were not beating any more, OFFLINE or not.
    were_beating = beating - (sum(look.is_silent for look in looks) - fallen)
    alarm = fallen >= MASS_FROM_PCS and 2 * fallen > were_beating
    timed_out = tuple(look.pc for look in looks if look.is_overdue and not (alarm and look.spared_at is None))
    watch = evolve(watch, checked_at=now, alarms=_alarms(watch, now, max(timeout, timeout_active), alarm=alarm))
    return Verdict(watch=watch, timed_out=timed_out, alarm=alarm, fallen=fallen, were_beating=were_beating)


@frozen
class _Look:
    """One silent PC at one check."""

    watch: Watch
    pc: SilentPc
    now: datetime
    timeout: timedelta
    timeout_active: timedelta

    @property
    def seen(self) -> datetime | None:
        # A beat from the future was told by a clock that has been set back since: it says nothing.
        seen = self.pc.last_seen_at
        return None if seen is None or seen > self.now else seen

    @property
    def spared_at(self) -> datetime | None:
        return None if self.seen is None else self.watch.second_chance(self.seen)

    @property
    def silent_from(self) -> datetime:
        """From when its silence is held against it."""
        return max(at for at in (self.watch.grace_from, self.seen, self.spared_at) if at is not None)

    @property
    def allowed(self) -> timedelta:
        return self.timeout_active if self.pc.has_active_session else self.timeout

    @property
    def falls_after(self) -> timedelta:
        # One measure for PCs with and without a session, so that an outage of ours that takes both is seen as one.
        return min(self.timeout, self.allowed)

    @property
    def is_silent(self) -> bool:
        return self.seen is None or self.now - self.seen > self.falls_after

    @property
    def fell(self) -> bool:
        """It was beating, and fell silent since the check before this one."""
        if self.seen is None or self.spared_at is not None or self.now - self.silent_from <= self.falls_after:
            return False
        checked_at = self.watch.checked_at
        return checked_at is None or checked_at - self.silent_from <= self.falls_after

    @property
    def is_overdue(self) -> bool:
        return self.now - self.silent_from > self.allowed


def _alarms(watch: Watch, now: datetime, longest: timedelta, *, alarm: bool) -> tuple[datetime, ...]:
    """The alarms whose second chances may still be running, and the new one."""
    running = [at for at in watch.alarms if now - max(at, watch.grace_from) <= longest]
    return tuple([*running, now] if alarm else running)[-MAX_ALARMS:]


@frozen
class ClockWatch:
    """Whether this daemon itself was away, by two signs: its clock jumped against the database's, or a tick came far too late.

    The daemon's clock is a monotonic one, in seconds (trio.current_time()): it stands still while the machine sleeps, and doesn't follow a
    database on the same machine when the wall clock is set.
    """

    zero_at: datetime | None = None  # the database's time when the daemon's clock read 0, by the latest look
    looked_at: datetime | None = None

    def look(
        self, database_now: datetime, *, asked_s: float, answered_s: float, every: timedelta
    ) -> tuple["ClockWatch", bool]:
        """Follow the offset; True if the daemon was away since the last look, which was due `every` ago.

        The daemon's clock was read before asking the database and after its answer. Slow drift is followed and never adds up to a jump.
        """
        late = self.looked_at is not None and database_now - self.looked_at > every + MAX_LATENESS
        if timedelta(seconds=answered_s - asked_s) > MAX_CLOCK_JUMP:
            # Such an answer can't tell a jump from its own delay; the next one will.
            return evolve(self, looked_at=database_now), late
        zero_at = database_now - timedelta(seconds=(asked_s + answered_s) / 2)
        jumped = self.zero_at is not None and abs(zero_at - self.zero_at) > MAX_CLOCK_JUMP
        return ClockWatch(zero_at=zero_at, looked_at=database_now), late or jumped
