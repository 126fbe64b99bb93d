"""A daemon killed at any moment of an action, and started again: the routers end up with what was asked for, once."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from attrs import define, field
import httpx
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.simulators.routeros import Act, Fault, Request, Router, Slow, simulated
from tests.network.behind import HERE, IP, MAC, NOTHING, SCHEDULERS, TOKEN, aged_router, held, nodes, open_for
from tests.system.conftest import Start
from tests.system.daemon import Daemon, connection, until, url_of

# httpx's: what it was sending when the connection broke.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

# What a dead daemon held is taken over soon.
SETTINGS: Final[dict[str, Any]] = {
    "RELAY_TOKEN": TOKEN,
    "RELAY_LOCK_TTL_MS": "1000",
    "RELAY_JOB_BACKOFF_BASE_MS": "100",
}
HEADERS: Final = {"x-relay-token": TOKEN}
# More than any action of these has: the last routers are never stopped at all.
STAGES: Final = 9

_ENDS: Final = """
    SELECT count(*) FROM jobs j JOIN hotspot_grants g ON j.lane = g.router_id AND j.key = 'grant:' || g.id AND j.run_at <= g.until
     WHERE j.type = 'END_GRANT' AND j.state = 'due'
"""
# A statement that waits for a lock of ours.
_STUCK: Final = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %(words)s"
_UNFINISHED: Final = "SELECT count(*) FROM jobs WHERE type <> 'END_GRANT' AND state IN ('due', 'running')"


@define(eq=False)
class Stage:
    """A router that does so many changes of what it is told, and then hears nothing more; or hears it, and its answers get lost."""

    router: Router = field(factory=aged_router)
    changes: int | None = None
    last_is_done: bool = False
    stopped: bool = False

    def stop_after(self, changes: int, *, last_is_done: bool) -> None:
        self.changes, self.last_is_done, self.stopped = changes, last_is_done, False
        self.router.faults.decide = self.decide

    def decide(self, request: Request) -> Fault | None:
        assert self.changes is not None
        if self.stopped or (request.verb != "print" and self.changes == 0):
            is_done = self.last_is_done and not self.stopped
            self.stopped = True
            return Act.SILENT if is_done else Act.IGNORED
        if request.verb != "print":
            self.changes -= 1
        return None


@define(eq=False)
class World:
    start: Start
    folder: Path
    conninfo: str
    ports: dict[str, int]
    daemon: Daemon = field(init=False)

    async def begin(self, **settings: Any) -> None:
        self.daemon = await self.start(
            self.folder,
            DATABASE_URL=url_of(self.conninfo),
            MIKROTIK_NODES=nodes(self.ports, timeoutMs=20_000),
            **{**SETTINGS, **settings},
        )

    async def post(self, path: str, body: dict[str, Any]) -> int | None:
        """The status; None where the daemon died."""
        try:
            return (await self.daemon.http.post(path, json=body, headers=HEADERS)).status_code
        except httpx.TransportError:
            return None


@asynccontextmanager
async def world(start: Start, folder: Path, conninfo: str, *routers: Router, **settings: Any) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        ports = {f"r{n}": (await stack.enter_async_context(simulated(router)))[1] for n, router in enumerate(routers)}
        made = World(start, folder, conninfo, ports)
        await made.begin(**settings)
        yield made
        await made.daemon.stop()


async def _killed_at_all_stages(there: World, stages: list[Stage], path: str, body: dict[str, Any]) -> None:
    """The same asked of all; each stops at another command; the daemon is killed and started again."""
    async with trio.open_nursery() as nursery:
        for number in range(len(stages)):
            nursery.start_soon(there.post, path, {"mikId": f"r{number}", **body})

        async def all_stopped_or_done() -> bool:
            async with connection(there.conninfo) as conn:
                [(unfinished,)] = await conn.fetch(_UNFINISHED)
            return bool(unfinished == sum(stage.stopped for stage in stages) > 0)

        await until(all_stopped_or_done)
        await there.daemon.kill()
    for stage in stages:
        stage.router.faults.clear()
    await there.begin()

    async def is_done() -> bool:
        async with connection(there.conninfo) as conn:
            return await conn.fetch(_UNFINISHED) == [(0,)]

    await until(is_done)


@pytest.mark.parametrize("last_is_done", [False, True])
async def test_killed_between_any_two_commands(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection, *, last_is_done: bool
) -> None:
    stages = [Stage() for _ in range(STAGES)]
    for stage in stages:
        stage.router.phone(MAC, IP)
    async with world(start, folder, conninfo, *(stage.router for stage in stages)) as there:
        for number, stage in enumerate(stages):
            stage.stop_after(number, last_is_done=last_is_done)
        order = {"pedidoId": "1", **HERE, "minutes": 60}
        await _killed_at_all_stages(there, stages, "/relay/authorize-by-pedido", order)
        assert not stages[-1].stopped, "there are more changes than stages"
        for number, stage in enumerate(stages):
            assert held(stage.router) == open_for("1"), number
            assert len(stage.router.rows(SCHEDULERS)) == 1, number
            assert stage.router.is_online(MAC, IP), number
        # Once: one grant, which has the end that is written down.
        grants = await conn.fetch(
            "SELECT count(*), count(DISTINCT router_id), min(until - begun_at)::text FROM hotspot_grants"
        )
        assert grants == [(STAGES, STAGES, "01:00:00")]
        assert await conn.fetch(_ENDS) == [(STAGES,)]
        # And the way back.
        for number, stage in enumerate(stages):
            stage.stop_after(number, last_is_done=last_is_done)
        await _killed_at_all_stages(there, stages, "/relay/revoke", {"ip": IP, "mac": MAC})
        for number, stage in enumerate(stages):
            assert held(stage.router) == NOTHING, number
            assert stage.router.rows(SCHEDULERS) == [], number
            assert not stage.router.is_online(MAC, IP), number


async def test_access_never_stands_open_without_its_end(start: Start, folder: Path, conninfo: str) -> None:
    """Nobody starts the daemon again: what was opened is closed by the routers themselves."""
    stages = [Stage() for _ in range(STAGES)]
    for stage in stages:
        stage.router.phone(MAC, IP)
    async with world(start, folder, conninfo, *(stage.router for stage in stages)) as there:
        for number, stage in enumerate(stages):
            stage.stop_after(number, last_is_done=True)
        async with trio.open_nursery() as nursery:
            for number in range(STAGES):
                order = {"mikId": f"r{number}", "pedidoId": "1", **HERE, "minutes": 60}
                nursery.start_soon(there.post, "/relay/authorize-by-pedido", order)

            async def all_stopped() -> bool:
                return all(stage.stopped or held(stage.router) == open_for("1") for stage in stages)

            await until(all_stopped)
            await there.daemon.kill()
        for number, stage in enumerate(stages):
            stage.router.faults.clear()
            stage.router.state.clock.advance(3601)  # type: ignore[attr-defined]  # a HandClock
            assert held(stage.router) == NOTHING, number
            assert not stage.router.is_online(MAC, IP), number


async def test_killed_before_the_intent_is_written_nothing_was_asked_for(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection
) -> None:
    router = aged_router()
    async with world(start, folder, conninfo, router) as there, connection(conninfo) as lock:
        async with trio.open_nursery() as nursery, lock.transaction():
            # The grant can be written, the job can't.
            await lock.run("LOCK TABLE jobs IN SHARE MODE")
            nursery.start_soon(there.post, "/relay/authorize-by-pedido", {"mikId": "r0", "pedidoId": "1", **HERE})

            async def is_stuck() -> bool:
                # The statement's beginning: the server tells no more of it than a kilobyte.
                return bool(await conn.fetch(_STUCK, {"words": "%WITH given AS%coalesce(last.id%"}))

            await until(is_stuck)
            await there.daemon.kill()
        await there.begin()
        await until(lambda: _is_connected(router))
        assert await conn.fetch("SELECT 1 FROM jobs UNION ALL SELECT 1 FROM hotspot_grants") == []
        assert held(router) == NOTHING


async def test_killed_between_intent_and_command(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection
) -> None:
    router = aged_router()
    async with world(start, folder, conninfo, router) as there:
        await until(lambda: _is_connected(router))
        # The job can't be claimed.
        router.faults.black_hole = True
        for hang_up in list(router.hang_ups):
            hang_up()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(there.post, "/relay/authorize-by-pedido", {"mikId": "r0", "pedidoId": "1", **HERE})

            async def is_there() -> bool:
                return bool(await conn.fetch("SELECT 1 FROM jobs"))

            await until(is_there)
            await there.daemon.kill()
        assert held(router) == NOTHING
        router.faults.clear()
        await there.begin()

        async def is_held() -> bool:
            return held(router) == open_for("1")

        await until(is_held)


async def test_killed_between_the_last_look_and_the_outcome(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection
) -> None:
    router = aged_router()
    # The lease is not to end while the outcome waits to be written.
    patient = {"RELAY_LOCK_TTL_MS": "3000"}
    async with world(start, folder, conninfo, router, **patient) as there, connection(conninfo) as lock:
        order = {"mikId": "r0", "pedidoId": "1", **HERE}
        router.faults.plan(Slow(0.3), "/ip/hotspot/active/print", skip=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(there.post, "/relay/authorize-by-pedido", order)

            async def is_open() -> bool:
                return held(router)["bindings"] != []

            await until(is_open)
            async with lock.transaction():
                await lock.run("LOCK TABLE jobs IN SHARE MODE")

                async def is_stuck() -> bool:
                    return bool(await conn.fetch(_STUCK, {"words": "%json_to_recordset%"}))

                await until(is_stuck)
                await there.daemon.kill()
                # The server would go on with what it was told before.
                for (pid,) in await conn.fetch(_STUCK, {"words": "%json_to_recordset%"}):
                    await conn.fetch("SELECT pg_terminate_backend(%(pid)s, 5000)", {"pid": pid})
        before = router.rows("/ip/hotspot/ip-binding"), router.rows(SCHEDULERS)
        await there.begin()

        async def is_done() -> bool:
            return bool(await conn.fetch("SELECT 1 FROM jobs WHERE type = 'AUTHORIZE_BY_PEDIDO' AND state = 'done'"))

        await until(is_done)
        assert (router.rows("/ip/hotspot/ip-binding"), router.rows(SCHEDULERS)) == before
        [(result,)] = await conn.fetch("SELECT result FROM jobs WHERE type = 'AUTHORIZE_BY_PEDIDO'")
        assert (result["changed"], result["online"]) == (False, True)


async def _is_connected(router: Router) -> bool:
    return router.counts.open > 0


async def test_stopped_with_work_in_hand_it_gives_it_back(
    start: Start, folder: Path, conninfo: str, conn: TrioConnection
) -> None:
    stage = Stage()
    async with world(start, folder, conninfo, stage.router, SHUTDOWN_GRACE_MS="1500") as there:
        stage.stop_after(1, last_is_done=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(there.post, "/relay/authorize-by-pedido", {"mikId": "r0", "pedidoId": "1", **HERE})

            async def is_stopped() -> bool:
                return stage.stopped

            await until(is_stopped)
            assert await there.daemon.stop() == 0
        assert await conn.fetch("SELECT state, attempts FROM jobs") == [("due", 0)]
        stage.router.faults.clear()
        await there.begin()

        async def is_held() -> bool:
            return held(stage.router) == open_for("1")

        await until(is_held)
