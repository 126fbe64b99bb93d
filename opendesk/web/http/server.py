"""The front door: an ASGI app on hypercorn's listeners, with each connection served by our own loop.

hypercorn keeps the listeners, TLS, the app's lifespan and the order of shutting down. What it does for each connection is replaced;
docs/decisions/0003-http-server.md says why.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
import secrets
from ssl import SSLContext
import time
from types import FunctionType
from typing import Any, Final, cast

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config, Sockets
from hypercorn.logging import Logger
import hypercorn.trio.run as hypercorn_run
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework, ConnectionState
import structlog
import trio

from opendesk.errors import Overloaded
from opendesk.web.http.certificate import Certificate
from opendesk.web.http.connection import Connection
from opendesk.web.http.door import Door, Headers, TakeOver
from opendesk.web.http.limits import Limits
from opendesk.web.http.listen import Listener, listen
from opendesk.web.http.transport import Transport

log = structlog.get_logger()

# For what the app does before the first and after the last request.
LIFESPAN_S: Final = 10.0


def random_id() -> str:
    return secrets.token_hex(16)


async def serve_http(
    app: ASGIFramework,
    *,
    bind: Sequence[str] | Sequence[Listener],
    stop: Callable[[], Awaitable[None]],
    grace_s: float,
    limits: Limits = Limits(),  # noqa: B008 — frozen
    tls: Certificate | None = None,
    upgrade: TakeOver | None = None,
    origin_headers: Callable[[str | None], Headers] = lambda _: (),
    new_id: Callable[[], str] = random_id,
    clock: Callable[[], float] = time.time,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stop` returns and what was in flight is done, or `grace_s` seconds are over. Starts with the URLs.

    `bind` is `host:port`, `unix:/path` or `fd://number`, or what `listen` gave; all are closed in the end. Raise ValueError or OSError for a bind that
    can't be had, and what the app's startup raises.
    """
    listeners = listen([each for each in bind if isinstance(each, str)])
    listeners += [each for each in bind if isinstance(each, Listener)]
    sockets = [listener.socket for listener in listeners]
    door = Door(app, _possible(limits), new_id, clock, upgrade, origin_headers)
    try:
        await _worker_serve(partial(FrontDoor, door))(
            ASGIWrapper(app),
            DoorConfig(tls, grace_s),
            sockets=Sockets(sockets, [], []) if tls else Sockets([], sockets, []),
            shutdown_trigger=partial(_closing_time, stop, door),
            task_status=task_status,
        )
    finally:
        for listener in listeners:
            listener.close()


async def _closing_time(stop: Callable[[], Awaitable[None]], door: Door) -> None:
    await stop()
    door.drain()


def _possible(limits: Limits) -> Limits:
    possible = limits.within_descriptors()
    if possible != limits:
        log.warning(
            "http.few_descriptors",
            connections=possible.connections,
            websockets=possible.upgraded,
            wanted=limits.connections + limits.upgraded,
            remedy="raise ulimit -n",
        )
    return possible


def _worker_serve(tcp_server: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """A copy of hypercorn's `worker_serve` that finds ours where it looks for `TCPServer`. Hypercorn itself stays as it is."""
    original = hypercorn_run.worker_serve
    assert "TCPServer" in original.__code__.co_names, "this hypercorn makes its connections in another way"
    ours = FunctionType(original.__code__, {**vars(hypercorn_run), "TCPServer": tcp_server}, original.__name__)
    ours.__kwdefaults__ = original.__kwdefaults__
    return cast("Callable[..., Awaitable[None]]", ours)


class DoorConfig(Config):
    startup_timeout = LIFESPAN_S
    shutdown_timeout = LIFESPAN_S

    def __init__(self, certificate: Certificate | None, grace_s: float) -> None:
        self.logger_class = HypercornLog
        self.errorlog = None
        self.graceful_timeout = grace_s
        self._certificate = certificate

    def create_ssl_context(self) -> SSLContext | None:
        return self._certificate.listening if self._certificate else None


class HypercornLog(Logger):
    """What hypercorn has to say, in our log. Its access log is not used: the app writes one."""

    async def warning(self, message: str, *args: Any, **_: Any) -> None:
        log.warning("http.hypercorn", note=message % args)

    async def error(self, message: str, *args: Any, **_: Any) -> None:
        log.error("http.hypercorn", note=message % args)

    async def exception(self, message: str, *args: Any, **_: Any) -> None:
        log.error("http.hypercorn", note=message % args, exc_info=True)  # noqa: LOG014 — hypercorn calls it inside its handlers


class FrontDoor(TCPServer):
    """One connection, instead of hypercorn's nursery, channels, locks and tasks for each."""

    def __init__(  # noqa: PLR0917 — after the door come hypercorn's own
        self, door: Door, app: AppWrapper, config: Config, context: WorkerContext, state: ConnectionState, stream: Any
    ) -> None:
        super().__init__(app, config, context, state, stream)
        self._door = door

    async def run(self) -> None:
        try:
            transport = Transport(self.stream, self._door.limits)
        except OSError:
            return  # left while it was waiting to be accepted
        self._door.open += 1
        try:
            await self._serve(transport)
        except* Exception as group:
            log.error("http.connection_failed", exc_info=group)  # noqa: TRY400 — the group, not what except* makes of it
        finally:
            try:
                await transport.close()
            finally:
                self._door.open -= 1

    async def _serve(self, transport: Transport) -> None:
        door = self._door
        connection = Connection(door, transport, ConnectionState(self.state))
        over = door.open - door.limits.connections
        if over > 0:
            door.report_full()
        if over <= 0 or door.make_room():
            await connection.serve()
        elif over <= door.limits.turned_away and transport.scheme == "http":
            await connection.refuse(Overloaded(retry_after_s=1))
