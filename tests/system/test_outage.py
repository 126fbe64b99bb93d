"""The database goes away and comes back: callers are told, nothing is held against hosts, and nobody has to restart anything."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
import os
from pathlib import Path
import shutil
import signal
import tempfile
from typing import Any, Final

from attrs import define, field
import httpx
from psycopg.conninfo import conninfo_to_dict, make_conninfo
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.embedded.lifetime import embedded_server
from tests.postgres.conftest import SOCKET, Gate
from tests.system.commands import opendesk
from tests.system.conftest import Start
from tests.system.daemon import PATIENCE_S, Daemon, connection, database_of, postgres_of, until, url_of
from tests.system.people import Rented, add_pc, beating, good, register, rent, settle_in

# httpx's: what it was sending when the connection broke.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

# Hosts that are silent for this long are gone, and an outage lasts longer.
TIMEOUT_S: Final = 2.0
IMPATIENT: Final[Mapping[str, Any]] = {
    "HOST_HEARTBEAT_TIMEOUT_MS": str(int(TIMEOUT_S * 1000)),
    "HOST_HEARTBEAT_CHECK_INTERVAL_MS": "100",
}


@pytest.fixture
async def gate(conninfo: str, nursery: trio.Nursery) -> AsyncIterator[Gate]:
    """Between a daemon and its database."""
    folder = tempfile.mkdtemp(prefix="gate-", dir="/tmp")  # short: a socket's path holds 103 bytes
    target = f"{conninfo_to_dict(conninfo)['host']}/{SOCKET}"
    made = Gate(make_conninfo(conninfo, host=folder), f"{folder}/{SOCKET}", target, nursery)
    await made.open()
    yield made
    made.release()
    await made.shut()
    shutil.rmtree(folder)


async def every_kind_of_call(people: Rented) -> list[httpx.Response]:
    host, client, http = people.host, people.client, people.host.http
    body = {"pcId": people.pc_id, "minutesPurchased": 1}
    asked: list[Callable[[], Awaitable[httpx.Response]]] = [
        lambda: http.get("/pcs"),
        lambda: host.get("/auth/me"),
        host.beat,
        lambda: client.post("/sessions", body),
        lambda: client.post("/sessions", body, key="once"),
        lambda: http.post("/auth/login", json={"email": host.email, "password": "wrong"}),
    ]
    answers: list[httpx.Response] = []

    async def ask(call: Callable[[], Awaitable[httpx.Response]]) -> None:
        answers.append(await call())

    async with trio.open_nursery() as nursery:
        for call in asked:
            nursery.start_soon(ask, call)
    return answers


def assert_unavailable(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["code"] == "DATABASE_UNAVAILABLE"
    assert response.headers["x-request-id"] == response.json()["traceId"]


def assert_served(responses: list[httpx.Response]) -> None:
    assert [response.text for response in responses if response.status_code >= 500] == []


async def assert_away(daemon: Daemon, people: Rented) -> None:
    for response in await every_kind_of_call(people):
        assert_unavailable(response)
    ready = await daemon.http.get("/health/ready")
    assert (ready.status_code, ready.json()["code"]) == (503, "NOT_READY")
    assert "database" in ready.json()["detail"]
    good(await daemon.http.get("/health/live"))
    await daemon.says("database.away")
    assert "opendesk_database_up 0.0" in (await daemon.http.get("/metrics")).text


async def assert_back(daemon: Daemon, people: Rented) -> None:
    """From the first call on."""
    assert_served(await every_kind_of_call(people))
    good(await daemon.http.get("/pcs"))
    good(await daemon.http.get("/health/ready"))
    await daemon.says("database.back")
    assert "opendesk_database_up 1.0" in (await daemon.http.get("/metrics")).text


async def test_callers_are_told_while_the_database_is_away_and_served_at_once_when_it_is_back(
    start: Start, folder: Path, gate: Gate, conn: TrioConnection
) -> None:
    daemon = await start(folder, DATABASE_URL=url_of(gate.conninfo))
    people = await settle_in(daemon.http, conn)
    for _ in range(2):
        await gate.shut()
        await assert_away(daemon, people)
        await gate.open()
        await assert_back(daemon, people)
        daemon.log.clear()


@pytest.mark.long
async def test_callers_are_told_while_the_database_is_mute(
    start: Start, folder: Path, gate: Gate, conn: TrioConnection
) -> None:
    daemon = await start(folder, DATABASE_URL=url_of(gate.conninfo))
    people = await settle_in(daemon.http, conn)
    gate.hold()
    await assert_away(daemon, people)
    gate.release()
    await assert_back(daemon, people)


async def test_hosts_have_a_full_time_out_from_the_databases_return(
    start: Start, folder: Path, gate: Gate, conn: TrioConnection
) -> None:
    daemon = await start(folder, DATABASE_URL=url_of(gate.conninfo), **IMPATIENT)
    people = await settle_in(daemon.http, conn)
    async with beating(people.host, TIMEOUT_S / 10):
        session = await rent(people.client, people.pc_id)
        gone = await register(daemon.http, role="HOST")
        gone_pc = await add_pc(gone)
        await gate.shut()
        await trio.sleep(1.5 * TIMEOUT_S)
        assert_unavailable(await people.host.beat())
        back_at = await now(conn)
        await gate.open()

        async def is_gone() -> bool:
            return bool(good(await daemon.http.get(f"/pcs/{gone_pc}"))["pc"]["status"] == "OFFLINE")

        await until(is_gone)
    assert (await now(conn) - back_at).total_seconds() >= TIMEOUT_S
    assert good(await people.client.get(f"/sessions/{session['id']}"))["session"]["status"] == "ACTIVE"
    assert [line["pcs"] for line in daemon.said("hosts.timed_out")] == [1]


async def now(conn: TrioConnection) -> Any:
    row = await (await conn.execute("SELECT now()")).fetchone()
    assert row is not None
    return row[0]


@define
class Server:
    """A PostgreSQL of the test's own, which is stopped and started as an operator does."""

    folder: Path
    nursery: trio.Nursery
    conninfo: str = ""
    _stop: trio.Event = field(factory=trio.Event)
    _stopped: trio.Event = field(factory=trio.Event)

    async def begin(self) -> None:
        self.conninfo = await self.nursery.start(self._run)

    async def stop(self) -> None:
        self._stop.set()
        with trio.fail_after(PATIENCE_S):
            await self._stopped.wait()

    async def _run(self, task_status: trio.TaskStatus[str]) -> None:
        self._stop, self._stopped = trio.Event(), trio.Event()
        async with embedded_server(self.folder) as conninfo:
            task_status.started(conninfo)
            await self._stop.wait()
        self._stopped.set()


async def test_a_servers_restart_is_survived_and_what_fell_due_meanwhile_is_done(
    start: Start, folder: Path, data_dir: Path, nursery: trio.Nursery
) -> None:
    server = Server(data_dir, nursery)
    await server.begin()
    daemon = await start(folder, DATABASE_URL=url_of(server.conninfo), SESSION_EXPIRATION_INTERVAL_MS="100")
    async with connection(server.conninfo) as conn:
        people = await settle_in(daemon.http, conn)
        session = await rent(people.client, people.pc_id, minutes=1)
        await conn.execute("UPDATE sessions SET end_at = now() + interval '1 second' WHERE id = %s", (session["id"],))
    await server.stop()
    await assert_away(daemon, people)
    await trio.sleep(1)
    await server.begin()
    await assert_back(daemon, people)

    async def is_over() -> bool:
        found = good(await people.client.get(f"/sessions/{session['id']}"))["session"]
        return (found["endReason"], found["failureReason"]) == ("COMPLETED", "NONE")

    await until(is_over)
    await server.stop()
    assert await daemon.stop() == 0


async def test_the_embedded_server_is_started_again_when_it_is_killed(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir)
    async with database_of(data_dir) as conn:
        people = await settle_in(daemon.http, conn)
    session = await rent(people.client, people.pc_id)
    for _ in range(2):
        killed = postgres_of(data_dir)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await daemon.says("postgres.ready", after=len(daemon.said("postgres.ready")))
        assert_served(await every_kind_of_call(people))
        good(await people.host.beat())
        assert postgres_of(data_dir) != killed
    assert len(daemon.said("postgres.died")) == 2
    assert good(await people.client.get(f"/sessions/{session['id']}"))["session"]["status"] == "ACTIVE"
    assert await daemon.stop() == 0


async def test_a_daemon_whose_database_is_away_stops_as_well(start: Start, folder: Path, gate: Gate) -> None:
    daemon = await start(folder, DATABASE_URL=url_of(gate.conninfo), SHUTDOWN_GRACE_MS="600000")
    await gate.shut()
    await daemon.says("database.away")
    assert await daemon.stop() == 0
    await gate.open()


async def cut_off(ask: Callable[[], Awaitable[httpx.Response]]) -> None:
    with suppress(httpx.TransportError):
        assert_unavailable(await ask())


async def test_a_daemon_whose_database_is_mute_stops_within_its_grace(
    start: Start, folder: Path, gate: Gate, conn: TrioConnection
) -> None:
    """It hangs up then. A statement that doesn't stop is waited for otherwise, a commit for longer than systemd is patient."""
    daemon = await start(folder, DATABASE_URL=url_of(gate.conninfo), SHUTDOWN_GRACE_MS="500")
    people = await settle_in(daemon.http, conn)
    gate.hold()
    async with trio.open_nursery() as nursery:
        for ask in (people.host.beat, partial(people.client.get, "/auth/me")):
            nursery.start_soon(cut_off, ask)
        await trio.sleep(0.1)  # nothing tells from outside that they wait; one that came too late would be refused, too
        daemon.send(signal.SIGTERM)
    assert await daemon.ended() == 0
    assert daemon.said("database.mute_at_the_end")
    assert daemon.said("postgres.connection_dropped") == []  # which is said when waiting was in vain


async def test_a_start_without_a_database_says_so_in_one_line(start: Start, folder: Path, gate: Gate) -> None:
    await gate.shut()
    done = await opendesk("serve", data_dir=folder, DATABASE_URL=url_of(gate.conninfo))
    assert "connection" in done.refusal
    await gate.open()
