"""What taking events and telling what became of them is made of, put together; nothing runs yet."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
import math
from typing import TYPE_CHECKING
from uuid import UUID

from attrs import frozen
import structlog
import trio

from opendesk.network.events.acks import ACK_LANE, AT_ONCE, Acks, AckTerms
from opendesk.network.events.figures import EventFigures
from opendesk.network.events.file_queue import FileQueue
from opendesk.network.events.inbox import Inbox
from opendesk.network.events.polling import Polling
from opendesk.network.jobs.runner import Handler
from opendesk.network.routers.fleet import Fleet
from opendesk.network.routers.lanes import lane_of
from opendesk.ops.audit import Audit
from opendesk.postgres.pool import Pool
from opendesk.settings import Settings
from opendesk.supervise import alive

if TYPE_CHECKING:
    from opendesk.network.events.backend import BackendClient

log = structlog.get_logger()

Service = Callable[[], Awaitable[None]]


@frozen
class Events:
    """`handlers` are lanes of the runner's. Where nothing is set, there is nothing of it."""

    services: Mapping[str, Service]
    handlers: Mapping[str, Handler]


def events(
    settings: Settings,
    *,
    pool: Pool,
    fleet: Fleet,
    node: UUID,
    audit: Audit,
    figures: EventFigures,
    peer_silent_for: Callable[[str], float | None],
) -> Events:
    """`pool` is that of jobs."""
    acks_wanted = settings.backend_ack_url is not None
    backend = _client(settings) if acks_wanted or settings.backend_events_url is not None else None
    inbox = Inbox(pool, fleet, audit, figures, acks_wanted, peer_silent_for)
    services: dict[str, Service] = {}
    handlers: dict[str, Handler] = {}
    if backend is not None:
        services["backend"] = partial(_kept_open, backend)
    if backend is not None and settings.backend_events_url is not None:
        if not settings.backend_hmac_secret:
            log.warning("events.unsigned", missing="BACKEND_HMAC_SECRET")
        polling = Polling.of(settings, pool=pool, node=node, fetch=backend.fetch, inbox=inbox, figures=figures)
        services["events"] = polling.run
    if settings.relay_events_file is not None:
        services["events_file"] = FileQueue.of(settings, inbox=inbox, figures=figures).run
    if backend is not None and acks_wanted:
        if settings.relay_dry_run:
            log.warning(
                "events.dry_run_acknowledges",
                why="the backend is told that its events are done, and they are only pretended",
            )
        acks = Acks(backend.acknowledge, audit, figures.acked, AckTerms.of(settings))
        handlers[lane_of(ACK_LANE, dry_run=settings.relay_dry_run)] = Handler(AT_ONCE, acks.perform)
    return Events(services, handlers)


def _client(settings: Settings) -> "BackendClient":
    from opendesk.network.events.backend import BackendClient  # noqa: PLC0415  # httpx is a tenth of a start

    return BackendClient.of(settings)


async def _kept_open(backend: "BackendClient") -> None:
    alive(wait_s=math.inf)
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await backend.aclose()
