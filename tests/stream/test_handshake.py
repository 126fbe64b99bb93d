"""What the relay answers to the handshake itself: before anybody is looked at, in HTTP."""

import pytest

from opendesk.stream.tokens import Role
from tests.stream.relaying import Relaying, handshake
from tests.web.serving import answer, closed

KEY, VERSION = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"Sec-WebSocket-Version: 13\r\n"


@pytest.mark.parametrize(
    ("line", "instead", "told"),
    [
        (KEY, b"", (400, "BAD_REQUEST")),
        (KEY, KEY * 2, (400, "BAD_REQUEST")),
        (KEY, b"Sec-WebSocket-Key: c2hvcnQ=\r\n", (400, "BAD_REQUEST")),
        (VERSION, b"", (400, "BAD_REQUEST")),
        (VERSION, b"Sec-WebSocket-Version: 8\r\n", (426, "UPGRADE_REQUIRED")),
    ],
    ids=["no_key", "two_keys", "short_key", "no_version", "version_8"],
)
async def test_a_handshake_that_is_none_is_answered_in_http(
    on: Relaying, line: bytes, instead: bytes, told: tuple[int, str]
) -> None:
    good = handshake(on.query(Role.HOST))
    assert line in good
    stream = await on.connect()
    await stream.send_all(good.replace(line, instead))
    got = await answer(stream)
    assert got.problem == told
    assert got.fields.get(b"sec-websocket-version") == (b"13" if got.status == 426 else None)
    assert await closed(stream)
    assert not on.relay.rooms


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        (b"Upgrade: websocket\r\n", b"Upgrade: h2c, websocket\r\n"),
        (b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\nUpgrade: websocket\r\n"),
        (KEY, KEY + b"Content-Length: 0\r\n"),
    ],
    ids=["list", "two_fields", "no_body"],
)
async def test_a_handshake_that_says_more_than_it_has_to_is_taken(on: Relaying, line: bytes, instead: bytes) -> None:
    stream = await on.connect()
    await stream.send_all(handshake(on.query(Role.HOST)).replace(line, instead, 1))
    came = b""
    while b"relay.welcome" not in came:
        piece = await stream.receive_some(2**16)
        assert piece, came
        came += piece
    assert came.startswith(b"HTTP/1.1 101 ")
