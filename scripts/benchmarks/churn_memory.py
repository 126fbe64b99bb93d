"""What a process holds, as the kernel counts it, and whether that stays: a line through the samples. All but `held` is pure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import linear_regression, median
from typing import Final

from attrs import frozen
import psutil

_KIB: Final = 1024
MIB: Final = 1024 * 1024


@frozen
class Held:
    """Bytes, and counts. `anonymous` is what belongs to nobody's file: what a program asked for itself."""

    resident: int
    proportional: int
    anonymous: int
    descriptors: int
    threads: int
    postgres: int  # of all its processes, what they share counted once


def held(daemon: psutil.Process, postmaster: psutil.Process) -> Held:
    sizes = rollup(_smaps(daemon.pid))
    postgres = sum(_proportional(process) for process in [postmaster, *postmaster.children(recursive=True)])
    return Held(
        resident=sizes["Rss"],
        proportional=sizes["Pss"],
        anonymous=sizes["Anonymous"],
        descriptors=daemon.num_fds(),
        threads=daemon.num_threads(),
        postgres=postgres,
    )


def rollup(text: str) -> Mapping[str, int]:
    """Bytes by name, from `/proc/PID/smaps_rollup`; its first line is the range of addresses."""
    lines = (line.split() for line in text.splitlines()[1:])
    return {words[0].rstrip(":"): int(words[1]) * _KIB for words in lines}


def _smaps(pid: int) -> str:
    return Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")


def _proportional(process: psutil.Process) -> int:
    try:
        return rollup(_smaps(process.pid)).get("Pss", 0)
    except (FileNotFoundError, ProcessLookupError):  # a backend that ended just now
        return 0


def spread(values: Sequence[float]) -> float:
    """From the smallest to the largest, as a part of the middle one."""
    return (max(values) - min(values)) / median(values)


def slope(values: Sequence[float]) -> float:
    """Of the line that fits best, from one value to the next. 0 for a single one."""
    return linear_regression(range(len(values)), values).slope if len(values) > 1 else 0.0
