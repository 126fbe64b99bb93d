"""What an ASGI app says and hears, without a socket."""

import pytest
import trio
import trio.testing

from opendesk.web.http.exchange import Exchange
from opendesk.web.http.request import Head
from opendesk.web.http.response import FaultyResponse
from opendesk.web.http.transport import ClientGone

HEAD = Head(method="GET", version="1.1", path=b"/", query=b"", fields=[], keep_alive=True, wants_websocket=False)


class Wire:
    """Keeps what is written; or fails, as one whose reader has left."""

    def __init__(self, *, broken: bool = False) -> None:
        self.writes: list[bytes] = []
        self.broken = broken

    async def __call__(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise ClientGone
        self.writes.append(data)


def exchange(wire: Wire, *, may_stay: bool = True) -> Exchange:
    return Exchange(HEAD, b"body", write=wire, may_stay=lambda: may_stay, date=lambda: b"date: now\r\n")


async def start(target: Exchange, **fields: str) -> None:
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    await target.send({"type": "http.response.start", "status": 200, "headers": headers})


async def say(target: Exchange, body: bytes, *, more: bool = False) -> None:
    await target.send({"type": "http.response.body", "body": body, "more_body": more})


async def test_head_and_body_leave_together() -> None:
    wire = Wire()
    whole = exchange(wire)
    await start(whole)
    assert wire.writes == []
    await say(whole, b"hello")
    assert wire.writes == [b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 5\r\n\r\nhello"]
    assert whole.complete
    assert whole.keep_alive


async def test_an_announced_body_in_one_piece_needs_no_second_write() -> None:
    """This is how Quart says it: a piece that more may follow, then an empty one."""
    wire = Wire()
    announced = exchange(wire)
    await start(announced, content_length="5")
    await say(announced, b"hello", more=True)
    assert announced.complete
    await say(announced, b"")
    assert len(wire.writes) == 1


async def test_the_body_is_heard_whole() -> None:
    assert await exchange(Wire()).receive() == {"type": "http.request", "body": b"body", "more_body": False}


async def test_who_listens_on_hears_of_the_end_with_the_answer(autojump_clock: trio.testing.MockClock) -> None:
    listened = exchange(Wire())
    await listened.receive()
    with trio.move_on_after(1000) as scope:
        await listened.receive()
    assert scope.cancelled_caught
    await start(listened)
    await say(listened, b"")
    assert await listened.receive() == {"type": "http.disconnect"}


async def test_closing_time_is_said_in_the_head() -> None:
    wire = Wire()
    last = exchange(wire, may_stay=False)
    await start(last)
    await say(last, b"")
    assert b"connection: close" in wire.writes[0]
    assert (last.complete, last.keep_alive) == (True, False)


async def test_an_answer_that_nobody_takes_is_an_os_error_and_not_complete() -> None:
    lost = exchange(Wire(broken=True))
    await start(lost)
    with pytest.raises(OSError):  # noqa: PT011 — a kind is all that the ASGI specification asks for
        await say(lost, b"hello")
    assert (lost.begun, lost.complete) == (True, False)
    await lost.receive()
    assert await lost.receive() == {"type": "http.disconnect"}


async def test_a_write_that_is_cancelled_leaves_the_answer_incomplete() -> None:
    cut = exchange(Wire())
    await start(cut)
    with trio.CancelScope() as scope:
        scope.cancel()
        await say(cut, b"hello")
    assert (cut.begun, cut.complete) == (True, False)


async def test_other_events_are_refused() -> None:
    with pytest.raises(FaultyResponse):
        await exchange(Wire()).send({"type": "http.response.early_hint", "links": []})


async def test_a_faulty_answer_has_not_begun() -> None:
    wire = Wire()
    faulty = exchange(wire)
    await start(faulty, content_length="3")
    with pytest.raises(FaultyResponse):
        await say(faulty, b"hello")
    assert (wire.writes, faulty.begun) == ([], False)
