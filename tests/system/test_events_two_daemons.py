"""Two daemons on one database: one of them asks the backend, both may be brought the same events, and each takes effect once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from opendesk.network.routers.lanes import lane_of
from opendesk.postgres.driver import TrioConnection
from opendesk.simulators.routeros import Router
from tests.network.behind import aged_router
from tests.network.events.arriving import device
from tests.system.conftest import Start
from tests.system.daemon import Daemon, until
from tests.system.event_world import History, Moment, World, opening, world

pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

NAMES: Final = ("one", "two")
# Rounds of asking, each with a chance for the other daemon.
ROUNDS: Final = 10
STORING: Final = Moment("BEFORE INSERT ON events", undone=False)


def file_of(folder: Path, name: str) -> Path:
    """Each daemon's own, as on machines of their own."""
    return folder / f"{name}.json"


@asynccontextmanager
async def twins(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection, router: Router
) -> AsyncIterator[tuple[World, dict[str, Daemon]]]:
    """The first asks the backend, since it was there first."""
    async with world(start, folder, conninfo, conn, [router], begin=False, insists=False) as there:
        daemons = {}
        for name in NAMES:
            daemons[name] = await there.begin(name, RELAY_EVENTS_FILE=str(file_of(folder, name)))
            await there.fetched(1)
        yield there, daemons
        for daemon in daemons.values():
            await daemon.stop()


def askers(there: World, since: int = 0) -> set[str]:
    return {asked.path.partition("?")[2] for asked in list(there.backend.fetches)[since:]}


async def test_one_asks_and_when_it_is_killed_the_other_does(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection
) -> None:
    async with twins(start, folder, conninfo, conn, aged_router()) as (there, daemons):
        there.ask(*(opening(f"e{number}", number) for number in range(ROUNDS)))
        await there.all_acked()
        await there.fetched(ROUNDS)
        assert askers(there) == {"one"}
        assert [len(there.acks(name)) for name in there.asked] == [1] * ROUNDS
        await daemons["one"].kill()
        before = len(there.backend.fetches)
        there.ask(opening("late", ROUNDS))
        # The lease is the dead one's for its time, which passes here.
        assert await conn.run("UPDATE leases SET until = clock_timestamp() WHERE name = %(name)s", {"name": lane_of("events-poller", dry_run=False)}) == 1  # fmt: skip
        await there.all_acked()
        assert askers(there, before) == {"two"}
        await there.check()


async def test_both_store_the_same_events_at_once_and_the_one_that_is_left_goes_on(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection
) -> None:
    router = aged_router()
    history = History(router)
    events = [opening(f"e{number}", number, is_trial=number % 2 == 0) for number in range(ROUNDS)]
    async with twins(start, folder, conninfo, conn, router) as (there, daemons):

        async def no_file_is_left() -> bool:
            return there.files() == []

        async with there.at(STORING):
            for name, order in zip(NAMES, (events, events[::-1]), strict=True):
                there.ask_by_file(*order, file=file_of(folder, name))
            # One is about to store them, and the other behind it.
            await there.reached()
            await there.stuck(len(NAMES))
        await there.all_acked()
        for daemon in daemons.values():
            line = await daemon.says("events.file_taken")
            assert line["new"] + line["again"] == ROUNDS
        assert sum(daemon.said("events.file_taken")[0]["new"] for daemon in daemons.values()) == ROUNDS
        await until(no_file_is_left)
        await there.check()
        assert history.told == {device(number)["mac"]: ["opened"] for number in range(ROUNDS)}
        # One that is stopped leaves the asking to the other, which need not wait for a lease to end.
        assert await daemons["one"].stop() == 0
        assert await there.count("leases") == 0
        there.ask(opening("late", ROUNDS))
        await there.all_acked()
        await there.check()
