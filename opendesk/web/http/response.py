"""Answers into bytes: what an ASGI app says becomes HTTP/1.1. No I/O."""

from collections.abc import Iterable
from http import HTTPStatus
import re
from typing import Final

_FIELD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\r\n\0]*\r\n")
_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode("ascii")) for status in HTTPStatus
}
_BODILESS: Final = (204, 304)

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class FaultyResponse(Exception):
    """The app said something that can't be sent as HTTP."""


class ResponseWriter:
    """One answer. The head waits for the first piece of the body, so that both leave in one packet."""

    def __init__(self, *, head_only: bool, version: str) -> None:
        self._head_only = head_only
        self._version = version
        self._status: int | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._left: int | None = None
        self._chunked = False
        self._head_written = False
        self.complete = False
        self.keep_alive = True

    def start(self, status: int, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise FaultyResponse."""
        if self._status is not None:
            raise FaultyResponse("the response was started twice")
        if not 200 <= status <= 999:  # noqa: PLR2004 — the range of final statuses
            raise FaultyResponse(f"{status} is no final status")
        self._status = status
        self._fields = [(name.lower(), value) for name, value in fields]

    def body(self, data: bytes, *, more: bool, keep_alive: bool, date: bytes) -> bytes:
        """The bytes to send for a piece of the body. Raise FaultyResponse; nothing of that piece is to be sent then."""
        if self._status is None:
            raise FaultyResponse("a body without a start")
        if self.complete and data and not self._bodiless:
            raise FaultyResponse("a body after its end")
        head = b"" if self._head_written else self._head(data, more=more, keep_alive=keep_alive, date=date)
        framed = head + self._framed(data, more=more)
        self._head_written = True
        self.complete = not more or self._left == 0
        return framed

    @property
    def _bodiless(self) -> bool:
        return self._head_only or self._status in _BODILESS

    def _head(self, data: bytes, *, more: bool, keep_alive: bool, date: bytes) -> bytes:
        assert self._status is not None
        self.keep_alive = keep_alive
        self._left = None
        lines = [_STATUS_LINES.get(self._status) or b"HTTP/1.1 %d \r\n" % self._status]
        names = set()
        for name, value in self._fields:
            if self._is_ours(name, value):
                continue
            names.add(name)
            lines.append(_line(name, value))
        if b"date" not in names:
            lines.append(date)
        lines.append(self._framing(data, more=more, counted=b"content-length" in names))
        if not self.keep_alive:
            # Who says Upgrade says so here, too (RFC 9110, section 7.8).
            lines.append(b"connection: close, upgrade\r\n" if b"upgrade" in names else b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _is_ours(self, name: bytes, value: bytes) -> bool:
        """How long the body is and whether the connection stays is said by us, whatever the app says."""
        if name == b"connection":
            self.keep_alive = self.keep_alive and value.strip().lower() != b"close"
            return True
        if name == b"content-length" and self._status != HTTPStatus.NO_CONTENT:
            if self._left is not None or not value.isdigit():
                raise FaultyResponse("content-length is given twice, or is no number")
            self._left = int(value)
            return False
        return name in (b"content-length", b"transfer-encoding")

    def _framing(self, data: bytes, *, more: bool, counted: bool) -> bytes:
        if counted or self._status in _BODILESS:
            return b""
        if not more:
            self._left = len(data)
            return b"content-length: %d\r\n" % len(data)
        if self._head_only:
            return b""
        if self._version == "1.0":
            self.keep_alive = False  # the body ends where the connection does
            return b""
        self._chunked = True
        return b"transfer-encoding: chunked\r\n"

    def _framed(self, data: bytes, *, more: bool) -> bytes:
        if self._bodiless:
            return b""
        if self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            return chunk if more else chunk + b"0\r\n\r\n"
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (self._left > 0 and not more):
                raise FaultyResponse("the body is not as long as its content-length")
        return data


def _line(name: bytes, value: bytes) -> bytes:
    line = b"%b: %b\r\n" % (name, value)
    if _FIELD.fullmatch(line) is None:
        raise FaultyResponse(f"the field {name!r} can't be sent")
    return line
