"""Prometheus metrics of one daemon. No label grows with users, sessions, routers or addresses."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from platform import python_version
from typing import Final, Protocol

from attrs import define, frozen
import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from opendesk import __version__

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
# Anything a caller could make up falls into these.
UNKNOWN_ROUTE: Final = "unmatched"
OTHER: Final = "other"
# Above what one label really has (routes: some 70). A bug that passes paths for routes stops here.
LABEL_VALUES_MAX: Final = 200

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# From a warm read to past the 8 s that a call waits for a router. Each is a series for each of some 70 routes.
REQUEST_BUCKETS_S: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
TIMER_BUCKETS_S: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0)
BATCH_BUCKETS: Final = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
LAG_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


@frozen
class PoolNumbers:
    """A pool's connections now: all of them, those nobody uses, and the tasks that wait for one."""

    size: int
    idle: int
    waiting: int


@define(eq=False)
class Known:
    """A gauge that is told only while somebody knows its value: from the first one on, until it is hidden."""

    _registry: CollectorRegistry
    _gauge: Gauge
    _is_shown: bool = False

    def shown(self) -> Gauge:
        if not self._is_shown:
            self._registry.register(self._gauge)
            self._is_shown = True
        return self._gauge

    def hide(self) -> None:
        if self._is_shown:
            self._registry.unregister(self._gauge)
            self._is_shown = False


def with_all(counter: Counter, *words: Iterable[str]) -> Counter:
    """Have each combination of its labels' words at 0: a series that begins at its first event hides that event from `increase()`."""
    for labels in product(*words):
        counter.labels(*labels)
    return counter


class LogNumbers(Protocol):
    """`ops.logging.Logs`."""

    @property
    def dropped(self) -> int: ...

    @property
    def lines(self) -> Mapping[str, int]: ...


class Bounded:
    """Lets the first `most` values through, and makes all others `other`."""

    def __init__(self, most: int = LABEL_VALUES_MAX) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._known:
            return value
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(value)
        return value


class Metrics:
    """All that is counted. Made once per daemon with its own registry."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # They would double the number of series to say when each began. The switch is prometheus-client's only one.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # has no types
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._bounded: defaultdict[str, Bounded] = defaultdict(Bounded)
        self._make_http()
        self._make_rental()
        self._make_upkeep()
        self._make_proofs()

    def _make_http(self) -> None:
        self._requests = self._counter("http_requests", "HTTP requests answered", "method", "route", "status")
        self._request_s = self._histogram("http_request_duration_seconds", "Time to answer", REQUEST_BUCKETS_S, "route")
        self._login_failures = self._counter("login_failures", "Log-ins refused", "reason")

    def _make_rental(self) -> None:
        self._sessions = self._counter("sessions", "What happened to sessions", "event")
        self._ended = self._counter("sessions_ended", "Sessions ended, by endReason", "reason")
        self._settled = self._counter("settled_money", "Money settled, in minor units", "kind")
        self._beats = self._counter("heartbeats", "Heartbeats taken")
        self._batches = self._counter("heartbeat_batches", "Writes of gathered heartbeats")
        self._batch_size = self._histogram("heartbeat_batch_size", "Hosts in one such write", BATCH_BUCKETS)

    def _make_upkeep(self) -> None:
        self._timer_runs = self._counter("timer_runs", "Runs of a timer", "timer")
        self._timer_errors = self._counter("timer_errors", "Runs that failed", "timer")
        self._timer_s = self._histogram("timer_duration_seconds", "Time of a run", TIMER_BUCKETS_S, "timer")
        self._restarts = self._counter("service_restarts", "Services started again after a failure", "service")
        self._lag_s = self._histogram("loop_lag_seconds", "How late the event loop wakes", LAG_BUCKETS_S)
        self._database_up = Gauge("opendesk_database_up", "1 while the database answers", registry=self.registry)
        build = Gauge("opendesk_build_info", "1, with what runs", ["version", "python"], registry=self.registry)
        build.labels(__version__, python_version()).set(1)

    def _make_proofs(self) -> None:
        right = Gauge("opendesk_ledger_right", "1 if the books were right when they were last proven", registry=None)
        proven = Gauge("opendesk_ledger_proven_timestamp_seconds", "When that was", registry=None)
        self._ledger_right, self._ledger_proven = Known(self.registry, right), Known(self.registry, proven)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"opendesk_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"opendesk_{name}", meaning, labels, buckets=buckets, registry=self.registry)

    def request_answered(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count a request; `route` is the template that matched ("/pcs/{id}"), never the path, None if none did."""
        label = UNKNOWN_ROUTE if route is None else self._bounded["route"](route)
        known = method if method in METHODS else OTHER
        self._requests.labels(known, label, str(status) if 100 <= status <= 599 else OTHER).inc()  # noqa: PLR2004  # what HTTP has
        self._request_s.labels(label).observe(seconds)

    def login_failed(self, reason: str, count: int = 1) -> None:
        """Count by a fixed word: "credentials", "rate_limited". With a `count` of 0, here as below, the word is only made known."""
        self._login_failures.labels(self._bounded["login"](reason)).inc(count)

    def session_event(self, event: str, count: int = 1) -> None:
        """Count by a fixed word: "created", "started"; ends are counted by their reason."""
        self._sessions.labels(self._bounded["event"](event)).inc(count)

    def session_ended(self, end_reason: str, count: int = 1) -> None:
        """Count by the contract's `endReason`."""
        self._ended.labels(self._bounded["end"](end_reason)).inc(count)

    def money_settled(self, kind: str, minor_units: int) -> None:
        """Add to a kind of the settlement: "host_payout", "platform_fee", "client_credit", "retained"."""
        self._settled.labels(self._bounded["money"](kind)).inc(minor_units)

    def heartbeat_taken(self) -> None:
        self._beats.inc()

    def heartbeats_written(self, hosts: int) -> None:
        self._batches.inc()
        self._batch_size.observe(hosts)

    def timer_ran(self, timer: str, seconds: float, *, failed: bool = False) -> None:
        label = self._bounded["timer"](timer)
        self._timer_runs.labels(label).inc()
        self._timer_errors.labels(label).inc(int(failed))
        self._timer_s.labels(label).observe(seconds)

    def timer_known(self, timer: str) -> None:
        """That there is one, before it has run."""
        label = self._bounded["timer"](timer)
        self._timer_runs.labels(label)
        self._timer_errors.labels(label)

    def service_restarted(self, service: str, count: int = 1) -> None:
        """Fit for `keep_running(on_restart=…)`."""
        self._restarts.labels(self._bounded["service"](service)).inc(count)

    def loop_lagged(self, seconds: float) -> None:
        """Fit for `lag_canary(observe=…)`."""
        self._lag_s.observe(seconds)

    def database_is_up(self, *, up: bool) -> None:
        self._database_up.set(int(up))

    def ledger_proven(self, *, right: bool) -> None:
        """That the books were looked through just now, and what came of it."""
        self._ledger_right.shown().set(int(right))
        self._ledger_proven.shown().set_to_current_time()

    def watch_pool(self, numbers: Callable[[], PoolNumbers]) -> None:
        """Ask `numbers` for the pool's state whenever the metrics are read."""
        self.registry.register(_PoolCollector(numbers))

    def watch_logs(self, logs: LogNumbers) -> None:
        """Ask for the log lines, and those that got lost, whenever the metrics are read."""
        self.registry.register(_LogCollector(logs))

    def render(self) -> bytes:
        """Prometheus' text format, of `CONTENT_TYPE`."""
        return generate_latest(self.registry)


class _PoolCollector(Collector):
    def __init__(self, numbers: Callable[[], PoolNumbers]) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = self._numbers()
        connections = GaugeMetricFamily("opendesk_database_connections", "Connections of the pool", labels=["state"])
        connections.add_metric(["idle"], now.idle)
        connections.add_metric(["used"], now.size - now.idle)
        yield connections
        yield GaugeMetricFamily("opendesk_database_waiting", "Tasks that wait for a connection", now.waiting)

    def describe(self) -> list[GaugeMetricFamily]:
        # Without this, registering would ask for the numbers to find the names.
        return [
            GaugeMetricFamily("opendesk_database_connections", ""),
            GaugeMetricFamily("opendesk_database_waiting", ""),
        ]


class _LogCollector(Collector):
    def __init__(self, logs: LogNumbers) -> None:
        self._logs = logs

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily("opendesk_log_lines_dropped", "Log lines that got lost", self._logs.dropped)
        lines = CounterMetricFamily("opendesk_log_lines", "Log lines, by level", labels=["level"])
        for level, count in self._logs.lines.items():
            lines.add_metric([level], count)
        yield lines

    def describe(self) -> list[CounterMetricFamily]:
        return [CounterMetricFamily("opendesk_log_lines_dropped", ""), CounterMetricFamily("opendesk_log_lines", "")]
