"""Requests out of bytes, however they are cut, and what is refused."""

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.errors import BodyTooLarge, OpenDeskError
from opendesk.web.http.limits import Limits
from opendesk.web.http.request import (
    BadRequest,
    Head,
    HeadTooLarge,
    RequestReader,
    UnknownTransferCoding,
    VersionNotSupported,
)

LIMITS = Limits(head_bytes=2048, head_fields=100, body_bytes=1000, body_chunks=50)
POST = b"POST /pcs?a=%20b HTTP/1.1\r\nHost: here\r\nX-One: 1\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: 1\r\n\r\n"


def read(pieces: Iterable[bytes], limits: Limits = LIMITS) -> list[tuple[Head, bytes]]:
    """All requests in the pieces; each must be finished."""
    reader, found = RequestReader(limits), []
    head: Head | None = None
    for piece in pieces:
        reader.receive(piece)
        while reader.begun:
            head = head or reader.head()
            body = reader.body() if head else None
            if head is None or body is None:
                break
            found.append((head, body))
            head = None
            reader.start_next()
    assert not reader.begun
    return found


def refusal(data: bytes, limits: Limits = LIMITS) -> type[OpenDeskError]:
    with pytest.raises(OpenDeskError) as caught:
        read([data], limits)
    return caught.type


@pytest.mark.parametrize("request_", [POST, CHUNKED])
def test_a_request_cut_in_two_anywhere_is_the_same_request(request_: bytes) -> None:
    (whole,) = read([request_])
    assert whole[1] == b"hello"
    for cut in range(len(request_) + 1):
        assert read([request_[:cut], request_[cut:]]) == [whole]


def test_a_request_may_come_byte_by_byte() -> None:
    assert read(POST[i : i + 1] for i in range(len(POST))) == read([POST])


@given(cuts=st.lists(st.integers(0, len((POST + CHUNKED) * 3))))
def test_requests_in_a_row_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    stream = (POST + CHUNKED) * 3
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    assert [body for _, body in read(pieces)] == [b"hello"] * 6


def test_empty_lines_before_a_request_are_skipped() -> None:
    assert len(read([b"\r\n", b"\r", b"\n" + POST + b"\r\n" + POST])) == 2


def test_the_target_is_split_and_decoded() -> None:
    ((head, _),) = read([POST])
    assert (head.method, head.decoded_path, head.path, head.query) == ("POST", "/pcs", b"/pcs", b"a=%20b")
    ((head, _),) = read([b"GET /a%20%C3%A9%2F HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert (head.decoded_path, head.path) == ("/a é/", b"/a%20%C3%A9%2F")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://there/pcs?x=1", b"/pcs", b"x=1"),
        (b"HTTPS://there:8080", b"/", b""),
        (b"http://there?x", b"/", b"x"),
    ],
)
def test_a_whole_url_as_target_names_the_host(target: bytes, path: bytes, query: bytes) -> None:
    ((head, _),) = read([b"GET " + target + b" HTTP/1.1\r\nHost: elsewhere\r\n\r\n"])
    assert (head.path, head.query) == (path, query)
    assert head.field(b"host") in {b"there", b"there:8080"}
    assert [name for name, _ in head.fields].count(b"host") == 1


@pytest.mark.parametrize("target", [b"pcs", b"*", b"http:///x", b"ftp://x/", b"user@host:1", b"http://user@host/"])
def test_other_targets_are_refused(target: bytes) -> None:
    assert refusal(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n") is BadRequest


def test_a_server_wide_options_is_read() -> None:
    ((head, _),) = read([b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert head.path == b"*"


def test_connect_is_refused() -> None:
    assert refusal(b"CONNECT there:443 HTTP/1.1\r\nHost: there\r\n\r\n") is BadRequest


@pytest.mark.parametrize(
    ("fields", "version", "stays"),
    [
        (b"", b"1.1", True),
        (b"Connection: close\r\n", b"1.1", False),
        (b"Connection: x, CLOSE\r\n", b"1.1", False),
        (b"Connection: close\r\nConnection: x\r\n", b"1.1", False),
        (b"", b"1.0", False),
        (b"Connection: keep-alive\r\n", b"1.0", False),
    ],
)
def test_who_wants_to_stay(fields: bytes, version: bytes, stays: bool) -> None:  # noqa: FBT001
    ((head, _),) = read([b"GET / HTTP/" + version + b"\r\nHost: x\r\n" + fields + b"\r\n"])
    assert head.keep_alive is stays


@pytest.mark.parametrize(
    "broken",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS spoken to a plain port
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA\x00b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"G\xc3T / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x80\x81\x82 \xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(broken: bytes) -> None:
    assert refusal(broken) is BadRequest


@pytest.mark.parametrize("version", [b"2.0", b"0.9", b"1.2", b"3.0"])
def test_other_versions_are_refused(version: bytes) -> None:
    assert refusal(b"GET / HTTP/" + version + b"\r\nHost: x\r\n\r\n") is VersionNotSupported


def test_the_preface_of_http_2_is_refused() -> None:
    assert refusal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") is VersionNotSupported


def framed(fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST / HTTP/" + version + b"\r\nHost: x\r\n" + fields + b"\r\n" + body


@pytest.mark.parametrize(
    "smuggled",
    [
        framed(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nGET /"),
        framed(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\nGET /"),
        framed(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"),
        framed(b"Content-Length: 5, 6\r\n", b"hello!"),
        framed(b"Content-Length: +5\r\n", b"hello"),
        framed(b"Content-Length: -5\r\n"),
        framed(b"Content-Length: 0x5\r\n", b"hello"),
        framed(b"Content-Length: 5 5\r\n", b"hello"),
        framed(b"Content-Length: \r\n"),
        framed(b"Content-Length: 5\x0b\r\n", b"hello"),
        framed(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
        framed(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", version=b"1.0"),
        framed(b"Transfer-Encoding: chunked\r\n", b"x\r\n\r\n"),
        framed(b"Transfer-Encoding: chunked\r\n", b"-1\r\n\r\n"),
        framed(b"Transfer-Encoding: chunked\r\n", b"0x2\r\nhe\r\n0\r\n\r\n"),
        framed(b"Transfer-Encoding: chunked\r\n", b"2\r\nhello\r\n0\r\n\r\n"),
        framed(b"Transfer-Encoding: chunked\r\n", b"2\nhe\n0\n\n" + b" " * 3000),
        framed(b"Transfer-Encoding: chunked\r\n", b"111111111111111111111\r\n"),
        framed(b"Transfer-Encoding: chunked\r\n", b"0\r\nbad trailer\r\n\r\n"),
    ],
)
def test_a_body_of_doubtful_length_is_refused(smuggled: bytes) -> None:
    assert issubclass(refusal(smuggled), BadRequest | HeadTooLarge)


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"chunked, chunked", b"identity", b"xchunked"])
def test_other_codings_are_refused(coding: bytes) -> None:
    assert refusal(framed(b"Transfer-Encoding: " + coding + b"\r\n")) is UnknownTransferCoding


def test_two_codings_are_refused() -> None:
    twice = b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"
    assert refusal(framed(twice)) is UnknownTransferCoding


def test_a_hundred_fields_are_read_and_one_more_is_refused() -> None:
    fields = b"".join(b"X-%d: 1\r\n" % number for number in range(99))
    assert len(read([b"GET / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"])[0][0].fields) == 100
    assert refusal(b"GET / HTTP/1.1\r\nHost: x\r\nMore: x\r\n" + fields + b"\r\n") is HeadTooLarge


@pytest.mark.parametrize(
    "large",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2048 + b"\r\n\r\n",
        b"GET /" + b"a" * 2048 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2048,
        b"G" * 3000,
    ],
)
def test_a_large_head_is_refused_whole_or_not(large: bytes) -> None:
    assert refusal(large) is HeadTooLarge


def test_a_large_length_is_refused_before_a_byte_of_the_body() -> None:
    assert refusal(framed(b"Content-Length: 1001\r\n")) is BodyTooLarge
    assert refusal(framed(b"Content-Length: 99999999999999999999\r\n")) is BodyTooLarge
    assert len(read([framed(b"Content-Length: 1000\r\n", b"x" * 1000)])[0][1]) == 1000


def test_chunks_that_add_up_to_too_much_are_refused() -> None:
    assert refusal(framed(b"Transfer-Encoding: chunked\r\n", b"64\r\n" + b"x" * 100 + b"\r\n") * 11) is BadRequest
    chunk = b"64\r\n" + b"x" * 100 + b"\r\n"
    assert refusal(framed(b"Transfer-Encoding: chunked\r\n", chunk * 11)) is BodyTooLarge


def test_a_body_in_very_many_chunks_is_refused() -> None:
    assert refusal(framed(b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n" * 51)) is BodyTooLarge


def test_a_counted_body_may_come_byte_by_byte() -> None:
    request = framed(b"Content-Length: 100\r\n", b"x" * 100)
    assert read(request[i : i + 1] for i in range(len(request)))[0][1] == b"x" * 100


def test_a_refusal_never_quotes_the_request() -> None:
    with pytest.raises(BadRequest) as caught:
        read([b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization secret-token\r\n\r\n"])
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize(
    ("request_", "wants"),
    [
        (b"GET /r HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\r\n", True),
        (b"GET /r HTTP/1.1\r\nHost: x\r\nUpgrade: h2c, websocket\r\nConnection: Upgrade\r\n\r\n", True),
        (b"GET /r HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", True),
        (b"GET /r HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n", True),
        (
            b"GET /r HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\nx",
            False,
        ),
        (b"GET /r HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", False),
        (b"GET /r HTTP/1.1\r\nHost: x\r\nUpgrade: websockets, no/websocket\r\nConnection: Upgrade\r\n\r\n", False),
        (b"GET /r HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", False),
        (b"POST /r HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", False),
        (b"GET /r HTTP/1.0\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", False),
    ],
)
def test_what_is_a_websocket_handshake(request_: bytes, wants: bool) -> None:  # noqa: FBT001
    assert read([request_])[0][0].wants_websocket is wants


@given(data=st.binary(max_size=200))
def test_no_bytes_make_anything_but_requests_and_refusals(data: bytes) -> None:
    reader = RequestReader(LIMITS)
    reader.receive(data)
    try:
        if reader.head() is not None:
            reader.body()
    except OpenDeskError as error:
        assert error.status in {400, 413, 431, 501, 505}  # noqa: PT017
