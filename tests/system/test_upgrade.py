"""A new version takes over from the old one while everybody is at it: renting, streaming, waiting for a router."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
import random
import shutil
import sys
import time
from typing import Any, Final

from attrs import define, field
import httpx
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.migrate import MIGRATIONS, load
from opendesk.rental import ledger
from opendesk.simulators.api_client import Api, PromiseBroken
from opendesk.simulators.relay_socket import RelaySocket, Ticket, at_the_relay
from opendesk.simulators.routeros import Router, Slow, simulated
from opendesk.simulators.stream_client import Seen, StreamingClient
from opendesk.simulators.stream_host import StreamingHost
from tests.network.behind import HERE, IP, MAC, SCHEDULERS, TOKEN, aged_router, held, nodes, open_for
from tests.system.crowd import Crowd, move_in
from tests.system.daemon import PATIENCE_S, client, database_of, until
from tests.system.people import Person, Rented, good, rent, settle_in
from tests.system.service_manager import ServiceManager, service_manager

# httpx's: what it was sending when the connection broke.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

FRAME_S: Final = 0.05
# Between two tries of whoever was turned away.
PAUSE_S: Final = 0.05
# Longer than it takes to tell the daemon to stop.
ROUTER_TAKES_S: Final = 0.3
KNOCKERS: Final = 3

SHUTDOWN: Final = (1012, "relay_shutdown")
CUT_OFF: Final = (1006, "")

# Another one has a migration more.
TOMORROW: Final = """
from pathlib import Path
import sys
from opendesk.postgres import migrate
migrate.load.__defaults__ = (Path(sys.argv.pop(1)),)
from opendesk.cli import main
main()
"""
_UNFINISHED: Final = "SELECT count(*) FROM jobs WHERE type <> 'END_GRANT' AND state IN ('due', 'running')"
_ENDS: Final = "SELECT end_reason FROM sessions WHERE end_reason NOT IN ('ENDED_BY_CLIENT', 'CANCELLED')"


@define(eq=False)
class Side:
    """Comes back whenever it is put out, with what it was told once. `whys` are the reasons that it heard."""

    ticket: Ticket
    play: Callable[[RelaySocket], Awaitable[tuple[int, str]]]
    whys: list[tuple[int, str]] = field(factory=list)
    welcomes: int = 0

    async def run(self) -> None:
        while True:
            try:
                async with at_the_relay(self.ticket) as socket:
                    self.welcomes += 1
                    self.whys.append(await self.play(socket))
            except* (PromiseBroken, OSError):
                pass  # not yet
            await trio.sleep(PAUSE_S)


@define(eq=False)
class Town:
    """Everybody that an upgrade could disturb."""

    manager: ServiceManager
    crowd: Crowd
    people: Rented
    seen: Seen
    sides: tuple[Side, Side]
    answers: list[int] = field(factory=list)
    cut_off: int = 0

    def live(self, nursery: trio.Nursery) -> None:
        for side in self.sides:
            nursery.start_soon(side.run)
        for _ in range(KNOCKERS):
            nursery.start_soon(self._knock)
        nursery.start_soon(self._beat, self.people.host)

    async def _knock(self) -> None:
        """Each time with a connection of its own; one that is refused fails the test."""
        while True:
            async with client(self.manager.url) as http:
                try:
                    self.answers.append((await http.get("/health/live")).status_code)
                except httpx.ConnectError:
                    raise
                except httpx.TransportError:  # the daemon that had it was killed
                    self.cut_off += 1
            await trio.sleep(PAUSE_S)

    async def _beat(self, host: Person) -> None:
        while True:
            try:
                await host.beat()
            except httpx.TransportError:
                self.cut_off += 1
            await trio.sleep(PAUSE_S)

    async def goes_on(self) -> None:
        """Wait for more answers, more rentals and more pictures."""
        answers, frames = len(self.answers), self.seen.frames
        await self.crowd.works(10)

        async def more() -> bool:
            await trio.lowlevel.checkpoint()
            return len(self.answers) > answers + KNOCKERS and self.seen.frames > frames + 5

        await until(more)


@asynccontextmanager
async def town(manager: ServiceManager, data_dir: Path) -> AsyncIterator[Town]:
    async with client(manager.url) as http, database_of(data_dir) as conn, trio.open_nursery() as nursery:
        people = await settle_in(http, conn)
        good(await people.host.post(f"/pcs/{people.pc_id}/network", {"networkProvider": "RELAY"}))
        crowd = await move_in(http, conn, random.Random(11))
        session = await rent(people.client, people.pc_id)
        crowd.created.append(session)
        tickets = [
            await Ticket.get(Api(http).acting_as(person.token), session["id"], role, person.id)
            for role, person in (("host", people.host), ("client", people.client))
        ]
        seen = Seen()
        host = Side(tickets[0], lambda socket: StreamingHost(socket, lambda: FRAME_S, time.monotonic_ns).run())
        watcher = Side(tickets[1], lambda socket: StreamingClient(socket, seen, time.monotonic_ns).run())
        made = Town(manager, crowd, people, seen, (host, watcher))
        made.live(nursery)
        crowd.begin(nursery)
        yield made
        nursery.cancel_scope.cancel()


async def _order(http: httpx.AsyncClient) -> None:
    """Somebody's way opened on the router; who ordered may not live to hear of it."""
    order = {"mikId": "r1", "pedidoId": "1", **HERE, "minutes": 60}
    try:
        await http.post("/relay/authorize-by-pedido", json=order, headers={"x-relay-token": TOKEN})
    except httpx.TransportError:
        return


def newer(folder: Path) -> tuple[str, ...]:
    """How the next version is started."""
    migrations = folder / "migrations"
    shutil.copytree(str(MIGRATIONS), migrations)
    (migrations / f"{len(load()) + 1:04}_tomorrow.sql").write_text("CREATE TABLE opendesk.tomorrow (id integer);")
    return (sys.executable, "-W", "error", "-c", TOMORROW, str(migrations), "serve")


async def _is_right(town: Town, conn: TrioConnection) -> None:
    """Nobody's session was ended for it, and the books are right to the centavo."""
    await town.crowd.compare(conn, exactly=True)
    assert await conn.fetch(_ENDS) == []
    found = await ledger.verify(conn)
    assert (found.ok, found.sessions) == (True, len(town.crowd.created))
    mine = {"id": town.people.client.id}
    assert await conn.fetch("SELECT status FROM sessions WHERE client_user_id = %(id)s", mine) == [("ACTIVE",)]


# Killed daemons and what they leave have tests of their own (test_crash.py, test_network_crash.py): here it is both at once.
@pytest.mark.parametrize("way", ["stopped", pytest.param("killed", marks=pytest.mark.long)])
async def test_nobody_loses_anything_when_a_new_version_takes_over(folder: Path, data_dir: Path, way: str) -> None:
    router = aged_router()
    router.phone(MAC, IP)
    router.faults.decide = lambda request: None if request.verb == "print" else Slow(ROUTER_TAKES_S)
    async with simulated(router) as (_, port), service_manager(folder) as manager:
        settings: dict[str, Any] = {
            "MIKROTIK_NODES": nodes({"r1": port}, timeoutMs=20_000),
            "RELAY_TOKEN": TOKEN,
            # Short enough to wait for after a kill, long enough for a machine that is busy with other tests: of 1000 ms a step of the fleet's
            # has 167, and leases would be lost again and again. (Below 5000 the daemon says so.)
            "RELAY_LOCK_TTL_MS": "4000",
            "RELAY_JOB_BACKOFF_BASE_MS": "100",
        }
        first = await manager.start(data_dir, **settings)
        async with town(manager, data_dir) as there, trio.open_nursery() as nursery:
            await there.goes_on()
            nursery.start_soon(_order, there.people.client.http)
            await until(lambda: _has_begun(router))
            with trio.fail_after(PATIENCE_S):
                if way == "stopped":
                    assert await manager.stop() == 0
                else:
                    await first.kill()
            second = await manager.start(data_dir, command=newer(folder), **settings)
            assert second.said("database.migrated")
            router.faults.clear()
            await there.goes_on()
            await there.crowd.go_home()
            async with database_of(data_dir) as conn:
                await until(lambda: _are_done(conn))
                await _is_right(there, conn)
            assert held(router) == open_for("1")
            assert len(router.rows(SCHEDULERS)) == 1
            assert set(there.answers) == {200}
            assert [side.whys for side in there.sides] == [[SHUTDOWN if way == "stopped" else CUT_OFF]] * 2
            assert way == "killed" or there.cut_off == 0
        assert await manager.stop() == 0


async def _has_begun(router: Router) -> bool:
    await trio.lowlevel.checkpoint()
    return held(router) != open_for()


async def _are_done(conn: TrioConnection) -> bool:
    return await conn.fetch(_UNFINISHED) == [(0,)]
