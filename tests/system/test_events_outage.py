"""The backend, the router or the database is away for a while, or the daemon itself: no event is lost, none done twice, and no time is given twice."""

from collections.abc import AsyncIterator
from pathlib import Path
import shutil
import tempfile
from typing import Any, Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.simulators.event_backend import Fault
from opendesk.simulators.routeros import Router
from tests.network.behind import LISTS, NOTHING, SCHEDULERS, aged_router, held
from tests.network.events.arriving import device
from tests.postgres.conftest import SOCKET, Gate
from tests.system.conftest import Start
from tests.system.daemon import PATIENCE_S, until, url_of
from tests.system.event_world import History, Moment, World, opening, world

pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

MAC: Final = device(1)["mac"]
IP: Final = device(1)["ip"]
TRIAL_S: Final = 300
_TRIALS: Final = """
    SELECT g.begun_at, extract(epoch FROM g.until - g.begun_at)::int, j.id
      FROM hotspot_grants g JOIN jobs j ON j.key = 'grant:' || g.id WHERE j.type = 'END_GRANT' ORDER BY g.id
"""


@pytest.fixture
async def gate(conninfo: str, nursery: trio.Nursery) -> AsyncIterator[Gate]:
    """Between a daemon and its database."""
    folder = tempfile.mkdtemp(prefix="gate-", dir="/tmp")  # short: a socket's path holds 103 bytes
    target = f"{conninfo_to_dict(conninfo)['host']}/{SOCKET}"
    made = Gate(make_conninfo(conninfo, host=folder), f"{folder}/{SOCKET}", target, nursery)
    await made.open()
    yield made
    await made.shut()
    shutil.rmtree(folder)


async def test_while_the_backend_is_down_what_it_gave_is_done_and_it_hears_of_that_later(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection
) -> None:
    router = aged_router()
    history = History(router)
    async with world(start, folder, conninfo, conn, [router], insists=False) as there:
        there.backend.every_ack = Fault.HUNG_UP
        there.ask(opening("given", 1))
        with trio.fail_after(PATIENCE_S):
            await there.backend.until(lambda: not there.backend.waiting)
        there.backend.every_fetch = there.backend.every_ack = Fault.FAILING
        there.ask(opening("kept", 2))
        there.ask_by_file(opening("by file", 3))
        await there.daemon.says("events.not_fetched", after=2)

        async def are_done() -> bool:
            return await there.count("events WHERE ok") == 2

        await until(are_done)
        assert set(history.told) == {MAC, device(3)["mac"]}
        refusals = len(there.backend.acks)
        with trio.fail_after(PATIENCE_S):
            await there.backend.until(lambda: len(there.backend.acks) > refusals)
        # It is down over a restart, too.
        assert await there.daemon.stop() == 0
        await there.begin()
        await there.daemon.says("events.not_fetched")
        there.backend.every_fetch = there.backend.every_ack = None
        await there.all_acked()
        await there.check()
        assert history.told == {device(number)["mac"]: ["opened"] for number in (1, 2, 3)}


async def test_what_was_fetched_is_stored_once_the_database_is_back(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection, gate: Gate
) -> None:
    """The backend gives each event once."""
    router = aged_router()
    history = History(router)
    async with world(start, folder, conninfo, conn, [router], begin=False, insists=False) as there:
        await there.begin(DATABASE_URL=url_of(gate.conninfo))
        async with there.at(Moment("BEFORE INSERT ON events", waiters=2)):
            there.ask(opening("fetched", 1))
            there.ask_by_file(opening("by file", 2))
            await there.reached(waiters=2)
            await gate.shut()
        await there.daemon.says("events.not_stored", after=1)
        fetches = len(there.backend.fetches)
        there.ask(opening("later", 3))
        assert await there.count("events") == 0
        assert len(there.backend.fetches) == fetches, "it takes on more than it can keep"
        await gate.open()
        await there.all_acked()
        await there.check()
        assert [len(there.acks(name)) for name in there.asked] == [1, 1, 1]
        assert history.told == {device(number)["mac"]: ["opened"] for number in (1, 2, 3)}


async def test_a_daemon_that_is_killed_and_a_router_that_reboots_lengthen_no_trial(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection
) -> None:
    """The second router doesn't end its trial by itself: its clock stands still."""
    router, stopped = aged_router(), aged_router()
    router.phone(MAC, IP)
    histories = [History(router), History(stopped)]
    async with world(start, folder, conninfo, conn, [router, stopped]) as there:
        there.ask(opening("trial", 1, is_trial=True), opening("other", 2, router="r1", is_trial=True))
        await there.all_acked()
        before = await conn.fetch(_TRIALS)
        assert [seconds for _, seconds, *_ in before] == [TRIAL_S, TRIAL_S]
        rows = _timed(router)
        await there.kill()
        await there.begin()
        await _are_delivered_again(there, conn)
        assert await conn.fetch(_TRIALS) == before
        assert _timed(router) == rows
        # What has a time-out is gone, and is put back with what is left of it.
        await there.kill()
        _advance(router, TRIAL_S - 60)
        await _pass(conn, TRIAL_S - 60)
        router.reboot()
        await there.begin()
        await until(lambda: _is_online(router))
        _advance(router, 61)
        assert not router.is_online(MAC, IP)
        assert held(router) == NOTHING != held(stopped)
        # Their time passes while nobody is there.
        await there.kill()
        await _pass(conn, 61)
        await there.begin()

        async def are_over() -> bool:
            return await there.count("jobs WHERE type = 'END_GRANT' AND state = 'done'") == 2

        await until(are_over)
        await _are_delivered_again(there, conn)
        assert [held(each) for each in (router, stopped)] == [NOTHING, NOTHING]
        assert await there.count("hotspot_grants WHERE end_reason = 'expired'") == 2
        await there.check()
    assert [history.told for history in histories] == [
        {device(number)["mac"]: ["opened", "closed"]} for number in (1, 2)
    ]


def _timed(router: Router) -> list[dict[str, str]]:
    return [*router.rows(LISTS), *router.rows(SCHEDULERS)]


def _advance(router: Router, seconds: int) -> None:
    router.state.clock.advance(seconds)  # type: ignore[attr-defined]  # a HandClock


async def _is_online(router: Router) -> bool:
    return router.is_online(MAC, IP)


async def _pass(conn: TrioConnection, seconds: int) -> None:
    """By the database's clock."""
    values: dict[str, Any] = {"s": seconds}
    await conn.run(
        "UPDATE hotspot_grants SET begun_at = begun_at - %(s)s * interval '1 second', until = until - %(s)s * interval '1 second',"
        " opening_at = opening_at - %(s)s * interval '1 second', observed_at = observed_at - %(s)s * interval '1 second'",
        values,
    )
    await conn.run("UPDATE jobs SET run_at = run_at - %(s)s * interval '1 second' WHERE type = 'END_GRANT'", values)


async def _are_delivered_again(there: World, conn: TrioConnection) -> None:
    """A minute after they were acknowledged, and that is answered with their ACKs."""

    async def are_acked() -> bool:
        return await there.count("events WHERE acked_at IS NULL") == 0

    await until(are_acked)
    await conn.run("UPDATE events SET acked_at = acked_at - interval '61 seconds'")
    acks = {name: len(there.acks(name)) for name in there.asked}
    there.backend.put(*there.asked.values())
    with trio.fail_after(PATIENCE_S):
        await there.backend.until(lambda: all(len(there.acks(name)) > number for name, number in acks.items()))
