"""CPU as the operating system counts it, and what is made of several rounds."""

from collections.abc import Sequence
from statistics import median
from typing import Final

from attrs import frozen
import psutil

PERCENTILE: Final = 0.99


@frozen
class Cpu:
    """Seconds of CPU, user's and system's."""

    daemon: float
    postgres: float

    @property
    def in_all(self) -> float:
        return self.daemon + self.postgres

    def __sub__(self, before: "Cpu") -> "Cpu":
        return Cpu(self.daemon - before.daemon, self.postgres - before.postgres)


def cpu(daemon: psutil.Process, postmaster: psutil.Process) -> Cpu:
    """Of one process, and of all of PostgreSQL's: those that live, and those that it has seen end."""
    times = postmaster.cpu_times()
    ended_s = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    living_s = sum(_used_so_far(process) for process in [postmaster, *postmaster.children(recursive=True)])
    return Cpu(used_s(daemon), living_s + ended_s)


def used_s(process: psutil.Process) -> float:
    """Of one process, without its children."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _used_so_far(process: psutil.Process) -> float:
    try:
        return used_s(process)
    except psutil.NoSuchProcess:  # ended just now: its parent has the sum
        return 0.0


def percentile(values: Sequence[float], part: float = PERCENTILE) -> float:
    """The value that this part of all are at or below. 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def middle(values: Sequence[float]) -> float:
    return float(median(values)) if values else 0.0
