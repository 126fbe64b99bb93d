"""How the relay is doing, for those who hold its token."""

from collections.abc import Callable

from attrs import define, field, frozen
import trio

from opendesk.errors import Forbidden, RateLimited
from opendesk.network.figures import NetworkFigures
from opendesk.ops.metrics import CONTENT_TYPE
from opendesk.web.endpoint import Access, Answer, Call, Endpoint, Reply, WebRequest


@frozen
class RelayHealth:
    """`uptime` is in seconds."""

    ok: bool
    uptime: int


@define
class RelayPages:
    """`check_may_see` raises what somebody is told who may not see the figures. Made when the daemon starts."""

    figures: NetworkFigures
    check_may_see: Callable[[WebRequest], None]
    _clock: Callable[[], float] = trio.current_time
    _since_s: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._since_s = self._clock()

    async def relay_health(self, _: Call) -> Answer:
        return Answer(RelayHealth(ok=True, uptime=int(self._clock() - self._since_s)))

    async def relay_metrics(self, call: Call) -> Reply:
        """All of `/metrics`, and counters of each router; for the same readers."""
        self.check_may_see(call.request)
        return Reply(200, self.figures.render(), CONTENT_TYPE)


def endpoints(pages: RelayPages) -> tuple[Endpoint, ...]:
    e = Endpoint
    return (
        e(
            "GET",
            "/relay/health",
            "It runs, and since when",
            {200: RelayHealth},
            handler=pages.relay_health,
            access=Access.RELAY,
            tag="relay",
        ),
        e(
            "GET",
            "/relay/metrics",
            "Prometheus text, with a router's name as a label",
            {200: str},
            handler=pages.relay_metrics,
            access=Access.ANYONE,
            tag="relay",
            errors=(Forbidden, RateLimited),
        ),
    )
