"""The daemon itself, and its database."""

from typing import Final

from attrs import frozen

from opendesk.console.shapes import Figure, Plot, Section, State
from opendesk.console.texts import number, size, span
from opendesk.ops.metrics import PoolNumbers

# What callers begin to feel.
_LATE_S: Final = 0.25


@frozen(kw_only=True)
class DaemonFacts:
    version: str
    up_s: float
    lag_s: float
    memory_bytes: int | None
    database: bool | None
    pool: PoolNumbers | None
    restarts: int
    dropped_lines: int
    watchers: int


def daemon(facts: DaemonFacts, plots: tuple[Plot, ...]) -> Section:
    pool = facts.pool
    connections = (
        "" if pool is None else f"{pool.size - pool.idle} of {pool.size} connections used, {pool.waiting} wait"
    )
    figures = (
        Figure("uptime", "Up for", span(facts.up_s), note=f"version {facts.version}"),
        _database(facts.database, connections),
        Figure(
            "lag", "Loop late by", f"{facts.lag_s * 1000:.0f} ms", State.WARN if facts.lag_s > _LATE_S else State.OK
        ),
        Figure("memory", "Memory", size(facts.memory_bytes)),
        _counted("restarts", "Services restarted", facts.restarts),
        _counted("dropped", "Log lines lost", facts.dropped_lines),
        Figure("watchers", "Pages like this", number(facts.watchers)),
    )
    return Section("daemon", "Daemon", figures, plots)


def _database(is_up: bool | None, note: str) -> Figure:  # noqa: FBT001 - None: nobody asked yet
    if is_up is None:
        return Figure("database", "Database", "not asked yet", State.QUIET, note)
    return Figure("database", "Database", "answers" if is_up else "away", State.OK if is_up else State.BAD, note)


def _counted(key: str, label: str, count: int) -> Figure:
    return Figure(key, label, number(count), State.WARN if count else State.OK)
