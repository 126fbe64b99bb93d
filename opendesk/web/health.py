"""Whether the process lives, whether it can serve, and its figures."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from attrs import define, frozen

from opendesk.errors import Forbidden, OpenDeskError
from opendesk.ops.metrics import CONTENT_TYPE, Metrics
from opendesk.web.endpoint import Access, Answer, Call, Endpoint, Reply
from opendesk.web.responder import UNIX, Network


class NotReady(OpenDeskError):
    """The daemon can't serve at the moment."""

    status, code = 503, "NOT_READY"


@frozen
class Alive:
    ok: bool


@frozen
class Ready:
    ok: bool
    parts: Mapping[str, bool]


@define
class Health:
    """`parts` tells of each part whether it works; `matches_token` whether a token is the relay's."""

    parts: Callable[[], Awaitable[Mapping[str, bool]]]
    metrics: Metrics
    allowed: Sequence[Network]
    matches_token: Callable[[str], bool]
    document: bytes = b""

    async def live(self, _: Call) -> Answer:
        return Answer(Alive(ok=True))

    async def ready(self, _: Call) -> Answer:
        parts = dict(await self.parts())
        failing = sorted(name for name, works in parts.items() if not works)
        if failing:
            raise NotReady(f"not working: {', '.join(failing)}", retry_after_s=5)
        return Answer(Ready(ok=True, parts=parts))

    async def figures(self, call: Call) -> Reply:
        """Prometheus text, for a holder of the relay token or an address in METRICS_ALLOW."""
        if not self._may_see(call):
            raise Forbidden("the metrics want the relay token, or an address in METRICS_ALLOW")
        return Reply(200, self.metrics.render(), CONTENT_TYPE)

    def _may_see(self, call: Call) -> bool:
        headers = call.request.headers
        token = headers.get("x-relay-token") or headers.get("authorization", "").removeprefix("Bearer ")
        if token and self.matches_token(token):
            return True
        if call.request.hearsay or call.request.address == UNIX:
            return False
        address = ip_address(call.request.address)
        return any(address in network for network in self.allowed)

    async def openapi(self, _: Call) -> Reply:
        return Reply(200, self.document)


def endpoints(health: Health) -> tuple[Endpoint, ...]:
    e = Endpoint
    anyone = Access.ANYONE
    return (
        e(
            "GET",
            "/health/live",
            "The process turns its loop",
            {200: Alive},
            handler=health.live,
            access=anyone,
            tag="health",
        ),
        e(
            "GET",
            "/health/ready",
            "It can serve",
            {200: Ready},
            handler=health.ready,
            access=anyone,
            tag="health",
            errors=(NotReady,),
        ),
        e(
            "GET",
            "/metrics",
            "Prometheus text",
            {200: str},
            handler=health.figures,
            access=anyone,
            tag="health",
            errors=(Forbidden,),
        ),
        e(
            "GET",
            "/openapi.json",
            "This document",
            {200: dict[str, Any]},
            handler=health.openapi,
            access=anyone,
            tag="health",
        ),
    )
