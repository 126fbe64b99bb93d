"""What is counted of tunnels. No label grows with devices."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from opendesk.network.tunnels.keeping.plan import Kind
from opendesk.network.tunnels.keeping.presence import STATUSES, Status
from opendesk.ops.metrics import Known, Metrics, with_all

# From an interface with some peers to ten thousand that are all put.
PASS_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)

# How a pass ends.
RIGHT: Final = "right"  # there was nothing to do
CHANGED: Final = "changed"  # and now it is right
NOT_HELD: Final = "not_held"  # somebody or something undoes it
UNREADABLE: Final = "unreadable"  # `wg` failed
DATABASE_AWAY: Final = "database_away"
OUTCOMES: Final = (RIGHT, CHANGED, NOT_HELD, UNREADABLE, DATABASE_AWAY)


class TunnelFigures:
    """Made once a daemon, beside its Metrics."""

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self._drift = Counter(
            "opendesk_tunnel_drift", "Peers that were right and no longer are, by what", ["kind"], registry=registry
        )
        self._up = Known(registry, Gauge("opendesk_tunnel_interface_up", "1 while it can be read", registry=None))
        peers = Gauge("opendesk_tunnel_peers", "Peers of the interface, by status", ["status"], registry=None)
        unknown = Gauge("opendesk_tunnel_unknown_peers", "Peers that nobody asked for", registry=None)
        differs = Gauge("opendesk_tunnel_key_differs", "1 while it isn't the key that routers know", registry=None)
        self._peers, self._unknown, self._differs = (Known(registry, one) for one in (peers, unknown, differs))
        self._passes = Counter(
            "opendesk_tunnel_passes", "Passes over the interface, by how they ended", ["outcome"], registry=registry
        )
        self._pass_s = Histogram(
            "opendesk_tunnel_pass_seconds", "Time of such a pass", buckets=PASS_BUCKETS_S, registry=registry
        )
        self._transitions = Counter(
            "opendesk_tunnel_transitions", "Devices that went offline or came back", ["to"], registry=registry
        )
        with_all(self._drift, [kind.value for kind in Kind])
        with_all(self._passes, OUTCOMES)
        with_all(self._transitions, STATUSES)

    def drifted(self, kind: Kind, count: int = 1) -> None:
        self._drift.labels(kind.value).inc(count)

    def peers_are(self, by_status: Mapping[Status, int]) -> None:
        gauge = self._peers.shown()
        for status in STATUSES:
            gauge.labels(status).set(by_status.get(status, 0))

    def unknown_are(self, count: int) -> None:
        self._unknown.shown().set(count)

    def interface_is(self, *, up: bool) -> None:
        """What was seen of it before says nothing while it can't be read."""
        self._up.shown().set(int(up))
        for gauge in () if up else (self._peers, self._unknown, self._differs):
            gauge.hide()

    def key_is(self, *, other: bool) -> None:
        self._differs.shown().set(int(other))

    def passed(self, outcome: str, seconds: float) -> None:
        """`outcome` is one of the words above."""
        self._passes.labels(outcome).inc()
        self._pass_s.observe(seconds)

    def turned(self, to: Status, count: int = 1) -> None:
        self._transitions.labels(to).inc(count)
