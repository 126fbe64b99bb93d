"""Any order of what can happen to sessions and money: PostgreSQL comes to the same as the pure model, and the books stay balanced."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from decimal import Decimal
from threading import Event, Thread
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from attrs import evolve, frozen
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.conninfo import make_conninfo
import pytest
from structlog.testing import capture_logs
import trio

from opendesk.errors import OpenDeskError
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.pool import Pool
from opendesk.rental import heartbeats, pcs, sessions
from opendesk.rental.heartbeats import Beat, BeatAnswer
from opendesk.rental.lifecycle import Caller, Status
from opendesk.rental.liveness import Watch
from opendesk.rental.settlement import FailureReason
from opendesk.rental.timers import Expiry, HostTimeout
from opendesk.web.auth import Claims
from tests.conftest import database
from tests.rental import builders
from tests.rental.builders import HOUR, SECOND, add_client, add_host, add_pc, add_user, assert_books_are_right, offer
from tests.rental.model import Host, Model, Pc, Rented

T = TypeVar("T")

# Two of each host: enough for all PCs to fall silent at once, which is an alarm.
PRICES: Final = (2400, 77, 0, 6001, 1, 600)
MONEY: Final = 20_000


class Loop:
    """A Trio loop in a thread of its own: Hypothesis' machines are synchronous."""

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop = trio.Event()
        self._up = Event()
        self._thread = Thread(target=trio.run, args=(self._main,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._up.set()
        await self._stop.wait()

    def run(self, work: Callable[..., Awaitable[T]], *args: Any) -> T:
        return trio.from_thread.run(work, *args, trio_token=self._token)


@frozen
class World:
    """What there is before anything happens, in a database that every run starts with a copy of."""

    server: str
    name: str
    loop: Loop
    pcs: tuple[tuple[builders.Host, UUID, int], ...]
    clients: tuple[UUID, ...]
    admin: UUID


async def make_world(conninfo: str) -> tuple[list[tuple[builders.Host, UUID, int]], list[UUID], UUID]:
    async with await TrioConnection.connect(conninfo, autocommit=True) as conn:
        hosts = [await add_host(conn, money=MONEY) for _ in range(3)]
        made = [
            (hosts[n // 2], await add_pc(conn, hosts[n // 2], price=price), price) for n, price in enumerate(PRICES)
        ]
        clients = [await add_client(conn, money=MONEY) for _ in range(3)]
        return made, clients, (await add_user(conn, role="ADMIN")).id


@pytest.fixture(scope="module")
def world(server: str, template: str) -> Iterator[World]:
    with Loop() as loop, database(server, template) as name:
        conninfo = make_conninfo(server, dbname=name, options="-c search_path=opendesk")
        made, clients, admin = loop.run(make_world, conninfo)
        yield World(server, name, loop, tuple(made), tuple(clients), admin)


# ---- the machine

_STATE = """
    SELECT json_build_object(
        'wallets', (SELECT json_object_agg(user_id, balance) FROM accounts WHERE user_id <> %(admin)s),
        'pcs', (SELECT json_object_agg(id, json_build_array(status, taken_off, deleted_at IS NOT NULL)) FROM pcs),
        'hosts', (SELECT json_object_agg(id, json_build_array(reliability_score, sessions_completed, sessions_dropped)) FROM hosts),
        'sessions', (SELECT coalesce(json_object_agg(id, json_build_array(status, price_total, end_reason, failure_reason, claimed_failure_reason,
                                minutes_used, proportional, platform_fee, host_payout, penalty, client_credit, retained, refunded)), '{}')
                       FROM sessions),
        'accounts', (SELECT json_agg(coalesce(total, 0) ORDER BY a.id)
                       FROM accounts a LEFT JOIN (SELECT account_id, sum(amount)::bigint AS total FROM entries GROUP BY 1) AS e ON account_id = a.id
                      WHERE a.id < 100))
"""
_PASS_TIME = """
    WITH later AS (SELECT %(by)s::interval AS by),
         pc AS (UPDATE pc_beats SET last_seen_at = last_seen_at - by FROM later),
         host AS (UPDATE host_beats SET last_seen_at = last_seen_at - by FROM later),
         silence AS (UPDATE hosts SET timed_out_at = timed_out_at - by FROM later)
    UPDATE sessions SET created_at = created_at - by, start_at = start_at - by, end_at = end_at - by FROM later
"""

MINUTES = st.sampled_from([1, 7, 30, 60, 240])
RATES = st.sampled_from([Decimal(0), Decimal("0.1"), Decimal("0.333"), Decimal(1)])
WORDS = st.sampled_from([None, None, "ONLINE", "OFFLINE", "BUSY"])
ANY = st.integers(0, 999)


class RentalMachine(RuleBasedStateMachine):
    """Does everything twice, and compares. Time passes by making rows older; an instant passes with every step."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world, self.loop, self.open = world, world.loop, ExitStack()
        name = self.open.enter_context(database(world.server, world.name))
        conninfo = make_conninfo(world.server, dbname=name, options="-c search_path=opendesk")
        self.model = _model(world)
        self.loop.run(self._connect, conninfo)

    async def _connect(self, conninfo: str) -> None:
        self.pool = Pool(conninfo, size=2)
        self.conn = await TrioConnection.connect(conninfo, autocommit=True)
        await self.conn.run("UPDATE pc_beats SET last_seen_at = now()")
        now = await builders.database_now(self.conn)
        watch = Watch(grace_from=now - HOUR, checked_at=now - 30 * SECOND)
        self.host_timeout: HostTimeout = builders.make_host_timeout(self.pool, watch=watch)
        self.expiry: Expiry = builders.make_expiry(self.pool, listening_since=self.host_timeout.listening_since)

    def teardown(self) -> None:
        try:
            self.loop.run(assert_books_are_right, self.conn)
        finally:
            self.loop.run(self.conn.close)
            self.loop.run(self.pool.aclose)
            self.open.close()

    # ---- doing it twice

    def both(self, real: Callable[[TrioConnection], Awaitable[Any]], modelled: Callable[[], Any]) -> tuple[Any, Any]:
        """What both came to; None twice if both refused, in the same words."""
        self.model.now += timedelta(milliseconds=1)
        done, said = self.loop.run(_told, real, self.conn)
        try:
            wanted, meant = modelled(), "OK"
        except OpenDeskError as refusal:
            wanted, meant = None, refusal.code
        assert said == meant
        return done, wanted

    @invariant()
    def both_are_in_the_same_state(self) -> None:
        row = self.loop.run(self.conn.fetch_one, _STATE, {"admin": self.world.admin})
        assert row is not None
        assert row[0] == self.model.state

    @invariant()
    def no_money_is_made_or_lost(self) -> None:
        model = self.model
        assert sum(model.wallets.values()) + model.escrow + model.fees + model.retained + model.external == 0
        assert min(model.wallets.values()) >= 0
        assert model.escrow == sum(one.price for one in model.sessions if one.live)

    # ---- what is picked: mostly what makes something happen

    def user(self, number: int, *, able: bool = False) -> UUID:
        free = [user for user, money in self.model.wallets.items() if money > 0 and self.model.live_of(user) is None]
        return _picked(free if able else [], list(self.model.wallets), number)

    def pc(self, number: int, *, able: bool = False) -> Pc:
        free = [pc for pc in self.model.pcs if pc.status == "ONLINE" and self.model.live_on(pc) is None]
        return _picked(free if able else [], self.model.pcs, number)

    def session(self, number: int, like: Callable[[Rented], bool]) -> Rented:
        return _picked([one for one in self.model.sessions if like(one)], self.model.sessions, number)

    # ---- rules

    @initialize(rented=st.integers(0, 5))
    def some_rent_already(self, rented: int) -> None:
        for number in range(rented):
            self.create_and_start(4 * number, 4 * number)

    @rule(client=ANY, pc=ANY, minutes=MINUTES, fee=RATES, penalty=RATES)
    def create(self, client: int, pc: int, minutes: int, fee: Decimal, penalty: Decimal) -> None:
        who, where = self.user(client, able=True), self.pc(pc, able=True)
        made, wanted = self.both(
            lambda conn: sessions.create(conn, who, where.id, minutes, fee_rate=fee, penalty_rate=penalty),
            lambda: self.model.create(who, where, minutes, fee, penalty),
        )
        if wanted is not None:
            wanted.id = made.id

    @rule(pc=ANY, client=ANY)
    def create_and_start(self, pc: int, client: int) -> None:
        """Else sessions seldom get far."""
        self.create(client, pc, 60, Decimal("0.1"), Decimal("0.3"))
        if self.model.sessions:
            one = self.model.sessions[-1]
            self.both(
                lambda conn: sessions.start(conn, one.id, one.client, admin=False),
                lambda: self.model.start(one, one.client, admin=False),
            )

    @precondition(lambda self: self.model.sessions)
    @rule(session=ANY, who=st.sampled_from(["client", "admin", "stranger"]))
    def start(self, session: int, who: str) -> None:
        one = self.session(session, _is_pending)
        caller = one.client if who == "client" else self.world.admin
        self.both(
            lambda conn: sessions.start(conn, one.id, caller, admin=who == "admin"),
            lambda: self.model.start(one, caller, admin=who == "admin"),
        )

    @precondition(lambda self: self.model.sessions)
    @rule(session=ANY, who=st.sampled_from(Caller), claim=st.sampled_from([None, *FailureReason]))
    def end(self, session: int, who: Caller, claim: FailureReason | None) -> None:
        one = self.session(session, _is_active)
        assert self.host_timeout._watch is not None
        since = self.host_timeout._watch.listening_since
        self.both(
            lambda conn: builders.end(conn, one.id, who, claim, listening_since=since),
            lambda: self.model.end(one, who, claim),
        )

    @precondition(lambda self: self.model.sessions)
    @rule(session=ANY)
    def cancel(self, session: int) -> None:
        one = self.session(session, _is_pending)
        self.both(lambda conn: builders.cancel(conn, one.id), lambda: self.model.cancel(one))

    @precondition(lambda self: self.model.sessions)
    @rule(session=ANY, amount=st.sampled_from([1, 10, 500, 10_000]))
    def refund(self, session: int, amount: int) -> None:
        one = self.session(session, lambda one: one.left_of_retained > 0)
        self.both(
            lambda conn: sessions.refund(conn, one.id, amount, "GOODWILL", made_by=self.world.admin),
            lambda: self.model.refund(one, amount),
        )

    @rule(user=ANY, amount=st.sampled_from([1, 2400, 15_000]), out=st.booleans())
    def pay(self, user: int, amount: int, out: bool) -> None:  # noqa: FBT001  # a rule has no other way
        who = self.user(user)
        self.both(
            lambda conn: (builders.debit if out else builders.credit)(conn, who, amount),
            lambda: self.model.pay(who, -amount if out else amount),
        )

    @rule(pc=ANY, price=st.sampled_from([*PRICES, 10_000_000]))
    def change_the_price(self, pc: int, price: int) -> None:
        where = self.pc(pc)
        if not where.deleted:
            self.both(
                lambda conn: pcs.change(conn, where.id, offer(price=price)), lambda: setattr(where, "price", price)
            )

    @rule(pc=st.integers(0, 40))
    def delete(self, pc: int) -> None:
        """Seldom: there are but a few."""
        if pc < len(self.model.pcs):
            where = self.pc(pc)
            self.both(lambda conn: pcs.delete(conn, where.id), lambda: self.model.delete(where))

    @rule(beats=st.lists(st.tuples(ANY, st.booleans(), WORDS), min_size=1, max_size=6))
    def beat(self, beats: list[tuple[int, bool, str | None]]) -> None:
        """A batch, of which the model takes one after the other."""
        spoken = [(self.pc(number).host, self.pc(number) if alone else None, said) for number, alone, said in beats]
        self.model.now += timedelta(milliseconds=1)
        answers = self.loop.run(heartbeats.write, self.conn, [_beat(*one) for one in spoken])
        assert [_code(answer) for answer in answers] == [self._modelled_beat(*one) for one in spoken]

    def _modelled_beat(self, host: Host, pc: Pc | None, said: str | None) -> str:
        try:
            self.model.beat(host, pc, said)
        except OpenDeskError as refusal:
            return refusal.code
        return "OK"

    @rule(minutes=st.sampled_from([1, 2, 3, 5, 16, 61, 240]), all_beat=st.sampled_from([True, True, False]))
    def time_passes(self, minutes: int, all_beat: bool) -> None:  # noqa: FBT001  # a rule has no other way
        by = timedelta(minutes=minutes)
        self.loop.run(builders.behind_triggers, self.conn, _PASS_TIME, {"by": by})
        self.host_timeout._watch = _older(self.host_timeout._watch, by)
        self.model.now += by
        if all_beat:
            self.beat([(0, False, None), (2, False, None), (4, False, None)])

    @rule()
    def expire(self) -> None:
        ended, wanted = self.both(lambda _: self.expiry.expire_due(), self.model.expire)
        assert ended == wanted

    @rule()
    def check_hosts(self) -> None:
        with capture_logs():
            verdict, alarm = self.both(lambda _: self.host_timeout.check(), self.model.check_hosts)
        assert verdict.alarm == alarm


def _picked(liked: Sequence[T], others: Sequence[T], number: int) -> T:
    """One of those liked, if there are any, three times out of four."""
    chosen = liked if liked and number % 4 != 3 else others
    return chosen[number // 4 % len(chosen)]


def _is_pending(one: Rented) -> bool:
    return one.status == Status.PENDING


def _is_active(one: Rented) -> bool:
    return one.status == Status.ACTIVE


async def _told(work: Callable[[TrioConnection], Awaitable[Any]], conn: TrioConnection) -> tuple[Any, str]:
    try:
        return await work(conn), "OK"
    except OpenDeskError as refusal:
        return None, refusal.code


def _beat(host: Host, pc: Pc | None, said: str | None) -> Beat:
    return Beat(Claims(host.user, 1), host.id, None if pc is None else pc.id, said)


def _code(answer: BeatAnswer | Exception) -> str:
    assert isinstance(answer, BeatAnswer | OpenDeskError)
    return "OK" if isinstance(answer, BeatAnswer) else answer.code


def _older(watch: Watch | None, by: timedelta) -> Watch:
    assert watch is not None
    checked_at = None if watch.checked_at is None else watch.checked_at - by
    alarms = tuple(alarm - by for alarm in watch.alarms)
    return evolve(watch, grace_from=watch.grace_from - by, checked_at=checked_at, alarms=alarms)


def _model(world: World) -> Model:
    hosts = {host.id: Host(host.user, host.id) for host, _, _ in world.pcs}
    users = [*world.clients, *[host.user for host in hosts.values()]]
    return Model(dict.fromkeys(users, MONEY), [Pc(pc, hosts[host.id], price) for host, pc, price in world.pcs])


def run(world: World, *, examples: int, steps: int) -> None:
    limits = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )

    def machine() -> RentalMachine:
        return RentalMachine(world)

    run_state_machine_as_test(machine, settings=limits)  # type: ignore[arg-type]  # it takes what makes one, too


def test_postgres_does_what_the_model_does(world: World) -> None:
    run(world, examples=50, steps=50)


@pytest.mark.long
def test_postgres_does_what_the_model_does_for_long(world: World) -> None:
    run(world, examples=1500, steps=80)
