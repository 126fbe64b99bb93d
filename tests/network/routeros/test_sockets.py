"""Over loopback: how the sockets are set, and whose certificate is believed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
import hashlib
from pathlib import Path
import socket
import ssl
import threading
from types import SimpleNamespace
from typing import Any

from attrs import evolve
import pytest
import trio
import trio.testing

from opendesk.network.routeros import dialling, transport
from opendesk.network.routeros.client import connect
from opendesk.network.routeros.errors import TimedOut, Unreachable
from opendesk.network.routeros.session import Command, Result
from opendesk.network.routeros.transport import Target
from opendesk.settings.secret import Secret
from tests.network.routeros.scripting import TARGET, FakeRouter

CERTIFICATES = Path(__file__).parents[2] / "web" / "certificates"
PIN = hashlib.sha256(ssl.PEM_cert_to_DER_cert((CERTIFICATES / "first.pem").read_text())).digest()
OTHER_PIN = hashlib.sha256(ssl.PEM_cert_to_DER_cert((CERTIFICATES / "second.pem").read_text())).digest()
TLS = evolve(TARGET, host="127.0.0.1", tls=True, timeout_s=20)


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[list[str]]]]:
    """A router on loopback that lets in and says `!done` to all: its port, and all that it hears."""
    heard: list[list[str]] = []

    async def handle(stream: trio.abc.Stream) -> None:
        router = FakeRouter(stream if context is None else trio.SSLStream(stream, context, server_side=True))
        try:
            while True:
                heard.append(await router.hear())
                await router.say("!done", heard[-1][-1])
        except (EOFError, trio.BrokenResourceError):
            await trio.aclose_forcefully(router.stream)

    async with listening(handle) as port:
        yield port, heard


@asynccontextmanager
async def listening(handle: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def in_tls(name: str = "first") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / f"{name}.pem", CERTIFICATES / f"{name}.key")
    return context


@pytest.fixture
def no_contexts_kept() -> Iterator[None]:
    """They remember whom they trusted when they were made."""
    transport._valid_certificate.cache_clear()
    yield
    transport._valid_certificate.cache_clear()


async def talk(target: Target) -> None:
    async with connect(target) as client:
        assert await client.run(Command("/system/identity/print")) == Result()


async def test_a_plain_socket_sends_small_sentences_at_once() -> None:
    async with serving() as (port, heard):
        async with connect(evolve(TLS, port=port, tls=False)) as client:
            assert isinstance(client._stream, trio.SocketStream)
            assert client._stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await client.run(Command("/system/identity/print"))
        assert [words[0] for words in heard] == ["/login", "/system/identity/print"]


async def test_a_name_is_dialled_at_whichever_of_its_addresses_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(_host: str, port: int, **_options: object) -> list[Any]:
        return [(0, 0, 0, "", (address, port)) for address in ("127.0.0.99", "127.0.0.1", "127.0.0.1")]

    monkeypatch.setattr(dialling, "socket", SimpleNamespace(getaddrinfo=resolve, SOCK_STREAM=socket.SOCK_STREAM))
    async with serving() as (port, heard):
        await talk(evolve(TLS, host="router.test", port=port, tls=False))
        assert len(heard) == 2


async def test_names_that_nobody_resolves_keep_nobody_else_from_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def resolve(*_asked: object, **_options: object) -> list[Any]:
        answered.wait()
        return []

    monkeypatch.setattr(dialling, "socket", SimpleNamespace(getaddrinfo=resolve, SOCK_STREAM=socket.SOCK_STREAM))
    default = trio.to_thread.current_default_thread_limiter()
    try:
        async with trio.open_nursery() as nursery:
            for number in range(2 * int(default.total_tokens)):
                nursery.start_soon(dialling.dial, f"r{number}.test", 8728)
            await trio.testing.wait_all_tasks_blocked()
            assert dialling._limiter().borrowed_tokens == dialling.LOOKUPS
            assert default.borrowed_tokens == 0
            nursery.cancel_scope.cancel()  # at once, whatever the threads do
    finally:
        answered.set()
    while dialling._limiter().borrowed_tokens:  # noqa: ASYNC110  # it tells nobody
        await trio.sleep(0.001)


async def test_a_name_without_an_address_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "_addresses", no_addresses)
    with pytest.raises(Unreachable, match="no address"):
        await talk(evolve(TLS, host="router.test", port=1, tls=False))


async def no_addresses(_host: str, _port: int) -> list[str]:
    return []


async def test_the_pinned_certificate_is_believed_whoever_signed_it() -> None:
    async with serving(in_tls()) as (port, heard):
        await talk(evolve(TLS, port=port, tls_sha256=PIN))
        await talk(evolve(TLS, host="localhost", port=port, tls_sha256=PIN))
        assert len(heard) == 4


async def test_another_certificate_than_the_pinned_is_told_nothing() -> None:
    async with serving(in_tls()) as (port, heard):
        with pytest.raises(Unreachable, match=f"another certificate than the pinned.*{PIN.hex()}"):
            await talk(evolve(TLS, port=port, tls_sha256=OTHER_PIN))
        assert heard == []


@pytest.mark.usefixtures("no_contexts_kept")
async def test_a_certificate_that_nobody_vouches_for_is_told_nothing() -> None:
    async with serving(in_tls()) as (port, heard):
        with pytest.raises(Unreachable, match=r"isn't valid for it \(self.signed certificate\): pin it"):
            await talk(evolve(TLS, port=port))
        assert heard == []


@pytest.mark.usefixtures("no_contexts_kept")
async def test_a_valid_certificate_needs_no_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "first.pem"))
    async with serving(in_tls()) as (port, heard):
        await talk(evolve(TLS, port=port))
        assert len(heard) == 2


@pytest.mark.usefixtures("no_contexts_kept")
async def test_a_valid_certificate_of_another_host_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "first.pem"))
    async with serving(in_tls()) as (port, heard):
        with pytest.raises(Unreachable, match="isn't valid for it"):
            await talk(evolve(TLS, host="127.1", port=port))
        assert heard == []


async def test_anonymous_tls_is_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ADH-AES256-GCM-SHA384:@SECLEVEL=0")
    async with serving(context) as (port, heard):
        with pytest.raises(Unreachable, match="anonymous TLS, which proves nothing"):
            await talk(evolve(TLS, port=port, tls_sha256=PIN))
        assert heard == []


async def test_tls_with_a_plain_port_is_unreachable() -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"\0")
        await stream.aclose()

    async with listening(hang_up) as port:
        with pytest.raises(Unreachable, match="No TLS with"):
            await talk(evolve(TLS, port=port, tls_sha256=PIN))


async def test_nobody_there_is_unreachable() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match=r"can't be connected to: .*refused"):
            await talk(evolve(TLS, port=nobody.getsockname()[1], tls=False))


@pytest.mark.parametrize("host", ["x" * 70, "a..b", ".b"])
async def test_a_name_that_cant_be_is_unreachable(host: str) -> None:
    with pytest.raises(Unreachable, match="can't be connected to"):
        await talk(evolve(TLS, host=host, port=1, tls=False))


async def test_who_takes_connections_and_says_nothing_is_left() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for tls in (False, True):
            with pytest.raises(TimedOut):
                await talk(evolve(TLS, port=silent.getsockname()[1], tls=tls, timeout_s=0.2))


async def test_what_is_to_go_through_an_interface_goes_through_it_or_not_at_all() -> None:
    """Also where the machine's routes know another way."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        await trio.aclose_forcefully(await dialling.dial("127.0.0.1", port, interface="lo"))
        target = transport.Target("127.0.0.1", port, "api", Secret("x"), interface="no-such-if0")
        with pytest.raises(Unreachable, match="No such device"):
            await transport.open_stream(target)
