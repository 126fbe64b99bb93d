"""The daemon's end, and its beginning: signals, what is in flight, systemd's side of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
import os
from pathlib import Path
import shutil
import signal
import socket
import ssl
import sys
from typing import Any

import httpx
import psycopg
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from tests.system.conftest import Start
from tests.system.daemon import COMMAND, Daemon, client, database_of, postgres_of, until
from tests.system.people import good, register, settle_in

# httpx's: what it was sending when the connection broke.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

CERTIFICATES = Path(__file__).parent.parent / "web" / "certificates"

# So long that a daemon that waits for it is noticed by the test's patience, and one that is cut off ends with it.
LONG_MS = "600000"
SHORT_MS = "500"


@asynccontextmanager
async def in_flight(daemon: Daemon, conn: TrioConnection) -> AsyncIterator[list[httpx.Response]]:
    """A request that waits for a lock of ours until this is left; its answer, if it got one, is there then."""
    people = await settle_in(daemon.http, conn)
    answers: list[httpx.Response] = []

    async def ask() -> None:
        body = {"pcId": people.pc_id, "minutesPurchased": 60}
        async with client(daemon.url) as http:
            headers = people.client.headers("in-flight")
            try:
                answers.append(await http.post("/sessions", json=body, headers=headers))
            except httpx.TransportError:
                return

    async with trio.open_nursery() as nursery:
        await conn.execute("BEGIN")
        await conn.execute("SELECT FROM pcs FOR UPDATE")
        nursery.start_soon(ask)
        await _someone_waits(conn)
        yield answers
        with suppress(psycopg.OperationalError):  # the server may have gone with its daemon
            await conn.execute("ROLLBACK")


async def _someone_waits(conn: TrioConnection) -> None:
    async def waits() -> bool:
        cursor = await conn.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return await cursor.fetchone() != (0,)

    await until(waits)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_is_in_flight_is_finished_before_the_end_and_nobody_new_is_let_in(
    start: Start, data_dir: Path, number: signal.Signals
) -> None:
    daemon = await start(data_dir, SHUTDOWN_GRACE_MS=LONG_MS)
    async with database_of(data_dir) as conn:
        async with in_flight(daemon, conn) as answers:
            daemon.send(number)
            await daemon.says("daemon.stopping", signal=number.name)
            await until(lambda: _is_shut(daemon.port))
        assert [answer.status_code for answer in answers] == [201]
        assert answers[0].headers["connection"] == "close"
    assert await daemon.ended() == 0
    assert daemon.said("daemon.stopped")


async def test_what_takes_longer_than_the_grace_is_cut_off(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir, SHUTDOWN_GRACE_MS=SHORT_MS)
    async with database_of(data_dir) as conn, in_flight(daemon, conn) as answers:
        daemon.send(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert answers == []
    again = await start(data_dir)
    async with database_of(data_dir) as conn:
        row = await (await conn.execute("SELECT count(*) FROM sessions")).fetchone()
    assert row == (0,)
    assert await again.stop() == 0


async def test_connections_that_say_nothing_hold_up_nothing(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir, SHUTDOWN_GRACE_MS=LONG_MS)
    silent = [await trio.open_tcp_stream("127.0.0.1", daemon.port) for _ in range(3)]
    good(await daemon.http.get("/health/live"))  # and stays open
    assert await daemon.stop() == 0
    for stream in silent:
        assert await stream.receive_some(1) == b""
        await stream.aclose()


async def test_readers_that_stall_hold_up_nothing_beyond_the_grace(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir, SHUTDOWN_GRACE_MS=SHORT_MS)
    stalled = await trio.open_tcp_stream("127.0.0.1", daemon.port)
    begun = await trio.open_tcp_stream("127.0.0.1", daemon.port)
    # More than all buffers between us hold.
    await stalled.send_all(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
    await begun.send_all(b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert await daemon.stop() == 0
    await stalled.aclose()
    await begun.aclose()


async def _is_shut(port: int) -> bool:
    try:
        await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
    except OSError:
        return True
    return False


async def test_the_server_is_stopped_with_it_and_starts_again_with_the_same_data(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir)
    made = await register(daemon.http)
    assert await daemon.stop() == 0
    assert not (data_dir / "postgres" / "postmaster.pid").exists()
    assert daemon.said("postgres.died") == []
    again = await start(data_dir)
    made.http = again.http
    assert good(await made.get("/auth/me"))["user"]["email"] == made.email
    assert again.said("database.migrated") == []
    assert await again.stop() == 0


@pytest.mark.parametrize(
    ("moment", "number"), [("postgres.making_database", signal.SIGTERM), ("postgres.ready", signal.SIGINT)]
)
async def test_a_signal_ends_a_start_that_is_not_done(
    start: Start, folder: Path, moment: str, number: signal.Signals
) -> None:
    data_dir = folder / "new"
    daemon = await start(data_dir, ready=False, SHUTDOWN_GRACE_MS=LONG_MS)
    await daemon.says(moment)
    assert await daemon.stop(number) == 0
    assert daemon.said("daemon.stopped")
    assert postgres_of(data_dir) is None
    again = await start(data_dir)
    assert await again.stop() == 0


async def test_it_serves_on_a_unix_socket_also_after_a_kill_left_one(
    start: Start, folder: Path, data_dir: Path
) -> None:
    bind = f"unix:{folder / 'door'}"
    daemon = await start(data_dir, BIND=bind)
    good(await daemon.http.get("/health/ready"))
    await daemon.kill()
    again = await start(data_dir, BIND=bind)
    good(await again.http.get("/health/ready"))
    assert any(f"curl --unix-socket {folder / 'door'} http://localhost/health/ready" in line for line in again.welcome)
    assert await again.stop() == 0


# As systemd passes sockets: descriptor 3, and the process that they are for.
_PASS_ON = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[2], sys.argv[2:])"


async def test_it_serves_on_a_socket_that_systemd_opened(start: Start, data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        fd = passed.fileno()
        command = (sys.executable, "-c", _PASS_ON, str(fd), *COMMAND, "serve")
        daemon = await start(data_dir, command=command, pass_fds=[fd], LISTEN_FDS="1", PORT="1", BIND="192.0.2.1")
        assert daemon.port == passed.getsockname()[1]
        good(await daemon.http.get("/health/ready"))
        assert await daemon.stop() == 0


async def _shown(port: int) -> bytes:
    """The certificate that a new client is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)
    await stream.do_handshake()
    shown = stream.getpeercert(binary_form=True)
    await stream.aclose()
    assert isinstance(shown, bytes)
    return shown


async def test_a_new_certificate_is_shown_after_sighup_and_a_bad_one_never(
    start: Start, folder: Path, data_dir: Path
) -> None:
    def install(name: str) -> bytes:
        shutil.copy(CERTIFICATES / f"{name}.pem", folder / "tls.pem")
        shutil.copy(CERTIFICATES / f"{name}.key", folder / "tls.key")
        return ssl.PEM_cert_to_DER_cert((CERTIFICATES / f"{name}.pem").read_text())

    first = install("first")
    settings: dict[str, Any] = {"TLS_CERT": str(folder / "tls.pem"), "TLS_KEY": str(folder / "tls.key")}
    daemon = await start(data_dir, expected=("http.certificate_refused",), **settings)
    assert daemon.url.startswith("https://")
    assert await _shown(daemon.port) == first
    second = install("second")
    daemon.send(signal.SIGHUP)
    await daemon.says("http.certificate_loaded")
    assert await _shown(daemon.port) == second
    (folder / "tls.key").write_text("nonsense")
    daemon.send(signal.SIGHUP)
    await daemon.says("http.certificate_refused")
    assert await _shown(daemon.port) == second
    assert await daemon.stop() == 0


async def test_sighup_without_tls_changes_nothing(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir)
    daemon.send(signal.SIGHUP)
    good(await daemon.http.get("/health/ready"))
    assert await daemon.stop() == 0


async def test_it_serves_as_long_as_its_terminal_is_not_the_one_that_ends(start: Start, data_dir: Path) -> None:
    """Ctrl-C reaches the whole foreground group; the server must hear it from the daemon alone."""
    daemon = await start(data_dir)
    pid = postgres_of(data_dir)
    assert pid is not None
    assert os.getpgid(pid) != os.getpgid(daemon.process.pid)
