"""Requests out of bytes, one after another. h11 reads; what is added are our limits. No I/O: feed it, it never waits."""

import re
from typing import Final
from urllib.parse import unquote

from attrs import frozen
import h11

from opendesk.errors import BodyTooLarge, OpenDeskError
from opendesk.web.http.limits import Limits

Fields = list[tuple[bytes, bytes]]

_VERSIONS: Final = (b"1.0", b"1.1")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#@]+)([/?][^#]*)?", re.IGNORECASE)


class BadRequest(OpenDeskError):
    """The request is not HTTP as this server reads it."""

    status, code = 400, "BAD_REQUEST"


class RequestTimeout(OpenDeskError):
    """The request took too long to come."""

    status, code = 408, "REQUEST_TIMEOUT"


class HeadTooLarge(OpenDeskError):
    """The head of the request is larger than allowed."""

    status, code = 431, "HEAD_TOO_LARGE"


class UnknownTransferCoding(OpenDeskError):
    """The body comes in a transfer coding other than chunked."""

    status, code = 501, "UNKNOWN_TRANSFER_CODING"


class VersionNotSupported(OpenDeskError):
    """Only HTTP/1.0 and HTTP/1.1 are spoken here."""

    status, code = 505, "HTTP_VERSION_NOT_SUPPORTED"


@frozen
class Head:
    """A request without its body. Names of fields are in lower case; `fields` keeps their order."""

    method: str
    version: str
    path: bytes
    query: bytes
    fields: Fields
    keep_alive: bool
    wants_websocket: bool

    @property
    def decoded_path(self) -> str:
        text = self.path.decode("ascii")
        return unquote(text) if "%" in text else text

    def field(self, name: bytes) -> bytes | None:
        return next((value for found, value in self.fields if found == name), None)


class RequestReader:
    """`receive` bytes, ask for the `head`, then the `body`, then `start_next`. None means that more bytes are needed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._start(b"")

    def _start(self, data: bytes) -> None:
        # A new parser for each request: its other half, which writes answers, would cost more than all the reading.
        self._h11 = h11.Connection(h11.SERVER, self._limits.head_bytes)
        self._body = bytearray()
        self._chunks = 0
        self._announced = 0
        self.begun = False
        self.receive(data)

    def start_next(self) -> None:
        self._start(self.rest)

    @property
    def rest(self) -> bytes:
        """What came after the request."""
        return self._h11.trailing_data[0]

    @property
    def awaits_continue(self) -> bool:
        """The client holds its body back until it is told to send it."""
        return self._h11.they_are_waiting_for_100_continue

    def receive(self, data: bytes) -> None:
        if not self.begun:
            data = data.lstrip(b"\r\n")  # some clients end a body with a line too many (RFC 9112, 2.2)
        if data:
            self.begun = True
            self._h11.receive_data(data)

    def head(self) -> Head | None:
        """Raise BadRequest, HeadTooLarge, UnknownTransferCoding or VersionNotSupported."""
        event = self._next_event()
        if event is h11.NEED_DATA:
            return None
        assert isinstance(event, h11.Request)
        head = _checked(event, self._limits)
        self._announced = int(head.field(b"content-length") or 0)
        return head

    def body(self) -> bytes | None:
        """Raise BadRequest, or BodyTooLarge: before anything is read if the length is announced."""
        if self._announced > self._limits.body_bytes:
            raise BodyTooLarge
        while isinstance(event := self._next_event(), h11.Data):
            self._keep(event)
        if event is h11.NEED_DATA:
            return None
        return bytes(self._body)

    def _keep(self, data: h11.Data) -> None:
        self._body += data.data
        self._chunks += data.chunk_start
        if len(self._body) > self._limits.body_bytes or self._chunks > self._limits.body_chunks:
            raise BodyTooLarge

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as exc:
            # h11's words quote the request, which may hold a token.
            raise _REFUSALS.get(exc.error_status_hint, BadRequest) from None


_REFUSALS: Final = {431: HeadTooLarge, 501: UnknownTransferCoding}


def _checked(request: h11.Request, limits: Limits) -> Head:
    """Refuse what h11 lets through: too much, and what two servers in a row could understand in two ways."""
    if request.http_version not in _VERSIONS:
        raise VersionNotSupported
    fields = list(request.headers)
    size = len(request.target) + sum([len(name) + len(value) + 4 for name, value in fields])
    if len(fields) > limits.head_fields or size > limits.head_bytes:
        raise HeadTooLarge
    known = dict(fields)
    if b"transfer-encoding" in known and (b"content-length" in known or request.http_version == b"1.0"):
        raise BadRequest("the length of the body is given in two ways")
    path, query, host = _target(request)
    if host is not None:
        fields = [(b"host", host), *(item for item in fields if item[0] != b"host")]
    connection = _tokens(fields, b"connection") if b"connection" in known else ()
    return Head(
        method=request.method.decode("ascii"),
        version=request.http_version.decode("ascii"),
        path=path,
        query=query,
        fields=fields,
        keep_alive=request.http_version == b"1.1" and b"close" not in connection,
        wants_websocket=b"upgrade" in connection and _asks_for_websocket(request, fields, known),
    )


def _target(request: h11.Request) -> tuple[bytes, bytes, bytes | None]:
    """Path, query, and the host of a target that is a whole URL: such a host is the one that counts (RFC 9112, 3.2.2)."""
    target, host = request.target, None
    if not target.startswith(b"/") and not (target == b"*" and request.method == b"OPTIONS"):
        match = _ABSOLUTE.fullmatch(target)
        if match is None:
            raise BadRequest("the target is neither a path nor a URL")
        host, target = match[1], match[2] or b"/"
        if not target.startswith(b"/"):
            target = b"/" + target
    path, _, query = target.partition(b"?")
    return path, query, host


def _tokens(fields: Fields, name: bytes) -> set[bytes]:
    values = b",".join([value for found, value in fields if found == name])
    return {token.strip().lower() for token in values.split(b",")}


def _asks_for_websocket(request: h11.Request, fields: Fields, known: dict[bytes, bytes]) -> bool:
    """Perhaps among others, of which it is for us to choose."""
    bodiless = b"transfer-encoding" not in known and int(known.get(b"content-length", b"0")) == 0
    opens = request.method == b"GET" and request.http_version == b"1.1" and bodiless
    return opens and b"websocket" in _tokens(fields, b"upgrade")
