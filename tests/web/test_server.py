"""The front door over real sockets: requests, answers, apps at fault."""

from pathlib import Path
import socket
import tempfile
from typing import Any

import httpx
import hypercorn.trio.run
from hypercorn.trio.tcp_server import TCPServer
import pytest
from structlog.testing import capture_logs
import trio
import trio.testing

from opendesk.web.http.door import Upgrade
from opendesk.web.http.limits import Limits
from opendesk.web.http.listen import listen
from opendesk.web.http.server import serve_http
from tests.web.serving import ECHO, GET, POST, answer, answers, app_of, ask, closed, read_all, serving, with_lifespan

HANDSHAKE = b"GET /stream/relay?token=t HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


async def test_a_connection_serves_many_requests() -> None:
    async with serving(ECHO, clock=lambda: 0.0) as served, await served.connect() as stream:
        for number in range(3):
            got = await ask(stream, (POST % 1) + b"%d" % number)
            assert got.body == b"/ %d" % number
            assert got.fields == {b"content-length": b"3", b"date": b"Thu, 01 Jan 1970 00:00:00 GMT"}


async def test_fifty_requests_in_one_packet_are_answered_in_order() -> None:
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(50))
    async with serving(ECHO) as served, await served.connect() as stream:
        await stream.send_all(requests)
        assert [got.body for got in await answers(stream, 50)] == [b"/%d " % number for number in range(50)]


async def test_a_request_may_come_byte_by_byte() -> None:
    async with serving(ECHO) as served, await served.connect() as stream:
        for byte in (POST % 2) + b"hi":
            await stream.send_all(bytes([byte]))
        assert (await answer(stream)).body == b"/ hi"


async def test_the_scope_says_who_asks_for_what() -> None:
    scopes: list[Any] = []

    async def handler(scope: Any, _body: bytes) -> bytes:
        scopes.append(scope)
        return b""

    async with serving(app_of(handler)) as served, await served.connect() as stream:
        await ask(stream, b"GET http://there/a%20b?c=d HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n\r\n")
        assert scopes[0]["client"] == stream.socket.getsockname()
        assert scopes[0]["server"] == ("127.0.0.1", served.port)
    facts = {name: scopes[0][name] for name in ("method", "scheme", "path", "query_string", "headers", "http_version")}
    assert facts == {
        "method": "GET",
        "scheme": "http",
        "path": "/a b",
        "query_string": b"c=d",
        "headers": [(b"host", b"there"), (b"x-a", b"1")],
        "http_version": "1.1",
    }


async def test_an_http_1_0_client_is_answered_and_left() -> None:
    async with serving(ECHO) as served, await served.connect() as stream:
        got = await ask(stream, b"GET / HTTP/1.0\r\n\r\n")
        assert (got.body, got.fields[b"connection"]) == (b"/ ", b"close")
        assert await closed(stream)


async def test_a_client_that_has_said_all_is_still_answered() -> None:
    async with serving(ECHO) as served, await served.connect() as stream:
        await stream.send_all(GET)
        await stream.send_eof()
        assert (await answer(stream)).body == b"/ "
        assert await closed(stream)


async def test_a_chunked_body_arrives_whole() -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    async with serving(ECHO) as served, await served.connect() as stream:
        assert (await ask(stream, chunked)).body == b"/ hello"
        assert (await ask(stream)).body == b"/ "


async def test_a_body_that_is_held_back_is_asked_for() -> None:
    expecting = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    async with serving(ECHO) as served, await served.connect() as stream:
        await stream.send_all(expecting)
        assert await stream.receive_some(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(b"hi")
        assert (await answer(stream)).body == b"/ hi"


async def test_an_answer_leaves_in_pieces_when_the_app_makes_them() -> None:
    taken = trio.Event()

    async def http(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await taken.wait()
        await send({"type": "http.response.body", "body": b"second"})

    async with serving(with_lifespan(http)) as served, await served.connect() as stream:
        await stream.send_all(GET)
        assert (await stream.receive_some(1000)).endswith(b"\r\n\r\n5\r\nfirst\r\n")
        taken.set()
        assert await stream.receive_some(1000) == b"6\r\nsecond\r\n0\r\n\r\n"


async def test_a_large_answer_arrives_whole() -> None:
    body = bytes(range(256)) * 20_000

    async def handler(_scope: Any, _body: bytes) -> bytes:
        return body

    async with serving(app_of(handler)) as served, await served.connect() as stream:
        assert (await ask(stream)).body == body


async def test_an_ordinary_client_is_content() -> None:
    async with serving(ECHO) as served, httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.post("/a", content=b"b")).content == b"/a b"
        head = await client.head("/a")
        assert (head.content, head.headers["content-length"]) == (b"", "3")


async def test_the_app_hears_of_the_end_only_after_its_answer() -> None:
    heard: list[str] = []
    answered = trio.Event()

    async def http(_scope: Any, receive: Any, send: Any) -> None:
        async def listen() -> None:
            heard.extend([(await receive())["type"], (await receive())["type"]])
            assert answered.is_set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked()
            answered.set()
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    async with serving(with_lifespan(http)) as served, await served.connect() as stream:
        assert (await ask(stream)).status == 204
        assert (await ask(stream)).status == 204
    assert heard == ["http.request", "http.disconnect"] * 2


async def failing(_scope: Any, _body: bytes) -> bytes:
    raise RuntimeError("secret words")


async def failing_in_a_group(_scope: Any, _body: bytes) -> bytes:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(failing, None, b"")
    return b""


@pytest.mark.parametrize("handler", [failing, failing_in_a_group])
async def test_an_app_that_raises_is_a_500_without_its_words(handler: Any) -> None:
    request = b"GET /a?b HTTP/1.1\r\nHost: x\r\nX-Request-ID: abc-1\r\n\r\n"
    with capture_logs() as logs:
        async with serving(app_of(handler)) as served, await served.connect() as stream:
            got = await ask(stream, request)
            assert got.problem == (500, "INTERNAL")
            assert got.fields[b"x-request-id"] == b"abc-1"
            assert b"secret" not in got.body
            assert await closed(stream)
            async with await served.connect() as other:
                made_up = (await ask(other)).fields[b"x-request-id"].decode()
    failures = [line for line in logs if line["event"] == "http.app_failed"]
    assert [(line["path"], line["log_level"]) for line in failures] == [("/a", "error"), ("/", "error")]
    assert [line["traceId"] for line in failures] == ["abc-1", made_up]
    assert isinstance(failures[0]["exc_info"], ExceptionGroup)


@pytest.mark.parametrize("sent", [b'a"b', b"x" * 65, b"\xe9"])
async def test_a_request_id_that_could_do_harm_is_replaced(sent: bytes) -> None:
    with capture_logs():
        async with serving(app_of(failing), new_id=lambda: "ours") as served, await served.connect() as stream:
            got = await ask(stream, b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: %b\r\n\r\n" % sent)
            assert got.fields[b"x-request-id"] == b"ours"


async def _start(send: Any, *pieces: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})


@pytest.mark.parametrize("pieces", [(), (b"begun",)])
@pytest.mark.parametrize("raises", [True, False])
async def test_an_app_that_dies_amid_its_answer_never_looks_done(pieces: tuple[bytes, ...], raises: bool) -> None:  # noqa: FBT001
    async def http(_scope: Any, _receive: Any, send: Any) -> None:
        await _start(send, *pieces)
        if raises:
            raise RuntimeError

    with capture_logs() as logs:
        async with serving(with_lifespan(http)) as served, await served.connect() as stream:
            await stream.send_all(GET)
            if pieces:
                with pytest.raises(trio.BrokenResourceError):
                    await read_all(stream)
            else:
                assert (await answer(stream)).problem == (500, "INTERNAL")
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["http.app_failed"]


async def test_an_answer_that_is_no_http_is_a_500() -> None:
    async def http(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\nc: d")]})
        await send({"type": "http.response.body", "body": b""})

    with capture_logs() as logs:
        async with serving(with_lifespan(http)) as served, await served.connect() as stream:
            assert (await ask(stream)).problem == (500, "INTERNAL")
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["http.app_failed"]


async def test_a_handler_finishes_though_its_client_hangs_up() -> None:
    called, hung_up, done = trio.Event(), trio.Event(), trio.Event()

    async def handler(_scope: Any, _body: bytes) -> bytes:
        called.set()
        await hung_up.wait()
        await trio.lowlevel.checkpoint()
        done.set()
        return b"x" * 10_000_000

    with capture_logs() as logs:
        async with serving(app_of(handler)) as served:
            stream = await served.connect()
            await stream.send_all(GET)
            await called.wait()
            await stream.aclose()
            hung_up.set()
            await done.wait()
    assert [line["event"] for line in logs if line["log_level"] in {"warning", "error"}] == []


async def test_a_websocket_goes_to_whoever_takes_it_over() -> None:
    seen: list[Upgrade] = []

    async def take_over(upgrade: Upgrade) -> bool:
        seen.append(upgrade)
        if upgrade.head.path != b"/stream/relay":
            return False
        await upgrade.stream.send_all(b"taken")
        return True

    async with serving(ECHO, upgrade=take_over) as served:
        async with await served.connect() as stream:
            await stream.send_all(HANDSHAKE + b"frame")
            assert await stream.receive_some(100) == b"taken"
            assert await closed(stream)
        async with await served.connect() as stream:
            assert (await ask(stream, HANDSHAKE.replace(b"relay", b"other"))).problem == (404, "NOT_FOUND")
    assert (seen[0].rest, seen[0].head.query, seen[0].head.field(b"host")) == (b"frame", b"token=t", b"x")
    assert seen[0].client is not None


async def test_a_websocket_that_nobody_wants_is_a_404() -> None:
    async with serving(ECHO) as served, await served.connect() as stream:
        assert (await ask(stream, HANDSHAKE)).problem == (404, "NOT_FOUND")
        assert await closed(stream)


async def test_a_fault_of_who_took_over_ends_that_connection_alone() -> None:
    async def take_over(_upgrade: Upgrade) -> bool:
        raise RuntimeError

    with capture_logs() as logs:
        async with serving(ECHO, upgrade=take_over) as served:
            async with await served.connect() as stream:
                await stream.send_all(HANDSHAKE)
                assert await closed(stream)
            async with await served.connect() as stream:
                assert (await ask(stream)).status == 200
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["http.connection_failed"]


async def test_a_connection_is_closed_after_its_share_of_requests() -> None:
    async with serving(ECHO, limits=Limits(requests_per_connection=2)) as served, await served.connect() as stream:
        assert b"connection" not in (await ask(stream)).fields
        assert (await ask(stream)).fields[b"connection"] == b"close"
        assert await closed(stream)


async def test_a_path_can_be_served() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "door"
        async with serving(ECHO, bind=[f"unix:{path}"]) as served:
            assert served.url == f"http://unix:{path}"
            async with await trio.open_unix_socket(path) as stream:
                assert (await ask(stream)).body == b"/ "
        assert not path.exists()


async def test_a_listening_socket_can_be_served() -> None:
    async with serving(ECHO, bind=listen(["127.0.0.1:0"])) as served, await served.connect() as stream:
        assert (await ask(stream)).body == b"/ "


async def test_a_taken_port_is_a_plain_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = [f"127.0.0.1:{taken.getsockname()[1]}"]
        with pytest.raises(OSError, match="in use"):
            await serve_http(ECHO, bind=["127.0.0.1:0", *bind], stop=trio.sleep_forever, grace_s=1)
    with pytest.raises(ValueError, match="host:port"):
        await serve_http(ECHO, bind=["127.0.0.1"], stop=trio.sleep_forever, grace_s=1)


async def test_other_users_of_hypercorn_keep_its_server() -> None:
    async with serving(ECHO):
        assert vars(hypercorn.trio.run)["TCPServer"] is TCPServer
