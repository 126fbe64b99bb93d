"""Whatever is granted, moved and ended in whatever order, and wherever the connection breaks, the router ends up with what was granted.

And on the way: rows of others stay as they are, and of what has an end nothing is open that the router would not end by itself.
"""

from collections.abc import Sequence
from typing import Any, Final

from attrs import define, evolve, frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
import trio
from trio.testing import MockClock

from opendesk.network.hotspots.errors import InTheWay, NotHeld
from opendesk.network.hotspots.found import Actual
from opendesk.network.hotspots.place import Grant, Place
from opendesk.network.hotspots.plan import is_held
from opendesk.network.hotspots.rows import converge
from opendesk.network.routeros.errors import Trap
from opendesk.network.routeros.session import Command, Result
from tests.network.hotspots.model import BINDINGS, LISTS, SCHEDULERS, Cut, Router
from tests.network.hotspots.test_plan import check_device, foreign

IPS: Final = ("10.5.50.1", "10.5.50.2")
MACS: Final = ("AA:BB:CC:DD:EE:01", "AA:BB:CC:DD:EE:02")
PAIRS: Final = tuple(Place(ip, mac) for ip in IPS for mac in MACS)
ORDERS: Final = ("1", 'a "b"=c\né')
START: Final = 1_790_000_000
# Whole seconds, here and there.
SLACK_S: Final = 2.0
# Of commands that one job sends, the ones at which it may go wrong.
FAULTS: Final = st.dictionaries(
    st.integers(0, 40), st.sampled_from(["cut before", "cut after", "trap", "lie"]), max_size=2
)
PHONES_COME_BACK: Final = st.booleans()


@define
class Granted:
    """As the database has it."""

    order: str
    place: Place
    duration_s: int | None
    until_s: float | None = None
    is_observed: bool = False
    is_ended: bool = False

    def is_live(self, now_s: float) -> bool:
        return not self.is_ended and (self.until_s is None or self.until_s > now_s)

    def wanted(self, now_s: float) -> Grant:
        assert self.place.ip is not None
        assert self.place.mac is not None
        if self.duration_s is None:
            return Grant(self.order, self.place.ip, self.place.mac, is_observed=self.is_observed)
        until_s = now_s + self.duration_s if self.until_s is None else self.until_s
        left = until_s - now_s, int(START + until_s)
        return Grant(self.order, self.place.ip, self.place.mac, *left, self.is_observed)


@frozen
class Faulty:
    """A router that goes wrong at some of the commands that it is sent."""

    router: Router
    faults: dict[int, str]
    has_comers: bool

    async def run_all(self, commands: Sequence[Command]) -> list[Result | Trap]:
        return [self._run(command) for command in commands]

    def _run(self, command: Command) -> Result | Trap:
        fault = self.faults.get(self.router.sends)
        self.router.sends += 1
        is_change = not command.path.endswith("/print")
        if fault == "cut before":
            raise Cut
        if is_change and fault == "trap":
            return Trap(None, "failure: something")
        if is_change and fault == "lie":
            return Result(ret="*7777" if command.path.endswith("/add") else None)
        answer = self.router.run(command)
        if self.has_comers:
            self.router.packets()
        if fault == "cut after":
            raise Cut
        return answer


class History(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.router = Router(after_command=lambda _: self.nothing_is_open_without_its_end())
        self.granted: list[Granted] = []
        self.jobs: list[tuple[Place, ...]] = []
        self.before: Any = {}

    @initialize(rows=st.lists(st.sampled_from(PAIRS), max_size=2, unique=True), phones=st.sets(st.sampled_from(PAIRS)))
    def others_have_rows(self, rows: list[Place], phones: set[Place]) -> None:
        for place in rows:
            row = {"address": str(place.ip), "mac-address": str(place.mac), "type": "bypassed", "disabled": "false"}
            self.router.put(BINDINGS, row | {"comment": "the boss"})
        self.router.put(LISTS, {"address": "10.5.50.77", "list": "paid_clients", "disabled": "false"})
        self.router.put(SCHEDULERS, {"name": "backup", "comment": "", "disabled": "true"})
        self.router.phones = {(str(phone.ip), str(phone.mac)) for phone in phones}
        self.before = foreign(self.router)

    # ---- intents: each writes what it means and a job for the places that it touches

    @rule(order=st.sampled_from(ORDERS), place=st.sampled_from(PAIRS), duration_s=st.sampled_from([None, 30, 300]))
    def authorize(self, order: str, place: Place, duration_s: int | None) -> None:
        if not any(g.order == order and g.place == place for g in self.live()):
            self.granted.append(Granted(order, place, duration_s))
        self.jobs.append((place,))

    @rule(ip=st.sampled_from([*IPS, None]), mac=st.sampled_from([*MACS, None]))
    def revoke(self, ip: str | None, mac: str | None) -> None:
        if ip is None and mac is None:
            return
        asked = Place(ip, mac)
        touched = [g for g in self.live() if asked.covers(g.place.ip, g.place.mac)]
        for granted in touched:
            granted.is_ended = True
        self.jobs.append((asked, *(granted.place for granted in touched)))

    @rule(order=st.sampled_from(ORDERS), old=st.sampled_from(PAIRS), new=st.sampled_from(PAIRS))
    def move(self, order: str, old: Place, new: Place) -> None:
        had = [g for g in self.live() if (g.order, g.place) == (order, old)]
        if had and not any((g.order, g.place) == (order, new) for g in self.live()):
            self.granted.append(evolve(had[0], place=new))
            had[0].is_ended = True
        self.jobs.append((new, old))

    @rule(seconds=st.sampled_from([1, 20, 40, 400]))
    def time_passes(self, seconds: int) -> None:
        was_live = self.live()
        self.router.advance(seconds)
        over = [granted for granted in was_live if not granted.is_live(self.router.now_s)]
        self.jobs += [(granted.place,) for granted in over]  # END_GRANT

    @rule()
    def reboot(self) -> None:
        self.router.reboot()
        self.jobs.append(tuple(dict.fromkeys(granted.place for granted in self.live())))

    @rule()
    def phones_send(self) -> None:
        self.router.packets()

    @rule(place=st.sampled_from(PAIRS))
    def somebody_adds_a_row(self, place: Place) -> None:
        """As a script of theirs does: it may get the id of a row of ours that is gone."""
        before = set(self.router.tables[BINDINGS])
        row = {"mac-address": "AA:BB:CC:DD:EE:77", "type": "bypassed", "disabled": "false", "comment": "theirs"}
        taken = any(r.get("comment") == "theirs" for r in self.router.tables[BINDINGS].values())
        if not taken and place.ip is not None:
            self.router.put(BINDINGS, row | {"address": place.ip})
            self.before = foreign(self.router)
        assert before <= set(self.router.tables[BINDINGS])

    # ---- jobs, in any order; one that fails stays

    @rule(data=st.data(), faults=FAULTS, has_comers=PHONES_COME_BACK)
    def a_job_runs(self, data: st.DataObject, faults: dict[int, str], *, has_comers: bool) -> None:
        if not self.jobs:
            return
        job = self.jobs.pop(data.draw(st.integers(0, len(self.jobs) - 1)))
        self.router.sends = 0
        try:
            self.perform(job, Faulty(self.router, faults, has_comers))
        except (Cut, NotHeld, Trap):
            assert faults
            self.jobs.append(job)
        self.router.sends = 0

    @rule()
    def all_jobs_run(self) -> None:
        while self.jobs:
            self.perform(self.jobs.pop(0), Faulty(self.router, {}, has_comers=True))
        for place in PAIRS:
            live = [g.wanted(self.router.now_s) for g in self.live() if g.place == place]
            wanted = min(live, key=lambda g: (-(g.until_unix or 10**12), g.pedido_id), default=None)
            check_device(self.router, wanted, str(place.ip), str(place.mac), is_free=True, is_whole=True)
        for ip in IPS:
            wants = any(g.place.ip == ip for g in self.live())
            rows = [row for row in self.router.tables[LISTS].values() if row["address"] == ip]
            assert len(rows) == wants
        for phone in self.router.phones:
            if any((g.place.ip, g.place.mac) == phone for g in self.live()):
                self.router.packets()
                assert self.router.is_online(*phone)

    def perform(self, job: Sequence[Place], faulty: Faulty) -> None:
        """As the executor does."""
        ips, macs = {place.ip for place in job}, {place.mac for place in job}
        live = [g for g in self.live() if g.place.ip in ips or g.place.mac in macs]
        now_s = self.router.now_s

        async def begin(actual: Actual, theirs: Sequence[Grant]) -> Sequence[Grant]:
            begun = []
            for granted in live:
                if (wanted := granted.wanted(now_s)) in theirs:
                    is_new = granted.until_s is None or (not granted.is_observed and not is_held(wanted, actual))
                    if granted.duration_s is not None and is_new:
                        granted.until_s = now_s + granted.duration_s
                    begun.append(granted.wanted(now_s))
            return begun

        async def run() -> None:
            await converge(faulty.run_all, [g.wanted(now_s) for g in live], job, begin=begin)

        try:
            trio.run(run, clock=MockClock())
        except InTheWay as found:
            raise AssertionError(found) from found
        for granted in live:
            if any(place.covers(granted.place.ip, granted.place.mac) for place in job):
                granted.is_observed = True

    def live(self) -> list[Granted]:
        return [granted for granted in self.granted if granted.is_live(self.router.now_s)]

    # ---- always

    @invariant()
    def rows_of_others_stay(self) -> None:
        assert foreign(self.router) == self.before

    @invariant()
    def nothing_is_open_without_its_end(self) -> None:
        timed = {f"pedido:{g.order}" for g in self.granted if g.duration_s is not None}
        timed -= {f"pedido:{g.order}" for g in self.granted if g.duration_s is None}
        assert self.router.open_without_end(timed) == set()

    @invariant()
    def what_is_over_is_off_though_no_job_ran(self) -> None:
        for order in ORDERS:
            of = [g for g in self.granted if g.order == order]
            begun = [g.until_s for g in of if g.until_s is not None]
            if all(g.duration_s is not None for g in of) and all(s < self.router.now_s - SLACK_S for s in begun):
                rows = [*self.router.tables[BINDINGS].values(), *self.router.tables[LISTS].values()]
                open_rows = [r for r in rows if r["disabled"] == "false" and r.get("comment") == f"pedido:{order}"]
                assert open_rows == []


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
