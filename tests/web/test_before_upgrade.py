"""What comes on a connection before a WebSocket is taken over, and along with its handshake: the same in plain and over TLS."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
import ssl
from typing import Any

from attrs import define, field
import pytest
from structlog.testing import capture_logs
import trio
import trio.testing

from opendesk.web.http.certificate import Certificate
from opendesk.web.http.door import Upgrade
from opendesk.web.http.limits import KIB, Limits
from tests.web.serving import ECHO, GET, POST, App, Served, answer, answers, app_of, ask, closed, read_all, serving

PAIRS = Path(__file__).parent / "certificates"
HANDSHAKE = (
    b"GET /stream/relay?token=t HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TAKEN = b"taken"
# Far longer than a test takes, far shorter than its patience.
SHORT_S = 0.2
DRIP_S = 0.05


@define
class House:
    """A front door where sockets of the relay's are taken over: `rests` is what came with each handshake, `later` what came after it."""

    secure: bool
    served: Served = field(init=False)
    rests: list[bytes] = field(factory=list)
    later: list[bytes] = field(factory=list)

    async def take_over(self, upgrade: Upgrade) -> bool:
        """Say so, and listen until the client says `end`."""
        if upgrade.head.decoded_path != "/stream/relay":
            return False
        self.rests.append(upgrade.rest)
        await upgrade.stream.send_all(TAKEN)
        data = b""
        while not data.endswith(b"end") and (piece := await upgrade.stream.receive_some()):
            data += piece
        self.later.append(data)
        return True

    async def connect(self) -> trio.abc.Stream:
        plain = await self.served.connect()
        if not self.secure:
            return plain
        context = ssl.create_default_context(cafile=PAIRS / "first.pem")
        stream = trio.SSLStream(plain, context, server_hostname="localhost", https_compatible=True)
        await stream.do_handshake()
        return stream


@asynccontextmanager
async def keeping_house(*, secure: bool, app: App = ECHO, **options: Any) -> AsyncIterator[House]:
    house = House(secure)
    tls = Certificate(PAIRS / "first.pem", PAIRS / "first.key") if secure else None
    async with serving(app, upgrade=house.take_over, tls=tls, **options) as house.served:
        yield house


@asynccontextmanager
async def dripping(stream: trio.abc.SendStream, drop: bytes) -> AsyncIterator[None]:
    """Send a bit now and then for as long as this lasts."""

    async def drip() -> None:
        try:
            while True:
                await stream.send_all(drop)
                await trio.sleep(DRIP_S)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # cut, as it should be

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        yield
        nursery.cancel_scope.cancel()


async def receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await stream.receive_some(size - len(data))
        assert piece, data
        data += piece
    return data


async def is_cut(stream: trio.abc.ReceiveStream) -> bool:
    """Wait for the end, whether it comes with a TLS good-bye or not; True if no HTTP came before it."""
    try:
        return b"HTTP" not in await read_all(stream)
    except trio.BrokenResourceError:
        return True


both = pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])


# ---- requests on the connection before it is taken over


@both
async def test_a_connection_that_served_requests_can_still_be_taken_over(secure: bool) -> None:  # noqa: FBT001
    async with keeping_house(secure=secure) as house, await house.connect() as stream:
        for _ in range(3):
            assert (await ask(stream)).body == b"/ "
        assert (await ask(stream, POST % 4 + b"body")).body == b"/ body"
        await stream.send_all(HANDSHAKE)
        assert await receive_exactly(stream, len(TAKEN)) == TAKEN
        await stream.send_all(b"frame end")
        assert await is_cut(stream)
    assert (house.rests, house.later) == ([b""], [b"frame end"])


@both
async def test_requests_and_a_handshake_in_one_packet_are_answered_in_order(secure: bool) -> None:  # noqa: FBT001
    async with keeping_house(secure=secure) as house, await house.connect() as stream:
        await stream.send_all(GET + POST % 4 + b"body" + GET + HANDSHAKE + b"first frame")
        came = b""
        while not came.endswith(TAKEN):
            piece = await stream.receive_some()
            assert piece, came
            came += piece
        assert came.count(b"HTTP/1.1 200 ") == 3
        assert came.count(b"/ body") == 1
        assert came.index(b"/ body") < came.rindex(b"HTTP/1.1 200 ")
        await stream.send_all(b"second end")
        assert await is_cut(stream)
    assert (house.rests, house.later) == ([b"first frame"], [b"second end"])


async def test_a_handshake_waits_for_the_answer_before_it() -> None:
    """Else the answer would come in the midst of frames."""
    called, go_on = trio.Event(), trio.Event()

    async def slow(_scope: Any, _body: bytes) -> bytes:
        called.set()
        await go_on.wait()
        return b"slow"

    async with keeping_house(secure=False, app=app_of(slow)) as house, await house.connect() as stream:
        await stream.send_all(GET + HANDSHAKE)
        await called.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert house.rests == []
        go_on.set()
        came = b""
        while not came.endswith(TAKEN):
            came += await stream.receive_some()
        assert came.index(b"slow") < came.index(TAKEN)
        await stream.send_all(b"end")
        assert await is_cut(stream)


@both
async def test_what_follows_a_refused_handshake_is_not_served(secure: bool) -> None:  # noqa: FBT001
    """To its sender it would be frames."""
    async with keeping_house(secure=secure) as house, await house.connect() as stream:
        await stream.send_all(HANDSHAKE.replace(b"/relay", b"/other") + GET)
        assert (await answer(stream)).problem == (404, "NOT_FOUND")
        assert await closed(stream)
    assert house.rests == []


@both
async def test_what_follows_a_handshake_is_no_request(secure: bool) -> None:  # noqa: FBT001
    async with keeping_house(secure=secure) as house, await house.connect() as stream:
        await stream.send_all(HANDSHAKE + GET)
        assert await receive_exactly(stream, len(TAKEN)) == TAKEN
        await stream.send_all(GET + b"end")
        assert await is_cut(stream)
    assert (house.rests, house.later) == ([GET], [GET + b"end"])


@pytest.mark.parametrize(
    ("last", "limits"),
    [
        (GET.replace(b"Host: x", b"Host: x\r\nConnection: close"), Limits()),
        (GET.replace(b"1.1", b"1.0"), Limits()),
        (GET, Limits(requests_per_connection=1)),
    ],
    ids=["closes", "http_1_0", "too_many"],
)
async def test_a_handshake_after_the_last_request_is_not_heard(last: bytes, limits: Limits) -> None:
    async with keeping_house(secure=False, limits=limits) as house, await house.connect() as stream:
        await stream.send_all(last + HANDSHAKE)
        assert (await answer(stream)).status == 200
        assert await closed(stream)
    assert house.rests == []


async def test_a_handshake_after_a_faulty_request_is_not_heard() -> None:
    async with keeping_house(secure=False) as house, await house.connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + HANDSHAKE)
        assert (await answer(stream)).problem == (400, "BAD_REQUEST")
        assert await closed(stream)
    assert house.rests == []


async def test_a_handshake_hidden_in_a_body_is_a_body() -> None:
    async with keeping_house(secure=False) as house, await house.connect() as stream:
        counted = POST % len(HANDSHAKE) + HANDSHAKE
        chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        await stream.send_all(counted + chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(HANDSHAKE), HANDSHAKE))
        assert [each.body for each in await answers(stream, 2)] == [b"/ " + HANDSHAKE] * 2
    assert house.rests == []


def with_field(line: bytes) -> bytes:
    return HANDSHAKE[:-2] + line + b"\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        with_field(b"Content-Length: 4") + b"body",
        with_field(b"Transfer-Encoding: chunked") + b"4\r\nbody\r\n0\r\n\r\n",
        HANDSHAKE.replace(b"GET", b"POST"),
        HANDSHAKE.replace(b"keep-alive, Upgrade", b"keep-alive"),
    ],
    ids=["counted", "chunked", "post", "hop"],
)
async def test_what_is_no_handshake_is_a_request_like_others(request_: bytes) -> None:
    """With its body where it has one: nothing of that is taken for a frame, or for the next request."""
    async with keeping_house(secure=False) as house, await house.connect() as stream:
        await stream.send_all(request_ + GET)
        first, second = await answers(stream, 2)
        assert first.body.rstrip() in {b"/stream/relay", b"/stream/relay body"}
        assert second.body == b"/ "
    assert house.rests == []


@pytest.mark.parametrize(
    "request_",
    [
        HANDSHAKE.replace(b"Upgrade: websocket", b"Upgrade: h2c, WebSocket"),
        with_field(b"Upgrade: h2c"),
        with_field(b"Content-Length: 0"),
        HANDSHAKE.replace(b"Connection: keep-alive, ", b"Connection: keep-alive\r\nConnection: "),
    ],
    ids=["list", "two_fields", "no_body", "two_hops"],
)
async def test_a_handshake_may_say_more_than_it_has_to(request_: bytes) -> None:
    async with keeping_house(secure=False) as house, await house.connect() as stream:
        await stream.send_all(request_ + b"first frame")
        assert await receive_exactly(stream, len(TAKEN)) == TAKEN
        await stream.send_all(b"end")
        assert await is_cut(stream)
    assert (house.rests, house.later) == ([b"first frame"], [b"end"])


@pytest.mark.parametrize(
    "faulty",
    [
        with_field(b"Content-Length: 4\r\nTransfer-Encoding: chunked"),
        with_field(b"Content-Length: 4\r\nContent-Length: 5"),
        with_field(b"Upgrade : h2c"),
        with_field(b"X: a\0b"),
        HANDSHAKE.replace(b"GET /", b"GET stream/"),
        HANDSHAKE.replace(b"Host: x\r\n", b""),
    ],
    ids=["both_lengths", "two_lengths", "space", "nul", "target", "hostless"],
)
async def test_a_handshake_that_two_servers_could_read_in_two_ways_is_refused(faulty: bytes) -> None:
    async with keeping_house(secure=False) as house, await house.connect() as stream:
        assert (await ask(stream, faulty)).problem == (400, "BAD_REQUEST")
        assert await closed(stream)
    assert house.rests == []


async def test_a_socket_that_was_taken_over_is_no_longer_in_the_way_of_requests() -> None:
    async with keeping_house(secure=False, limits=Limits(connections=1)) as house, await house.connect() as socket:
        assert (await ask(socket)).status == 200
        await socket.send_all(HANDSHAKE)
        assert await receive_exactly(socket, len(TAKEN)) == TAKEN
        async with await house.connect() as stream:
            assert (await ask(stream)).status == 200
            assert (await ask(stream)).status == 200
        await socket.send_all(b"end")
        assert await is_cut(socket)
    assert house.later == [b"end"]


# ---- the handshake's head: how it comes, and for how long


@both
async def test_a_handshake_may_come_byte_by_byte(secure: bool) -> None:  # noqa: FBT001
    async with keeping_house(secure=secure) as house, await house.connect() as stream:
        for at in range(len(HANDSHAKE)):
            await stream.send_all(HANDSHAKE[at : at + 1])
        assert await receive_exactly(stream, len(TAKEN)) == TAKEN
        await stream.send_all(b"end")
        assert await is_cut(stream)
    assert (house.rests, house.later) == ([b""], [b"end"])


@both
@pytest.mark.parametrize("before", [b"", GET], ids=["first", "later"])
async def test_a_handshake_that_drips_is_cut_however_long_it_goes_on(secure: bool, before: bytes) -> None:  # noqa: FBT001
    async with (
        keeping_house(secure=secure, limits=Limits(head_s=SHORT_S)) as house,
        await house.connect() as stream,
    ):
        if before:
            assert (await ask(stream, before)).status == 200
        await stream.send_all(HANDSHAKE[:-2] + b"X: ")
        async with dripping(stream, b"x"):
            assert (await answer(stream)).problem == (408, "REQUEST_TIMEOUT")
            assert await closed(stream)
    assert house.rests == []


@both
async def test_a_handshake_that_stops_short_is_cut(secure: bool) -> None:  # noqa: FBT001
    async with (
        keeping_house(secure=secure, limits=Limits(head_s=SHORT_S)) as house,
        await house.connect() as stream,
    ):
        assert (await ask(stream, HANDSHAKE[:-1])).problem == (408, "REQUEST_TIMEOUT")
        assert await closed(stream)
    assert house.rests == []


@both
async def test_who_says_nothing_between_a_request_and_a_handshake_is_left(secure: bool) -> None:  # noqa: FBT001
    limits = Limits(idle_s=SHORT_S)
    async with keeping_house(secure=secure, limits=limits) as house, await house.connect() as stream:
        assert (await ask(stream)).status == 200
        assert await is_cut(stream)


@both
@pytest.mark.parametrize(
    "make",
    [lambda size: with_field(b"X: " + b"x" * size), lambda size: HANDSHAKE.replace(b"=t ", b"=" + b"t" * size + b" ")],
    ids=["field", "query"],
)
async def test_a_handshake_without_end_is_cut_by_its_size(secure: bool, make: Callable[[int], bytes]) -> None:  # noqa: FBT001
    limit = Limits().head_bytes
    async with keeping_house(secure=secure) as house:
        async with await house.connect() as stream:
            # Never its end: what is there is too much already.
            assert (await ask(stream, make(2 * limit)[: limit + KIB])).problem == (431, "HEAD_TOO_LARGE")
            assert await closed(stream)
        async with await house.connect() as stream:
            await stream.send_all(make(limit - KIB))
            assert await receive_exactly(stream, len(TAKEN)) == TAKEN
            await stream.send_all(b"end")
            assert await is_cut(stream)
    assert house.rests == [b""]


# ---- TLS that doesn't come


@pytest.mark.parametrize(
    "start", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", HANDSHAKE], ids=["silent", "hello", "plain"]
)
async def test_a_tls_handshake_that_never_comes_ends(start: bytes) -> None:
    with capture_logs() as logs:
        limits = Limits(handshake_s=SHORT_S)
        async with keeping_house(secure=True, limits=limits) as house, await house.served.connect() as stream:
            await stream.send_all(start)
            assert await is_cut(stream)
    assert house.rests == []
    assert [line for line in logs if line["log_level"] in {"error", "warning"}] == []


async def test_a_tls_handshake_that_drips_is_cut_however_long_it_goes_on() -> None:
    hello = b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb\x03\x03"
    async with (
        keeping_house(secure=True, limits=Limits(handshake_s=SHORT_S)) as house,
        await house.served.connect() as stream,
    ):
        await stream.send_all(hello)
        async with dripping(stream, b"\0"):
            assert await is_cut(stream)
    assert house.rests == []


# ---- frames that come with the head


@both
@pytest.mark.parametrize("size", [1, 4 * KIB, 40 * KIB])
async def test_frames_that_come_with_the_head_are_whole_and_in_order(secure: bool, size: int) -> None:  # noqa: FBT001
    """More than one TLS record holds, and more than one read takes: what isn't handed over with the head is left on the stream."""
    frames = bytes(at % 251 for at in range(size)) + b"end"
    async with keeping_house(secure=secure) as house, await house.connect() as stream:
        await stream.send_all(HANDSHAKE + frames[:-3])
        assert await receive_exactly(stream, len(TAKEN)) == TAKEN
        await stream.send_all(frames[-3:])
        assert await is_cut(stream)
    assert house.rests[0] + house.later[0] == frames


async def test_what_comes_with_the_head_is_no_more_than_one_read() -> None:
    async with keeping_house(secure=False) as house, await house.connect() as stream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, HANDSHAKE + bytes(1024 * KIB) + b"end")
            assert await receive_exactly(stream, len(TAKEN)) == TAKEN
        assert await is_cut(stream)
    assert len(house.rests[0]) <= 64 * KIB
    assert len(house.rests[0]) + len(house.later[0]) == 1024 * KIB + 3
