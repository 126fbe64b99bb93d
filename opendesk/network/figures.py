"""What the network's part counts. Labels that grow with routers stand in a registry of their own, which only `/relay/metrics` shows."""

from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from attrs import define, field
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from opendesk.network.hotspots.work import Kind
from opendesk.ops import audit
from opendesk.ops.metrics import OTHER, Bounded, Metrics, with_all

# From a row that is already there, over a few round trips to a router behind a mobile line, to past the 8 s that a call waits.
ACTION_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

ATTEMPT: Final = "attempt"
SUCCESS: Final = "success"
FAIL: Final = "fail"
JOB_STATES: Final = ("due", "running", "done", "dead")

# Ten times the routers that one daemon is meant for. What comes on top of them is counted together.
MOST_ROUTERS: Final = 10_000


@define(eq=False)
class RouterCounts(Collector):
    """What was done on each router, until it is forgotten."""

    _done: Tally[tuple[str, str]] = field(factory=Tally, init=False)  # by router and outcome
    _seconds: dict[str, float] = field(factory=dict, init=False)

    def count(self, router: str, outcome: str, seconds: float) -> None:
        known = router in self._seconds or len(self._seconds) < MOST_ROUTERS
        label = router if known else OTHER
        self._seconds[label] = self._seconds.get(label, 0.0) + seconds
        self._done[label, outcome] += 1

    def forget(self, router: str) -> None:
        self._seconds.pop(router, None)
        for key in [key for key in self._done if key[0] == router]:
            del self._done[key]

    def collect(self) -> Iterator[CounterMetricFamily]:
        done = CounterMetricFamily(
            "opendesk_router_actions", "Actions on a router, by how they ended", labels=["router", "outcome"]
        )
        for labels, count in self._done.items():
            done.add_metric(labels, count)
        yield done
        took = CounterMetricFamily(
            "opendesk_router_action_seconds", "Time that actions on a router took", labels=["router"]
        )
        for router, seconds in self._seconds.items():
            took.add_metric([router], seconds)
        yield took


class NetworkFigures:
    """Made once a daemon, beside its Metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._own = CollectorRegistry()
        self._routers = RouterCounts()
        self._own.register(self._routers)
        self._action = Bounded()
        registry = metrics.registry
        # Looking a label up costs four times as much as counting. There are as many as `Bounded` lets through, and 3 outcomes of the audit.
        actions = Counter("opendesk_actions", "Actions, by outcome", ["action", "outcome"], registry=registry)
        self._actions_of = cache(with_all(actions, Kind, (ATTEMPT, SUCCESS, FAIL)).labels)
        action_s = Histogram(
            "opendesk_action_duration_seconds",
            "Time that an attempt at an action took on its router",
            ["action"],
            buckets=ACTION_BUCKETS_S,
            registry=registry,
        )
        self._action_s_of = cache(action_s.labels)
        lines = Counter("opendesk_audit", "Lines of the audit", ["outcome"], registry=registry)
        self._audit_of = cache(with_all(lines, audit.OUTCOMES).labels)
        self._jobs = Gauge("opendesk_jobs", "Jobs, by state, each counted up to 100,000", ["state"], registry=registry)
        self._ready = Gauge("opendesk_jobs_ready", "Jobs that are due by now, and not under way", registry=registry)
        self._oldest = Gauge(
            "opendesk_job_oldest_due_seconds", "For how long the oldest due job has waited", registry=registry
        )

    def action_ended(self, action: str, *, ok: bool, seconds: float) -> None:
        """An attempt at it. `action` is a fixed word: `AUTHORIZE_BY_PEDIDO`."""
        label = self._action(action)
        self._actions_of(label, ATTEMPT).inc()
        self._actions_of(label, SUCCESS if ok else FAIL).inc()
        self._action_s_of(label).observe(seconds)

    def router_acted(self, router: str, *, ok: bool, seconds: float) -> None:
        """Only of routers that are in the registry: their names are labels."""
        self._routers.count(router, SUCCESS if ok else FAIL, seconds)

    def forget_router(self, router: str) -> None:
        self._routers.forget(router)

    def audited(self, outcome: str) -> None:
        """Fit for `Audit(count=…)`."""
        self._audit_of(outcome).inc()

    def jobs_are(self, by_state: Mapping[str, int], oldest_due_s: float, *, ready: int = 0) -> None:
        """`ready`: those of the state `due` that needn't wait for their time any more."""
        for state in JOB_STATES:
            self._jobs.labels(state).set(by_state.get(state, 0))
        self._ready.set(ready)
        self._oldest.set(oldest_due_s)

    def render(self) -> bytes:
        """All that `/metrics` has, and what was done on each router."""
        return self._metrics.render() + generate_latest(self._own)
