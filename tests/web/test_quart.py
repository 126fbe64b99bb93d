"""Quart without a nursery a request: the same to its handlers, under our server, hypercorn and Quart's test client."""

from collections.abc import AsyncIterator
from typing import Any

from hypercorn.config import Config
import hypercorn.trio
import pytest
from quart import Response, request
from quart.typing import ResponseReturnValue
import trio

from opendesk.web.quart import LeanQuartTrio
from tests.web.serving import GET, PATIENCE_S, POST, ask, serving


def make_app() -> LeanQuartTrio:
    app = LeanQuartTrio("test")

    @app.get("/")
    async def root() -> ResponseReturnValue:
        return {"host": request.headers.get("Host"), "address": request.remote_addr}

    @app.post("/<path:name>")
    async def post(name: str) -> ResponseReturnValue:
        body: Any = await request.get_data()
        return name.encode() + b" " + body, 201, {"X-Made": "here"}

    @app.get("/stream")
    async def stream() -> ResponseReturnValue:
        async def pieces() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b"%d" % number
                await trio.lowlevel.checkpoint()

        return Response(pieces())

    @app.get("/empty")
    async def empty() -> ResponseReturnValue:
        return "", 204

    @app.get("/fails")
    async def fails() -> ResponseReturnValue:
        raise RuntimeError

    @app.errorhandler(RuntimeError)
    async def failed(_error: RuntimeError) -> ResponseReturnValue:
        return "handled", 500

    return app


async def test_answers_are_the_same_under_our_server() -> None:
    async with serving(make_app()) as served, await served.connect() as stream:
        got = await ask(stream)
        assert got.body == b'{"address":"127.0.0.1","host":"x"}\n'
        got = await ask(stream, b"POST /a%20b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
        assert (got.status, got.body, got.fields[b"x-made"]) == (201, b"a b body", b"here")
        assert (await ask(stream, GET.replace(b"/ ", b"/stream "))).body == b"012"
        assert (await ask(stream, GET.replace(b"/ ", b"/empty "))).status == 204
        got = await ask(stream, GET.replace(b"/ ", b"/fails "))
        assert (got.status, got.body) == (500, b"handled")
        assert (await ask(stream, GET.replace(b"/ ", b"/nowhere "))).status in {404, 405}


@pytest.mark.parametrize("host", [b"a..b", b"x" * 100, b"", b"\xe9", b"[::1", b"a:b:c"])
async def test_a_strange_host_is_no_failure(host: bytes) -> None:
    async with serving(make_app()) as served, await served.connect() as stream:
        assert (await ask(stream, b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)).status == 200


@pytest.mark.parametrize("path", [b"//", b"/stream/", b"//stream", b"/./stream", b"/%2e%2e/x", b"/%00", b"/%ff"])
async def test_no_path_is_redirected_or_fails(path: bytes) -> None:
    async with serving(make_app()) as served, await served.connect() as stream:
        assert (await ask(stream, GET.replace(b"/ ", path + b" "))).status in {200, 404, 405}


async def test_a_server_wide_options_is_no_failure() -> None:
    async with serving(make_app()) as served, await served.connect() as stream:
        assert (await ask(stream, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")).status in {200, 404}


async def test_no_task_is_made_for_a_request() -> None:
    counted: list[int] = []
    app = make_app()

    @app.get("/count")
    async def count() -> ResponseReturnValue:
        task: Any = trio.lowlevel.current_task()
        counted.append(len(task.child_nurseries))
        return str(task.name)

    async with serving(app) as served, await served.connect() as stream:
        names = {(await ask(stream, GET.replace(b"/ ", b"/count "))).body for _ in range(2)}
    assert counted == [0, 0]
    assert len(names) == 1
    assert b"handle_request" not in names.pop()


async def test_answers_are_the_same_in_the_test_client() -> None:
    client = make_app().test_client()
    assert (await (await client.get("/")).get_json())["host"] == "localhost"
    assert await (await client.post("/a", data=b"body")).get_data() == b"a body"
    assert await (await client.get("/stream")).get_data() == b"012"
    assert (await client.get("/fails")).status_code == 500


async def test_under_hypercorn_a_client_that_hangs_up_still_ends_its_handler() -> None:
    working, ended, stop = trio.Event(), trio.Event(), trio.Event()
    app = make_app()

    @app.get("/wait")
    async def wait() -> ResponseReturnValue:
        working.set()
        try:
            await trio.Event().wait()
        finally:
            ended.set()
        return ""

    config = Config()
    config.bind, config.errorlog, config.graceful_timeout = ["127.0.0.1:0"], None, 1

    async def serve(task_status: trio.TaskStatus[list[str]]) -> None:
        await hypercorn.trio.serve(app, config, shutdown_trigger=stop.wait, task_status=task_status)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(serve)
            port = int(url.rpartition(":")[2])
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                assert (await ask(stream, (POST % 4).replace(b"/ ", b"/a ") + b"body")).body == b"a body"
                await stream.send_all(GET.replace(b"/ ", b"/wait "))
                await working.wait()
            await ended.wait()
            stop.set()


async def test_under_our_server_it_is_left_to_finish() -> None:
    working, hung_up, finished = trio.Event(), trio.Event(), trio.Event()
    app = make_app()

    @app.get("/wait")
    async def wait() -> ResponseReturnValue:
        working.set()
        await hung_up.wait()
        finished.set()
        return ""

    async with serving(app) as served:
        async with await served.connect() as stream:
            await stream.send_all(GET.replace(b"/ ", b"/wait "))
            await working.wait()
        hung_up.set()
        await finished.wait()
