"""Connecting: names, addresses, refusals, silence."""

from contextlib import suppress
from functools import partial
import socket
from typing import Any

import psycopg
from psycopg import errors as e
from psycopg.conninfo import conninfo_to_dict
import pytest
import trio
import trio.testing

from opendesk.postgres.addresses import connection_attempts
from opendesk.postgres.driver import TrioConnection
from tests.postgres.lending import Gate


class Names(trio.abc.HostnameResolver):
    """A resolver that knows one name."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if host not in {"db.example", b"db.example"}:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        family = trio.socket.AF_INET
        return [(family, trio.socket.SOCK_STREAM, 6, "", (address, int(port))) for address in self.addresses]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


class SlowNames(Names):
    async def getaddrinfo(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        await trio.sleep_forever()


@pytest.fixture
async def tcp_port(conninfo: str, nursery: trio.Nursery) -> int:
    """A TCP port of the server, which has only a Unix socket."""
    path = f"{conninfo_to_dict(conninfo)['host']}/.s.PGSQL.5432"

    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        async for data in source:
            await sink.send_all(data)
        await sink.send_eof()

    async def serve(client: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async with await trio.open_unix_socket(path) as server, trio.open_nursery() as pumps:
                pumps.start_soon(pump, client, server)
                await pump(server, client)

    listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    port: int = listeners[0].socket.getsockname()[1]
    return port


def over_tcp(conninfo: str, port: int, host: str) -> str:
    return psycopg.conninfo.make_conninfo(conninfo, host=host, port=port)


async def test_host_names_are_resolved_by_trio_and_each_address_is_tried(conninfo: str, tcp_port: int) -> None:
    trio.socket.set_custom_hostname_resolver(Names("127.0.0.1"))
    async with await TrioConnection.connect(over_tcp(conninfo, tcp_port, "db.example")) as conn:
        assert await conn.fetch("SELECT 1") == [(1,)]
        assert conn.info.host == "db.example"
    trio.socket.set_custom_hostname_resolver(Names("255.255.255.255", "127.0.0.1"))
    async with await TrioConnection.connect(over_tcp(conninfo, tcp_port, "db.example")) as conn:
        assert await conn.fetch("SELECT 1") == [(1,)]
    trio.socket.set_custom_hostname_resolver(Names("255.255.255.255", "255.255.255.255"))
    with pytest.raises(e.OperationalError, match=r"(?s)all connection attempts failed:\n.*255.*255"):
        await TrioConnection.connect(over_tcp(conninfo, tcp_port, "db.example"))
    with pytest.raises(e.OperationalError, match=r"failed to resolve host 'elsewhere\.example'"):
        await TrioConnection.connect(over_tcp(conninfo, tcp_port, "elsewhere.example"))
    async with await TrioConnection.connect(over_tcp(conninfo, tcp_port, "elsewhere.example,127.0.0.1")) as conn:
        assert await conn.fetch("SELECT 1") == [(1,)]


async def test_attempts_follow_libpqs_rules() -> None:
    trio.socket.set_custom_hostname_resolver(Names("192.0.2.1", "192.0.2.2"))
    found = await connection_attempts({"host": "db.example,192.0.2.3,/run", "port": "1,2,3"})
    assert [(one.get("hostaddr"), one["port"]) for one in found] == [
        ("192.0.2.1", "1"),
        ("192.0.2.2", "1"),
        ("192.0.2.3", "2"),
        (None, "3"),
    ]
    assert await connection_attempts({"host": "nobody.example", "hostaddr": "192.0.2.9"}) == [
        {"host": "nobody.example", "hostaddr": "192.0.2.9"}
    ]
    both = await connection_attempts({"host": "192.0.2.1,192.0.2.2", "target_session_attrs": "prefer-standby"})
    assert [(one["hostaddr"], one["target_session_attrs"]) for one in both] == [
        ("192.0.2.1", "standby"),
        ("192.0.2.2", "standby"),
        ("192.0.2.1", "any"),
        ("192.0.2.2", "any"),
    ]
    balanced = await connection_attempts({"host": "192.0.2.1,192.0.2.2", "load_balance_hosts": "random"})
    assert {one["hostaddr"] for one in balanced} == {"192.0.2.1", "192.0.2.2"}


async def test_a_refused_connection_says_where(conninfo: str) -> None:
    with pytest.raises(e.OperationalError, match="nowhere"):
        await TrioConnection.connect(conninfo, host="/nowhere")
    with pytest.raises(e.OperationalError, match="does not exist"):
        await TrioConnection.connect(conninfo, dbname="nothing")


async def test_a_silent_server_times_out(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opendesk.postgres.driver.timeout_from_conninfo", lambda _params: 0.02)
    gate.hold()
    with pytest.raises(e.ConnectionTimeout):
        await TrioConnection.connect(gate.conninfo)
    trio.socket.set_custom_hostname_resolver(SlowNames())
    with pytest.raises(e.ConnectionTimeout):
        await TrioConnection.connect(gate.conninfo, host="db.example")


async def test_a_cancelled_connect_leaves_no_socket_behind(conninfo: str, nursery: trio.Nursery) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    accepted: list[trio.SocketStream] = []

    async def cancel() -> None:
        accepted.append(await listener.accept())
        await accepted[0].receive_some()  # its first packet
        scope.cancel()

    with trio.CancelScope() as scope:
        nursery.start_soon(cancel)
        await TrioConnection.connect(over_tcp(conninfo, port, "127.0.0.1"))
    assert scope.cancelled_caught
    with trio.fail_after(5):
        assert await accepted[0].receive_some() == b""
    await accepted[0].aclose()
    await listener.aclose()
