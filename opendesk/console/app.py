"""The console as an ASGI app beside the API: HTML for people, and one stream."""

from collections.abc import Awaitable, Callable, Mapping
import re
from typing import Any, Final, cast
from urllib.parse import quote

from attrs import define, field, frozen
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from markupsafe import escape
import structlog
import trio

from opendesk.console.acting import Acting
from opendesk.console.board import Board
from opendesk.console.outage import Outage
from opendesk.console.pages import SECURITY, Page, Pages, see_other
from opendesk.console.plots import drawn
from opendesk.console.seals import Seals
from opendesk.console.searching import Searching
from opendesk.console.sessions import LOGIN_PAGE, Sessions
from opendesk.console.streaming import Streaming
from opendesk.console.visits import NotFromHere, Visit, form_of, is_from_elsewhere
from opendesk.errors import DatabaseUnavailable, NotFound, OpenDeskError
from opendesk.ops.metrics import Metrics
from opendesk.web.endpoint import WebRequest
from opendesk.web.problems import DATABASE_RETRY_S, as_expected
from opendesk.web.responder import CALL_S, MethodNotAllowed

log = structlog.get_logger()

ROOT: Final = "/console"
LIVE: Final = "/console/live"

_UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ROUTER: Final = r"[A-Za-z0-9._:-]{1,64}"

# For who followed a link from elsewhere: a step from one page of ours to another, with which the browser sends the cookie.
_STEP: Final = '<!doctype html><html lang="en"><meta charset="utf-8"><title>OpenDesk console</title><meta http-equiv="refresh" content="0; url={}"><p><a href="{}">To the console</a></p></html>'

Handle = Callable[[Visit], Awaitable[Page]]


@frozen
class _Route:
    """`is_open` ones need no log-in; those that `ask` the database for more than who it is are refused at once while it is away.

    Of what changes something the form is checked first.
    """

    method: str
    template: str
    pattern: re.Pattern[str]
    handle: Handle
    is_open: bool = False
    asks: bool = False


@define(eq=False)
class ConsoleApp:
    """An ASGI app for `/console` and what is under it. `read` makes a request of a scope."""

    _board: Board
    _sessions: Sessions
    _acting: Acting
    _searching: Searching
    _pages: Pages
    _seals: Seals
    _outage: Outage
    _metrics: Metrics
    _streaming: Streaming
    _read: Callable[[Mapping[str, Any], bytes], WebRequest]
    _routes: tuple[_Route, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        sessions, acting, searching = self._sessions, self._acting, self._searching
        self._routes = (
            _route("GET", ROOT, "/?", self._home),
            _route("GET", "/console/static/{name}", "/static/(?P<name>[a-z0-9._-]{1,64})", self._static, is_open=True),
            _route("GET", LOGIN_PAGE, "/login", sessions.ask, is_open=True),
            _route("POST", LOGIN_PAGE, "/login", sessions.log_in, is_open=True, asks=True),
            _route("POST", "/console/logout", "/logout", sessions.log_out, asks=True),
            _route("GET", "/console/why", "/why", searching.linked, asks=True),
            _route("POST", "/console/why", "/why", searching.asked, asks=True),
            _route("POST", "/console/dead/{id}/replay", f"/dead/(?P<id>{_UUID})/replay", acting.replay, asks=True),
            _route("POST", "/console/routers/{id}/reset", f"/routers/(?P<id>{_ROUTER})/reset", acting.reset, asks=True),
        )

    async def __call__(self, scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        request = self._read(scope, await _body(receive))
        began_s = trio.current_time()
        route, page = LIVE, None
        try:
            if scope["path"] == LIVE and request.method == "GET":
                self._metrics.request_answered("GET", LIVE, 200, 0.0)
                await self._streaming.serve(await self._session(request), request.request_id, send)
                return
            found = self._found(request)
            route = found[0].template
            page = await self._within_time(request, *found)
        except OSError:
            raise  # the client is gone
        except Exception as error:  # noqa: BLE001 - the edge: people get a page, the log the rest
            page = await self._error(error, request)
        self._metrics.request_answered(request.method, route, page.status, trio.current_time() - began_s)
        await _send(page, request.request_id, send)

    # ---- finding

    def _found(self, request: WebRequest) -> tuple[_Route, Mapping[str, str]]:
        method = "GET" if request.method == "HEAD" else request.method
        matches = [(route, match) for route in self._routes if (match := route.pattern.fullmatch(request.path))]
        for route, match in matches:
            if route.method == method:
                return route, match.groupdict()
        if matches or request.path == LIVE:
            raise MethodNotAllowed(", ".join(sorted({route.method for route, _ in matches} or {"GET"})))
        raise NotFound("There is nothing at this address.")

    async def _within_time(self, request: WebRequest, route: _Route, ids: Mapping[str, str]) -> Page:
        with trio.move_on_after(CALL_S):
            return await self._answer(request, route, ids)
        raise DatabaseUnavailable("The database did not answer in time.", retry_after_s=DATABASE_RETRY_S)

    async def _answer(self, request: WebRequest, route: _Route, ids: Mapping[str, str]) -> Page:
        session = None if route.handle == self._static else await self._session(request)
        visit = Visit(request, session, ids)
        if session is None and not route.is_open:
            return self._to_log_in(request)
        if route.asks:
            self._outage.check()
        if session is None or route.is_open:
            return await route.handle(visit)
        if route.method == "POST" and not self._seals.is_csrf(form_of(request).get("csrf", ""), session.token):
            raise NotFromHere("The form was too old, or not from here: nothing was done.")
        return await route.handle(visit)

    async def _session(self, request: WebRequest) -> Any:
        return await self._sessions.of(request)

    def _to_log_in(self, request: WebRequest) -> Page:
        if request.method != "GET" or not is_from_elsewhere(request):
            return see_other(LOGIN_PAGE)
        target = escape(quote(request.target.decode("latin-1"), safe="/?&=%+:.~_-"))
        return Page(200, _STEP.format(target, target).encode())

    # ---- pages

    async def _home(self, visit: Visit) -> Page:
        snapshot = await self._board.current()
        who = visit.who
        return await self._pages.page(
            "page.html",
            snapshot=snapshot,
            csrf=self._seals.csrf(who.token),
            who=who.email,
            said=self._acting.said(visit),
            drawn=drawn,
        )

    async def _static(self, visit: Visit) -> Page:
        known = visit.request.headers.get("if-none-match")
        page = self._pages.static(visit.ids["name"], visit.query("v"), known)
        await trio.lowlevel.checkpoint()
        if page is None:
            raise NotFound("There is nothing at this address.")
        return page

    # ---- errors

    async def _error(self, error: Exception, request: WebRequest) -> Page:
        expected = as_expected(error)
        if expected is None:
            log.error("console.failed", method=request.method, traceId=request.request_id, exc_info=error)
            expected = OpenDeskError(f"Something went wrong here; {request.request_id} finds it in the log.")
        headers = [("Retry-After", str(expected.retry_after_s))] if expected.retry_after_s is not None else []
        again = request.target.decode("latin-1") if request.method == "GET" and request.path != LIVE else None
        if isinstance(expected, DatabaseUnavailable) and again is not None:
            headers.append(
                ("Refresh", str(expected.retry_after_s or DATABASE_RETRY_S))
            )  # the browser comes back by itself
        if isinstance(expected, MethodNotAllowed):
            headers.append(("Allow", expected.allowed))
        title = expected.title().rstrip(".")
        return await self._pages.page(
            "error.html", expected.status, tuple(headers), title=title, text=expected.detail, again=again
        )


def _route(
    method: str, template: str, rest: str, handle: Handle, *, is_open: bool = False, asks: bool = False
) -> _Route:
    return _Route(method, template, re.compile(re.escape(ROOT) + rest), handle, is_open, asks)


async def _body(receive: ASGIReceiveCallable) -> bytes:
    """Our server's first event has all of it, and bounds it."""
    event = cast("Any", await receive())
    return bytes(event["body"])


async def _send(page: Page, request_id: str, send: ASGISendCallable) -> None:
    fields = [*page.headers, *SECURITY, ("X-Request-ID", request_id)]
    if page.body:
        fields.append(("Content-Type", page.content_type))
    if page.status != 304:  # noqa: PLR2004  # RFC 9110, 15.4.5: Not Modified has no body
        fields.append(("Content-Length", str(len(page.body))))
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]
    await send({"type": "http.response.start", "status": page.status, "headers": headers, "trailers": False})
    await send({"type": "http.response.body", "body": page.body, "more_body": False})
