"""What is counted of the routers that this daemon drives, as they are whenever somebody asks. No label grows with them."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from attrs import frozen
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
import trio

from opendesk.network.routers.fleet import Fleet
from opendesk.network.routers.health import Health
from opendesk.network.routers.status import CLOSED, HALF_OPEN, OPEN

STATUSES: Final = ("online", "unreachable", "auth_failed", "unknown")


@frozen
class FleetFigures(Collector):
    """`metrics.registry.register` takes it."""

    _fleet: Fleet
    _clock: Callable[[], float] = trio.current_time

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now_s = self._clock()
        workers = [worker for name in self._fleet.specs if (worker := self._fleet.get(name)) is not None]
        circuits = Counter(_circuit(worker.health, now_s) for worker in workers)
        statuses = Counter(_status(worker.health) for worker in workers)
        yield GaugeMetricFamily("opendesk_routers_known", "Routers in the registry", len(self._fleet.specs))
        yield _by("circuit", (CLOSED, OPEN, HALF_OPEN), circuits, "routers_driven", "Routers driven here, by circuit")
        yield _by("status", STATUSES, statuses, "routers", "Routers driven here, by what came of the last try")
        connected = sum(worker.is_connected for worker in workers)
        yield GaugeMetricFamily("opendesk_routers_connected", "Routers with an open connection", connected)

    def describe(self) -> list[GaugeMetricFamily]:
        names = ("routers_known", "routers_driven", "routers", "routers_connected")
        return [GaugeMetricFamily(f"opendesk_{name}", "") for name in names]


def _by(label: str, words: tuple[str, ...], counts: Counter[str], name: str, meaning: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"opendesk_{name}", meaning, labels=[label])
    for word in words:
        family.add_metric([word], counts[word])
    return family


def _circuit(health: Health, now_s: float) -> str:
    open_until_s = health.breaker.open_until_s
    if open_until_s is None:
        return CLOSED
    return HALF_OPEN if open_until_s <= now_s else OPEN


def _status(health: Health) -> str:
    """As the API's `mikStatus`."""
    if health.refused:
        return "auth_failed"
    if health.breaker.failures or not health.breaker.is_closed:
        return "unreachable"
    return "unknown" if health.contact_s is None else "online"
