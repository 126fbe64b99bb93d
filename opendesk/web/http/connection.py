"""One client's connection: a request is read, the app called, its answer sent; then the next. All in one task.

Nobody reads while the app works: a client that hangs up is noticed when its answer is sent, and its handler finishes.
See docs/decisions/0003-http-server.md.
"""

import math
import re
from typing import Final

from hypercorn.typing import ConnectionState, HTTPScope
import structlog
import trio

from opendesk.errors import NotFound, OpenDeskError, Overloaded
from opendesk.web.http.door import FIRST_WORD_S, Door, Headers, Upgrade
from opendesk.web.http.exchange import WHOLE_BODY, Exchange
from opendesk.web.http.request import Head, RequestReader, RequestTimeout
from opendesk.web.http.response import CONTINUE, ResponseWriter
from opendesk.web.http.transport import ClientGone, Transport
from opendesk.web.http.websocket import WrongVersion
from opendesk.web.problems import FIXED_HEADERS, PROBLEM_JSON, render

log = structlog.get_logger()

# A caller's request id is taken over if it can do no harm in a log.
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,64}")


class AppFailed(OpenDeskError):
    """Something went wrong on our side."""

    status, code = 500, "INTERNAL"


class Connection:
    def __init__(self, door: Door, transport: Transport, state: ConnectionState) -> None:
        self._door = door
        self._limits = door.limits
        self._transport = transport
        self._state = state
        self._reader = RequestReader(door.limits)
        self._head: Head | None = None
        self._id: str | None = None
        self._served = 0
        self._opened_s = trio.current_time()

    @property
    def begun(self) -> bool:
        return self._reader.begun

    @property
    def welcome_until_s(self) -> float:
        return -math.inf if self._served else self._opened_s + FIRST_WORD_S

    @property
    def _is_sent_away(self) -> bool:
        return self._door.draining and not self.begun and trio.current_time() >= self.welcome_until_s

    async def serve(self) -> None:
        """Raise what nobody expected. The stream is the caller's to close."""
        try:
            if not await self._handshake():
                return
            while await self._serve_one():
                self._reader.start_next()
                self._head = self._id = None
        except OpenDeskError as error:
            await self.refuse(error)
        except (ClientGone, trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("http.client_gone", served=self._served)

    async def refuse(self, error: OpenDeskError) -> None:
        """Say why, and part."""
        log.debug("http.refused", status=error.status, code=error.code)
        head_only = self._head is not None and self._head.method == "HEAD"
        try:
            await self._transport.send(
                _problem(error, self._request_id(), self._origin_headers(), head_only=head_only, date=self._door.date())
            )
        except ClientGone:
            return
        await self._transport.linger()

    def _request_id(self) -> str:
        """The caller's or a new one, and the same again for the same request."""
        if self._id is None:
            sent = self._head.field(b"x-request-id") if self._head is not None else None
            sane = sent is not None and _SANE_ID.fullmatch(sent)
            self._id = sane[0].decode("ascii") if sane else self._door.new_id()
        return self._id

    def _origin_headers(self) -> Headers:
        """What lets a browser's page read the answer; nothing if the head wasn't read that far."""
        if self._head is None:
            return ()
        origin = self._head.field(b"origin")
        return self._door.origin_headers(None if origin is None else origin.decode("latin-1"))

    async def _handshake(self) -> bool:
        if self._is_sent_away:
            return False
        with trio.move_on_after(self._limits.handshake_s) as scope:
            self._door.waiting[self] = scope
            try:
                await self._transport.handshake()
                return True
            finally:
                self._door.waiting.pop(self, None)
        return False

    async def _serve_one(self) -> bool:
        """Whether the connection stays for another one."""
        self._head = head = await self._read_head()
        if head is None:
            return False
        if head.wants_websocket:
            await self._offer(head)
            return False
        exchange = Exchange(
            head, await self._read_body(), write=self._transport.send, may_stay=self._may_stay, date=self._door.date
        )
        self._served += 1
        try:
            await self._call_app(head, exchange)
        finally:
            if exchange.begun and not exchange.complete:
                self._transport.cut_off()
        if exchange.complete and not exchange.keep_alive:
            await self._transport.linger()
        return exchange.keep_alive

    def _may_stay(self) -> bool:
        return not self._door.draining and self._served < self._limits.requests_per_connection

    async def _read_head(self) -> Head | None:
        """None if nobody is there, or to be."""
        head = self._reader.head() if self.begun else None
        if head is not None:
            await trio.lowlevel.checkpoint()  # it came together with its predecessor: let others in between
            return head
        if self._is_sent_away:
            return None
        return await self._await_head()

    async def _await_head(self) -> Head | None:
        limits, door = self._limits, self._door
        wait_s = limits.head_s if self.begun else limits.idle_s if self._served else limits.silence_s
        with trio.move_on_after(wait_s) as scope:
            if door.draining and not self.begun:
                scope.deadline = min(scope.deadline, self.welcome_until_s)
            door.waiting[self] = scope
            try:
                while data := await self._transport.receive():
                    was_begun = self.begun
                    self._reader.receive(data)
                    if (head := self._reader.head()) is not None:
                        return head
                    if self.begun and not was_begun:
                        scope.deadline = trio.current_time() + limits.head_s
                return None
            finally:
                door.waiting.pop(self, None)
        if not self.begun:
            return None
        raise RequestTimeout if trio.current_time() >= scope.deadline else Overloaded(retry_after_s=1)

    async def _read_body(self) -> bytes:
        body = self._reader.body()
        if body is not None:
            return body
        if self._reader.awaits_continue:
            await self._transport.send(CONTINUE)
        with trio.move_on_after(self._limits.body_s):
            while data := await self._transport.receive():
                self._reader.receive(data)
                if (body := self._reader.body()) is not None:
                    return body
            raise ClientGone
        raise RequestTimeout

    async def _offer(self, head: Head) -> None:
        upgrade = Upgrade(self._transport.stream, head, self._reader.rest, self._transport.client)
        door = self._door
        if door.upgraded >= self._limits.upgraded:
            raise Overloaded(retry_after_s=5)
        # From here on it is no connection that waits for requests, and takes the place of none.
        door.open -= 1
        door.upgraded += 1
        try:
            if door.upgrade is None or not await door.upgrade(upgrade):
                raise NotFound("there is no WebSocket here")
        finally:
            door.open += 1
            door.upgraded -= 1

    async def _call_app(self, head: Head, exchange: Exchange) -> None:
        """Raise AppFailed if the app gave no answer, ClientGone if nobody was there to take it."""
        try:
            await self._door.app(self._scope(head), exchange.receive, exchange.send)
        except* ClientGone:
            pass  # as said by the transport, whatever the app made of it
        except* Exception as group:  # noqa: BLE001 — logged, and this request's alone
            self._log_failure(head, group)
        else:
            if not exchange.complete and not self._transport.gone:
                self._log_failure(head, None)
        if self._transport.gone:
            raise ClientGone
        if not exchange.begun:
            raise AppFailed

    def _log_failure(self, head: Head, group: ExceptionGroup[Exception] | None) -> None:
        """Without a group, the app just left without finishing its answer."""
        facts = {"method": head.method, "path": head.decoded_path, "traceId": self._request_id()}
        log.error("http.app_failed", exc_info=group, **facts)

    def _scope(self, head: Head) -> HTTPScope:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": head.version,
            "method": head.method,
            "scheme": self._transport.scheme,
            "path": head.decoded_path,
            "raw_path": head.path,
            "query_string": head.query,
            "root_path": "",
            "headers": head.fields,
            "client": self._transport.client,
            "server": self._transport.server,
            "state": ConnectionState(self._state.copy()),
            "extensions": {WHOLE_BODY: {}},
        }


def _problem(error: OpenDeskError, request_id: str, more: Headers, *, head_only: bool, date: bytes) -> bytes:
    headers = [("content-type", PROBLEM_JSON), *FIXED_HEADERS, ("x-request-id", request_id), *more]
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(error.retry_after_s)))
    if isinstance(error, WrongVersion):
        headers += error.fields
    fields = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
    response = ResponseWriter(head_only=head_only, version="1.1")
    response.start(error.status, fields)
    return response.body(render(error, request_id), more=False, keep_alive=False, date=date)
