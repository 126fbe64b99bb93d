"""The settings that timers follow, and the limits that they share."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from attrs import frozen
import trio

from opendesk.ops.metrics import Metrics

# Rows written by one statement: some 50 ms of the server's time, few enough that requests get their turn between two batches.
BATCH: Final = 200

# After a batch that ran into its time limit, since somebody holds one of its rows, each is tried alone, waiting this long for a lock.
SHORT_WAIT: Final = "SET LOCAL lock_timeout = '200ms'"


@frozen
class Periods:
    """In seconds, but for the one that SQL reads."""

    expiration_s: float
    pending_timeout_ms: int
    host_check_s: float
    host_timeout: timedelta
    host_timeout_active: timedelta

    @property
    def shortest_timeout(self) -> timedelta:
        return min(self.host_timeout, self.host_timeout_active)


@contextmanager
def timed(metrics: Metrics, timer: str) -> Iterator[None]:
    """Have the metrics told how long a run took, and whether it failed."""
    begun_s, failed = trio.current_time(), True
    try:
        yield
        failed = False
    finally:
        metrics.timer_ran(timer, trio.current_time() - begun_s, failed=failed)
