"""The relays that are measured, each a process, and the sessions whose sides may come in."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from attrs import field, frozen
import trio

from opendesk.stream.tokens import Role, own_token, stream_id
from scripts.benchmarks.people import add_hosts, add_users, settle_down
from scripts.benchmarks.servers import START_S, Database, folder, free_port, start, stop, until_ready

OURS: Final = "ours"
NODE: Final = "@fastify/websocket"
NODE_NATIVE: Final = "@fastify/websocket + bufferutil"
OURS_TLS: Final = f"{OURS}, TLS"
NODE_TLS: Final = f"{NODE_NATIVE}, TLS"

# Of a database that is gone afterwards.
STREAM_KEY: Final = bytes(range(32))
_NODE_FOLDER: Final = Path(__file__).parent / "relay_node"
_INSTALL_S: Final = 180.0
_PCS_A_HOST: Final = 10
_PATIENCE_S: Final = 120.0
_LOOK_S: Final = 0.02

# The tests' own: what a handshake costs isn't measured.
_CERTIFICATES: Final = Path(__file__).parents[2] / "tests" / "web" / "certificates"
_TLS: Final = {"TLS_CERT": str(_CERTIFICATES / "first.pem"), "TLS_KEY": str(_CERTIFICATES / "first.key")}

# As a start and a `stream/start` leave them; nobody looks at the money of these.
_STREAMING: Final = """
    INSERT INTO sessions (pc_id, host_id, client_user_id, status, minutes_purchased, price_per_hour, price_total, currency,
                          platform_fee_rate, penalty_rate, start_at, end_at, stream_expires_at, stream_node, stream_url)
    SELECT p.id, p.host_id, r.client, 'ACTIVE', 240, p.price_per_hour, 0, p.currency, 0.1, 0.3, now(), now() + interval '4 hours',
           now() + interval '4 hours', gen_random_uuid(), 'ws://localhost/'
      FROM unnest(%(clients)s::uuid[], %(pcs)s::uuid[]) AS r (client, pc) JOIN pcs p ON p.id = r.pc
 RETURNING id, client_user_id, (SELECT user_id FROM hosts WHERE hosts.id = host_id)
"""


@frozen
class Side:
    """One side of a room: how it asks to come in, and what its own messages carry."""

    query: str
    scope: dict[str, str]


@frozen
class Party:
    """Both sides of one session."""

    host: Side
    client: Side


async def add_parties(base: Database, count: int) -> list[Party]:
    async with base.connection() as conn:
        hosts = await add_hosts(conn, "relay-host", -(-count // _PCS_A_HOST), pcs=_PCS_A_HOST)
        clients = await add_users(conn, "relay-client", count)
        pcs = [host.pc for host in hosts][:count]
        rows = await conn.fetch(_STREAMING, {"clients": clients, "pcs": pcs})
        await settle_down(conn)
    return [Party(_side(row[0], Role.HOST, row[2]), _side(row[0], Role.CLIENT, row[1])) for row in rows]


def _side(session: UUID, role: Role, user: UUID) -> Side:
    token = own_token(STREAM_KEY, session, role, user)
    scope = {"token": token, "sessionId": str(session), "streamId": stream_id(token)}
    return Side(urlencode({"role": role, "userId": user, **scope}), scope)


@frozen
class Serving:
    """A relay that answers. `how` is what the load has to know besides."""

    name: str
    port: int
    pid: int
    how: Mapping[str, Any] = field(factory=dict)

    async def load(self, kind: str, parties: Sequence[Party], **told: Any) -> dict[str, Any]:
        """Have it relayed. Raise RuntimeError for what went wrong: a relay that lets nobody in would look fast."""
        queries = [(party.host.query, party.client.query) for party in parties]
        told = {"kind": kind, "port": self.port, "pid": self.pid, "queries": queries, **self.how, **told}
        command = [sys.executable, "-m", "scripts.benchmarks.relay_load"]
        with trio.fail_after(_PATIENCE_S + told.get("seconds", 0)):
            done = await trio.run_process(
                command, stdin=json.dumps(told).encode(), capture_stdout=True, capture_stderr=True, check=False
            )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {_last_line(done.stderr)}")
        heard: dict[str, Any] = json.loads(done.stdout)
        return heard


@asynccontextmanager
async def relays(base: Database, *, peers: bool) -> AsyncIterator[tuple[list[Serving], list[str]]]:
    """Ours, without TLS and with it, and those of Node where there is a Node; and why there is none."""
    async with AsyncExitStack() as stack:
        served = [await stack.enter_async_context(ours(base, each)) for each in ({}, _TLS)]
        if not peers:
            yield served, ["without the relays of Node, which --quick doesn't install"]
            return
        made = stack.enter_context(folder())
        why_not = await _install(made)
        if why_not is None:
            served.append(await stack.enter_async_context(_node(NODE, made, {"WS_NO_BUFFER_UTIL": "1"})))
            if _has_native(made):
                for name, settings in ((NODE_NATIVE, {}), (NODE_TLS, _TLS)):
                    served.append(await stack.enter_async_context(_node(name, made, settings)))
            else:
                why_not = "without bufferutil, which can't be loaded here"
        yield served, [] if why_not is None else [why_not]


@asynccontextmanager
async def ours(base: Database, tls: Mapping[str, str]) -> AsyncIterator[Serving]:
    port = free_port()
    settings = {"CONNINFO": base.as_served, "STREAM_KEY": STREAM_KEY.hex(), "PORT": str(port), **tls}
    process = start(("-m", "scripts.benchmarks.relay_server"), settings)
    async with _running(OURS_TLS if tls else OURS, process, port, tls) as serving:
        yield serving


@asynccontextmanager
async def _node(name: str, made: Path, settings: Mapping[str, str]) -> AsyncIterator[Serving]:
    port = free_port()
    async with _running(name, _start_node(made, port, settings), port, settings) as serving:
        yield serving


def _start_node(made: Path, port: int, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    environ = {**_environ(), **settings}
    return subprocess.Popen(["node", "relay.cjs", str(port)], cwd=made, env=environ, stdout=subprocess.DEVNULL)


@asynccontextmanager
async def _running(
    name: str, process: subprocess.Popen[bytes], port: int, settings: Mapping[str, str]
) -> AsyncIterator[Serving]:
    certificate = settings.get("TLS_CERT")
    try:
        await (_until_listening if certificate else until_ready)(process, port)
        yield Serving(name, port, process.pid, {"trusts": certificate} if certificate else {})
    finally:
        with trio.CancelScope(shield=True):
            await stop(process)


async def _until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    """As `until_ready`, of one that would have to be asked with TLS: it listens last of all."""
    with trio.fail_after(START_S):
        while not await _listens(port):
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with code {process.returncode} at its start")
            await trio.sleep(_LOOK_S)


async def _listens(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True


# ---- Node


async def _install(made: Path) -> str | None:
    """Put the peer and its packages there. Why that can't be done, if it can't."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "without the relays of Node: there is no node, or no npm"
    for path in _NODE_FOLDER.iterdir():
        shutil.copy(path, made)
    # No package's own scripts are run: bufferutil brings what is built for the common systems.
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    with trio.move_on_after(_INSTALL_S) as limit:
        done = await trio.run_process(
            command, cwd=made, env=_environ(), capture_stdout=True, capture_stderr=True, check=False
        )
    if limit.cancelled_caught:
        return "without the relays of Node: npm took too long"
    return f"without the relays of Node, npm: {_last_line(done.stderr)}" if done.returncode else None


def _has_native(made: Path) -> bool:
    """Without its native part it is JavaScript, and says nothing; what is native has no source to show."""
    asked = "const u = require('bufferutil'); process.exit(String(u.mask).includes('[native code]') ? 0 : 1)"
    return not subprocess.run(
        ["node", "-e", asked], cwd=made, env=_environ(), check=False, capture_output=True
    ).returncode


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in {"WS_NO_BUFFER_UTIL", *_TLS}}


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
