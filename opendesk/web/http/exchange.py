"""One request and its answer, as an ASGI app sees them: the whole body at once, no news of a client that hangs up."""

from collections.abc import Awaitable, Callable
from typing import Final

from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent
import trio

from opendesk.web.http.request import Head
from opendesk.web.http.response import FaultyResponse, ResponseWriter
from opendesk.web.http.transport import ClientGone

# The scope's extension that says: the first event has all of the body, and none comes after it until the answer is out.
WHOLE_BODY: Final = "opendesk.whole_body"


class Exchange:
    def __init__(
        self,
        head: Head,
        body: bytes,
        *,
        write: Callable[[bytes], Awaitable[None]],
        may_stay: Callable[[], bool],
        date: Callable[[], bytes],
    ) -> None:
        self._body: bytes | None = body
        self._write = write
        self._may_stay = may_stay
        self._date = date
        self._head = head
        self._response = ResponseWriter(head_only=head.method == "HEAD", version=head.version)
        self._finished: trio.Event | None = None
        self._over = False
        # Whether any byte of the answer left, and whether all did.
        self.begun = False
        self.complete = False

    @property
    def keep_alive(self) -> bool:
        return self.complete and self._response.keep_alive

    async def receive(self) -> ASGIReceiveEvent:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self._over:
            self._finished = self._finished or trio.Event()
            await self._finished.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: ASGISendEvent) -> None:
        """Raise FaultyResponse for what is not HTTP, ClientGone if nobody listens."""
        if event["type"] == "http.response.start":
            self._response.start(event["status"], event.get("headers", ()))
        elif event["type"] == "http.response.body":
            await self._send_body(event.get("body", b""), more=event.get("more_body", False))
        else:
            raise FaultyResponse(f"{event['type']} is not offered")

    async def _send_body(self, data: bytes, *, more: bool) -> None:
        keep_alive = self._head.keep_alive and self._may_stay()
        framed = self._response.body(data, more=more, keep_alive=keep_alive, date=self._date())
        if framed:
            await self._write_out(framed)
        self.complete = self._response.complete
        if more:
            await trio.lowlevel.checkpoint()  # a reader as fast as the app must not keep all others waiting
        else:
            self._end()

    async def _write_out(self, framed: bytes) -> None:
        self.begun, self.complete = True, False
        try:
            await self._write(framed)
        except ClientGone:
            self._end()
            raise

    def _end(self) -> None:
        """Whoever listens hears of it."""
        self._over = True
        if self._finished is not None:
            self._finished.set()
