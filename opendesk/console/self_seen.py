"""The daemon as it sees itself: its memory, its loop, its connections, and what it counted of its own troubles."""

from collections.abc import Iterator, Mapping
import os
from pathlib import Path
from typing import Final

from attrs import define, field
from prometheus_client import CollectorRegistry
import trio

from opendesk import __version__
from opendesk.console.sections.daemon import DaemonFacts
from opendesk.network.glance import open_circuits
from opendesk.network.routers.fleet import Fleet
from opendesk.ops.metrics import PoolNumbers
from opendesk.stream.glance import bytes_per_s
from opendesk.stream.relay import Relay

# Linux's: the second number is resident memory, in pages.
_STATM: Final = Path("/proc/self/statm")
# The worst of so many looks by the canary, which are a second apart.
_LAGS_KEPT: Final = 10

RESTARTS: Final = "opendesk_service_restarts_total"
DROPPED: Final = "opendesk_log_lines_dropped_total"
CONNECTIONS: Final = "opendesk_database_connections"
WAITING: Final = "opendesk_database_waiting"


@define(eq=False)
class SelfSeen:
    _registry: CollectorRegistry
    _relay: Relay
    _fleet: Fleet
    _began_s: float = field(factory=trio.current_time, init=False)
    _lags_s: list[float] = field(factory=list, init=False)

    def lagged(self, late_s: float) -> None:
        """Fit for `lag_canary(observe=…)`."""
        self._lags_s = [*self._lags_s[1 - _LAGS_KEPT :], late_s]

    @property
    def _lag_s(self) -> float:
        return max(self._lags_s, default=0.0)

    def counts(self) -> Mapping[str, float | None]:
        """For the history."""
        memory = memory_bytes()
        return {
            "rate": bytes_per_s(self._relay),
            "open": open_circuits(self._fleet),
            "lag": self._lag_s * 1000,
            "memory": None if memory is None else memory / 1e6,
        }

    def facts(self, *, database: bool | None, watchers: int) -> DaemonFacts:
        counted = _counted(self._registry)
        pool = None
        if (WAITING, "") in counted:
            used, idle = counted[CONNECTIONS, "used"], counted[CONNECTIONS, "idle"]
            pool = PoolNumbers(size=int(used + idle), idle=int(idle), waiting=int(counted[WAITING, ""]))
        return DaemonFacts(
            version=__version__,
            up_s=trio.current_time() - self._began_s,
            lag_s=self._lag_s,
            memory_bytes=memory_bytes(),
            database=database,
            pool=pool,
            restarts=int(sum(value for (name, _), value in counted.items() if name == RESTARTS)),
            dropped_lines=int(counted.get((DROPPED, ""), 0)),
            watchers=watchers,
        )


def memory_bytes() -> int | None:
    """Resident; None where the kernel doesn't tell."""
    try:
        return int(_STATM.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def _counted(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    """Of these few only: reading all metrics takes milliseconds."""
    return dict(_samples(registry))


def _samples(registry: CollectorRegistry) -> Iterator[tuple[tuple[str, str], float]]:
    wanted = registry.restricted_registry([RESTARTS, DROPPED, CONNECTIONS, WAITING])
    for metric in wanted.collect():
        for sample in metric.samples:
            yield (sample.name, "".join(sample.labels.values())), sample.value
