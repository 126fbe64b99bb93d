"""What is counted of events. No label grows with them."""

from typing import Final

from prometheus_client import Counter, Gauge

from opendesk.network.events.types import Type
from opendesk.ops.metrics import OTHER, Bounded, Known, Metrics, with_all

# How taking one in ends. What becomes of it later is a job's end, and counted as such (`opendesk_jobs`).
RECEIVED: Final = "received"
AGAIN: Final = "again"
REFUSED: Final = "refused"
NAMELESS: Final = "nameless"

# How a fetch ends that the backend answered.
EVENTS: Final = "events"
NOTHING: Final = "nothing"
ANSWERED: Final = frozenset({EVENTS, NOTHING})
# How one ends that it didn't answer, or not as it should; and files that were taken instead, or were none.
_FETCHES: Final = (EVENTS, NOTHING, "failed", "refused", "file", "file_refused")
_ACKS: Final = ("taken", "failed", "dead")

_TYPES: Final = frozenset(Type)


class EventFigures:
    """Made once a daemon, beside its Metrics."""

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self._outcome, self._fetch, self._ack = Bounded(), Bounded(), Bounded()
        self._events = Counter("opendesk_events", "Events, by type and outcome", ["type", "outcome"], registry=registry)
        self._fetches = Counter(
            "opendesk_event_fetches", "Times that events were asked for, by outcome", ["outcome"], registry=registry
        )
        self._acks = Counter("opendesk_acks", "ACKs sent, by outcome", ["outcome"], registry=registry)
        fetched = Gauge(
            "opendesk_event_last_fetch_timestamp_seconds",
            "When the backend last answered with events, or none",
            registry=None,
        )
        self._last_fetch = Known(registry, fetched)
        poll = Gauge("opendesk_event_poll_seconds", "How often the backend is asked, where it is", registry=None)
        self._poll = Known(registry, poll)
        self._waiting = Gauge("opendesk_inbox_events", "Events that are not decided yet", registry=registry)
        with_all(self._events, (*Type, OTHER), (RECEIVED, REFUSED))
        with_all(self._events, (OTHER,), (AGAIN, NAMELESS))  # of these no type is looked at
        with_all(self._fetches, _FETCHES)
        with_all(self._acks, _ACKS)

    def polled_every(self, seconds: float) -> None:
        """What an alert is to go by that says that nothing was fetched for too long."""
        self._poll.shown().set(seconds)

    def took(self, kind: str | None, outcome: str, count: int = 1) -> None:
        label = kind if kind in _TYPES else OTHER
        self._events.labels(label, self._outcome(outcome)).inc(count)

    def fetched(self, outcome: str) -> None:
        self._fetches.labels(self._fetch(outcome)).inc()
        if outcome in ANSWERED:
            self._last_fetch.shown().set_to_current_time()

    def acked(self, outcome: str) -> None:
        self._acks.labels(self._ack(outcome)).inc()

    def waiting_are(self, count: int) -> None:
        self._waiting.set(count)
