"""What the machine has for a daemon: room for its data, a certificate that lasts, a backup that isn't old."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
import os
from pathlib import Path
import time
from typing import Final

from attrs import frozen
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

BACKUPS: Final = Path("/var/backups/opendesk")
# `opendesk backup --keep` leaves a few. Whoever keeps more than this there is told of the newest of some.
BACKUPS_MAX: Final = 1_000
# Of file systems that others serve.
CLOCKS_DIFFER_S: Final = 300.0
# As `opendesk backup` names them (postgres/backups/places.py). One that is being written has another name.
BACKUP_SUFFIX: Final = ".tar"


@frozen
class MachineFigures(Collector):
    """`metrics.registry.register` takes it. What can't be known isn't told: an alert asks for what is absent."""

    _data: Path
    _certificate_expires_s: Callable[[], float | None]
    _backups: Path = BACKUPS

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with suppress(OSError):  # the embedded database may be nowhere, and its folder not ours to look into
            room = os.statvfs(self._data)
            yield _gauge("data_free_bytes", "Room for data, to whom isn't root", room.f_bavail * room.f_frsize)
            yield _gauge("data_size_bytes", "Size of the file system that data is on", room.f_blocks * room.f_frsize)
        if (expires_s := self._certificate_expires_s()) is not None:
            yield _gauge("certificate_expiry_timestamp_seconds", "When TLS_CERT ends", expires_s)
        if (made_s := last_backup_s(self._backups)) is not None:
            yield _gauge("backup_last_timestamp_seconds", "When the newest backup was made", made_s)

    def describe(self) -> list[GaugeMetricFamily]:
        return [_gauge(name, "", 0) for name in _NAMES]


_NAMES: Final = (
    "data_free_bytes",
    "data_size_bytes",
    "certificate_expiry_timestamp_seconds",
    "backup_last_timestamp_seconds",
)


def last_backup_s(folder: Path) -> float | None:
    """When the newest one was written; None where there is none, or nobody may look. One of a clock that was ahead says nothing."""
    latest_s = time.time() + CLOCKS_DIFFER_S
    try:
        with os.scandir(folder) as entries:
            made_s = [entry.stat().st_mtime for entry in islice(entries, BACKUPS_MAX) if _is_backup(entry)]
    except OSError:
        return None
    return max((one for one in made_s if one <= latest_s), default=None)


def _is_backup(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(BACKUP_SUFFIX) and entry.is_file()


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"opendesk_{name}", meaning, value)
