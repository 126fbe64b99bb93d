"""The daemon: the nursery tree, on one screen. What opens last closes first."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
import os
import signal

from attrs import frozen
import structlog
import trio

from opendesk import database
from opendesk.ops import systemd
from opendesk.ops.metrics import Metrics, PoolNumbers
from opendesk.postgres.pool import Pool
from opendesk.rental.timers import retention
from opendesk.settings import Settings
from opendesk.stream.evidence import record_presence
from opendesk.stream.follow import follow_sessions
from opendesk.supervise import every, keep_running, lag_canary
from opendesk.web.http.certificate import Certificate
from opendesk.web.http.listen import Listener, listen
from opendesk.web.http.server import serve_http
from opendesk.wiring import CannotStart, Services, wire

log = structlog.get_logger()

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
    stop = Stop()
    async with trio.open_nursery() as signals:
        certificate = _certificate(settings)
        await signals.start(_obey_signals, stop, certificate, environ)
        with stop.starting:
            async with database.serving_database(settings) as conninfo:
                await _bring_up_to_date(conninfo)
                async with (
                    database.open_pool(conninfo, settings) as pool,
                    database.open_pool(conninfo, settings, size=database.UPKEEP_CONNECTIONS) as upkeep,
                    database.open_pool(
                        conninfo, settings, size=database.JOBS_CONNECTIONS, max_waiting=database.JOBS_WAITING
                    ) as jobs,
                    trio.open_nursery() as routers,
                ):
                    pools = (pool, upkeep, jobs)
                    metrics.watch_pool(partial(_numbers, pools))
                    signals.start_soon(_wait_no_longer, stop, pools, settings)
                    listen = partial(database.connect, conninfo)
                    ready = partial(_parts, upkeep, stop)
                    services = await wire(settings, pool, upkeep, jobs, metrics, listen=listen, ready=ready)
                    _keep(routers, {"routers": services.network.fleet.run}, metrics)
                    async with trio.open_nursery() as timers:
                        _start_timers(timers, services, _Database(conninfo, pools), metrics, environ)
                        timers.start_soon(_leave, stop, services)
                        async with trio.open_nursery() as web:
                            serve = partial(_serve_web, settings, services, stop, certificate, environ)
                            urls = [_plain(url) for url in await web.start(serve)]
                            stop.serving = True
                            _tell_ready(settings, environ, urls)
                            task_status.started(urls)
                        timers.cancel_scope.cancel()  # reached once web has drained
                    routers.cancel_scope.cancel()  # and once jobs are finished, or given back
        signals.cancel_scope.cancel()
    log.info("daemon.stopped")
    if stop.starting.cancelled_caught:
        task_status.started([])


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
    environ: Mapping[str, str],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        task_status.started()
        async for number in received:
            if number != signal.SIGHUP:
                log.info("daemon.stopping", signal=signal.Signals(number).name)
                systemd.sd_notify(environ, systemd.STOPPING)
                stop.ask()
            elif certificate is not None:
                await certificate.reload()


def _plain(url: str) -> str:
    """A Unix socket's as BIND has it: there is no such URL."""
    return url.partition("//")[2] if "//unix:" in url else url


def _tell_ready(settings: Settings, environ: Mapping[str, str], urls: list[str]) -> None:
    systemd.sd_notify(environ, systemd.READY, systemd.status(f"listening at {' '.join(urls)}"))
    kind = "embedded" if database.external(settings) is None else "external"
    log.info("daemon.ready", urls=urls, database=kind)


async def _bring_up_to_date(conninfo: str) -> None:
    applied = await database.bring_up_to_date(conninfo)
    if applied:
        log.info("database.migrated", applied=applied)


@frozen
class _Database:
    """Where it is, and the pools of callers, of upkeep and of jobs."""

    conninfo: str
    pools: tuple[Pool, Pool, Pool]

    @property
    def upkeep(self) -> Pool:
        return self.pools[1]


def _start_timers(
    nursery: trio.Nursery, services: Services, db: _Database, metrics: Metrics, environ: Mapping[str, str]
) -> None:
    def lagged(late_s: float) -> None:
        metrics.loop_lagged(late_s)
        services.host_timeout.lagged(late_s)

    running: dict[str, Callable[[], Awaitable[None]]] = {
        "heartbeats": services.heartbeats.run,
        "expiry": services.expiry.run,
        "host_timeout": services.host_timeout.run,
        "nodes": services.nodes.run,
        "relay_sessions": partial(follow_sessions, services.relay, partial(database.connect, db.conninfo)),
        "relay_presence": partial(record_presence, db.upkeep, services.nodes.own, services.relay.presences),
        "relay_peers": services.relay.keep_alive,
        "retention": partial(retention, db.upkeep),
        "database": partial(database.watch, db.pools, metrics),
        "lag": partial(lag_canary, LAG_PERIOD_S, LAG_THRESHOLD_S, observe=lagged),
        "watchdog": partial(_feed_watchdog, environ),
        **services.network.services,
    }
    _keep(nursery, running, metrics)


def _keep(nursery: trio.Nursery, running: Mapping[str, Callable[[], Awaitable[None]]], metrics: Metrics) -> None:
    for name, service in running.items():
        nursery.start_soon(partial(keep_running, name, service, on_restart=metrics.service_restarted))


async def _feed_watchdog(environ: Mapping[str, str]) -> None:
    """While the loop turns, systemd hears of it."""
    period_s = systemd.watchdog_period_s(environ, os.getpid())
    if period_s is None:
        return

    async def feed() -> None:
        systemd.sd_notify(environ, systemd.WATCHDOG)

    await every(period_s, feed)


async def _serve_web(
    settings: Settings,
    services: Services,
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


async def _closing_time(stop: Stop, services: Services) -> None:
    await stop.wait()
    services.relay.drain()


async def _leave(stop: Stop, services: Services) -> None:
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


def _numbers(pools: Sequence[Pool]) -> PoolNumbers:
    stats = [pool.stats for pool in pools]
    return PoolNumbers(sum(s.size for s in stats), sum(s.idle for s in stats), sum(s.waiting for s in stats))


async def _parts(pool: Pool, stop: Stop) -> dict[str, bool]:
    return {"database": await database.answers(pool), "not_draining": not stop.asked}
