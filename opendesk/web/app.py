"""The application: Quart finds the endpoint; the few hot paths are found without it."""

from collections.abc import Mapping
import re
from typing import Any, Final

from attrs import define
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope
import quart
from quart.globals import request_ctx
from werkzeug import exceptions
from werkzeug.routing import BaseConverter

from opendesk.errors import BodyTooLarge, OpenDeskError
from opendesk.web.endpoint import Endpoint, Reply
from opendesk.web.http.exchange import WHOLE_BODY
from opendesk.web.paths import Name, pattern
from opendesk.web.problems import FIXED_HEADERS
from opendesk.web.quart import LeanQuartTrio
from opendesk.web.responder import MethodNotAllowed, Responder, unknown_path

# People's pages, which are no calls: they have errors, headers and log-ins of their own.
CONSOLE: Final = "/console"

# The contract's; our server refuses longer ones before this, other servers may not.
MAX_BODY: Final = 1024 * 1024


@define(eq=False)
class Application:
    """An ASGI app."""

    _quart: LeanQuartTrio
    _responder: Responder
    _hot: tuple[tuple[str, re.Pattern[str], Endpoint], ...]
    _console: ASGIFramework | None = None

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and WHOLE_BODY in scope["extensions"]:
            for method, pattern, endpoint in self._hot:
                match = pattern.fullmatch(scope["path"])
                if match is not None and method == scope["method"]:
                    await self._answer_hot(endpoint, match.groupdict(), scope, receive, send)
                    return
        if self._console is not None and scope["type"] == "http" and _is_of_console(scope["path"]):
            await self._console(scope, receive, send)
            return
        await self._quart(scope, receive, send)

    async def _answer_hot(
        self, endpoint: Endpoint, ids: dict[str, str], scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        event: Any = await receive()
        reply = await self._responder.respond(endpoint, self._responder.request(scope, event["body"]), ids)
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in _headers(reply)]
        headers.append((b"content-length", str(len(reply.body)).encode()))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": reply.body, "more_body": False})


def _is_of_console(path: str) -> bool:
    return path == CONSOLE or path.startswith(f"{CONSOLE}/")


def make_app(
    endpoints: tuple[Endpoint, ...], responder: Responder, console: ASGIFramework | None = None
) -> Application:
    app = LeanQuartTrio("opendesk")
    add_routes(app, endpoints, responder)
    hot = tuple((e.method, pattern(e.path), e) for e in endpoints if e.hot)
    return Application(app, responder, hot, console)


def add_routes(app: quart.Quart, endpoints: tuple[Endpoint, ...], responder: Responder) -> None:
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    for endpoint in endpoints:
        _add_route(app, endpoint, responder)
    _add_refusals(app, responder, {endpoint.name: endpoint.path for endpoint in endpoints})


def _add_route(app: quart.Quart, endpoint: Endpoint, responder: Responder) -> None:
    async def view(**ids: str) -> quart.Response:
        body: Any = await quart.request.get_data(as_text=False)
        request = responder.request(quart.request.scope, bytes(body))
        return _response(await responder.respond(endpoint, request, ids))

    app.add_url_rule(
        _rule(app, endpoint), endpoint.name, view, methods=[endpoint.method], provide_automatic_options=False
    )


def _rule(app: quart.Quart, endpoint: Endpoint) -> str:
    def parameter(match: re.Match[str]) -> str:
        name = endpoint.names.get(match[1])
        if name is None:
            return f"<{match[1]}>"
        app.url_map.converters[match[1]] = _converter(name)  # of this rule: the next may have another by this name
        return f"<{match[1]}:{match[1]}>"

    return re.sub(r"\{(\w+)\}", parameter, endpoint.path)


def _converter(name: Name) -> type[BaseConverter]:
    """The rest of a path may begin with a slash, which werkzeug's own `path` doesn't take."""
    return type("Converter", (BaseConverter,), {"regex": name.pattern, "part_isolating": not name.takes_rest})


def _add_refusals(app: quart.Quart, responder: Responder, routes: Mapping[str, str]) -> None:
    async def refuse(error: OpenDeskError, route: str | None = None) -> quart.Response:
        request = responder.request(quart.request.scope, b"")
        return _response(await responder.refuse(request, error, route=route))

    async def not_found(_: Exception) -> quart.Response:
        return await refuse(unknown_path())

    async def not_allowed(error: exceptions.MethodNotAllowed) -> quart.Response:
        allowed = sorted(error.valid_methods or ())
        route = routes[_endpoint_with(allowed[0])] if allowed else None
        return await refuse(MethodNotAllowed(", ".join(allowed)), route)

    async def too_large(_: Exception) -> quart.Response:
        return await refuse(BodyTooLarge())

    async def bad_request(error: exceptions.HTTPException) -> quart.Response:
        return await refuse(_Refused(error.description))

    app.register_error_handler(404, not_found)
    app.register_error_handler(exceptions.MethodNotAllowed, not_allowed)
    app.register_error_handler(413, too_large)
    app.register_error_handler(400, bad_request)


def _endpoint_with(method: str) -> str:
    """The name of the endpoint that the path asked for has under this method."""
    adapter = request_ctx.url_adapter
    assert adapter is not None
    name, _ = adapter.match(method=method)
    return str(name)


class _Refused(OpenDeskError):
    """The request can't be understood."""

    status, code = 400, "BAD_REQUEST"


def _headers(reply: Reply) -> tuple[tuple[str, str], ...]:
    content_type = (("Content-Type", reply.content_type),) if reply.body else ()
    return (*content_type, *FIXED_HEADERS, *reply.headers)


def _response(reply: Reply) -> quart.Response:
    response = quart.Response(reply.body, reply.status)
    response.headers.clear()
    for name, value in _headers(reply):
        response.headers.add(name, value)
    if reply.status != 204:  # noqa: PLR2004  # RFC 9110, section 8.6: No Content has no length
        response.headers.add("Content-Length", str(len(reply.body)))
    return response
