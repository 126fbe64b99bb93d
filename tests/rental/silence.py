"""Silent PCs, and one check of them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from opendesk.rental.liveness import (
    SilentPc,
    Verdict,
    Watch,
    judge,
)

START = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
TIMEOUT, TIMEOUT_ACTIVE, EVERY = timedelta(seconds=60), timedelta(seconds=180), timedelta(seconds=30)
INSTANT = timedelta(microseconds=1)
LONG_AGO = Watch(grace_from=START - timedelta(days=1))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def pc(number: int, seen: float | None, *, active: bool = False, host: int | None = None) -> SilentPc:
    last_seen_at = None if seen is None else at(seen)
    return SilentPc(UUID(int=number), UUID(int=number if host is None else host), last_seen_at, active)


def pcs(numbers: Iterable[int], seen: float | None, *, active: bool = False) -> list[SilentPc]:
    return [pc(number, seen, active=active) for number in numbers]


def check(watch: Watch, beating: int, silent: list[SilentPc], now: float) -> Verdict:
    return judge(watch, beating, silent, now=at(now), timeout=TIMEOUT, timeout_active=TIMEOUT_ACTIVE)
