"""The daemon: the nursery tree, on one screen. What opens last closes first."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
import os
import signal
from typing import TYPE_CHECKING

from attrs import frozen
import structlog
import trio

from opendesk import database
from opendesk.errors import CannotStart
from opendesk.ops import systemd
from opendesk.ops.machine import MachineFigures
from opendesk.ops.metrics import Metrics, PoolNumbers
from opendesk.ops.standing import Counted
from opendesk.postgres.driver import TrioConnection
from opendesk.postgres.identity import DatabaseExchanged, SameDatabase
from opendesk.postgres.pool import Pool
from opendesk.rental.figures import RentalFigures
from opendesk.rental.proving import keep_proving
from opendesk.rental.timers import retention
from opendesk.settings import Settings
from opendesk.stream.evidence import record_presence
from opendesk.stream.follow import follow_sessions
from opendesk.supervise import LifeSigns, keep_running, lag_canary
from opendesk.telling import Telling
from opendesk.web.http.certificate import Certificate
from opendesk.web.http.listen import Listener, listen
from opendesk.web.http.server import serve_http

if TYPE_CHECKING:
    from opendesk.wiring import Services

log = structlog.get_logger()

Service = Callable[[], Awaitable[None]]

# The loop is meant to wake within milliseconds; a quarter of a second is what callers begin to feel.
LAG_PERIOD_S = 1.0
LAG_THRESHOLD_S = 0.25

# What of SHUTDOWN_GRACE_MS is kept for the end, after the requests: a healthy database stops their statements in milliseconds, and itself
# in 0.2 s. When that part of it is over, connections are hung up on; a timer may open another before it hears that it is cancelled.
ENDING_S = 1.0
ENDING_PART_OF_STATEMENTS = 0.5
HANG_UP_EVERY_S = 0.05


async def run(
    settings: Settings,
    *,
    environ: Mapping[str, str] = os.environ,
    metrics: Metrics | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way within SHUTDOWN_GRACE_MS.

    Starts with the URLs it listens at; with none, if it was told to stop before it served.
    """
    metrics = metrics or Metrics()
    stop, same, telling = Stop(), SameDatabase(), Telling(environ, settings.shutdown_grace_ms / 1000)
    async with trio.open_nursery() as signals:
        certificate = _certificate(settings)
        await signals.start(_obey_signals, stop, certificate, telling)
        signals.start_soon(telling.ask_for_time)
        signals.start_soon(trio.to_thread.run_sync, _wire)  # while the database starts
        with stop.starting:
            async with database.serving_database(settings) as conninfo:
                telling.starts("migrating")
                await _bring_up_to_date(conninfo)
                async with (
                    database.open_pool(conninfo, settings, same=same) as pool,
                    database.open_pool(conninfo, settings, size=database.UPKEEP_CONNECTIONS, same=same) as upkeep,
                    database.open_pool(
                        conninfo, settings, size=database.JOBS_CONNECTIONS, max_waiting=database.JOBS_WAITING, same=same
                    ) as jobs,
                    trio.open_nursery() as routers,
                ):
                    pools = (pool, upkeep, jobs)
                    metrics.watch_pool(partial(_numbers, pools))
                    metrics.registry.register(_machine(settings, certificate))
                    signals.start_soon(_wait_no_longer, stop, pools, settings)
                    signals.start_soon(_end_when_exchanged, same, stop, telling)
                    listen = partial(database.connect, conninfo, same=same)
                    ready = partial(_parts, upkeep, stop)
                    wire = await trio.to_thread.run_sync(_wire)
                    services = await wire(settings, pool, upkeep, jobs, metrics, listen=listen, ready=ready)
                    telling.starts("services")
                    keep = partial(_keep, metrics=metrics, signs=telling.signs)
                    keep(routers, {"routers": services.network.fleet.run})
                    async with trio.open_nursery() as timers:
                        keep(timers, _timers(services, _Database(listen, pools), metrics, telling))
                        # A page to look at: calls go on without it.
                        keep(timers, services.console.services, gives_up=False)
                        timers.start_soon(_leave, stop, services)
                        async with trio.open_nursery() as web:
                            serve = partial(_serve_web, settings, services, stop, certificate, environ)
                            urls = [_plain(url) for url in await web.start(serve)]
                            stop.serving = True
                            _tell_ready(settings, telling, urls)
                            task_status.started(urls)
                        timers.cancel_scope.cancel()  # reached once web has drained
                    routers.cancel_scope.cancel()  # and once jobs are finished, or given back
        signals.cancel_scope.cancel()
    log.info("daemon.stopped")
    if same.exchanged.is_set():
        raise DatabaseExchanged
    if stop.starting.cancelled_caught:
        task_status.started([])


def _wire() -> "Callable[..., Awaitable[Services]]":
    """Imports all that answers calls; whoever asks again waits until it is there."""
    from opendesk.wiring import wire  # noqa: PLC0415  # in a thread

    return wire


class Stop:
    """Asked for once; everybody who waits hears it. Before there is anything to drain it cancels the start."""

    def __init__(self) -> None:
        self._asked = trio.Event()
        self.starting = trio.CancelScope()
        self.serving = False

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def ask(self) -> None:
        self._asked.set()
        if not self.serving:
            self.starting.cancel()

    async def wait(self) -> None:
        await self._asked.wait()


async def _obey_signals(
    stop: Stop,
    certificate: Certificate | None,
    telling: Telling,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        task_status.started()
        async for number in received:
            if number != signal.SIGHUP:
                log.info("daemon.stopping", signal=signal.Signals(number).name)
                telling.stopping()
                stop.ask()
            elif certificate is not None:
                await certificate.reload()


async def _end_when_exchanged(same: SameDatabase, stop: Stop, telling: Telling) -> None:
    """A restored backup knows nothing of our sessions' sockets, leases and beats, nor we of its."""
    await same.exchanged.wait()
    log.warning("database.exchanged")
    telling.stopping()
    stop.ask()


def _plain(url: str) -> str:
    """A Unix socket's as BIND has it: there is no such URL."""
    return url.partition("//")[2] if "//unix:" in url else url


def _tell_ready(settings: Settings, telling: Telling, urls: list[str]) -> None:
    telling.ready(urls)
    kind = "embedded" if database.external(settings) is None else "external"
    log.info("daemon.ready", urls=urls, database=kind)


async def _bring_up_to_date(conninfo: str) -> None:
    applied = await database.bring_up_to_date(conninfo)
    if applied:
        log.info("database.migrated", applied=applied)


@frozen
class _Database:
    """A connection of one's own, and the pools of callers, of upkeep and of jobs."""

    connect: Callable[[], Awaitable[TrioConnection]]
    pools: tuple[Pool, Pool, Pool]

    @property
    def upkeep(self) -> Pool:
        return self.pools[1]


def _timers(services: "Services", db: _Database, metrics: Metrics, telling: Telling) -> Mapping[str, Service]:
    def lagged(late_s: float) -> None:
        metrics.loop_lagged(late_s)
        services.host_timeout.lagged(late_s)
        services.console.lagged(late_s)

    def database_is(*, up: bool) -> None:
        metrics.database_is_up(up=up)
        telling.database_is(up=up)
        services.console.database_is(up=up)

    return {
        "heartbeats": services.heartbeats.run,
        "expiry": services.expiry.run,
        "host_timeout": services.host_timeout.run,
        "nodes": services.nodes.run,
        "relay_sessions": partial(follow_sessions, services.relay, db.connect),
        "relay_presence": partial(record_presence, db.upkeep, services.nodes.own, services.relay.presences),
        "relay_peers": services.relay.keep_alive,
        "retention": partial(retention, db.upkeep),
        "rental_figures": partial(RentalFigures(metrics).keep, db.upkeep),
        "ledger": partial(keep_proving, db.connect, metrics),
        "database": partial(database.watch, db.pools, database_is),
        "lag": partial(lag_canary, LAG_PERIOD_S, LAG_THRESHOLD_S, observe=lagged),
        "watchdog": telling.watch,
        "status": partial(telling.keep_status, db.upkeep, partial(_counted, services)),
        **services.network.services,
    }


def _keep(
    nursery: trio.Nursery, running: Mapping[str, Service], *, metrics: Metrics, signs: LifeSigns, gives_up: bool = True
) -> None:
    kept = partial(keep_running, on_restart=metrics.service_restarted, signs=signs, gives_up=gives_up)
    for name, service in running.items():
        metrics.service_restarted(name, 0)
        nursery.start_soon(kept, name, service)


def _counted(services: "Services") -> Counted:
    reachable, routers = services.network.fleet.reachable_here()
    return Counted(rooms=len(services.relay.rooms), routers=routers, reachable=reachable)


async def _serve_web(
    settings: Settings,
    services: "Services",
    stop: Stop,
    certificate: Certificate | None,
    environ: Mapping[str, str],
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    await serve_http(
        services.app,
        bind=_listening(settings, environ),
        stop=partial(_closing_time, stop, services),
        grace_s=_grace_s(settings),
        tls=certificate,
        upgrade=services.relay.take_over,
        origin_headers=services.responder.origins.headers,
        task_status=task_status,
    )


async def _closing_time(stop: Stop, services: "Services") -> None:
    await stop.wait()
    services.relay.drain()
    services.console.stop()


async def _leave(stop: Stop, services: "Services") -> None:
    """Beside the draining, which isn't to wait for a mute database."""
    await stop.wait()
    await services.nodes.leave()


def _listening(settings: Settings, environ: Mapping[str, str]) -> list[Listener]:
    try:
        passed = [f"fd://{fd}" for fd in systemd.listen_fds(environ, os.getpid())]
    except (OSError, ValueError) as error:
        raise CannotStart(f"the sockets that systemd passed can't be used: {error}") from error
    try:
        return listen(passed or [settings.listen_address])
    except (OSError, ValueError) as error:
        where = " ".join(passed) or f"{settings.listen_address} (BIND, PORT)"
        raise CannotStart(f"can't listen at {where}: {getattr(error, 'strerror', None) or error}") from error


def _grace_s(settings: Settings) -> float:
    """What requests may take: the rest is for statements and for the database to stop."""
    return settings.shutdown_grace_ms / 1000 - _ending_s(settings)


def _ending_s(settings: Settings) -> float:
    return min(ENDING_S, settings.shutdown_grace_ms / 1000 / 2)


async def _wait_no_longer(stop: Stop, pools: Sequence[Pool], settings: Settings) -> None:
    """When requests were cut off and their statements still don't stop, the database has fallen mute: hang up."""
    await stop.wait()
    await trio.sleep(_grace_s(settings) + _ending_s(settings) * ENDING_PART_OF_STATEMENTS)
    while True:
        if cut := sum(pool.drop_overdue(0) for pool in pools):
            log.warning("database.mute_at_the_end", connections=cut)
        await trio.sleep(HANG_UP_EVERY_S)


def _certificate(settings: Settings) -> Certificate | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        return Certificate(settings.tls_cert, settings.tls_key)
    except OSError as error:
        raise CannotStart(f"TLS_CERT {settings.tls_cert}, TLS_KEY {settings.tls_key}: {error}") from error


def _machine(settings: Settings, certificate: Certificate | None) -> MachineFigures:
    return MachineFigures(settings.opendesk_data_dir, lambda: None if certificate is None else certificate.expires_s)


def _numbers(pools: Sequence[Pool]) -> PoolNumbers:
    stats = [pool.stats for pool in pools]
    return PoolNumbers(sum(s.size for s in stats), sum(s.idle for s in stats), sum(s.waiting for s in stats))


async def _parts(pool: Pool, stop: Stop) -> dict[str, bool]:
    return {"database": await database.answers(pool), "not_draining": not stop.asked}
