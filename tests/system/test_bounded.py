"""Whatever strangers send, neither tables nor metrics nor memory grow with it for good."""

from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import psutil
import pytest
import trio

from opendesk.postgres.driver import TrioConnection
from tests.system.conftest import Start
from tests.system.daemon import PATIENCE_S, Daemon, database_of, until
from tests.system.people import PASSWORD, admin, good, register
from tests.web.serving import many_descriptors

MANY: Final = 2000
SOME: Final = 300
FEW: Final = 10

# What a process takes once it is warm varies by some megabytes; 12 KiB kept of each of MANY requests are more than that.
GROWTH_BYTES: Final = 24 * 1024 * 1024


async def send(daemon: Daemon, requests: Sequence[bytes]) -> bytes:
    """All on one connection, one behind the other, and all that comes back."""
    async with await trio.open_tcp_stream("127.0.0.1", daemon.port) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, b"".join(requests))
        answers, found = bytearray(), 0
        while found < len(requests):
            start = max(0, len(answers) - 8)
            with trio.fail_after(PATIENCE_S):
                answers += await stream.receive_some(65536)
            found += answers.count(b"HTTP/1.1 ", start)
    return bytes(answers)


def request(line: str, body: str = "", **headers: str) -> bytes:
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{line} HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def series(daemon: Daemon) -> set[str]:
    """Every series of the metrics, by name and labels; the ones for asking them among them."""
    await daemon.http.get("/metrics")
    lines = (await daemon.http.get("/metrics")).text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


async def rows(conn: TrioConnection, table: str) -> int:
    found = await (await conn.execute(f"SELECT count(*) FROM {table}".encode())).fetchone()
    assert found is not None
    return int(found[0])


async def nothing_in(conn: TrioConnection, table: str) -> bool:
    return await rows(conn, table) == 0


def memory(daemon: Daemon) -> int:
    size: int = psutil.Process(daemon.process.pid).memory_info().rss
    return size


async def test_unknown_paths_leave_nothing_behind(start: Start, data_dir: Path) -> None:
    daemon = await start(data_dir)

    def strange(number: int) -> bytes:
        return request(
            f"GET /strange/{number}?x={number}", X_Request_ID=f"id-{number}", Origin=f"https://{number}.example"
        )

    await send(daemon, [strange(-number) for number in range(FEW)])
    known, size = await series(daemon), memory(daemon)
    answers = await send(daemon, [strange(number) for number in range(MANY)])
    assert answers.count(b"HTTP/1.1 404") == MANY
    assert await series(daemon) == known
    assert memory(daemon) < size + GROWTH_BYTES


async def test_failed_log_ins_are_forgotten(start: Start, data_dir: Path) -> None:
    await _fail_to_log_in(start, data_dir, 4)


@pytest.mark.long
async def test_thousands_of_failed_log_ins_are_forgotten(start: Start, data_dir: Path) -> None:
    await _fail_to_log_in(start, data_dir, MANY)


async def _fail_to_log_in(start: Start, data_dir: Path, emails: int) -> None:
    """Each e-mail costs a hash; more for one are refused without."""
    daemon = await start(data_dir)

    def attempt(number: int) -> bytes:
        return request("POST /auth/login", f'{{"email": "{number % emails}@example.org", "password": "{PASSWORD}"}}')

    await send(daemon, [attempt(number) for number in range(6 * min(emails, FEW))])
    known, size = await series(daemon), memory(daemon)
    answers = await send(daemon, [attempt(number) for number in range(MANY)])
    assert answers.count(b"HTTP/1.1 401") + answers.count(b"HTTP/1.1 429") == MANY
    assert await series(daemon) == known
    assert memory(daemon) < size + GROWTH_BYTES
    async with database_of(data_dir) as conn:
        assert await rows(conn, "login_attempts") == emails
        await conn.execute("UPDATE login_attempts SET window_start = window_start - interval '1 hour'")
    await daemon.stop()
    await _is_forgotten(start, data_dir, "login_attempts")


async def test_idempotency_keys_are_forgotten(start: Start, data_dir: Path) -> None:
    await _pay_with_keys(start, data_dir, SOME)


@pytest.mark.long
async def test_thousands_of_idempotency_keys_are_forgotten(start: Start, data_dir: Path) -> None:
    await _pay_with_keys(start, data_dir, MANY)


async def _pay_with_keys(start: Start, data_dir: Path, payments: int) -> None:
    daemon = await start(data_dir)
    async with database_of(data_dir) as conn:
        boss, person = await admin(daemon.http, conn), await register(daemon.http)

    def pay(number: int) -> bytes:
        key = sha256(str(number).encode()).hexdigest()
        body = '{"type": "CREDIT", "amount": 1, "reason": "x"}'
        return request(f"POST /wallets/{person.id}/tx", body, Authorization=f"Bearer {boss.token}", Idempotency_Key=key)

    await send(daemon, [pay(-number - 1) for number in range(FEW)])
    known, size = await series(daemon), memory(daemon)
    answers = await send(daemon, [pay(number) for number in range(payments)])
    assert answers.count(b"HTTP/1.1 201") == payments
    assert await series(daemon) == known
    assert memory(daemon) < size + GROWTH_BYTES
    assert await person.balance() == payments + FEW
    async with database_of(data_dir) as conn:
        assert await rows(conn, "idempotency_keys") == payments + FEW
        await conn.execute("UPDATE idempotency_keys SET created_at = created_at - interval '1 day'")
    await daemon.stop()
    again = await _is_forgotten(start, data_dir, "idempotency_keys")
    # Past its time, a key is new.
    answer = await send(again, [pay(1)])
    assert b"HTTP/1.1 201" in answer
    assert b"idempotent-replayed" not in answer.lower()


async def test_a_thousand_silent_connections_and_a_body_without_end_keep_nobody_out_and_hold_up_no_end(
    start: Start, data_dir: Path
) -> None:
    """As they are with the daemon's own limits, from outside; tests/web has each limit on its own."""
    daemon = await start(data_dir)
    answers: list[bytes] = []

    async def pour() -> None:
        async with await trio.open_tcp_stream("127.0.0.1", daemon.port) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(_for_ever, stream)
            answers.append(await stream.receive_some(4096))
            nursery.cancel_scope.cancel()

    with many_descriptors():
        async with AsyncExitStack() as opened:
            for _ in range(1000):
                await opened.enter_async_context(await trio.open_tcp_stream("127.0.0.1", daemon.port))
            await pour()
            person = await register(daemon.http)
            good(await person.get("/auth/me"))
            assert await daemon.stop() == 0
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 413 "]


async def _for_ever(stream: trio.SocketStream) -> None:
    await stream.send_all(b"POST /auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    with suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(b"10000\r\n" + b"x" * 65536 + b"\r\n")


async def _is_forgotten(start: Start, data_dir: Path, table: str) -> Daemon:
    """By the next look, which every daemon begins with."""
    daemon = await start(data_dir)
    async with database_of(data_dir) as conn:
        await until(lambda: nothing_in(conn, table))
    good(await daemon.http.get("/health/ready"))
    return daemon
