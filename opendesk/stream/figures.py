"""The relay's figures for Prometheus: made of its rooms' counts whenever they are read. No label is a session, a user or an address."""

from collections.abc import Iterable, Iterator, Mapping

from attrs import frozen
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from opendesk.stream.control import Kind
from opendesk.stream.counts import CLIENT_DROPS, DISCONNECTS, FAULTS, OTHER, REFUSALS, Counts
from opendesk.stream.relay import Relay
from opendesk.stream.tokens import Role

_KINDS = tuple(kind for kind in Kind if kind is not Kind.STREAM_PONG)


@frozen
class RelayFigures(Collector):
    """`metrics.registry.register` takes it."""

    _relay: Relay

    def collect(self) -> Iterator[Metric]:
        yield from self._who_is_there()
        sums = Counts()
        sums.add(self._relay.tally.closed)
        for room in self._relay.rooms.values():
            sums.add(room.sums())
        yield from _of_hosts(sums)
        yield from _of_clients(sums)
        yield from self._who_came_and_went()

    def _who_is_there(self) -> Iterator[Metric]:
        rooms = self._relay.rooms.values()
        yield GaugeMetricFamily("opendesk_relay_rooms", "Rooms of the relay", len(rooms))
        sockets = GaugeMetricFamily("opendesk_relay_sockets", "Sockets in rooms of the relay", labels=["role"])
        sockets.add_metric([Role.HOST], sum(room.host is not None for room in rooms))
        sockets.add_metric([Role.CLIENT], sum(len(room.clients) for room in rooms))
        yield sockets

    def _who_came_and_went(self) -> Iterator[Metric]:
        tally = self._relay.tally
        yield _counter("refused", "Sockets that weren't let in", "reason", (*REFUSALS, OTHER), tally.refused)
        gone = CounterMetricFamily(
            "opendesk_relay_disconnects", "Sockets that left their room, or were put out", labels=["role", "reason"]
        )
        for role in Role:
            for reason in (*DISCONNECTS, *FAULTS.values(), OTHER):
                gone.add_metric([role, reason], tally.disconnected[role, reason])
        yield gone


def _of_hosts(sums: Counts) -> Iterator[Metric]:
    yield _plain("host_messages", "Binary messages of hosts", sums.host_messages)
    yield _plain("host_bytes", "Bytes of their frames", sums.host_bytes)
    dropped = {
        "rate": sums.host_dropped_rate,
        "no_client": sums.host_dropped_no_client,
        "slow_client": sums.shed_messages,  # of each that was too slow for it
    }
    yield _counter("host_dropped", "Binary messages of hosts that were dropped", "reason", dropped, dropped)
    yield _plain("shed_bytes", "Bytes that slow clients weren't sent", sums.shed_bytes)
    control = {"forwarded": sums.host_control_forwarded, "invalid": sums.host_control_invalid}
    yield _counter("host_control", "Text messages of hosts", "outcome", control, control)
    yield _plain(
        "relayed_messages", "Binary messages passed on, once for all of a room's clients", sums.relayed_messages
    )
    yield _plain("relayed_bytes", "Bytes of their frames, once for all of a room's clients", sums.relayed_bytes)


def _of_clients(sums: Counts) -> Iterator[Metric]:
    yield _plain("client_messages", "Messages of clients", sums.client_messages)
    yield _counter("client_forwarded", "Those passed on to hosts", "kind", _KINDS, sums.client_forwarded)
    yield _counter("client_dropped", "Those dropped", "reason", CLIENT_DROPS, sums.client_dropped)


def _plain(name: str, meaning: str, count: int) -> Metric:
    return CounterMetricFamily(f"opendesk_relay_{name}", meaning, count)


def _counter(name: str, meaning: str, label: str, words: Iterable[str], counts: Mapping[str, int]) -> Metric:
    """All words, also those that never fell: a series that begins at its first event hides that event from `rate()`."""
    family = CounterMetricFamily(f"opendesk_relay_{name}", meaning, labels=[label])
    for word in words:
        family.add_metric([word], counts.get(word, 0))
    return family
