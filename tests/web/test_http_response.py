"""What an app says, as HTTP/1.1; read back by h11 as a client would."""

import h11
from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.web.http.response import FaultyResponse, ResponseWriter

DATE = b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
Fields = list[tuple[bytes, bytes]]


def write(
    pieces: list[bytes],
    fields: Fields | None = None,
    *,
    status: int = 200,
    method: str = "GET",
    version: str = "1.1",
    keep_alive: bool = True,
) -> tuple[bytes, ResponseWriter]:
    writer = ResponseWriter(head_only=method == "HEAD", version=version)
    writer.start(status, fields or [])
    last = len(pieces) - 1
    sent = b"".join(
        writer.body(piece, more=index < last, keep_alive=keep_alive, date=DATE) for index, piece in enumerate(pieces)
    )
    assert writer.complete
    return sent, writer


def read(sent: bytes, method: str = "GET") -> tuple[h11.Response, bytes, bool]:
    """The response, its body, and whether the connection could serve another."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(sent)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    if event is h11.NEED_DATA:
        client.receive_data(b"")
        event = client.next_event()
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data[0] == b""
    return response, body, client.their_state is h11.DONE


def test_a_body_known_at_once_is_counted() -> None:
    sent, _ = write([b"hello"], [(b"content-type", b"text/plain")])
    assert sent == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n" + DATE + b"content-length: 5\r\n\r\nhello"


@given(pieces=st.lists(st.binary(max_size=50), min_size=1), counted=st.booleans())
def test_every_body_comes_out_as_it_went_in(pieces: list[bytes], counted: bool) -> None:  # noqa: FBT001
    whole = b"".join(pieces)
    sent, _ = write(pieces, [(b"Content-Length", b"%d" % len(whole))] if counted else [])
    _, body, reusable = read(sent)
    assert (body, reusable) == (whole, True)


def test_a_body_of_unknown_length_ends_an_http_1_0_connection() -> None:
    sent, writer = write([b"one", b"two", b""], version="1.0")
    response, body, reusable = read(sent)
    assert (body, reusable, writer.keep_alive) == (b"onetwo", False, False)
    assert b"transfer-encoding" not in dict(response.headers)


@pytest.mark.parametrize(
    ("method", "status", "fields", "length"),
    [
        ("HEAD", 200, [(b"content-length", b"5")], b"5"),
        ("HEAD", 200, [], b"5"),
        ("GET", 204, [(b"content-length", b"0")], None),
        ("GET", 204, [], None),
        ("GET", 304, [(b"content-length", b"5")], b"5"),
        ("GET", 304, [], None),
    ],
)
def test_some_answers_have_no_body(method: str, status: int, fields: Fields, length: bytes | None) -> None:
    sent, _ = write([b"hello"], fields, method=method, status=status)
    response, body, reusable = read(sent, method)
    assert (body, reusable) == (b"", True)
    assert dict(response.headers).get(b"content-length") == length


def test_a_head_request_is_answered_without_the_pieces() -> None:
    sent, _ = write([b"one", b"two", b""], method="HEAD")
    assert read(sent, "HEAD")[1] == b""


def test_closing_is_said() -> None:
    sent, writer = write([b""], keep_alive=False)
    assert dict(read(sent)[0].headers)[b"connection"] == b"close"
    assert not writer.keep_alive


def test_the_app_may_close() -> None:
    sent, writer = write([b""], [(b"Connection", b"Close")])
    assert [value for name, value in read(sent)[0].headers if name == b"connection"] == [b"close"]
    assert not writer.keep_alive


def test_framing_is_never_the_apps() -> None:
    sent, _ = write([b"hello"], [(b"transfer-encoding", b"gzip"), (b"connection", b"keep-alive")])
    response, body, _ = read(sent)
    assert body == b"hello"
    assert {b"transfer-encoding", b"connection"}.isdisjoint(dict(response.headers))


def test_the_apps_own_date_stays() -> None:
    sent, _ = write([b""], [(b"date", b"Fri, 02 Jan 1970 00:00:00 GMT")])
    assert sent.count(b"date: ") == 1
    assert b"server:" not in sent.lower()


def test_an_unknown_status_has_no_reason() -> None:
    assert write([b""], status=299)[0].startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.parametrize(
    "field",
    [
        (b"x-name", b"ok\r\nset-cookie: a=b"),
        (b"x-name", b"ok\nx"),
        (b"x-name", b"ok\0"),
        (b"x-name\r\nx", b"ok"),
        (b"x name", b"ok"),
        (b"x:name", b"ok"),
        (b"", b"ok"),
    ],
)
def test_a_field_can_not_smuggle_another(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(FaultyResponse):
        write([b""], [field])


@pytest.mark.parametrize("pieces", [[b"hell"], [b"hello!"], [b"hello", b"!"], [b"he", b"l"]])
def test_a_body_that_breaks_its_promise_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(FaultyResponse):
        write(pieces, [(b"content-length", b"5")])


@pytest.mark.parametrize("lengths", [(b"5", b"5"), (b"5", b"6"), (b"-5",), (b"x",), (b"",)])
def test_a_doubtful_length_is_refused(lengths: tuple[bytes, ...]) -> None:
    with pytest.raises(FaultyResponse):
        write([b"hello"], [(b"content-length", length) for length in lengths])


def test_after_a_refused_piece_nothing_is_half_said() -> None:
    writer = ResponseWriter(head_only=False, version="1.1")
    writer.start(200, [(b"content-length", b"5")])
    with pytest.raises(FaultyResponse):
        writer.body(b"too long", more=False, keep_alive=True, date=DATE)
    assert not writer.complete
    assert read(writer.body(b"right", more=False, keep_alive=True, date=DATE))[1] == b"right"


@pytest.mark.parametrize("status", [0, 100, 101, 199, 1000, -1])
def test_only_final_statuses_are_taken(status: int) -> None:
    with pytest.raises(FaultyResponse):
        write([b""], status=status)


def test_order_is_kept() -> None:
    writer = ResponseWriter(head_only=False, version="1.1")
    with pytest.raises(FaultyResponse):
        writer.body(b"", more=False, keep_alive=True, date=DATE)
    writer.start(200, [])
    with pytest.raises(FaultyResponse):
        writer.start(200, [])
    writer.body(b"all", more=False, keep_alive=True, date=DATE)
    with pytest.raises(FaultyResponse):
        writer.body(b"more", more=False, keep_alive=True, date=DATE)
