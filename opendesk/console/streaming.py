"""The live stream: a page is sent what changed once a second, until the daemon stops or the log-in is over."""

from typing import Any, Final

from attrs import frozen
from hypercorn.typing import ASGISendCallable
import trio

from opendesk.console.board import LOGGED_OUT, STOPPING, WATCHERS_MOST, Board, Watcher, bye
from opendesk.console.pages import SECURITY
from opendesk.console.sessions import Sessions
from opendesk.console.visits import Session
from opendesk.errors import Overloaded
from opendesk.web.http.transport import ClientGone

# A connection that is silent for long is closed by proxies; and only by sending is it noticed that nobody is there.
_SILENCE_S: Final = 10.0
_RETRY_AFTER_S: Final = 10

# A browser whose stream broke comes back after so long.
_BEGIN: Final = b"retry: 2000\n\n"
_STILL_HERE: Final = b": still here\n\n"

_HEADERS: Final = (
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("X-Accel-Buffering", "no"),  # nginx would keep it back until it has some more
    *SECURITY,
)


@frozen
class Streaming:
    _board: Board
    _sessions: Sessions

    async def serve(self, session: Session | None, request_id: str, send: ASGISendCallable) -> None:
        """Who isn't logged in is told so and nothing else. Raise Overloaded, before anything is sent, where too many watch."""
        board = self._board
        if session is None or board.is_stopping:
            await self._begin(request_id, send)
            await _send(send, bye(LOGGED_OUT if session is None else STOPPING), more=False)
            return
        if len(board.watchers) >= WATCHERS_MOST:
            raise Overloaded(f"{WATCHERS_MOST} pages are watched already", retry_after_s=_RETRY_AFTER_S)
        watcher = Watcher(session.user_id, session.token_version)
        board.watchers.add(watcher)  # before anything is waited for: a crowd that comes at once is counted
        try:
            with watcher.scope:
                await self._begin(request_id, send)
                await self._watch(watcher, session, send)
        finally:
            board.watchers.discard(watcher)
        if watcher.scope.cancelled_caught:
            raise ClientGone  # it didn't read; the connection is cut

    async def _begin(self, request_id: str, send: ASGISendCallable) -> None:
        fields = (*_HEADERS, ("X-Request-ID", request_id))
        start: Any = {
            "type": "http.response.start",
            "status": 200,
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in fields],
            "trailers": False,
        }
        await send(start)

    async def _watch(self, watcher: Watcher, session: Session, send: ASGISendCallable) -> None:
        board = self._board
        await _send(send, _BEGIN)
        await board.current()
        while watcher.over is None:
            news = board.news
            if not self._sessions.is_current(session):
                watcher.over = LOGGED_OUT
                break
            if told := board.told(watcher):
                await _send(send, told)
            with trio.move_on_after(_SILENCE_S) as silence:
                await news.wait()
            if silence.cancelled_caught:
                await _send(send, _STILL_HERE)
        await _send(send, bye(watcher.over), more=False)


async def _send(send: ASGISendCallable, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})
