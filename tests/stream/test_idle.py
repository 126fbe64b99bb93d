"""Ten thousand sockets that hardly do anything: all there, all answered, within their memory, and all told good-bye."""

from collections.abc import Collection, Iterator
from pathlib import Path
import resource
import selectors
import socket
import subprocess
import sys
import time
from urllib.parse import urlencode
from uuid import UUID
import warnings

from attrs import define, field
import psutil
import psycopg
import pytest

from opendesk.stream.tokens import Role, own_token, stream_id
from opendesk.web.http.limits import Limits
from tests.stream.framing import BINARY, CLOSE, PING, PONG, TEXT, sent

SERVE = Path(__file__).parent / "serve_relay.py"
KEY = bytes(range(32))

SOCKETS = 10_000
# Under so many it is no crowd.
FEWEST = 1000
DESCRIPTORS = 20_000
MOST_RESIDENT_BYTES = 640 * 2**20

# Handshakes under way: each waits 5 ms for its welcome.
AT_ONCE = 64
# One room in so many has a picture pass through it.
PICTURE_IN = 50
# What a crowd that hangs is given for each step; nothing is measured by it.
PATIENCE_S = 60

SERVICE_RESTART = 1012
# In a frame's second byte: the length is in the next two.
LENGTH_16 = 126

# As a start and a `stream/start` leave it: a host with many PCs, each rented by another client.
SESSIONS = """
    WITH keeper AS (
        INSERT INTO users (email, username, role, password_hash) VALUES ('keeper@example.org', 'keeper', 'HOST', '-') RETURNING id
    ), host AS (
        INSERT INTO hosts (user_id, display_name) SELECT id, 'Host' FROM keeper RETURNING id, user_id
    ), pc AS (
        INSERT INTO pcs (host_id, name, level, cpu, ram_gb, gpu, vram_gb, storage_type, internet_upload_mbps, price_per_hour, currency, status)
        SELECT host.id, 'PC', 'A', 'cpu', 16, 'gpu', 8, 'SSD', 100, 600, 'BRL', 'ONLINE' FROM host, generate_series(1, %(count)s)
        RETURNING id, host_id
    ), renter AS (
        INSERT INTO users (email, username, role, password_hash)
        SELECT 'renter' || n || '@example.org', 'renter' || n, 'CLIENT', '-' FROM generate_series(1, %(count)s) AS n
        RETURNING id
    ), made AS (
        INSERT INTO sessions (pc_id, host_id, client_user_id, status, minutes_purchased, price_per_hour, price_total, currency,
                              platform_fee_rate, penalty_rate, start_at, end_at, stream_expires_at, stream_node, stream_url)
        SELECT pc.id, pc.host_id, renter.id, 'ACTIVE', 240, 600, 0, 'BRL', 0.1, 0.3, now(), now() + interval '4 hours',
               now() + interval '4 hours', gen_random_uuid(), 'ws://localhost/'
          FROM (SELECT *, row_number() OVER () AS n FROM pc) AS pc JOIN (SELECT *, row_number() OVER () AS n FROM renter) AS renter USING (n)
        RETURNING id, client_user_id
    )
    SELECT made.id, keeper.id, made.client_user_id FROM made, keeper
"""


@define(eq=False)
class Member:
    """One socket of a room. What has come and isn't a whole frame yet is in `rest`."""

    sock: socket.socket
    rest: bytes = b""

    def read(self) -> list[tuple[int, bytes]]:
        """What is complete of what is there, as opcode and payload. Raise ConnectionError when the relay is gone."""
        data = self.sock.recv(65_536)
        if not data:
            raise ConnectionError("gone without a word")
        self.rest += data
        return self.whole()

    def whole(self) -> list[tuple[int, bytes]]:
        return list(iter(self._frame, None))

    def _frame(self) -> tuple[int, bytes] | None:
        """The next whole one. None that comes here is longer than 64 KiB."""
        head = 4 if len(self.rest) > 1 and self.rest[1] == LENGTH_16 else 2
        if len(self.rest) < head:
            return None
        end = head + int.from_bytes(self.rest[head // 2 : head])
        if len(self.rest) < end:
            return None
        frame, self.rest = self.rest[:end], self.rest[end:]
        return frame[0] & 0x0F, frame[head:]


@define(eq=False)
class Crowd:
    """All of them, on one selector. Who is pinged answers, whatever else is waited for."""

    members: list[Member] = field(factory=list)
    _selector: selectors.BaseSelector = field(factory=selectors.DefaultSelector)

    def enter(self, port: int, queries: list[dict[str, str]]) -> None:
        for at in range(0, len(queries), AT_ONCE):
            group = [self._knock(port, query) for query in queries[at : at + AT_ONCE]]
            for payload in self.heard(TEXT, group).values():
                assert b'"relay.welcome"' in payload

    def _knock(self, port: int, query: dict[str, str]) -> Member:
        sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        member = Member(sock)
        self.members.append(member)
        sock.sendall(
            f"GET /stream/relay?{urlencode(query)} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096) or pytest.fail("no handshake")
        assert head.startswith(b"HTTP/1.1 101 "), head
        member.rest = head.partition(b"\r\n\r\n")[2]
        self._selector.register(sock, selectors.EVENT_READ, member)
        return member

    def heard(self, opcode: int, members: Collection[Member]) -> dict[Member, bytes]:
        """What each of these got of this kind, when all have. Nobody gets anything else but pings."""
        found = {member: payload for member in members for payload in self._of_kind(opcode, member, member.whole())}
        until_s = time.monotonic() + PATIENCE_S
        while len(found) < len(members):
            assert time.monotonic() < until_s, f"{len(members) - len(found)} of {len(members)} still wait"
            for key, _ in self._selector.select(1):
                for payload in self._of_kind(opcode, key.data, key.data.read()):
                    assert key.data not in found
                    found[key.data] = payload
        assert found.keys() == set(members)
        return found

    def _of_kind(self, opcode: int, member: Member, frames: list[tuple[int, bytes]]) -> Iterator[bytes]:
        for kind, payload in frames:
            if kind == PING:
                member.sock.sendall(sent(PONG, payload))
            else:
                assert kind == opcode, (kind, payload)
                yield payload

    def close(self) -> None:
        self._selector.close()
        for member in self.members:
            member.sock.close()


@pytest.fixture
def sockets() -> Iterator[int]:
    """How many there can be, in this process and in the relay, which inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    possible = min(SOCKETS, Limits().within_descriptors().upgraded)
    if possible < FEWEST:
        pytest.skip(f"only {possible} sockets are possible: `ulimit -Hn` says {hard}")
    if possible < SOCKETS:
        warnings.warn(f"only {possible} of {SOCKETS} sockets were tried: `ulimit -Hn` says {hard}", stacklevel=1)
    yield possible
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def relay(conninfo: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The relay's process, and its port."""
    command = [sys.executable, "-W", "error", str(SERVE), conninfo, KEY.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline()
            assert port, "the relay did not start: see above"
            yield process, int(port)
        finally:
            process.kill()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    made = Crowd()
    yield made
    made.close()


def parties(conninfo: str, count: int) -> list[dict[str, str]]:
    """What hosts and clients of so many sessions ask with, in turn."""
    with psycopg.connect(conninfo, autocommit=True) as conn:
        rows = conn.execute(SESSIONS, {"count": count}).fetchall()
        conn.execute("VACUUM ANALYZE")  # as autovacuum would, before long
    roles = (Role.HOST, 1), (Role.CLIENT, 2)
    return [_query(row[0], role, row[column]) for row in rows for role, column in roles]


def _query(session: UUID, role: Role, user: UUID) -> dict[str, str]:
    token = own_token(KEY, session, role, user)
    return {
        "role": role.value,
        "sessionId": str(session),
        "streamId": stream_id(token),
        "token": token,
        "userId": str(user),
    }


@pytest.mark.long
@pytest.mark.filterwarnings("default:only :UserWarning")
def test_ten_thousand_idle_sockets_stay_are_answered_fit_into_640_mib_and_are_told_goodbye(
    conninfo: str, sockets: int, relay: tuple[subprocess.Popen[str], int], crowd: Crowd
) -> None:
    process, port = relay
    crowd.enter(port, parties(conninfo, sockets // 2))
    assert len(crowd.members) == sockets // 2 * 2

    for number, member in enumerate(crowd.members):
        member.sock.sendall(sent(PING, str(number).encode()))
    pongs = crowd.heard(PONG, crowd.members)
    assert [pongs[member] for member in crowd.members] == [str(n).encode() for n in range(len(crowd.members))]

    hosts, clients = crowd.members[:: 2 * PICTURE_IN], crowd.members[1 :: 2 * PICTURE_IN]
    for number, host in enumerate(hosts):
        host.sock.sendall(sent(BINARY, str(number).encode() * 100))
    pictures = crowd.heard(BINARY, clients)
    assert [pictures[client] for client in clients] == [str(n).encode() * 100 for n in range(len(clients))]

    assert psutil.Process(process.pid).memory_info().rss < MOST_RESIDENT_BYTES

    process.terminate()
    # Half of them answer it, as RFC 6455 wants; the others have to be given up.
    goodbyes = crowd.heard(CLOSE, crowd.members)
    assert set(goodbyes.values()) == {SERVICE_RESTART.to_bytes(2) + b"relay_shutdown"}
    for member in crowd.members[::2]:
        member.sock.sendall(sent(CLOSE, SERVICE_RESTART.to_bytes(2)))
    assert process.wait(PATIENCE_S) == 0
