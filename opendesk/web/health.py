"""Whether the process lives, whether it can serve, and its figures."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from attrs import define, frozen

from opendesk.errors import Forbidden, OpenDeskError, RateLimited
from opendesk.ops.metrics import CONTENT_TYPE, Metrics
from opendesk.web.endpoint import Access, Answer, Call, Endpoint, Reply, WebRequest
from opendesk.web.responder import Network, comes_from


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
    """`parts` tells of each part whether it works; `holds_token` whether a caller holds the relay's token; `document` what all calls are."""

    parts: Callable[[], Awaitable[Mapping[str, bool]]]
    metrics: Metrics
    allowed: Sequence[Network]
    holds_token: Callable[[WebRequest], bool]
    document: Callable[[], bytes] = bytes

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
        self.check_may_see(call.request)
        return Reply(200, self.metrics.render(), CONTENT_TYPE)

    def check_may_see(self, request: WebRequest) -> None:
        """Raise Forbidden, or RateLimited for who has guessed too often."""
        if not comes_from(request, self.allowed) and not self.holds_token(request):
            raise Forbidden("the metrics want the relay token, or an address in METRICS_ALLOW")

    async def openapi(self, _: Call) -> Reply:
        return Reply(200, self.document())


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
            errors=(Forbidden, RateLimited),
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
