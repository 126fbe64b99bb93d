"""The contract's rules of sessions and money without a database, so that PostgreSQL can be held against them.

Decisions are the program's own pure ones (closing, lifecycle, liveness, money); what is done with them is written down here a second time,
one thing after the other, as plainly as can be.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from attrs import Factory, define, field

from opendesk.errors import Forbidden, RateLimited
from opendesk.rental import closing
from opendesk.rental.closing import Closing, Snapshot
from opendesk.rental.errors import (
    InsufficientFunds,
    InvalidStatus,
    OwnPc,
    PcBusy,
    PcNotFound,
    PcOffline,
    RefundTooLarge,
    SessionExists,
)
from opendesk.rental.lifecycle import Caller, EndReason, Status
from opendesk.rental.liveness import SilentPc, Watch, judge
from opendesk.rental.money import price
from opendesk.rental.reliability import HOST_TIMED_OUT
from opendesk.rental.settlement import FailureReason
from tests.rental.builders import HOUR, PENDING_TIMEOUT, SECOND, TIMEOUT, TIMEOUT_ACTIVE

BEGINNING = datetime(2025, 1, 1, tzinfo=UTC)

# A daemon that has been at it for an hour.
WATCHING = Watch(grace_from=BEGINNING - HOUR, checked_at=BEGINNING - 30 * SECOND)


@define
class Host:
    user: UUID
    id: UUID
    score: int = 100
    completed: int = 0
    dropped: int = 0
    seen: datetime = BEGINNING
    timed_out_at: datetime | None = None

    def rate(self, score: int) -> None:
        self.score = min(max(self.score + score, 0), 100)

    def time_out(self, now: datetime) -> None:
        """Once a silence."""
        if self.timed_out_at is None or self.timed_out_at < self.seen:
            self.timed_out_at = now
            self.rate(HOST_TIMED_OUT.score)


@define
class Pc:
    id: UUID
    host: Host
    price: int
    status: str = "ONLINE"
    taken_off: bool = False
    deleted: bool = False
    seen: datetime = BEGINNING


@define
class Rented:
    """A session."""

    pc: Pc
    client: UUID
    minutes: int
    price: int
    fee: Decimal
    penalty: Decimal
    created_at: datetime
    id: UUID = Factory(uuid4)  # until the database has given it one
    status: Status = Status.PENDING
    start_at: datetime | None = None
    end_at: datetime | None = None
    closing: Closing | None = None
    refunded: int = 0

    @property
    def live(self) -> bool:
        return self.closing is None

    @property
    def left_of_retained(self) -> int:
        return 0 if self.closing is None else self.closing.settlement.retained - self.refunded


@define
class Model:
    wallets: dict[UUID, int]
    pcs: list[Pc]
    now: datetime = BEGINNING
    watch: Watch = WATCHING
    sessions: list[Rented] = field(factory=list)
    escrow: int = 0
    fees: int = 0
    retained: int = 0
    external: int = 0

    def __attrs_post_init__(self) -> None:
        self.external = -sum(self.wallets.values())

    # ---- looking

    @property
    def hosts(self) -> list[Host]:
        return list({pc.host.id: pc.host for pc in self.pcs}.values())

    def live_on(self, pc: Pc) -> Rented | None:
        return next((one for one in self.sessions if one.live and one.pc is pc), None)

    def live_of(self, client: UUID) -> Rented | None:
        return next((one for one in self.sessions if one.live and one.client == client), None)

    def snapshot(self, one: Rented) -> Snapshot:
        return Snapshot(
            id=one.id,
            pc_id=one.pc.id,
            client_user_id=one.client,
            status=one.status,
            minutes_purchased=one.minutes,
            price_total=one.price,
            platform_fee_rate=one.fee,
            penalty_rate=one.penalty,
            created_at=one.created_at,
            start_at=one.start_at,
            end_at=one.end_at,
            host_user_id=one.pc.host.user,
            host_id=one.pc.host.id,
            network_provider="DIRECT",
            last_seen_at=one.pc.seen,
            now=self.now,
        )

    # ---- what is asked for

    def create(self, client: UUID, pc: Pc, minutes: int, fee: Decimal, penalty: Decimal) -> Rented:
        total = price(pc.price, minutes)
        self._refuse(client, pc, total)
        made = Rented(pc, client, minutes, total, fee, penalty, created_at=self.now)
        self.sessions.append(made)
        self.wallets[client] -= total
        self.escrow += total
        return made

    def _refuse(self, client: UUID, pc: Pc, total: int) -> None:
        if pc.deleted:
            raise PcNotFound
        if pc.status == "BUSY":
            raise PcBusy
        if pc.status == "OFFLINE":
            raise PcOffline
        if self.live_on(pc) is not None:
            raise PcBusy
        if self.live_of(client) is not None:
            raise SessionExists
        if pc.host.user == client:
            raise OwnPc
        if self._never_started(client) >= 3:
            raise RateLimited
        if self.wallets[client] < total:
            raise InsufficientFunds

    def _never_started(self, client: UUID) -> int:
        """In the last hour."""
        reasons = (EndReason.CANCELLED, EndReason.NEVER_STARTED)
        mine = [one for one in self.sessions if one.client == client and one.closing is not None]
        return sum(
            one.closing.end_reason in reasons and self.now - one.created_at < HOUR
            for one in mine
            if one.closing is not None
        )

    def start(self, one: Rented, caller: UUID, *, admin: bool) -> None:
        if caller != one.client and not admin:
            raise Forbidden
        if one.status != Status.PENDING:
            raise InvalidStatus
        if one.pc.status != "ONLINE":
            raise PcOffline
        one.status, one.pc.status = Status.ACTIVE, "BUSY"
        one.start_at, one.end_at = self.now, self.now + timedelta(minutes=one.minutes)

    def end(self, one: Rented, who: Caller, claim: FailureReason | None) -> None:
        if one.status != Status.ACTIVE:
            raise InvalidStatus
        since = self.watch.listening_since
        self._close(
            one,
            closing.end(self.snapshot(one), who, claim, heartbeat_timeout=TIMEOUT, listening_since=since),
        )

    def cancel(self, one: Rented) -> None:
        if one.status != Status.PENDING:
            raise InvalidStatus
        self._close(one, closing.cancel(self.snapshot(one)))

    def refund(self, one: Rented, amount: int) -> None:
        if one.live:
            raise InvalidStatus
        if amount > one.left_of_retained:
            raise RefundTooLarge
        one.refunded += amount
        self.retained -= amount
        self.wallets[one.client] += amount

    def pay(self, user: UUID, amount: int) -> None:
        """In, or out if it is negative."""
        if self.wallets[user] + amount < 0:
            raise InsufficientFunds
        self.wallets[user] += amount
        self.external -= amount

    def delete(self, pc: Pc) -> None:
        if pc.deleted:
            raise PcNotFound
        if self.live_on(pc) is not None:
            raise PcBusy
        pc.deleted, pc.status = True, "OFFLINE"

    def beat(self, host: Host, pc: Pc | None, said: str | None) -> None:
        mine = [one for one in self.pcs if one.host is host and not one.deleted and pc in (None, one)]
        if pc is not None and not mine:
            raise PcNotFound
        if mine or pc is None:
            host.seen = self.now
        for one in mine:
            one.seen = self.now
            if said in ("ONLINE", "OFFLINE"):
                one.taken_off = said == "OFFLINE"
            if one.status != "BUSY":
                one.status = "OFFLINE" if one.taken_off else "ONLINE"

    # ---- what time does

    def expire(self) -> int:
        due = [one for one in self.sessions if one.status == Status.ACTIVE and one.end_at and one.end_at <= self.now]
        stale = [
            one
            for one in self.sessions
            if one.status == Status.PENDING and self.now - one.created_at >= PENDING_TIMEOUT
        ]
        for one in due:
            since = self.watch.listening_since
            self._close(one, closing.expire(self.snapshot(one), heartbeat_timeout=TIMEOUT, listening_since=since))
        for one in stale:
            self._close(one, closing.give_up(self.snapshot(one)))
        return len(due) + len(stale)

    def check_hosts(self) -> bool:
        """Whether an alarm was raised."""
        on = [pc for pc in self.pcs if self._is_watched(pc)]
        silent = [self._silent(pc) for pc in on if self.now - pc.seen > min(TIMEOUT, TIMEOUT_ACTIVE)]
        verdict = judge(self.watch, len(on), silent, now=self.now, timeout=TIMEOUT, timeout_active=TIMEOUT_ACTIVE)
        self.watch = verdict.watch
        gone = [pc for pc in self.pcs if pc.id in {judged.pc_id for judged in verdict.timed_out}]
        for host in {pc.host.id: pc.host for pc in gone}.values():
            host.time_out(self.now)
        for pc in gone:
            if (one := self.live_on(pc)) is not None:
                self._close(one, closing.time_out(self.snapshot(one)))
            pc.status = "OFFLINE"
        return verdict.alarm

    def _is_watched(self, pc: Pc) -> bool:
        unjudged = pc.host.timed_out_at is None or pc.seen > pc.host.timed_out_at
        live = self.live_on(pc)
        awaited = live is not None and live.status == Status.PENDING
        return not pc.deleted and (pc.status != "OFFLINE" or (unjudged and not pc.taken_off) or awaited)

    def _silent(self, pc: Pc) -> SilentPc:
        live = self.live_on(pc)
        return SilentPc(pc.id, pc.host.id, pc.seen, live is not None and live.status == Status.ACTIVE)

    def _close(self, one: Rented, decided: Closing) -> None:
        assert one.live, "settled twice"
        got = decided.settlement
        self.escrow -= one.price
        self.fees += got.platform_fee
        self.retained += got.retained
        self.wallets[one.pc.host.user] += got.host_payout
        self.wallets[one.client] += got.client_credit
        if one.status == Status.ACTIVE or decided.gone:
            one.pc.status = "OFFLINE" if decided.gone or one.pc.taken_off else "ONLINE"
        host = one.pc.host
        host.rate(decided.score)
        host.completed += decided.completed
        host.dropped += decided.dropped
        one.status, one.closing = decided.status, decided

    # ---- to be compared

    @property
    def state(self) -> dict[str, Any]:
        return {
            "wallets": {str(user): balance for user, balance in self.wallets.items()},
            "pcs": {str(pc.id): [pc.status, pc.taken_off, pc.deleted] for pc in self.pcs},
            "hosts": {str(host.id): [host.score, host.completed, host.dropped] for host in self.hosts},
            "sessions": {str(one.id): _shown(one) for one in self.sessions},
            "accounts": [self.escrow, self.fees, self.retained, self.external],
        }


def _shown(one: Rented) -> list[Any]:
    ended = one.closing
    over: Iterable[Any] = [None] * 10
    if ended is not None:
        got = ended.settlement
        money: Sequence[int] = (
            got.proportional,
            got.platform_fee,
            got.host_payout,
            got.penalty,
            got.client_credit,
            got.retained,
        )
        over = [ended.end_reason, ended.failure_reason, ended.claimed, ended.minutes_used, *money]
    return [one.status, one.price, *over, one.refunded]
