"""Whole trials, through a daemon and on a router, while the database's clock is turned by hand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from attrs import frozen
import pytest

from opendesk import database
from opendesk.network.hotspots import grants, orders
from opendesk.network.hotspots.ends import end_of
from opendesk.network.hotspots.errors import GrantEnded
from opendesk.network.hotspots.place import Place
from opendesk.network.hotspots.work import Kind, Work
from opendesk.network.jobs import table
from opendesk.postgres.driver import TrioConnection
from opendesk.simulators.routeros import HandClock, Router
from tests.network.behind import IP, MAC, NOTHING, Behind, behind, held, open_for, until
from tests.network.hotspots import virtual_clock

PHONE: Final = Place(IP, MAC)
TRIAL_S: Final = 300
# So long that nothing of a daemon's own, but what is due, comes into it.
LEASES: Final[dict[str, Any]] = {"RELAY_LOCK_TTL_MS": "30000"}


@frozen
class Stage:
    conn: TrioConnection
    router: Router
    router_clock: HandClock
    conninfo: str

    async def turn(self, seconds: float, *, router: bool = True) -> None:
        """All clocks, or the database's alone."""
        if router:
            self.router_clock.advance(seconds)
        await virtual_clock.turn(self.conn, seconds)

    async def ask(self, duration_s: int, *, trial: bool) -> None:
        """As an event does."""
        async with self.conn.transaction():
            left = {} if trial else await grants.release_trials(self.conn, [("r1", MAC)], dry_run=False)
            granted = await orders.authorize(
                self.conn, "r1", "1", PHONE, device=None, duration_s=duration_s, dry_run=False, trial=trial
            )
            places = tuple(dict.fromkeys((PHONE, *left.get(("r1", MAC), ()))))
            end = end_of(granted, dry_run=False)
            assert end is not None
            await table.add_many(self.conn, [Work(Kind.AUTHORIZE, "r1", places, "1").job("e", joins=False), end])

    def is_online(self) -> bool:
        return held(self.router) == open_for("1")

    def is_offline(self) -> bool:
        return held(self.router) == NOTHING

    async def trial(self, net: Behind) -> None:
        await self.ask(TRIAL_S, trial=True)
        await until(self.is_online)
        await net.finds("SELECT 1 FROM hotspot_grants WHERE trial AND observed_at IS NOT NULL")

    async def reasons(self) -> list[tuple[Any, ...]]:
        return await self.conn.fetch("SELECT end_reason, trial FROM hotspot_grants ORDER BY id")


@pytest.fixture
async def stage(conninfo: str) -> AsyncIterator[Stage]:
    clock = HandClock()
    router = Router("router", clock=clock)
    clock.advance(5000)
    async with await database.connect(conninfo) as conn:
        await virtual_clock.install(conn)
        yield Stage(conn, router, clock, conninfo)


@asynccontextmanager
async def daemon(stage: Stage) -> AsyncIterator[Behind]:
    async with behind(stage.conninfo, stage.router, **LEASES) as net:
        yield net


async def test_a_trial_is_granted_opened_and_over(stage: Stage) -> None:
    async with daemon(stage) as net:
        await stage.trial(net)
        await stage.turn(TRIAL_S - 60, router=False)
        await stage.ask(TRIAL_S, trial=True)  # joins
        [(left_s,)] = await stage.conn.fetch("SELECT extract(epoch FROM until - now())::int FROM hotspot_grants")
        assert left_s <= 60
        await stage.turn(61, router=False)  # the router's own clock stands: the daemon ends it
        await until(stage.is_offline)
        await net.finds("SELECT 1 FROM jobs WHERE type = 'END_GRANT' AND state = 'done'")
        assert await stage.reasons() == [("expired", True)]
        with pytest.raises(GrantEnded):
            await stage.ask(TRIAL_S, trial=True)


async def test_a_trial_that_is_paid_goes_on_past_its_end(stage: Stage) -> None:
    async with daemon(stage) as net:
        await stage.trial(net)
        await stage.turn(120)
        await stage.ask(3600, trial=False)
        await net.finds("SELECT 1 FROM hotspot_grants WHERE NOT trial AND observed_at IS NOT NULL")
        ends = "SELECT 1 FROM jobs WHERE type = 'END_GRANT' AND state = %(state)s"
        await net.finds(ends, state="done")  # the trial's, cancelled
        await stage.turn(TRIAL_S)
        assert stage.is_online()
        assert await stage.reasons() == [("released", True), (None, False)]
        await stage.turn(3600)
        await until(stage.is_offline)
        await net.finds(ends, 2, state="done")
        assert await stage.reasons() == [("released", True), ("expired", False)]


async def test_a_trial_that_is_over_while_no_daemon_runs_is_closed_by_the_next(stage: Stage) -> None:
    async with daemon(stage) as net:
        await stage.trial(net)
    await stage.turn(TRIAL_S + 1, router=False)
    async with daemon(stage) as net:
        await until(stage.is_offline)
        await net.finds("SELECT 1 FROM jobs WHERE type = 'END_GRANT' AND state = 'done'")
    assert await stage.reasons() == [("expired", True)]


async def test_a_router_that_reboots_gets_no_more_of_a_trial_than_is_left(stage: Stage) -> None:
    async with daemon(stage) as net:
        await stage.trial(net)
        await stage.turn(240)
        stage.router.reboot()
        await net.finds(
            "SELECT 1 FROM jobs WHERE type = 'RESTORE_GRANTS' AND state = 'done' AND payload ->> 'about' IS NOT NULL"
        )
        await until(stage.is_online)
        stage.router_clock.advance(60)
        assert stage.is_offline()


async def test_a_clock_that_is_set_back_lengthens_no_trial(stage: Stage) -> None:
    async with daemon(stage) as net:
        await stage.trial(net)
        await stage.turn(60)
        await stage.turn(-3600, router=False)
        stage.router_clock.advance(TRIAL_S - 60)
        assert stage.is_offline()  # the router has it from nobody's clock
        with pytest.raises(GrantEnded):
            await stage.ask(TRIAL_S, trial=True)
        await stage.turn(3600 + TRIAL_S, router=False)
        await net.finds("SELECT 1 FROM jobs WHERE type = 'END_GRANT' AND state = 'done'")
        assert await stage.reasons() == [("expired", True)]
        assert stage.is_offline()


async def test_a_clock_that_is_set_back_takes_nothing_of_what_is_paid(stage: Stage) -> None:
    async with daemon(stage) as net:
        await stage.ask(3600, trial=False)
        await until(stage.is_online)
        await net.finds("SELECT 1 FROM hotspot_grants WHERE observed_at IS NOT NULL")
        await stage.turn(-7200, router=False)
        await stage.ask(3600, trial=False)
        assert await stage.reasons() == [(None, False)]
        assert stage.is_online()
