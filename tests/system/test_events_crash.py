"""A daemon killed at any moment of an event's way, and started again: each event takes effect once, and the backend hears of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.simulators.event_backend import Fault
from tests.network.behind import NOTHING, SCHEDULERS, aged_router, held
from tests.network.events.arriving import device, revoke
from tests.system.conftest import Start
from tests.system.daemon import PATIENCE_S, until
from tests.system.event_world import DELIVERIES, History, Moment, World, opening, refused, world
from tests.system.test_network_crash import STAGES as COMMANDS
from tests.system.test_network_crash import Stage

pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

# The way of an event. What is committed is where the next transaction begins, and where a daemon comes to that dies before it.
MOMENTS: Final = {
    "stored, not committed": Moment("BEFORE INSERT ON events", waiters=2),
    "committed, the job not begun": Moment("AFTER INSERT ON events", is_deferred=True, undone=False, waiters=2),
    "the router follows, not written down": Moment(
        "BEFORE UPDATE ON jobs", "NEW.type = 'AUTHORIZE_BY_PEDIDO' AND NEW.state = 'done'"
    ),
    "decided, the ACK not sent": Moment(
        "AFTER UPDATE ON jobs",
        "NEW.type = 'AUTHORIZE_BY_PEDIDO' AND NEW.state = 'done'",
        is_deferred=True,
        undone=False,
    ),
    "the ACK taken, not written down": Moment("BEFORE UPDATE ON jobs", "NEW.type = 'ACK_EVENT' AND NEW.state = 'done'"),
    "the ACK written down": Moment(
        "AFTER UPDATE ON jobs", "NEW.type = 'ACK_EVENT' AND NEW.state = 'done'", is_deferred=True, undone=False
    ),
}
ASKED: Final = "events asked for"
SENT: Final = "the ACK sent, not answered"
STAGES: Final = (ASKED, *list(MOMENTS)[:4], SENT, *list(MOMENTS)[4:])


@asynccontextmanager
async def stage(there: World, name: str) -> AsyncIterator[None]:
    """Within, events are brought; then it is as far as that, and the daemon is killed."""
    if name == ASKED:
        there.backend.fetch_faults.appendleft(Fault.SILENT)
        yield
        with trio.fail_after(PATIENCE_S):
            await there.backend.until(lambda: Fault.SILENT not in there.backend.fetch_faults)
        await there.kill()
    elif name == SENT:
        there.backend.every_ack, before = Fault.SILENT, len(there.backend.acks)
        yield
        with trio.fail_after(PATIENCE_S):
            await there.backend.until(lambda: len(there.backend.acks) > before)
        await there.kill()
        there.backend.every_ack = None
    else:
        moment = MOMENTS[name]
        async with there.at(moment):
            yield
            await there.reached(moment.waiters)
            await there.kill()


async def test_killed_at_every_stage_each_event_takes_effect_once(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection
) -> None:
    router = aged_router()
    history = History(router)
    async with world(start, folder, conninfo, conn, [router]) as there:
        for number, name in enumerate(STAGES):
            async with stage(there, name):
                first = 3 * number
                there.ask(
                    opening(f"release-{number}", first),
                    refused(f"refused-{number}"),
                    opening(f"trial-{number}", first + 1, is_trial=True),
                )
                there.ask_by_file(opening(f"file-{number}", first + 2))
            await there.begin()
            await there.all_acked()
            await there.check()
            opened = {device(n)["mac"]: ["opened"] for n in range(first + 3)}
            assert history.told == opened, name
        with trio.fail_after(PATIENCE_S):
            await there.backend.until(lambda: min(there.delivered.values()) >= DELIVERIES)
        await there.check()
        assert there.files() == []
        assert await there.count("hotspot_grants") == 3 * len(STAGES)
        # The ends that are written down are those that the routers have.
        ends = "jobs j JOIN hotspot_grants g ON j.key = 'grant:' || g.id WHERE j.type = 'END_GRANT' AND j.state = 'due'"
        assert await there.count(ends) == 3 * len(STAGES)
        assert await conn.fetch(
            "SELECT trial, min(until - begun_at)::text, max(until - begun_at)::text FROM hotspot_grants GROUP BY trial ORDER BY 1"
        ) == [(False, "01:00:00", "01:00:00"), (True, "00:05:00", "00:05:00")]
    assert history.told == opened


async def test_killed_between_any_two_commands_of_an_event_and_of_its_end(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection
) -> None:
    """Each router is stopped at another command: for half of them it is done, and nobody hears of it."""
    stages = [Stage() for _ in range(2 * COMMANDS)]
    histories = [History(stage.router) for stage in stages]
    macs = [device(n)["mac"] for n in range(len(stages))]
    async with world(start, folder, conninfo, conn, [stage.router for stage in stages]) as there:
        _stop_each(stages)
        there.ask(*(opening(f"open-{n}", n, router=f"r{n}") for n in range(len(stages))))
        await _killed_where_they_stop(there, stages)
        await there.check()
        assert [history.told for history in histories] == [{mac: ["opened"]} for mac in macs]
        assert all(len(stage.router.rows(SCHEDULERS)) == 1 for stage in stages)
        # The time of the first half passes, the others are revoked.
        _stop_each(stages)
        await _time_passes(conn, COMMANDS)
        there.ask(*(revoke(f"close-{n}", mikId=f"r{n}", **device(n)) for n in range(COMMANDS, len(stages))))
        await _killed_where_they_stop(there, stages)
        await there.check()
        assert [history.told for history in histories] == [{mac: ["opened", "closed"]} for mac in macs]
        assert [held(stage.router) for stage in stages] == [NOTHING] * len(stages)
        assert all(stage.router.rows(SCHEDULERS) == [] for stage in stages)


def _stop_each(stages: list[Stage]) -> None:
    for number, stage in enumerate(stages):
        stage.stop_after(number % COMMANDS, last_is_done=(number + number // COMMANDS) % 2 == 1)


async def _time_passes(conn: TrioConnection, routers: int) -> None:
    """On the first routers, by the database's clock; the routers' own stand still."""
    names = {"names": [f"r{n}" for n in range(routers)]}
    await conn.run("UPDATE hotspot_grants SET begun_at = now() - until + begun_at, until = now() WHERE router_id = ANY (%(names)s)", names)  # fmt: skip
    await conn.run("UPDATE jobs SET run_at = now() WHERE type = 'END_GRANT' AND lane = ANY (%(names)s)", names)
    await conn.fetch("SELECT pg_notify('opendesk_jobs', '')")


async def _killed_where_they_stop(there: World, stages: list[Stage]) -> None:
    unfinished = "jobs WHERE state IN ('due', 'running') AND run_at <= now() AND type <> 'ACK_EVENT'"
    asked = len(there.asked)

    async def all_stopped_or_done() -> bool:
        stopped = sum(stage.stopped for stage in stages)
        return await there.count("events") == asked and await there.count(unfinished) == stopped > 0

    await until(all_stopped_or_done)
    await there.kill()
    assert {stage.stopped for stage in stages} == {True, False}, "there are more changes than stages"
    for stage in stages:
        stage.router.faults.clear()
    await there.begin()
    await there.all_acked()

    async def is_done() -> bool:
        return await there.count(unfinished) == 0

    await until(is_done)
