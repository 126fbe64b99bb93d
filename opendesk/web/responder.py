"""From a request to what goes back: errors become problems, every answer gets its id, its origin and its place in the metrics."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final
from urllib.parse import parse_qsl

from attrs import define, evolve, field, frozen
import structlog
import trio

from opendesk.errors import DatabaseUnavailable, NotFound, OpenDeskError
from opendesk.ops.metrics import Metrics
from opendesk.web.endpoint import Api, Endpoint, Reply, WebRequest
from opendesk.web.problems import DATABASE_RETRY_S, PROBLEM_JSON, as_expected, render
from opendesk.web.seldom import Seldom

log = structlog.get_logger()

Network = IPv4Network | IPv6Network

# After so long a call is given up. Statements have their own, shorter limits; only a database that has fallen mute lets it pass. Its caller
# is told once the statement under way has come to rest, for which a mute one is given `settling.SETTLE_LIMIT_S` more.
CALL_S: Final = 15.0

# Of a query string: more than any call here takes.
MAX_QUERY_FIELDS: Final = 20

# What stands for the address of a Unix socket's other end.
UNIX: Final = "unix"

_SCHEMES: Final = ("http", "https")

_EXPOSED: Final = "X-Request-ID, Idempotent-Replayed, Retry-After"
_PREFLIGHT_AGE_S: Final = 600


class MethodNotAllowed(OpenDeskError):
    """The path doesn't have this method."""

    status, code = 405, "METHOD_NOT_ALLOWED"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"this path has {allowed}")
        self.allowed = allowed


@frozen
class Origins:
    """Which browsers' pages may read answers (CORS_ORIGINS)."""

    allowed: frozenset[str]

    def headers(self, origin: str | None) -> tuple[tuple[str, str], ...]:
        if not self.allowed:
            return ()
        if origin not in self.allowed or origin is None:
            return (("Vary", "Origin"),)
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", _EXPOSED),
            ("Vary", "Origin"),
        )

    def preflight(self, request: WebRequest) -> Reply | None:
        """The answer to a browser that asks first; None for any other request."""
        wanted = request.headers.get("access-control-request-method")
        origin = request.headers.get("origin")
        if request.method != "OPTIONS" or wanted is None or origin not in self.allowed:
            return None
        allow = (
            ("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE"),
            ("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, X-Request-ID"),
            ("Access-Control-Max-Age", str(_PREFLIGHT_AGE_S)),
        )
        return Reply(204, b"", headers=allow)


@frozen
class Proxies:
    """Whose word on the caller's address counts (TRUSTED_PROXIES). A Unix socket's other end is a local program: a proxy of ours."""

    trusted: tuple[Network, ...]

    def caller(self, peer: str, forwarded: str | None) -> tuple[str, bool]:
        """The nearest address that isn't a trusted proxy's, and whether there is talk of others behind it that we can't rely on."""
        if forwarded is None:
            return peer, False
        hops = [hop.strip() for hop in forwarded.split(",")]
        address = peer
        while hops and self.trusts(address):
            hop = hops.pop()
            if not _is_address(hop):
                return address, True
            address = folded(hop)
        return address, not self.trusts(peer)

    def asked_at(self, peer: str, scheme: str, headers: Mapping[str, str]) -> tuple[str, str]:
        """Scheme and host that the caller asked. Of several proxies' words the nearest one's counts: what is before it, anybody may have sent."""
        host = headers.get("host", "")
        proto, forwarded = headers.get("x-forwarded-proto"), headers.get("x-forwarded-host")
        if (proto is None and forwarded is None) or not self.trusts(peer):
            return scheme, host
        told = _last(proto).lower()
        return told if told in _SCHEMES else scheme, _last(forwarded) or host

    def trusts(self, address: str) -> bool:
        if address == UNIX:
            return True
        return _is_address(address) and any(ip_address(address) in network for network in self.trusted)


def _last(forwarded: str | None) -> str:
    return (forwarded or "").rpartition(",")[2].strip()


def folded(text: str) -> str:
    """An IPv4 address that came through an IPv6 socket as what it is."""
    if not _is_address(text):
        return text
    address = ip_address(text)
    return str(getattr(address, "ipv4_mapped", None) or address)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def web_request(
    scope: Mapping[str, Any], body: bytes, *, proxies: Proxies, request_id: Callable[[str | None], str]
) -> WebRequest:
    headers = _headers(scope["headers"])
    client = scope.get("client")
    peer = folded(client[0]) if client else UNIX
    address, hearsay = proxies.caller(peer, headers.get("x-forwarded-for"))
    scheme, host = proxies.asked_at(peer, scope.get("scheme", "http"), headers)
    path, query = scope["raw_path"], scope["query_string"]
    return WebRequest(
        method=scope["method"],
        path=scope["path"],
        query=_query(query),
        headers=headers,
        body=body,
        address=address,
        hearsay=hearsay,
        scheme=scheme,
        host=host,
        target=path + b"?" + query if query else path,
        request_id=request_id(headers.get("x-request-id")),
    )


def comes_from(request: WebRequest, networks: Sequence[Network]) -> bool:
    """Whether its address is in one of these, and can be relied on. The other end of a Unix socket has none."""
    if request.hearsay or request.address == UNIX:
        return False
    address = ip_address(request.address)
    return any(address in network for network in networks)


def _headers(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Fields of one name are one, parted by commas (RFC 9110, 5.2): a second Authorization spoils the first."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}
    if len(headers) == len(fields):
        return headers
    gathered: dict[str, list[str]] = {name: [] for name in headers}
    for name, value in fields:
        gathered[name.decode("latin-1")].append(value.decode("latin-1"))
    return {name: ", ".join(values) for name, values in gathered.items()}


def _query(raw: bytes) -> tuple[tuple[str, str], ...] | None:
    """None for one that can't be read: too long, or not UTF-8."""
    if not raw:
        return ()
    try:
        text = raw.decode("ascii")
        return tuple(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS, errors="strict"))
    except ValueError:
        return None


@define
class Responder:
    """What both the framework's routes and the hot path answer with."""

    api: Api
    origins: Origins
    proxies: Proxies
    metrics: Metrics
    # By route and code, of which there are some hundred.
    _unavailable: defaultdict[tuple[str | None, str], Seldom] = field(factory=lambda: defaultdict(Seldom), init=False)

    def request(self, scope: Mapping[str, Any], body: bytes) -> WebRequest:
        return web_request(scope, body, proxies=self.proxies, request_id=self.api.request_id)

    async def respond(self, endpoint: Endpoint, request: WebRequest, ids: Mapping[str, str]) -> Reply:
        """Never raise but for cancellation."""

        async def answer() -> Reply:
            if endpoint.hot:  # it waits for a batch, which has its own limits
                return await self.api.answer(endpoint, request, ids)
            with trio.move_on_after(CALL_S if endpoint.limit_s is None else endpoint.limit_s):
                return await self.api.answer(endpoint, request, ids)
            raise DatabaseUnavailable("the database did not answer in time", retry_after_s=DATABASE_RETRY_S)

        return await self._told(request, endpoint.path, answer)

    async def refuse(self, request: WebRequest, error: OpenDeskError, *, route: str | None = None) -> Reply:
        """For a request that no endpoint is there for: of these, preflights are answered. `route` is the path's, if only the method is wrong."""
        preflight = self.origins.preflight(request)

        async def answer() -> Reply:
            if preflight is None:
                raise error
            return preflight

        return await self._told(request, route if preflight else None, answer)

    async def _told(self, request: WebRequest, route: str | None, answer: Callable[[], Awaitable[Reply]]) -> Reply:
        begun_s = trio.current_time()
        try:
            reply = await answer()
        except Exception as error:  # noqa: BLE001  # the edge: whatever it is, the caller gets a problem and the log the rest
            reply = self._problem(error, request, route)
        took_s = trio.current_time() - begun_s
        self.metrics.request_answered(request.method, route, reply.status, took_s)
        log.debug(
            "http.request",
            method=request.method,
            route=route,
            status=reply.status,
            ms=round(took_s * 1000, 1),
            traceId=request.request_id,
        )
        own = (("X-Request-ID", request.request_id), *self.origins.headers(request.headers.get("origin")))
        return evolve(reply, headers=(*reply.headers, *own))

    def _problem(self, error: Exception, request: WebRequest, route: str | None) -> Reply:
        expected = as_expected(error)
        if expected is None:
            log.error("http.failed", method=request.method, route=route, traceId=request.request_id, exc_info=error)
            expected = OpenDeskError("something went wrong here; the traceId finds it in our log")
        elif expected.status >= 500:  # noqa: PLR2004  # RFC 9110: server errors
            self._report(error, expected.code, request, route)
        return Reply(expected.status, render(expected, request.request_id), PROBLEM_JSON, _error_headers(expected))

    def _report(self, error: Exception, code: str, request: WebRequest, route: str | None) -> None:
        unsaid = self._unavailable[route, code].due()
        if unsaid is not None:
            facts = {"method": request.method, "route": route, "traceId": request.request_id}
            log.warning("http.unavailable", **facts, error=repr(error), unsaid=unsaid)


def _error_headers(error: OpenDeskError) -> tuple[tuple[str, str], ...]:
    headers = [("Retry-After", str(error.retry_after_s))] if error.retry_after_s is not None else []
    if error.status == 401:  # noqa: PLR2004  # RFC 9110, 15.5.2: it goes with a challenge
        headers.append(("WWW-Authenticate", "Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append(("Allow", error.allowed))
    return tuple(headers)


def unknown_path() -> NotFound:
    return NotFound("there is nothing at this path")
