"""Quart on Trio without a nursery and two tasks for each request, which our own server makes needless."""

from collections.abc import Callable
from typing import cast

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPRequestEvent
from quart.routing import QuartRule
from quart.utils import encode_headers
from quart.wrappers import Response
from quart.wrappers.base import BaseRequestWebsocket
from quart.wrappers.response import DataBody
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from werkzeug.routing import MapAdapter

from opendesk.web.http.exchange import WHOLE_BODY


class LeanHttpConnection(TrioASGIHTTPConnection):
    """Under our server: the body is whole, nobody hangs up before the answer, so the handler runs in the connection's task.

    Under any other server, and Quart's test client, this is quart-trio's own.
    """

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if WHOLE_BODY not in self.scope["extensions"]:
            await super().__call__(receive, send)
            return
        request = self._create_request_from_scope(send)
        event = cast("HTTPRequestEvent", await receive())
        request.body.set_result(event["body"])
        response = await self.app.handle_request(request)
        if isinstance(response, Response) and isinstance(response.response, DataBody):
            await _send_whole(send, response, response.response)
        else:
            await self._send_response(send, response)


async def _send_whole(send: ASGISendCallable, response: Response, body: DataBody) -> None:
    """One event for the body, where Quart makes two. The server bounds the sending."""
    headers = encode_headers(response.headers)
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body.data[body.begin : body.end], "more_body": False})


class MatchedRule(QuartRule):
    """A route that paths are matched with. Nobody asks for a path by a route's name, and what would make one takes a millisecond to compile."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:  # noqa: ARG002, FBT001, FBT002  # werkzeug's own
        return _never_built


def _never_built(*_: object) -> tuple[str, str]:
    raise NotImplementedError


class LeanQuartTrio(QuartTrio):
    """For an API: never redirects to a path that differs in slashes, and finds routes by the path alone."""

    asgi_http_class = LeanHttpConnection
    url_rule_class = MatchedRule  # type: ignore[assignment]  # as Quart has it of its own

    def __init__(self, import_name: str) -> None:
        super().__init__(import_name, static_folder=None)
        # No path of ours ends in a slash, so that being strict about them refuses and never redirects.
        self.url_map.strict_slashes = True
        self.url_map.merge_slashes = False

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        # Quart's own looks at the Host field, and a faulty one there ends in a 500.
        if request is None:
            return super().create_url_adapter(request)
        # Of the slashes that a path begins with, werkzeug's requests and its routes see one. No path of ours has a NUL.
        path = "/\0" if request.scope["path"].startswith("//") else request.path
        return MapAdapter(
            self.url_map,
            "localhost",
            "/",
            "",
            request.scheme,
            path,
            request.method,
            request.query_string.decode(),
        )
