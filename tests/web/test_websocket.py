"""The part of a WebSocket handshake that is the same whoever takes it over: version and key."""

import pytest

from opendesk.web.http.request import BadRequest, Fields, Head
from opendesk.web.http.websocket import WrongVersion, websocket_key
from tests.web.serving import App, answer, app_of, closed, serving

KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
VERSION = (b"sec-websocket-version", b"13")


def head(*fields: tuple[bytes, bytes]) -> Head:
    return Head("GET", "1.1", b"/", b"", list(fields), keep_alive=True, wants_websocket=True)


def test_a_key_of_16_bytes_is_taken() -> None:
    assert websocket_key(head(KEY, VERSION)) == KEY[1]
    assert websocket_key(head((b"x", b"y"), VERSION, (KEY[0], b"+/" * 11 + b"=="))) == b"+/" * 11 + b"=="


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"dGhlIHNhbXBsZSBub25jZQ=",
        b"dGhlIHNhbXBsZSBub25jZQ",
        b"dGhlIHNhbXBsZSBub25jZQ===",
        b"dGhlIHNhbXBsZSBub25j",
        b"dGhlIHNhbXBsZSBub25jZSE=",
        b"dGhlIHNhbXBs_SBub25jZQ==",
        b"dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
    ],
)
def test_another_key_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest):
        websocket_key(head((KEY[0], value), VERSION))


@pytest.mark.parametrize("fields", [[VERSION], [KEY, KEY, VERSION], [KEY]], ids=["no_key", "two_keys", "no_version"])
def test_key_and_version_are_to_be_there_once(fields: Fields) -> None:
    with pytest.raises(BadRequest):
        websocket_key(head(*fields))


@pytest.mark.parametrize("versions", [[b"8"], [b""], [b"13, 8"], [b"013"], [b"13", b"13"], [b"8", b"13"]])
def test_another_version_is_told_which_is_spoken(versions: list[bytes]) -> None:
    with pytest.raises(WrongVersion):
        websocket_key(head(*((VERSION[0], version) for version in versions)))


async def refuse(upgrade: object) -> bool:
    raise WrongVersion


async def nothing(_scope: object, body: bytes) -> bytes:
    return body


APP: App = app_of(nothing)


async def test_the_answer_to_another_version_says_what_to_come_back_with() -> None:
    async with serving(APP, upgrade=refuse) as served, await served.connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        told = await answer(stream)
        assert told.problem == (426, "UPGRADE_REQUIRED")
        assert (told.fields[b"sec-websocket-version"], told.fields[b"upgrade"]) == (b"13", b"websocket")
        assert told.fields[b"connection"] == b"close, upgrade"
        assert await closed(stream)
